//! What an executor counts of its turns, and the warning when one is too long.
//!
//! Written by one thread, read by any. The stall detector reports; it never interferes.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counters of one executor.
#[derive(Debug, Default)]
pub struct TurnStats {
    turn_count: AtomicU64,
    park_count: AtomicU64,
    stalled_turn_count: AtomicU64,
    longest_turn_us: AtomicU64,
    busy_us: AtomicU64,
}

impl TurnStats {
    pub fn turn_count(&self) -> u64 {
        self.turn_count.load(Ordering::Relaxed)
    }

    /// How often the thread went to sleep.
    pub fn park_count(&self) -> u64 {
        self.park_count.load(Ordering::Relaxed)
    }

    /// Turns that took longer than the configured limit.
    pub fn stalled_turn_count(&self) -> u64 {
        self.stalled_turn_count.load(Ordering::Relaxed)
    }

    pub fn longest_turn_us(&self) -> u64 {
        self.longest_turn_us.load(Ordering::Relaxed)
    }

    /// The longest turn since the last call. Only on the executor's own thread.
    pub fn take_longest_turn_us(&self) -> u64 {
        self.longest_turn_us.swap(0, Ordering::Relaxed)
    }

    /// Time spent in turns, without sleeping and spinning.
    pub fn busy_us(&self) -> u64 {
        self.busy_us.load(Ordering::Relaxed)
    }

    pub(crate) fn parked(&self) {
        add(&self.park_count, 1);
    }

    pub(crate) fn turn_ended(&self, took: Duration, stall: &StallWarning) {
        let took_us = took.as_micros() as u64;
        add(&self.turn_count, 1);
        add(&self.busy_us, took_us);
        if took_us > self.longest_turn_us.load(Ordering::Relaxed) {
            self.longest_turn_us.store(took_us, Ordering::Relaxed);
        }
        if took > stall.limit {
            add(&self.stalled_turn_count, 1);
            stall.warn(took_us);
        }
    }
}

/// One thread writes, so no read-modify-write is needed.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}

/// Warns of long turns, at most once a second.
pub(crate) struct StallWarning {
    limit: Duration,
    last: Cell<Option<Instant>>,
}

impl StallWarning {
    pub(crate) fn new(limit: Duration) -> StallWarning {
        StallWarning { limit, last: Cell::new(None) }
    }

    fn warn(&self, took_us: u64) {
        let now = Instant::now();
        if self.last.get().is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1)) {
            self.last.set(Some(now));
            tracing::warn!(
                shard = std::thread::current().name().unwrap_or_default(),
                took_us,
                "a turn of this shard was long; a task computed without giving way, or the thread had no CPU"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing::span;

    use super::*;

    /// Counts the warnings that are logged.
    #[derive(Clone, Default)]
    struct Warnings(Arc<AtomicU64>);

    impl tracing::Subscriber for Warnings {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() == tracing::Level::WARN
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn warns_of_the_first_of_several_long_turns() {
        let warnings = Warnings::default();
        tracing::subscriber::with_default(warnings.clone(), || {
            let (stats, stall) = (TurnStats::default(), StallWarning::new(Duration::from_millis(5)));
            stats.turn_ended(Duration::from_millis(5), &stall);
            assert_eq!(warnings.0.load(Ordering::Relaxed), 0, "a turn at the limit is none too long");
            for _ in 0..3 {
                stats.turn_ended(Duration::from_millis(200), &stall);
            }
        });
        assert_eq!(warnings.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn counts_long_turns_and_keeps_the_longest() {
        let (stats, stall) = (TurnStats::default(), StallWarning::new(Duration::from_millis(5)));
        for took_ms in [1, 9, 6, 5] {
            stats.turn_ended(Duration::from_millis(took_ms), &stall);
        }
        assert_eq!((stats.turn_count(), stats.stalled_turn_count()), (4, 2));
        assert_eq!((stats.take_longest_turn_us(), stats.busy_us()), (9_000, 21_000));
        assert_eq!(stats.longest_turn_us(), 0, "the next scrape sees the turns from here on");
    }
}
