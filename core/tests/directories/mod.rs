//! Data directories for tests: written by shards with records that tell their own offset, and compared again.

#![allow(dead_code)]
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use watershed_core::batch::BatchHeader;
use watershed_core::checksum::crc32c;
use watershed_core::error::Fault;
use watershed_core::io::data_dir::{DataDir, Identity};
use watershed_core::io::executor::{self, ExecutorConfig};
use watershed_core::io::shard::{Incoming, Shard, ShardConfig, Until};
use watershed_core::partition::LogSettings;
use watershed_core::store::StoreConfig;
use watershed_core::units::{ShardId, TopicId, TopicPartition};

pub(crate) const SMALL: TopicPartition = TopicPartition { topic: TopicId([7; 16]), partition: 0 };
/// Every third of its runs is a reference.
pub(crate) const LARGE: TopicPartition = TopicPartition { topic: TopicId([7; 16]), partition: 1 };

pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn payload_bytes(key: TopicPartition, offset: i64) -> usize {
    match key == LARGE {
        true => [30, 5000, 130 << 10][offset as usize % 3],
        false => [20, 300, 6000, 70_000][offset as usize % 4],
    }
}

/// The batch of one record that every test directory holds at `offset`.
pub(crate) fn batch(key: TopicPartition, offset: i64) -> Vec<u8> {
    let mut bytes = vec![0; 61 + payload_bytes(key, offset)];
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[27..35].copy_from_slice(&offset.to_be_bytes());
    bytes[35..43].copy_from_slice(&offset.to_be_bytes());
    bytes[43..51].copy_from_slice(&77i64.to_be_bytes());
    bytes[53..57].copy_from_slice(&(offset as i32).to_be_bytes());
    bytes[57..61].copy_from_slice(&1i32.to_be_bytes());
    bytes[61..69].copy_from_slice(&offset.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

pub(crate) fn open(path: &Path) -> DataDir {
    let identity = Identity { directory_id: [9; 16], cluster_id: "cluster".to_owned(), node_id: 1 };
    DataDir::open(path, 1, identity).unwrap()
}

fn config() -> ShardConfig {
    ShardConfig {
        store: StoreConfig::default(),
        arena_bytes: 256 << 20,
        tail_cache_bytes: 4 << 20,
        free_bytes_min: 0,
        retention_check_ms: 60_000,
    }
}

pub(crate) fn on_shard<F: Future<Output = ()>>(path: &Path, body: impl FnOnce(Shard) -> F + 'static) {
    let dir = open(path);
    executor::run(ExecutorConfig::default(), move || async move {
        body(Shard::open(&dir, ShardId(0), config()).await.unwrap()).await;
    })
    .unwrap();
}

/// What a start on that directory says instead of opening it.
pub(crate) fn refusal(path: &Path) -> Fault {
    let (dir, (tell, told)) = (open(path), channel());
    executor::run(ExecutorConfig::default(), move || async move {
        tell.send(Shard::open(&dir, ShardId(0), config()).await.err()).unwrap();
    })
    .unwrap();
    told.recv().unwrap().expect("the directory opens")
}

/// Appends to both partitions in turn, each append in a frame of its own.
pub(crate) async fn append(shard: &Shard, count: i64) {
    let settings = LogSettings { retention_ms: None, segment_bytes: 1 << 20, ..LogSettings::default() };
    for key in [SMALL, LARGE] {
        shard.durable(shard.assign(key, settings.clone())).await;
    }
    for _ in 0..count {
        for key in [SMALL, LARGE] {
            shard.room().await;
            let offset = shard.state(key).unwrap().log_end;
            let appended = shard.append(key, Incoming::Copy(&batch(key, offset))).unwrap();
            assert_eq!(appended.base_offset, offset);
            shard.durable(appended.stamp).await;
        }
    }
}

/// The partition holds exactly the offsets below `end`, each with its batch.
pub(crate) async fn check(shard: &Shard, key: TopicPartition, end: i64) {
    assert_eq!(shard.state(key).unwrap().log_end, end, "{key}");
    let mut offset = 0;
    while offset < end {
        let plan = shard.plan_read(key, offset, 1 << 20, Until::HighWatermark).unwrap();
        let mut bytes = Vec::new();
        for slice in shard.read(plan).await.unwrap() {
            bytes.extend_from_slice(&slice);
        }
        assert!(!bytes.is_empty(), "{key} ends at {offset}");
        let mut rest = &bytes[..];
        while let Some(header) = BatchHeader::parse(rest) {
            assert_eq!(header.base_offset, offset);
            assert!(rest[21..header.bytes as usize] == batch(key, offset)[21..], "{key} differs at {offset}");
            offset = header.end_offset();
            rest = &rest[header.bytes as usize..];
        }
    }
}
