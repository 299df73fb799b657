//! Data directories of every version of the format open, and hold what was written. `fixtures/README.md` says how they came to be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod directories;

use std::path::{Path, PathBuf};
use std::process::Command;

use directories::{LARGE, SMALL, append, check, on_shard, scratch};
use watershed_core::io::examine::examine;

const FORMATS: [u32; 2] = [1, 2];
const PER_RUN: i64 = 12;

fn unpacked(format: u32, variant: &str) -> PathBuf {
    let path = scratch(&format!("frozen-{format}-{variant}"));
    std::fs::create_dir_all(&path).unwrap();
    let archive =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}/{variant}.tar.gz"));
    let unpacked = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&path).status().unwrap();
    assert!(unpacked.success());
    path
}

/// Opens the directory twice: as it was frozen, and after it went on.
fn goes_on(path: &Path, end: i64) {
    on_shard(path, move |shard| async move {
        check(&shard, SMALL, end).await;
        check(&shard, LARGE, end).await;
        append(&shard, 3).await;
        shard.close().await.unwrap();
    });
    on_shard(path, move |shard| async move {
        check(&shard, SMALL, end + 3).await;
        check(&shard, LARGE, end + 3).await;
    });
}

#[test]
fn directories_that_were_stopped_cleanly_open() {
    for format in FORMATS {
        let path = unpacked(format, "clean");
        let examination = examine(&path, false).unwrap();
        assert!(!examination.is_damaged(), "{:?}", examination.damages);
        let journal = &examination.journals[0];
        assert!(journal.anchor.unwrap().clean && journal.images.len() == 2);
        goes_on(&path, 2 * PER_RUN);
    }
}

#[test]
fn directories_that_ended_without_warning_open() {
    for format in FORMATS {
        let path = unpacked(format, "unclean");
        let examination = examine(&path, true).unwrap();
        assert!(!examination.is_damaged(), "{:?}", examination.damages);
        let journal = &examination.journals[0];
        assert!(!journal.anchor.unwrap().clean && journal.images.len() == 2);
        let entries = || journal.ring.frames.iter().flat_map(|frame| &frame.entries);
        assert!(entries().any(|entry| entry.entry.is_reference()), "a reference in the ring");
        assert!(entries().any(|entry| entry.entry.inline_bytes() > 0), "an inline run in the ring");
        goes_on(&path, 3 * PER_RUN);
    }
}

/// Writes the directories that the next version of the format freezes, and opens copies of them.
#[test]
fn directories_that_would_be_frozen_now_open() {
    for (variant, runs) in [("clean", 2), ("unclean", 3)] {
        let path = scratch(&format!("freeze-{variant}"));
        for run in 0..runs {
            on_shard(&path, move |shard| async move {
                append(&shard, PER_RUN).await;
                if run < 2 {
                    shard.close().await.unwrap();
                }
            });
        }
        let copy = scratch(&format!("thaw-{variant}"));
        let copied = Command::new("cp").arg("-r").arg(&path).arg(&copy).status().unwrap();
        assert!(copied.success());
        goes_on(&copy, runs * PER_RUN);
    }
}
