//! `inspect` and `salvage` as processes: what they print and how they end.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use watershed_broker::SERVICE;
use watershed_core::io::data_dir::{DataDir, Identity};
use watershed_core::io::executor::{self, ExecutorConfig};
use watershed_core::io::shard::{Shard, ShardConfig};
use watershed_core::partition::LogSettings;
use watershed_core::store::StoreConfig;
use watershed_core::units::{JournalId, ShardId, TopicId, TopicPartition};
use watershed_daemon::directory_lock::DirectoryLock;

const KEY: TopicPartition = TopicPartition { topic: TopicId([7; 16]), partition: 3 };

fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-inspect-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    path
}

/// A directory with one empty partition and two images.
fn written(name: &str) -> PathBuf {
    let path = scratch(name);
    for _ in 0..2 {
        let identity = Identity { directory_id: [9; 16], cluster_id: "cluster".to_owned(), node_id: 1 };
        let dir = DataDir::open(&path, 1, identity).unwrap();
        let store = StoreConfig::default();
        let config = ShardConfig {
            store,
            arena_bytes: 256 << 20,
            tail_cache_bytes: 4 << 20,
            free_bytes_min: 0,
            retention_check_ms: 60_000,
        };
        executor::run(ExecutorConfig::default(), move || async move {
            let shard = Shard::open(&dir, ShardId(0), config).await.unwrap();
            shard.durable(shard.assign(KEY, LogSettings::default())).await;
            shard.close().await.unwrap();
        })
        .unwrap();
    }
    path
}

fn broker(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_watershed-broker")).args(args).env("XDG_DATA_HOME", "/data/home").output().unwrap()
}

fn told(args: &[&str], code: i32) -> String {
    let output = broker(args);
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

#[test]
fn a_sound_directory_is_printed_and_damage_ends_with_its_exit_code() {
    let path = written("damage");
    let name = path.to_str().unwrap();
    let text = told(&["inspect", name], 0);
    assert!(text.contains("stopped cleanly") && text.contains(&KEY.to_string()), "{text}");
    assert!(text.ends_with("damage      none\n"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&told(&["inspect", name, "--json"], 0)).unwrap();
    assert_eq!(json["journals"][0]["partitions"][0]["partition"], 3);
    assert_eq!(json["damaged"], false);
    assert!(told(&["inspect", name, "--frames"], 0).contains("frame 3 run 2"));

    let dir = DataDir::inspect(&path).unwrap();
    let image = dir.image(JournalId(1), 2);
    fs::OpenOptions::new().write(true).open(&image).unwrap().write_all_at(&[0xff; 4], 4120).unwrap();
    let text = told(&["inspect", name], 6);
    assert!(text.contains(&format!("damage      {} at 4096: ", image.display())), "{text}");
    let to = scratch("damage-salvaged");
    let text = told(&["salvage", name, to.to_str().unwrap()], 0);
    assert!(text.contains("kept 0..0  nothing lost") && text.contains(&image.display().to_string()), "{text}");
    assert!(told(&["inspect", to.to_str().unwrap()], 0).contains(&KEY.to_string()));
}

#[test]
fn a_damaged_superblock_is_damage_and_not_a_foreign_directory() {
    let path = written("superblock");
    let file = path.join("superblock");
    let slot = fs::metadata(&file).unwrap().len() - 4096;
    fs::OpenOptions::new().write(true).open(&file).unwrap().write_all_at(&[0xff], slot + 2000).unwrap();
    let text = told(&["inspect", path.to_str().unwrap()], 6);
    assert!(text.contains(&format!("{} is damaged at 0", file.display())), "{text}");
    let to = scratch("superblock-salvaged");
    let text = told(&["salvage", path.to_str().unwrap(), to.to_str().unwrap()], 0);
    assert!(text.contains("note    cluster cluster and node 1 are from the damaged superblock"), "{text}");
    assert!(told(&["inspect", to.to_str().unwrap()], 0).contains(&KEY.to_string()));
}

#[test]
fn what_cannot_be_inspected_is_the_directorys_fault() {
    let missing = scratch("missing");
    assert!(told(&["inspect", missing.to_str().unwrap()], 3).contains("No such file"));
    let foreign = scratch("foreign");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("superblock"), [b'x'; 8192]).unwrap();
    assert!(told(&["inspect", foreign.to_str().unwrap()], 3).contains("not Watershed's"));
    told(&["salvage", foreign.to_str().unwrap(), missing.to_str().unwrap()], 3);
    assert!(!missing.exists());
}

#[test]
fn a_directory_in_use_is_inspected_and_not_salvaged() {
    let path = written("in-use");
    let _lock = DirectoryLock::acquire(&SERVICE, &path).unwrap();
    let name = path.to_str().unwrap();
    assert!(told(&["inspect", name], 0).contains("(in use)"));
    let to = scratch("in-use-salvaged");
    assert!(told(&["salvage", name, to.to_str().unwrap()], 3).contains("is locked by pid"));
}

#[test]
fn a_newer_directory_is_named_by_its_version() {
    let path = written("newer");
    let file = path.join("superblock");
    let mut bytes = fs::read(&file).unwrap();
    for (slot, block) in bytes.chunks_exact_mut(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            block[8] = 9;
            let sum = {
                let mut seeded = (slot as u64).to_le_bytes().to_vec();
                seeded.extend_from_slice(&block[..4092]);
                watershed_core::checksum::crc32c(&seeded)
            };
            block[4092..].copy_from_slice(&sum.to_le_bytes());
        }
    }
    fs::write(&file, bytes).unwrap();
    assert!(told(&["inspect", path.to_str().unwrap()], 3).contains("format version 9"));
}
