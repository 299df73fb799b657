//! The log of the catalog's records: an ordinary partition of shard 0, read whole at the start.
//!
//! Every change is one batch. When most of the log is no longer true a snapshot of the whole catalog is appended, between
//! Kafka's control records for its header and footer, and the log's start moves up to it: what a start reads is bounded by
//! what exists, not by what has ever been.

use std::time::Duration;

use watershed_core::batch::BatchHeader;
use watershed_core::error::{Fault, Refusal};
use watershed_core::io::executor::sleep;
use watershed_core::io::shard::{Appended, Incoming, Shard};
use watershed_core::partition::LogSettings;
use watershed_core::units::{Stamp, TopicId, TopicPartition};

use crate::catalog::{MetadataRecord, Rebuild, Rebuilt};
use crate::wire::generated::snapshot_footer::SnapshotFooter;
use crate::wire::generated::snapshot_header::SnapshotHeader;
use crate::wire::message::Message;
use crate::wire::records::{BatchBuilder, ControlKind, Record};

use super::log_walk::LogWalk;

/// What clients call it.
pub(crate) const TOPIC: &str = "__cluster_metadata";
/// Where it lies.
pub(crate) const LOG: TopicPartition = TopicPartition { topic: TopicId::CLUSTER_METADATA, partition: 0 };
/// A batch of a snapshot is closed at about this size, below that of runs that are written into their segment at once.
const BATCH_BYTES: usize = 64 << 10;
/// A change that adds no partitions is smaller.
const CHANGE_BYTES_MAX: u32 = 64 << 10;
/// What the log may hold beyond twice its last snapshot before the next.
const SPARE_BYTES: u64 = 4 << 20;
/// Between two attempts to append while there is no room.
const ROOM_WAIT: Duration = Duration::from_millis(5);

/// Nothing goes by its age: a catalog is rebuilt from its log.
pub(crate) fn settings() -> LogSettings {
    LogSettings {
        delete: false,
        retention_ms: None,
        max_message_bytes: watershed_core::limits::BATCH_BYTES_MAX,
        control: true,
        ..LogSettings::default()
    }
}

/// Reads what the log holds. A snapshot that was cut off is written anew before this returns.
pub(crate) async fn load(shard: &Shard) -> Result<Rebuilt, Fault> {
    let mut rebuild = Rebuild::default();
    let walk = LogWalk { shard, at: LOG, name: "the metadata log".to_owned() };
    let replay = |header: &BatchHeader, _, record: &Record<'_>| match header.is_control() {
        true => control(&mut rebuild, record),
        false => replay_one(&mut rebuild, record.value.unwrap_or_default()),
    };
    walk.each_record(replay).await?;
    let rebuilt = rebuild.finish();
    if rebuilt.is_cut_off {
        snapshot(shard, &rebuilt.catalog.snapshot()).await;
    }
    Ok(rebuilt)
}

fn control(rebuild: &mut Rebuild, record: &Record<'_>) -> Result<(), String> {
    match record.control_kind() {
        Some(ControlKind::SnapshotHeader) => rebuild.begin_snapshot(),
        Some(ControlKind::SnapshotFooter) if rebuild.end_snapshot() => {}
        kind => return Err(format!("no control record was expected here: {kind:?}")),
    }
    Ok(())
}

fn replay_one(rebuild: &mut Rebuild, value: &[u8]) -> Result<(), String> {
    let record = MetadataRecord::decode(value).map_err(|error| error.to_string())?;
    rebuild.replay(&record).map_err(|error| error.to_string())
}

/// Whether a change can be written now. One that adds partitions may be large and needs room on the disk; what else is
/// asked of a controller goes on without.
pub(crate) fn takes(shard: &Shard, is_growth: bool) -> bool {
    shard.admits_control(CHANGE_BYTES_MAX) && !(is_growth && shard.is_disk_full())
}

/// Appends records as one batch.
pub(crate) async fn append(shard: &Shard, records: &[MetadataRecord]) -> Stamp {
    let now_ms = shard.now().wall_ms;
    let mut batch = BatchBuilder::new(now_ms);
    for record in records {
        batch.push(now_ms, None, Some(&record.encode()));
    }
    put(shard, batch).await.stamp
}

/// Waits while produces fill memory or journal: they leave by themselves, and the controller cannot take back what it has
/// decided.
async fn put(shard: &Shard, batch: BatchBuilder) -> Appended {
    let batch = batch.build();
    loop {
        match shard.append(LOG, Incoming::Copy(&batch)) {
            Err(Refusal::Overloaded) => sleep(ROOM_WAIT).await,
            appended => return appended.expect("the metadata log takes what the controller decides"),
        }
    }
}

/// Whether most of the log is older than what a snapshot would say.
pub(crate) fn is_worth_a_snapshot(shard: &Shard, snapshot_bytes: u64) -> bool {
    let size_bytes = shard.state(LOG).map_or(0, |state| state.size_bytes);
    size_bytes > 2 * snapshot_bytes + SPARE_BYTES
}

/// Appends a whole catalog and moves the log's start up to it. Gives the snapshot's bytes.
pub(crate) async fn snapshot(shard: &Shard, records: &[MetadataRecord]) -> u64 {
    let now_ms = shard.now().wall_ms;
    let control = |kind, value: &[u8]| {
        let mut batch = BatchBuilder::new(now_ms);
        batch.push_control(now_ms, kind, value);
        batch
    };
    let header = SnapshotHeader { version: 0, last_contained_log_timestamp: now_ms };
    let first = put(shard, control(ControlKind::SnapshotHeader, &header.to_bytes(0))).await;
    let mut bytes = 0;
    let mut records = records.iter().peekable();
    while records.peek().is_some() {
        let mut batch = BatchBuilder::new(now_ms);
        while let Some(record) = records.next_if(|_| batch.bytes() < BATCH_BYTES) {
            batch.push(now_ms, None, Some(&record.encode()));
        }
        bytes += batch.bytes() as u64;
        put(shard, batch).await;
    }
    let footer = put(shard, control(ControlKind::SnapshotFooter, &SnapshotFooter::default().to_bytes(0))).await;
    shard.durable(footer.stamp).await;
    match shard.delete_records(LOG, first.base_offset) {
        Ok((_, moved)) => shard.durable(moved).await,
        // The log is longer than it need be, and says the same.
        Err(refusal) => tracing::warn!(?refusal, "the start of the metadata log does not move"),
    }
    bytes
}
