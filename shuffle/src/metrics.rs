//! Metrics: a copy of what a shard has counted and holds, as one scrape of it.
//!
//! Plain numbers; names and their text are `admin`'s. Counters only grow from the start of the process.

use std::time::Duration;

use crate::store::{Holding, Usage};

/// Upper bounds of the buckets of waits for memory: from what no client notices to all that it waits.
pub const WAIT_BOUNDS_US: [u64; 10] =
    [100, 1_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 20_000_000, 40_000_000];

/// A histogram of how long requests for memory waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Per bucket, not cumulated; the last one is unbounded.
    pub counts: [u64; WAIT_BOUNDS_US.len() + 1],
    pub sum_us: u64,
}

impl Waits {
    /// Counts one.
    pub fn observe(&mut self, wait: Duration) {
        let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let place = WAIT_BOUNDS_US.partition_point(|bound| *bound < wait_us);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(wait_us);
    }
}

/// Memory that was set apart for one use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaUse {
    /// "blocks", "work" or "reads".
    pub arena: &'static str,
    pub used_bytes: u64,
    pub size_bytes: u64,
}

/// One shard at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardMetrics {
    pub shard: u16,
    pub received_bytes: u64,
    pub received_blocks: u64,
    pub refused_blocks: u64,
    pub duplicate_blocks: u64,
    pub runs: u64,
    pub failed_runs: u64,
    pub written_bytes: u64,
    pub read_bytes: u64,
    pub sent_bytes: u64,
    pub connections_accepted: u64,
    pub connections_open: u64,
    pub ticket_waits: Waits,
    pub usage: Usage,
    pub blocks_held: u64,
    pub arenas: Vec<ArenaUse>,
    pub holdings: Vec<Holding>,
    pub is_ailing: bool,
    pub is_decommissioning: bool,
    pub is_decommissioned: bool,
    pub turns: u64,
    pub parks: u64,
    pub stalls: u64,
    pub busy_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_counted_by_its_upper_bound() {
        let mut waits = Waits::default();
        for wait_us in [0, 100, 101, 41_000_000] {
            waits.observe(Duration::from_micros(wait_us));
        }
        assert_eq!((waits.counts[0], waits.counts[1], waits.counts[10]), (2, 1, 1));
        assert_eq!(waits.sum_us, 41_000_201);
    }
}
