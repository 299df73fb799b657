//! Metrics: the plain counters that a shard fills while it works, and how those of several shards add up.
//!
//! A shard owns its [`ShardMetrics`] and adds to it without atomics; a scrape is a copy sent by message. Names, labels
//! and exposition live in `admin`; nothing here formats, locks or reads a clock. Counters only grow; gauges are marked.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Upper bounds of the latency buckets, in microseconds; one more bucket takes what is slower.
pub const LATENCY_BOUNDS_US: [u64; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// A histogram of durations over [`LATENCY_BOUNDS_US`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Observations per bucket, not cumulated; the last one is unbounded.
    pub buckets: [u64; LATENCY_BOUNDS_US.len() + 1],
    pub sum_us: u64,
}

impl Latency {
    /// Counts one duration.
    pub fn observe_us(&mut self, duration_us: u64) {
        let place = LATENCY_BOUNDS_US.partition_point(|&bound| bound < duration_us);
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        }
        self.sum_us = self.sum_us.saturating_add(duration_us);
    }

    /// How many were observed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn add(&mut self, other: &Latency) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }
}

/// Where the time of a request goes, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Received whole, until the connection's earlier requests let it begin.
    Queue,
    /// Parsing, checks, and placing it in order at its owners.
    Local,
    /// Kept waiting because the client asked to be: for records, or for the other members of its group.
    Parked,
    /// Until the answer is there: durability, other shards, reads.
    Wait,
    /// Behind earlier answers, and until the socket has taken it.
    Send,
}

impl Phase {
    pub const ALL: [Phase; 5] = [Phase::Queue, Phase::Local, Phase::Parked, Phase::Wait, Phase::Send];

    /// The value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Queue => "queue",
            Phase::Local => "local",
            Phase::Parked => "parked",
            Phase::Wait => "wait",
            Phase::Send => "send",
        }
    }
}

/// How far a group is behind in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLag {
    pub group: Arc<str>,
    pub topic: Arc<str>,
    pub partition: i32,
    /// Records between the committed offset and the high watermark.
    pub records: u64,
}

/// What a part of the memory holds, and may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    pub pool: &'static str,
    pub used_bytes: u64,
    pub limit_bytes: u64,
}

/// One API key's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiMetrics {
    pub requests: u64,
    /// Replies that carry an error code anywhere.
    pub errors: u64,
    /// From the last byte received to the reply.
    pub latency: Latency,
    /// In the order of [`Phase::ALL`].
    pub phases: [Latency; Phase::ALL.len()],
}

impl ApiMetrics {
    /// Counts what one phase took.
    pub fn observe_us(&mut self, phase: Phase, duration_us: u64) {
        if let Some(latency) = self.phases.get_mut(phase as usize) {
            latency.observe_us(duration_us);
        }
    }

    fn add(&mut self, other: &ApiMetrics) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.latency.add(&other.latency);
        for (mine, theirs) in self.phases.iter_mut().zip(&other.phases) {
            mine.add(theirs);
        }
    }
}

/// What one shard counts since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardMetrics {
    pub shard: u16,
    /// By Kafka API key.
    pub apis: BTreeMap<i16, ApiMetrics>,

    // Connections and bytes of clients.
    pub connections_accepted: u64,
    /// Closed by us: malformed, too large, unauthorised, idle or too slow.
    pub connections_refused: u64,
    /// Gauge.
    pub connections_open: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub produced_bytes: u64,
    pub produced_batches: u64,
    pub produced_records: u64,
    pub fetched_bytes: u64,
    /// Answers that told a client to wait, since a quota was used up.
    pub throttled_requests: u64,
    pub throttled_us: u64,
    /// Requests that took longer than the limit of the slow log.
    pub slow_requests: u64,

    // The mesh: calls that this shard made to another.
    pub mesh_calls: u64,
    pub mesh_latency: Latency,

    // The journal.
    pub journal_frames: u64,
    pub journal_bytes: u64,
    pub journal_flushes: u64,
    /// From the submission of a commit to its completion.
    pub commit_latency: Latency,
    /// Gauge: bytes of the ring that no checkpoint has freed yet.
    pub journal_used_bytes: u64,
    /// Gauge.
    pub journal_ring_bytes: u64,
    /// Gauge: frames being written.
    pub journal_frames_in_flight: u64,

    // Segments, checkpoints and the pool.
    pub segment_written_bytes: u64,
    pub segment_flushes: u64,
    pub segment_read_bytes: u64,
    pub segment_write_latency: Latency,
    pub segment_flush_latency: Latency,
    pub segment_read_latency: Latency,
    pub checkpoints: u64,
    pub checkpoint_bytes: u64,
    pub pool_written_bytes: u64,
    /// Gauge.
    pub pool_files: u64,

    // Memory.
    pub tail_cache_hits: u64,
    pub tail_cache_misses: u64,
    /// Gauge.
    pub arena_used_bytes: u64,
    /// Gauge.
    pub arena_bytes: u64,
    /// Gauges.
    pub pools: Vec<PoolUse>,
    /// Gauge: bytes that the file system has left.
    pub disk_free_bytes: u64,
    /// Gauge: 1 while new records are refused for want of space.
    pub disk_full: u64,

    // Groups whose coordinator is here.
    /// Gauges: groups by state.
    pub groups: BTreeMap<&'static str, u64>,
    /// Gauges.
    pub lags: Vec<GroupLag>,
    /// Gauge: partitions with a committed offset whose lag is not among those, for their number or a late owner.
    pub lags_left_out: u64,

    // State.
    /// Gauge: partitions that this shard owns.
    pub partitions: u64,
    /// Gauge: partitions that failed closed.
    pub partitions_damaged: u64,
    /// Gauge: produce requests parked for durability.
    pub produces_waiting: u64,
    /// Gauge: fetch requests parked for data.
    pub fetches_waiting: u64,

    // The executor.
    pub turns: u64,
    pub parks: u64,
    pub busy_us: u64,
    /// Gauge: the longest turn since the last scrape.
    pub longest_turn_us: u64,
    pub stalls: u64,
}

impl ShardMetrics {
    /// Counts one answered request; the phases are counted in what is returned.
    pub fn answered(&mut self, api_key: i16, duration_us: u64, failed: bool) -> &mut ApiMetrics {
        let api = self.apis.entry(api_key).or_default();
        api.requests += 1;
        api.errors += u64::from(failed);
        api.latency.observe_us(duration_us);
        api
    }
}

/// The requests of all shards, by API key.
pub fn merged_apis(shards: &[ShardMetrics]) -> BTreeMap<i16, ApiMetrics> {
    let mut merged: BTreeMap<i16, ApiMetrics> = BTreeMap::new();
    for (&key, api) in shards.iter().flat_map(|shard| &shard.apis) {
        merged.entry(key).or_default().add(api);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let mut latency = Latency::default();
        latency.observe_us(50);
        latency.observe_us(51);
        latency.observe_us(5_000_001);
        assert_eq!(latency.buckets[0], 1, "bounds are inclusive");
        assert_eq!(latency.buckets[1], 1);
        assert_eq!(latency.buckets[14], 1);
        assert_eq!(latency.count(), 3);
        assert_eq!(latency.sum_us, 50 + 51 + 5_000_001);
    }

    #[test]
    fn requests_of_all_shards_add_up_by_key() {
        let mut one = ShardMetrics::default();
        let mut two = ShardMetrics::default();
        one.answered(0, 100, false);
        two.answered(0, 100, true);
        two.answered(1, 7, false);
        two.apis.entry(1).or_default().observe_us(Phase::Send, 60);
        let merged = merged_apis(&[one, two]);
        assert_eq!((merged[&0].requests, merged[&0].errors), (2, 1));
        assert_eq!(merged[&0].latency.buckets[1], 2);
        assert_eq!(merged[&1].requests, 1);
        let sent = &merged[&1].phases[4];
        assert_eq!((sent.count(), sent.sum_us), (1, 60), "Phase::ALL is in the order of the numbers");
    }
}
