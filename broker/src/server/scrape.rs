//! Scrape: a copy of one shard's counters, with the gauges of the moment.

use std::rc::Rc;

use watershed_core::budget::Pool;
use watershed_core::io::executor;
use watershed_core::io::shard::{DiskOp, ShardGauges};

use crate::metrics::{Latency, PoolUse, ShardMetrics};

use super::lag;
use super::node::Node;

/// What the shard has counted so far and holds now.
pub(super) async fn scrape(node: &Rc<Node>) -> ShardMetrics {
    let seen = lag::look(node).await;
    let mut metrics = counters(node);
    metrics.groups = seen.states;
    metrics.lags = seen.lags;
    metrics.lags_left_out = seen.left_out;
    metrics
}

/// Where the durations of these operations are counted.
pub(super) fn disk(metrics: &mut ShardMetrics, op: DiskOp) -> &mut Latency {
    match op {
        DiskOp::Commit => &mut metrics.commit_latency,
        DiskOp::SegmentWrite => &mut metrics.segment_write_latency,
        DiskOp::SegmentFlush => &mut metrics.segment_flush_latency,
        DiskOp::SegmentRead => &mut metrics.segment_read_latency,
    }
}

fn counters(node: &Node) -> ShardMetrics {
    let mut metrics = node.metrics.borrow().clone();
    let gauges = node.shard.gauges();
    metrics.fetches_waiting = node.waiting.borrow().len() as u64;
    storage(node, &gauges, &mut metrics);
    memory(node, &gauges, &mut metrics);
    let turns = executor::stats();
    metrics.turns = turns.turn_count();
    metrics.parks = turns.park_count();
    metrics.busy_us = turns.busy_us();
    metrics.longest_turn_us = turns.take_longest_turn_us();
    metrics.stalls = turns.stalled_turn_count();
    metrics
}

fn storage(node: &Node, gauges: &ShardGauges, metrics: &mut ShardMetrics) {
    let counters = node.shard.counters();
    metrics.journal_frames = counters.frames_count;
    metrics.journal_flushes = counters.frames_count;
    metrics.journal_bytes = counters.frame_bytes;
    metrics.journal_used_bytes = gauges.journal_used_bytes;
    metrics.journal_ring_bytes = gauges.journal_ring_bytes;
    metrics.journal_frames_in_flight = gauges.frames_in_flight_count;
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
    metrics.disk_free_bytes = gauges.free_bytes;
    metrics.disk_full = u64::from(gauges.is_disk_full);
}

fn memory(node: &Node, gauges: &ShardGauges, metrics: &mut ShardMetrics) {
    let usage = node.shard.arena().usage();
    metrics.arena_used_bytes = usage.in_use_bytes as u64;
    metrics.arena_bytes = usage.limit_bytes as u64;
    let (credits, limits) = (&node.memory, &node.memory_limits);
    let pool = |pool, used_bytes, limit_bytes| PoolUse { pool, used_bytes, limit_bytes };
    metrics.pools = vec![
        pool("receive", credits.used_bytes(Pool::Receive), credits.limit_bytes(Pool::Receive)),
        pool("tail", gauges.tail_bytes, limits.tail_bytes),
        pool("unwritten", gauges.unwritten_bytes, limits.unwritten_bytes),
    ];
}
