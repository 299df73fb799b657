//! Metrics: the plain counters that a shard fills while it works, and how those of several shards add up.
//!
//! A shard owns its [`ShardMetrics`] and adds to it without atomics; a scrape is a copy sent by message. Names, labels
//! and exposition live in `admin`; nothing here formats, locks or reads a clock. Counters only grow; gauges are marked.

use std::collections::BTreeMap;

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

/// One API key's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiMetrics {
    pub requests: u64,
    /// Replies that carry an error code anywhere.
    pub errors: u64,
    /// From the last byte received to the reply handed to the socket.
    pub latency: Latency,
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

    // Segments, checkpoints and the pool.
    pub segment_written_bytes: u64,
    pub segment_flushes: u64,
    pub segment_read_bytes: u64,
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
    /// Counts one answered request.
    pub fn answered(&mut self, api_key: i16, duration_us: u64, failed: bool) {
        let api = self.apis.entry(api_key).or_default();
        api.requests += 1;
        api.errors += u64::from(failed);
        api.latency.observe_us(duration_us);
    }
}

/// The requests of all shards, by API key.
pub fn merged_apis(shards: &[ShardMetrics]) -> BTreeMap<i16, ApiMetrics> {
    let mut merged: BTreeMap<i16, ApiMetrics> = BTreeMap::new();
    for (&key, api) in shards.iter().flat_map(|shard| &shard.apis) {
        let sum = merged.entry(key).or_default();
        sum.requests += api.requests;
        sum.errors += api.errors;
        sum.latency.add(&api.latency);
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
        let merged = merged_apis(&[one, two]);
        assert_eq!((merged[&0].requests, merged[&0].errors), (2, 1));
        assert_eq!(merged[&0].latency.buckets[1], 2);
        assert_eq!(merged[&1].requests, 1);
    }
}
