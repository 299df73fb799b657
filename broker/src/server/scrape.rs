//! Scrape: a copy of one shard's counters, with the gauges of the moment.

use watershed_core::io::executor;

use crate::metrics::ShardMetrics;

use super::node::Node;

/// What the shard has counted so far.
pub(crate) fn counters(node: &Node) -> ShardMetrics {
    let mut metrics = node.metrics.borrow().clone();
    let usage = node.shard.arena().usage();
    metrics.arena_used_bytes = usage.in_use_bytes as u64;
    metrics.arena_bytes = usage.limit_bytes as u64;
    metrics.fetches_waiting = node.waiting.borrow().len() as u64;
    storage(node, &mut metrics);
    let turns = executor::stats();
    metrics.turns = turns.turn_count();
    metrics.parks = turns.park_count();
    metrics.busy_us = turns.busy_us();
    metrics.longest_turn_us = turns.longest_turn_us();
    metrics.stalls = turns.stalled_turn_count();
    metrics
}

fn storage(node: &Node, metrics: &mut ShardMetrics) {
    let (counters, gauges) = (node.shard.counters(), node.shard.gauges());
    metrics.journal_frames = counters.frames_count;
    metrics.journal_flushes = counters.frames_count;
    metrics.journal_bytes = counters.frame_bytes;
    metrics.journal_used_bytes = gauges.journal_used_bytes;
    metrics.segment_written_bytes = counters.segment_bytes;
    metrics.segment_flushes = counters.flushes_count;
    metrics.segment_read_bytes = counters.disk_read_bytes;
    metrics.checkpoints = counters.checkpoints_count;
    metrics.checkpoint_bytes = counters.image_bytes;
    metrics.pool_written_bytes = counters.pool_bytes;
    metrics.pool_files = gauges.pool_files_count;
    metrics.tail_cache_hits = counters.memory_reads;
    metrics.tail_cache_misses = counters.disk_reads;
    metrics.partitions = gauges.partitions_count;
    metrics.partitions_damaged = gauges.damaged_count;
}
