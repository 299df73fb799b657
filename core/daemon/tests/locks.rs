//! Locks among services.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;

use watershed_daemon::Service;
use watershed_daemon::cpu_lock::{CpuLockError, CpuLocks};
use watershed_daemon::directory_lock::{DirectoryLock, DirectoryLockError, LOCK_FILE};

const GAUGE: Service = Service {
    noun: "gauge",
    program: "watershed-gauge",
    version: "1.2.3",
    mark: "watershed-gauge",
    own_file_prefix: None,
};
const WEIR: Service = Service { noun: "weir", program: "watershed-weir", mark: "watershed-weir", ..GAUGE };

fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("locks-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn the_remedy_names_the_cpus_that_are_free() {
    let runtime = scratch("free").join("watershed");
    let held = CpuLocks::acquire(&runtime, &[0, 2], &[0, 1, 2, 3]).unwrap();
    let refused = CpuLocks::acquire(&runtime, &[1, 2], &[0, 1, 2, 3]).unwrap_err();
    assert!(matches!(&refused, CpuLockError::Taken { cpu: 2, free, .. } if *free == [1, 3]), "{refused}");
    assert!(refused.to_string().contains("say --cores 1,3"), "{refused}");
    assert!(CpuLocks::acquire(&runtime, &[1, 3], &[]).is_ok(), "a refusal keeps no lock");
    drop(held);
    assert!(CpuLocks::acquire(&runtime, &[0, 1, 2, 3], &[]).is_ok());
}

#[test]
fn a_directory_of_another_service_is_refused_and_untouched() {
    let data = scratch("another");
    drop(DirectoryLock::acquire(&GAUGE, &data).unwrap());
    let written = fs::read_to_string(data.join(LOCK_FILE)).unwrap();
    for refused in [DirectoryLock::acquire(&WEIR, &data), DirectoryLock::hold(&WEIR, &data)] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, DirectoryLockError::OtherService { .. }), "{refused}");
        assert!(refused.to_string().contains("watershed-gauge") && refused.to_string().contains("that a weir wrote"));
    }
    assert_eq!(fs::read_to_string(data.join(LOCK_FILE)).unwrap(), written);
    assert!(DirectoryLock::acquire(&GAUGE, &data).unwrap().previous.is_some());
}

#[test]
fn the_service_that_is_refused_is_named_as_it_calls_itself() {
    let data = scratch("held");
    let held = DirectoryLock::acquire(&WEIR, &data).unwrap();
    let refused = DirectoryLock::acquire(&WEIR, &data).unwrap_err().to_string();
    assert!(refused.contains(&format!("locked by pid {}: one weir at a time", std::process::id())), "{refused}");
    assert!(DirectoryLock::is_held(&data));
    drop(held);
    assert!(!DirectoryLock::is_held(&data));
}
