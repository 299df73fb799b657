//! Appends at their owner: placed in the order of the calls, answered when durable.
//!
//! Placing never waits. A refusal waits as well: it may be computed from a batch that is not durable yet.

use watershed_core::batch::BatchHeader;
use watershed_core::error::Refusal;
use watershed_core::io::shard::{Appended, Incoming};
use watershed_core::units::{Stamp, TopicPartition};

use crate::wire::error_code::ErrorCode;

use super::node::Node;

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) base_offset: i64,
    /// -1 under create time.
    pub(crate) log_append_time_ms: i64,
    pub(crate) log_start: i64,
}

/// Appends a batch of the program that this broker is a part of, whose checksum and counts were checked: no larger than
/// `max.message.bytes` allows, and counted as a client's is.
pub(crate) fn append_own(node: &Node, at: TopicPartition, batch: &[u8]) -> Result<Appended, Refusal> {
    let header = BatchHeader::parse(batch).ok_or(Refusal::Damaged)?;
    let settings = node.settings_of(at.topic).ok_or(Refusal::UnknownPartition)?;
    if header.bytes > settings.log.max_message_bytes {
        return Err(Refusal::TooLarge);
    }
    let appended = node.shard.append(at, Incoming::Copy(batch))?;
    count(node, &header);
    Ok(appended)
}

fn count(node: &Node, header: &BatchHeader) {
    let mut metrics = node.metrics.borrow_mut();
    metrics.produced_batches += 1;
    metrics.produced_bytes += u64::from(header.bytes);
    metrics.produced_records += u64::try_from(header.records_count).unwrap_or_default();
}

/// Batches that were placed or refused, and the stamp that the answer waits for.
#[derive(Default)]
pub(crate) struct Placing {
    results: Vec<Result<Placed, ErrorCode>>,
    stamp: Stamp,
}

impl Placing {
    /// Places one batch more.
    pub(crate) fn place(&mut self, node: &Node, at: TopicPartition, batch: Incoming<'_>) {
        let header = match &batch {
            Incoming::Copy(bytes) => BatchHeader::parse(bytes),
            Incoming::Own(lease, _) => BatchHeader::parse(lease),
        };
        let result = node.shard.append(at, batch).map(|appended| {
            self.stamp = self.stamp.max(appended.stamp);
            Placed {
                base_offset: appended.base_offset,
                log_append_time_ms: appended.log_append_time_ms,
                log_start: appended.log_start,
            }
        });
        if result.is_err() {
            self.stamp = self.stamp.max(node.shard.last_stamp(at));
        } else {
            header.iter().for_each(|header| count(node, header));
        }
        self.results.push(result.map_err(ErrorCode::from));
    }

    /// The results, once everything that they were computed from is durable.
    pub(crate) async fn durable(self, node: &Node) -> Vec<Result<Placed, ErrorCode>> {
        node.metrics.borrow_mut().produces_waiting += 1;
        node.shard.durable(self.stamp).await;
        node.metrics.borrow_mut().produces_waiting -= 1;
        self.results
    }
}
