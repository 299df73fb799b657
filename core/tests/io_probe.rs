//! The probe on this machine: a disk passes, memory does not.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;

use watershed_core::io::probe::probe;

#[test]
fn a_disk_passes_and_is_left_clean() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("io_probe");
    std::fs::create_dir_all(&directory).unwrap();
    let report = probe(&directory).unwrap();
    assert!(!report.kernel.is_empty() && !report.file_system.is_empty());
    let shown = report.to_string();
    assert!(shown.contains("direct I/O") && shown.contains(&report.kernel), "{shown}");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn memory_and_missing_directories_are_refused_with_a_remedy() {
    if std::fs::read_to_string("/proc/mounts").unwrap().contains(" /dev/shm tmpfs ") {
        let failure = probe(Path::new("/dev/shm")).unwrap_err();
        assert!(failure.to_string().contains("tmpfs") && failure.remedy.contains("disk"));
    }
    let failure = probe(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(failure.what.contains("/nowhere/at/all: No such file"), "{failure}");
}
