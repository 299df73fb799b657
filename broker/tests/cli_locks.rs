//! Locks between processes: this one holds them, the broker is refused.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use watershed_broker::SERVICE;
use watershed_broker::settings::Machine;
use watershed_daemon::cpu_lock::CpuLocks;
use watershed_daemon::directory_lock::{DirectoryLock, DirectoryLockError, Holder, LOCK_FILE};

fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-locks-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn start(data: &Path, runtime: &Path, cores: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_watershed-broker"))
        .args(["start", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cores", cores, "--data-dir"])
        .arg(data)
        .env("XDG_RUNTIME_DIR", runtime)
        .output()
        .unwrap()
}

fn entries(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn a_locked_directory_is_refused_by_the_pid_that_holds_it() {
    let (data, runtime) = (scratch("data"), scratch("data-runtime"));
    let held = DirectoryLock::acquire(&SERVICE, &data).unwrap();
    assert_eq!(held.previous, None);
    let refused = start(&data, &runtime, "unbound:1");
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{text}");
    assert!(text.contains(&format!("is locked by pid {}", std::process::id())), "{text}");

    drop(held);
    let again = DirectoryLock::acquire(&SERVICE, &data).unwrap();
    assert_eq!(again.previous, Some(Holder::this_process(SERVICE.mark)), "the lock ends with its holder");
}

#[test]
fn a_foreign_directory_is_refused_and_untouched() {
    let (data, runtime) = (scratch("foreign"), scratch("foreign-runtime"));
    fs::write(data.join("meta.properties"), "version=1\n").unwrap();
    let refused = start(&data, &runtime, "unbound:1");
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{text}");
    assert!(text.contains("holds meta.properties, which is not Watershed's data"), "{text}");
    assert_eq!(entries(&data), ["meta.properties"]);

    // Somebody else's lock file is no mark of ours.
    fs::write(data.join(LOCK_FILE), "4242\n").unwrap();
    assert!(matches!(DirectoryLock::acquire(&SERVICE, &data), Err(DirectoryLockError::Foreign { .. })));
    assert_eq!(fs::read_to_string(data.join(LOCK_FILE)).unwrap(), "4242\n");
}

#[test]
fn a_copied_directory_and_the_root_of_a_file_system_are_accepted() {
    let copied = scratch("copied");
    fs::write(copied.join("superblock"), "").unwrap();
    fs::create_dir(copied.join("segments")).unwrap();
    assert!(DirectoryLock::acquire(&SERVICE, &copied).is_ok());
    let root = scratch("root");
    fs::create_dir(root.join("lost+found")).unwrap();
    assert!(DirectoryLock::acquire(&SERVICE, &root).is_ok());
    assert!(
        DirectoryLock::acquire(&SERVICE, &scratch("parent").join("new/nested")).is_ok(),
        "a missing directory is created"
    );
}

#[test]
fn a_cpu_in_use_is_refused_with_pid_and_remedy() {
    let (data, runtime) = (scratch("cpu"), scratch("cpu-runtime"));
    let cpu = Machine::probe().allowed_cpus[0];
    let held = CpuLocks::acquire(&runtime.join("watershed"), &[cpu], &[cpu]).unwrap();
    let refused = start(&data, &runtime, &format!("{cpu},"));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(4), "{text}");
    assert!(text.contains(&format!("CPU {cpu} is used by pid {}", std::process::id())), "{text}");
    assert!(text.contains("--cores "), "{text}");
    assert_eq!(entries(&data), Vec::<String>::new(), "nothing is written before every lock is held");
    drop(held);
}
