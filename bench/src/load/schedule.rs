//! When requests of an open loop are due. Latency counts from there, so that a late generator or a full server shows.

use std::time::{Duration, Instant};

/// Evenly spaced moments, those of several streams interleaved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    first: Instant,
    interval: Duration,
    sent: u32,
}

impl Schedule {
    /// Stream number `stream` of `streams` that send `per_second` requests together.
    pub(crate) fn new(start: Instant, per_second: f64, stream: usize, streams: usize) -> Schedule {
        let interval = Duration::from_secs_f64(streams.max(1) as f64 / per_second.max(1e-3));
        let shift = interval.mul_f64(stream as f64 / streams.max(1) as f64);
        Schedule { first: start + shift, interval, sent: 0 }
    }

    /// When the next request is due; whether or not earlier ones were sent in time.
    pub(crate) fn next_due(&mut self) -> Instant {
        let due = self.first + self.interval * self.sent;
        self.sent = self.sent.saturating_add(1);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_share_the_rate_evenly() {
        let start = Instant::now();
        let mut dues = Vec::new();
        for stream in 0..4 {
            let mut schedule = Schedule::new(start, 1000.0, stream, 4);
            dues.extend((0..250).map(|_| schedule.next_due() - start));
        }
        dues.sort();
        for (index, due) in dues.iter().enumerate() {
            assert_eq!(due.as_micros(), index as u128 * 1000, "one a millisecond");
        }
    }

    #[test]
    fn falling_behind_does_not_move_what_is_due() {
        let start = Instant::now() - Duration::from_secs(10);
        let mut schedule = Schedule::new(start, 10.0, 0, 1);
        schedule.next_due();
        assert_eq!(schedule.next_due(), start + Duration::from_millis(100));
    }
}
