//! Scrape: a copy of one shard's counters, with the gauges of the moment.

use crate::metrics::ShardMetrics;

use super::node::Node;

/// What the shard has counted so far.
pub(crate) fn counters(node: &Node) -> ShardMetrics {
    let mut metrics = node.metrics.borrow().clone();
    let usage = node.shard.arena().usage();
    metrics.arena_used_bytes = usage.in_use_bytes as u64;
    metrics.arena_bytes = usage.limit_bytes as u64;
    metrics.fetches_waiting = node.waiting.borrow().len() as u64;
    metrics
}
