//! Appends at their owner: placed in the order of the calls, answered when durable.
//!
//! Placing never waits. A refusal waits as well: it may be computed from a batch that is not durable yet.

use watershed_core::batch::BatchHeader;
use watershed_core::io::shard::Incoming;
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

/// Batches that were placed or refused, and the stamp that the answer waits for.
#[derive(Default)]
pub(crate) struct Placing {
    results: Vec<Result<Placed, ErrorCode>>,
    stamp: Stamp,
}

impl Placing {
    /// Places one batch more.
    pub(crate) fn place(&mut self, node: &Node, at: TopicPartition, batch: Incoming<'_>) {
        let (bytes, header) = match &batch {
            Incoming::Copy(bytes) => (bytes.len(), BatchHeader::parse(bytes)),
            Incoming::Own(lease, bytes) => (*bytes, BatchHeader::parse(lease)),
        };
        let records = header.and_then(|header| u64::try_from(header.records_count).ok()).unwrap_or_default();
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
            let mut metrics = node.metrics.borrow_mut();
            metrics.produced_batches += 1;
            metrics.produced_bytes += bytes as u64;
            metrics.produced_records += records;
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
