//! What a run counted: completions, bytes and the distribution of latencies.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told apart; longer ones count as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Completions of one kind of work, with their latencies in nanoseconds.
#[derive(Clone)]
pub(crate) struct Tally {
    pub(crate) completed_count: u64,
    pub(crate) bytes: u64,
    latencies: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        let latencies = Histogram::new_with_bounds(1000, LATENCY_NS_MAX, 3).expect("the bounds are constants");
        Tally { completed_count: 0, bytes: 0, latencies }
    }
}

impl Tally {
    pub(crate) fn complete(&mut self, bytes: u64, latency: Duration) {
        self.completed_count += 1;
        self.bytes += bytes;
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX));
    }

    pub(crate) fn merge(&mut self, other: &Tally) {
        self.completed_count += other.completed_count;
        self.bytes += other.bytes;
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
    }

    /// The latency that `percent` of the completions do not exceed, in microseconds.
    pub(crate) fn latency_us(&self, percent: f64) -> f64 {
        self.latencies.value_at_percentile(percent) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_span_merged_tallies() {
        let (mut fast, mut slow) = (Tally::default(), Tally::default());
        for _ in 0..99 {
            fast.complete(10, Duration::from_micros(100));
        }
        slow.complete(10, Duration::from_millis(50));
        fast.merge(&slow);
        assert_eq!((fast.completed_count, fast.bytes), (100, 1000));
        assert!((fast.latency_us(50.0) - 100.0).abs() < 1.0, "{}", fast.latency_us(50.0));
        assert!((fast.latency_us(99.9) - 50_000.0).abs() < 100.0, "{}", fast.latency_us(99.9));
    }

    #[test]
    fn latencies_beyond_the_bounds_are_kept_at_the_bounds() {
        let mut tally = Tally::default();
        tally.complete(1, Duration::from_secs(3600));
        assert!(tally.latency_us(100.0) >= 60_000_000.0);
    }
}
