//! A shard on real files: what was acknowledged is there after any end, and reads return it as it was written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use watershed_core::batch::BatchHeader;
use watershed_core::checksum::crc32c;
use watershed_core::error::Refusal;
use watershed_core::io::data_dir::{DataDir, Identity};
use watershed_core::io::executor::{self, ExecutorConfig};
use watershed_core::io::reshard::reshard;
use watershed_core::io::shard::{Incoming, Shard, ShardConfig, Until};
use watershed_core::partition::LogSettings;
use watershed_core::store::StoreConfig;
use watershed_core::units::{ShardId, TopicId, TopicPartition};

const KEY: TopicPartition = TopicPartition { topic: TopicId([7; 16]), partition: 3 };

fn fresh_dir(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn open_dir(path: &Path) -> DataDir {
    let identity = Identity { directory_id: [9; 16], cluster_id: "cluster".to_owned(), node_id: 1 };
    DataDir::open(path, 1, identity).unwrap()
}

fn config() -> ShardConfig {
    ShardConfig {
        store: StoreConfig::default(),
        arena_bytes: 256 << 20,
        tail_cache_bytes: 4 << 20,
        free_bytes_min: 0,
        retention_check_ms: 100,
    }
}

/// A batch of one record set of `payload` bytes that tells `value`.
fn batch(value: u64, payload: usize) -> Vec<u8> {
    let mut bytes = vec![0; 61 + payload.max(8)];
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[27..35].copy_from_slice(&(value as i64).to_be_bytes());
    bytes[35..43].copy_from_slice(&(value as i64).to_be_bytes());
    bytes[43..51].copy_from_slice(&(-1i64).to_be_bytes());
    bytes[51..53].copy_from_slice(&(-1i16).to_be_bytes());
    bytes[53..57].copy_from_slice(&(-1i32).to_be_bytes());
    bytes[57..61].copy_from_slice(&1i32.to_be_bytes());
    bytes[61..69].copy_from_slice(&value.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn sizes(count: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..count).map(|value| (value, [30, 2000, 70_000, 300_000, 128 << 10][value as usize % 5]))
}

async fn append_all(shard: &Shard, values: impl Iterator<Item = (u64, usize)>, first: i64) {
    let mut last = None;
    for (value, payload) in values {
        shard.room().await;
        let appended = shard.append(KEY, Incoming::Copy(&batch(value, payload))).unwrap();
        assert_eq!(appended.base_offset, first + value as i64);
        last = Some(appended.stamp);
    }
    shard.durable(last.unwrap()).await;
}

async fn check_all(shard: &Shard, first: i64, values: impl Iterator<Item = (u64, usize)>) {
    let mut expected = values;
    let mut offset = first;
    loop {
        let plan = shard.plan_read(KEY, offset, 1 << 20, Until::HighWatermark).unwrap();
        let mut bytes = Vec::new();
        for slice in shard.read(plan).await.unwrap() {
            bytes.extend_from_slice(&slice);
        }
        if bytes.is_empty() {
            break;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest).unwrap();
            let (value, payload) = expected.next().unwrap();
            assert_eq!(header.base_offset, offset);
            let written = batch(value, payload);
            assert!(rest[21..header.bytes as usize] == written[21..], "value {value} differs");
            offset = header.end_offset();
            rest = &rest[header.bytes as usize..];
        }
    }
    assert_eq!(expected.next(), None);
    assert_eq!(shard.state(KEY).unwrap().high_watermark, offset);
}

/// The batches' timestamps are tiny numbers: nothing of theirs may expire.
fn settings() -> LogSettings {
    LogSettings { retention_ms: None, ..LogSettings::default() }
}

fn on_shard<F: Future<Output = ()>>(path: &Path, body: impl FnOnce(Shard) -> F + 'static) {
    let dir = open_dir(path);
    executor::run(ExecutorConfig::default(), move || async move {
        let shard = Shard::open(&dir, ShardId(0), config()).await.unwrap();
        body(shard).await;
    })
    .unwrap();
}

#[test]
fn what_was_acknowledged_is_there_after_an_end_without_warning() {
    let path = fresh_dir("shard_unclean");
    on_shard(&path, |shard| async move {
        shard.durable(shard.assign(KEY, settings())).await;
        append_all(&shard, sizes(60), 0).await;
        check_all(&shard, 0, sizes(60)).await;
    });
    for round in 1..4 {
        on_shard(&path, move |shard| async move {
            check_all(&shard, 0, (0..round).flat_map(|_| sizes(60))).await;
            append_all(&shard, sizes(60), round * 60).await;
            check_all(&shard, 0, (0..=round).flat_map(|_| sizes(60))).await;
        });
    }
}

#[test]
fn a_reader_from_the_beginning_is_read_ahead_of_and_each_byte_read_once() {
    let path = fresh_dir("shard_ahead");
    let values = || (0..100).map(|value| (value, 1 << 20));
    on_shard(&path, move |shard| async move {
        shard.durable(shard.assign(KEY, settings())).await;
        append_all(&shard, values(), 0).await;
        while shard.tail_bytes() > 8 << 20 {
            executor::sleep(std::time::Duration::from_millis(5)).await;
        }
        let before = shard.counters();
        check_all(&shard, 0, values()).await;
        let read_bytes = shard.counters().disk_read_bytes - before.disk_read_bytes;
        // All but the tail's cache comes from disk, and the window may go a little into that.
        assert!((95 << 20..112 << 20).contains(&read_bytes), "{read_bytes} bytes for 100 MiB");
        // A reader that stopped holds no file back.
        shard.durable(shard.drop_partition(KEY).unwrap()).await;
        executor::sleep(std::time::Duration::from_millis(200)).await;
        assert_eq!(shard.gauges().partitions_count, 0);
    });
}

#[test]
fn a_clean_stop_and_checkpoints_keep_everything() {
    let path = fresh_dir("shard_clean");
    for round in 0..3i64 {
        on_shard(&path, move |shard| async move {
            shard.durable(shard.assign(KEY, LogSettings { segment_bytes: 1 << 20, ..settings() })).await;
            check_all(&shard, 0, (0..round).flat_map(|_| sizes(100))).await;
            append_all(&shard, sizes(100), round * 100).await;
            shard.close().await.unwrap();
        });
    }
}

#[test]
fn a_dropped_partition_is_gone_and_its_files_too() {
    let path = fresh_dir("shard_drop");
    on_shard(&path, |shard| async move {
        shard.durable(shard.assign(KEY, settings())).await;
        append_all(&shard, sizes(50), 0).await;
        shard.durable(shard.drop_partition(KEY).unwrap()).await;
        assert_eq!(shard.state(KEY).unwrap_err(), Refusal::UnknownPartition);
        shard.durable(shard.assign(KEY, settings())).await;
        append_all(&shard, sizes(5), 0).await;
        check_all(&shard, 0, sizes(5)).await;
    });
    on_shard(&path, |shard| async move {
        check_all(&shard, 0, sizes(5)).await;
        shard.close().await.unwrap();
    });
}

#[test]
fn look_ups_by_timestamp_find_the_batch() {
    let path = fresh_dir("shard_timestamp");
    on_shard(&path, |shard| async move {
        shard.durable(shard.assign(KEY, LogSettings { segment_bytes: 1 << 20, ..settings() })).await;
        append_all(&shard, sizes(40), 0).await;
        for wanted in [0, 17, 39] {
            let found = shard.batch_at_timestamp(KEY, wanted, 0).await.unwrap().unwrap();
            assert_eq!(BatchHeader::parse(&found).unwrap().base_offset, wanted);
        }
        assert!(shard.batch_at_timestamp(KEY, 40, 0).await.unwrap().is_none());
        let newest = shard.batch_of_max_timestamp(KEY).await.unwrap().unwrap();
        assert_eq!(BatchHeader::parse(&newest).unwrap().base_offset, 39);
    });
}

#[test]
fn another_number_of_shards_takes_everything_over() {
    let path = fresh_dir("shard_reshard");
    on_shard(&path, |shard| async move {
        shard.durable(shard.assign(KEY, settings())).await;
        append_all(&shard, sizes(60), 0).await;
    });
    for shards in [3, 2, 1] {
        let dir = reshard(open_dir(&path), shards, config()).unwrap();
        assert_eq!(dir.journals().len(), usize::from(shards));
        executor::run(ExecutorConfig::default(), move || async move {
            let mut owners = 0;
            for id in 0..shards {
                let shard = Shard::open(&dir, ShardId(id), config()).await.unwrap();
                if shard.partitions().contains(&KEY) {
                    owners += 1;
                    check_all(&shard, 0, sizes(60)).await;
                }
            }
            assert_eq!(owners, 1);
        })
        .unwrap();
    }
}

/// C16: one flipped bit, here in the anchor's newest slot, destroys nothing.
#[test]
fn c16_a_lost_anchor_slot_loses_no_record() {
    for lost in 0..2 {
        let path = fresh_dir("shard_anchor");
        on_shard(&path, |shard| async move {
            shard.durable(shard.assign(KEY, settings())).await;
            append_all(&shard, sizes(40), 0).await;
        });
        on_shard(&path, |shard| async move {
            append_all(&shard, sizes(40), 40).await;
        });
        let dir = open_dir(&path);
        let anchor = dir.anchor(dir.journals()[0]);
        let mut bytes = std::fs::read(&anchor).unwrap();
        bytes[lost * 4096 + 40] ^= 1;
        std::fs::write(&anchor, bytes).unwrap();
        for _ in 0..2 {
            on_shard(&path, |shard| async move {
                check_all(&shard, 0, sizes(40).chain(sizes(40))).await;
            });
        }
    }
}
