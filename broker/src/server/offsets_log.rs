//! The logs of `__consumer_offsets`: read once when their owner begins, appended to with every change, and written anew
//! when most of what they hold is no longer true.
//!
//! There is no cleaner: what is live is appended again, then the log's start moves behind it. A log is so about twice its
//! live records and [`SPARE_BYTES`] long, beyond what is appended before it is looked at again.

use std::rc::Rc;

use watershed_core::error::Fault;
use watershed_core::io::executor::yield_if_needed;
use watershed_core::io::shard::Incoming;
use watershed_core::units::{Stamp, TopicPartition};

use crate::groups::{Coordinator, GroupRecord, GroupRecordError};
use crate::wire::error_code::ErrorCode;
use crate::wire::records::BatchBuilder;

use super::log_walk::LogWalk;
use super::node::Node;

/// The topic's name.
pub(crate) const TOPIC: &str = "__consumer_offsets";
/// A batch is closed at about this size: below what a topic takes by default, and below that of runs that are written into
/// their segment at once and so need room on the disk.
const BATCH_BYTES: usize = 64 << 10;
/// What a log may hold beyond twice its live records before it is written anew.
const SPARE_BYTES: u64 = 1 << 20;

/// Reads a log into an empty coordinator.
pub(super) async fn load(node: &Node, at: TopicPartition, coordinator: &mut Coordinator) -> Result<(), Fault> {
    let walk = LogWalk { shard: &node.shard, at, name: format!("{TOPIC}-{}", at.partition) };
    walk.each_record(|_, _, record| {
        match GroupRecord::decode(record.key.unwrap_or_default(), record.value) {
            Ok(record) => coordinator.replay(record),
            // Another version of this program wrote it, and will find it again.
            Err(GroupRecordError::Foreign(kind)) => tracing::warn!(kind, "a record of no classic group is left alone"),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    })
    .await
}

/// Appends records, in as many batches as they need. Gives the first offset and what to wait for; after an error the first
/// of several batches may be there: each record is true by itself.
pub(super) fn append(node: &Node, at: TopicPartition, records: &[GroupRecord]) -> Result<(i64, Stamp), ErrorCode> {
    let now_ms = node.shard.now().wall_ms;
    let mut written: Option<(i64, Stamp)> = None;
    let mut records = records.iter().peekable();
    while records.peek().is_some() {
        let mut batch = BatchBuilder::new(now_ms);
        while let Some(record) = records.next_if(|_| batch.bytes() < BATCH_BYTES) {
            batch.push(now_ms, Some(&record.key()), record.value().as_deref());
        }
        let appended = node.shard.append(at, Incoming::Copy(&batch.build())).map_err(ErrorCode::from).map_err(told)?;
        let first = written.map_or(appended.base_offset, |(first, _)| first);
        written = Some((first, appended.stamp));
    }
    Ok(written.unwrap_or_default())
}

/// What a group's client is told of a log that takes nothing, as Kafka does (`CoordinatorOperationExceptionHelper`).
fn told(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::NotEnoughReplicas | ErrorCode::RequestTimedOut => {
            ErrorCode::CoordinatorNotAvailable
        }
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        other => other,
    }
}

/// Whether more of the log is dead than alive, as far as the last time tells.
pub(super) fn is_worth_rewriting(node: &Node, at: TopicPartition, live_bytes: u64) -> bool {
    let size_bytes = node.shard.state(at).map_or(0, |state| state.size_bytes);
    size_bytes > 2 * live_bytes + SPARE_BYTES
}

/// Appends everything that is live and moves the log's start behind the rest. Commits go on meanwhile: each group is
/// written as it then is, and what changes later comes later in the log. Gives the bytes that are live.
pub(super) async fn rewrite(
    node: &Rc<Node>,
    at: TopicPartition,
    live_after: impl Fn(Option<&str>) -> Option<(String, Vec<GroupRecord>)>,
) -> Result<u64, ErrorCode> {
    let mut first: Option<i64> = None;
    let mut stamp = node.shard.last_stamp(at);
    let mut live_bytes = 0;
    let mut cursor: Option<String> = None;
    let end = node.shard.state(at)?.log_end;
    while let Some((group, records)) = live_after(cursor.as_deref()) {
        if !records.is_empty() {
            let (offset, appended) = append(node, at, &records)?;
            first.get_or_insert(offset);
            stamp = appended;
            live_bytes += records.iter().map(|record| record.bytes() as u64).sum::<u64>();
        }
        cursor = Some(group);
        yield_if_needed().await;
    }
    node.shard.durable(stamp).await;
    let (_, moved) = node.shard.delete_records(at, first.unwrap_or(end))?;
    node.shard.durable(moved).await;
    Ok(live_bytes)
}
