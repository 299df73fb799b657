//! Whether looking for work before the next sleep is worth it, judged by what the last looks found.
//!
//! A spin saves the cost and the delay of a wake if work comes while it lasts, and is lost otherwise. Spins that keep
//! finding nothing become rare, each time after twice as many sleeps; one that finds something brings them back. Plain
//! data without a clock: never decides how long a spin lasts, nor what counts as work.

/// Fruitless spins in a row that change nothing: quick answers of a client and slow ones of a disk may alternate.
const PATIENCE: u32 = 8;
/// Sleeps between two spins, at most. Even, so that spins fall on each of two kinds of waits that alternate.
const SLEEPS_MAX: u32 = 64;

/// The memory of one executor's spins. A new one spins.
#[derive(Debug, Default)]
pub(crate) struct SpinRecord {
    /// Spins in a row that found nothing.
    fruitless_count: u32,
    /// Sleeps until the next spin.
    sleeps_left: u32,
}

impl SpinRecord {
    /// Whether to spin before this sleep. It stays so until a spin is judged.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.sleeps_left == 0;
        self.sleeps_left = self.sleeps_left.saturating_sub(1);
        is_due
    }

    /// A spin has ended: by work, or by its time.
    pub(crate) fn judge(&mut self, has_found: bool) {
        if has_found {
            *self = SpinRecord::default();
            return;
        }
        self.fruitless_count = self.fruitless_count.saturating_add(1);
        let doublings = self.fruitless_count.saturating_sub(PATIENCE);
        self.sleeps_left = match doublings {
            0 => 0,
            _ => 1_u32.checked_shl(doublings).unwrap_or(SLEEPS_MAX).min(SLEEPS_MAX),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spins among `waits`, each of which says whether a spin finds work.
    fn spins(record: &mut SpinRecord, waits: impl IntoIterator<Item = bool>) -> Vec<bool> {
        let mut found = Vec::new();
        for is_short in waits {
            if record.is_due() {
                record.judge(is_short);
                found.push(is_short);
            }
        }
        found
    }

    #[test]
    fn spins_that_find_nothing_become_rare() {
        let mut record = SpinRecord::default();
        assert_eq!(spins(&mut record, [false; PATIENCE as usize]).len(), PATIENCE as usize);
        let doubling = 2 + 1 + 4 + 1 + 8 + 1 + 16 + 1 + 32 + 1;
        assert_eq!(spins(&mut record, vec![false; 1 + doubling]).len(), 6);
        let rare = SLEEPS_MAX as usize + 1;
        assert_eq!(spins(&mut record, vec![false; 1000 * rare]).len(), 1000);
    }

    #[test]
    fn one_that_finds_work_brings_them_back() {
        let mut record = SpinRecord::default();
        spins(&mut record, [false; 10_000]);
        let rare = SLEEPS_MAX as usize + 1;
        let found = spins(&mut record, vec![true; rare + 1000]);
        assert!(found.len() > 1000, "all but the sleeps until the first: {}", found.len());
        assert_eq!(spins(&mut record, [true; 1000]).len(), 1000);
    }

    #[test]
    fn every_wait_is_spun_for_while_quick_ones_are_among_slow_ones() {
        let mut record = SpinRecord::default();
        for slow_between in [1, PATIENCE as usize] {
            let waits = (0..1000).map(|wait| wait % (slow_between + 1) == slow_between);
            assert_eq!(spins(&mut record, waits).len(), 1000);
        }
    }

    /// With waits of two kinds in turn, rare spins must not fall on the slow kind for ever.
    #[test]
    fn rare_spins_find_the_quick_kind_of_two_that_alternate() {
        for first in [true, false] {
            let mut record = SpinRecord::default();
            spins(&mut record, [false; 10_000]);
            let waits = (0..4 * SLEEPS_MAX).map(|wait| (wait % 2 == 0) == first);
            assert!(spins(&mut record, waits).contains(&true));
        }
    }

    #[test]
    fn is_due_until_it_is_judged() {
        let mut record = SpinRecord::default();
        assert!(record.is_due() && record.is_due());
        (0..PATIENCE + 1).for_each(|_| record.judge(false));
        assert!(!record.is_due() && !record.is_due() && record.is_due() && record.is_due());
    }

    #[test]
    fn never_finding_anything_overflows_nothing() {
        let mut record = SpinRecord { fruitless_count: u32::MAX, sleeps_left: 0 };
        record.judge(false);
        assert_eq!(record.sleeps_left, SLEEPS_MAX);
    }
}
