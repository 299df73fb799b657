//! The log of the catalog's records: an ordinary partition of shard 0, read whole at the start.
//!
//! Every change is one batch. When most of the log is no longer true a snapshot of the whole catalog is appended, between
//! Kafka's control records for its header and footer, and the log's start moves up to it: what a start reads is bounded by
//! what exists, not by what has ever been.

use std::time::Duration;

use watershed_core::error::{Fault, Refusal};
use watershed_core::io::arena::Slice;
use watershed_core::io::executor::sleep;
use watershed_core::io::shard::{Appended, Incoming, LogState, Shard, Until};
use watershed_core::partition::LogSettings;
use watershed_core::units::{Stamp, TopicId, TopicPartition};

use crate::catalog::{MetadataRecord, Rebuild, Rebuilt};
use crate::wire::generated::snapshot_footer::SnapshotFooter;
use crate::wire::generated::snapshot_header::SnapshotHeader;
use crate::wire::message::Message;
use crate::wire::records::{BatchBuilder, ControlKind, Payload, Record};

/// Where it lies.
pub(crate) const LOG: TopicPartition = TopicPartition { topic: TopicId::CLUSTER_METADATA, partition: 0 };
/// How much of the log is read at once.
const READ_BYTES: u32 = 1 << 20;
/// The metadata log is never compressed; a batch that unpacks to more than itself is damage.
const UNPACKED_BYTES_MAX: usize = 0;
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

/// Reads the catalog that the log holds. A snapshot that was cut off is written anew before this returns.
pub(crate) async fn load(shard: &Shard) -> Result<crate::catalog::Catalog, Fault> {
    let mut rebuild = Rebuild::default();
    let mut offset = state(shard)?.log_start;
    while offset < state(shard)?.log_end {
        let plan = shard.plan_read(LOG, offset, READ_BYTES, Until::LogEnd).map_err(refused)?;
        let slices = shard.read(plan).await?;
        let end = replay(&mut rebuild, &slices)?;
        offset = end.filter(|end| *end > offset).ok_or_else(|| damaged(offset, "batches are missing"))?;
    }
    let Rebuilt { catalog, is_cut_off } = rebuild.finish();
    if is_cut_off {
        snapshot(shard, &catalog.snapshot()).await;
    }
    Ok(catalog)
}

fn state(shard: &Shard) -> Result<LogState, Fault> {
    shard.state(LOG).map_err(refused)
}

fn refused(refusal: Refusal) -> Fault {
    Fault::Refused(format!("the metadata log cannot be read: {refusal:?}"))
}

fn damaged(offset: i64, what: &str) -> Fault {
    Fault::Refused(format!("the metadata log is damaged at offset {offset}: {what}"))
}

/// Replays whole batches; gives the offset after the last.
fn replay(rebuild: &mut Rebuild, slices: &[Slice]) -> Result<Option<i64>, Fault> {
    let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    let mut rest = bytes.as_slice();
    let mut end = None;
    while !rest.is_empty() {
        let payload = Payload::open(rest, UNPACKED_BYTES_MAX).map_err(|error| damaged(-1, &error.to_string()))?;
        for record in payload.records() {
            let record = record.map_err(|error| damaged(payload.header().base_offset, &error.to_string()))?;
            let offset = payload.place(&record).0;
            match payload.header().is_control() {
                true => control(rebuild, &record, offset)?,
                false => replay_one(rebuild, record.value.unwrap_or_default(), offset)?,
            }
        }
        end = Some(payload.header().end_offset());
        rest = rest.get(payload.header().bytes as usize..).unwrap_or_default();
    }
    Ok(end)
}

fn control(rebuild: &mut Rebuild, record: &Record<'_>, offset: i64) -> Result<(), Fault> {
    match record.control_kind() {
        Some(ControlKind::SnapshotHeader) => rebuild.begin_snapshot(),
        Some(ControlKind::SnapshotFooter) if rebuild.end_snapshot() => {}
        kind => return Err(damaged(offset, &format!("no control record was expected here: {kind:?}"))),
    }
    Ok(())
}

fn replay_one(rebuild: &mut Rebuild, value: &[u8], offset: i64) -> Result<(), Fault> {
    let record = MetadataRecord::decode(value).map_err(|error| damaged(offset, &error.to_string()))?;
    rebuild.replay(&record).map_err(|error| damaged(offset, &error.to_string()))
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
