//! Deadlines and whom to wake at them. Plain data: the time is an argument.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

/// A deadline's name; the number tells equal deadlines apart.
pub(crate) type TimerKey = (Instant, u64);

#[derive(Default)]
pub(crate) struct Timers {
    waiting: BTreeMap<TimerKey, Waker>,
    next: u64,
}

impl Timers {
    pub(crate) fn insert(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        self.next += 1;
        let key = (deadline, self.next);
        self.waiting.insert(key, waker);
        key
    }

    /// Whom to wake instead. False if the timer has fired.
    pub(crate) fn update(&mut self, key: TimerKey, waker: &Waker) -> bool {
        let kept = self.waiting.get_mut(&key);
        kept.map(|kept| kept.clone_from(waker)).is_some()
    }

    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        self.waiting.remove(&key)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(key, _)| key.0)
    }

    /// Takes one timer that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Waker> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn fires_in_order_and_not_early() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        let later = timers.insert(at(20), Waker::noop().clone());
        timers.insert(at(10), Waker::noop().clone());
        timers.insert(at(10), Waker::noop().clone());
        assert_eq!(timers.next_deadline(), Some(at(10)));
        assert!(timers.pop_due(at(9)).is_none());
        assert!(timers.pop_due(at(10)).is_some() && timers.pop_due(at(10)).is_some());
        assert!(timers.pop_due(at(19)).is_none());
        assert!(timers.remove(later).is_some());
        assert_eq!(timers.next_deadline(), None);
    }
}
