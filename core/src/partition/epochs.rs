//! The leader epoch cache: which epoch began at which offset (KIP-101, KIP-279).
//!
//! Invariants: epochs and start offsets both rise strictly. A new leader records its epoch before it serves, even if it
//! never writes in it.

use crate::error::Refusal;

/// No epoch and no offset, in Kafka's encoding.
pub const UNDEFINED_EPOCH: i32 = -1;
pub const UNDEFINED_OFFSET: i64 = -1;

/// The start of one leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct EpochStart {
    pub epoch: i32,
    pub start_offset: i64,
}

/// The answer to OffsetForLeaderEpoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    pub epoch: i32,
    pub end_offset: i64,
}

/// Every epoch that wrote, or could have written, into the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs(Vec<EpochStart>);

impl Epochs {
    pub fn from_starts(starts: Vec<EpochStart>) -> Epochs {
        let mut epochs = Epochs::default();
        for start in starts {
            epochs.assign(start.epoch, start.start_offset);
        }
        epochs
    }

    pub fn starts(&self) -> &[EpochStart] {
        &self.0
    }

    /// The newest epoch, `UNDEFINED_EPOCH` if none was recorded.
    pub fn latest(&self) -> i32 {
        self.0.last().map_or(UNDEFINED_EPOCH, |last| last.epoch)
    }

    /// Records that `epoch` begins at `start_offset`. Entries that contradict it go. Returns whether anything changed.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        if epoch < 0 || self.latest() == epoch {
            return false;
        }
        self.0.retain(|entry| entry.epoch < epoch && entry.start_offset < start_offset);
        // Most logs have one epoch for ever.
        self.0.reserve_exact(1);
        self.0.push(EpochStart { epoch, start_offset });
        true
    }

    /// The epoch in which the record at `offset`, not below the log start, was written.
    pub fn of(&self, offset: i64) -> i32 {
        let begun = self.0.partition_point(|entry| entry.start_offset <= offset);
        begun.checked_sub(1).and_then(|at| self.0.get(at)).map_or(UNDEFINED_EPOCH, |entry| entry.epoch)
    }

    /// The end offset of the largest epoch that is not above `requested`.
    pub fn end_for(&self, requested: i32, log_end: i64) -> EpochEnd {
        let latest = self.latest();
        if requested == UNDEFINED_EPOCH || requested > latest {
            return EpochEnd { epoch: UNDEFINED_EPOCH, end_offset: UNDEFINED_OFFSET };
        }
        if requested == latest {
            return EpochEnd { epoch: requested, end_offset: log_end };
        }
        let above = self.0.partition_point(|entry| entry.epoch <= requested);
        let end_offset = self.0.get(above).map_or(log_end, |entry| entry.start_offset);
        let floor = above.checked_sub(1).and_then(|at| self.0.get(at));
        EpochEnd { epoch: floor.map_or(requested, |entry| entry.epoch), end_offset }
    }

    /// Checks a client's idea of the current epoch (-1: it has none).
    pub fn check(&self, client_epoch: i32) -> Result<(), Refusal> {
        match client_epoch {
            UNDEFINED_EPOCH => Ok(()),
            older if older < self.latest() => Err(Refusal::FencedLeaderEpoch),
            newer if newer > self.latest() => Err(Refusal::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// Forgets epochs that lie wholly below the log start; the one that covers it moves up to it.
    pub fn truncate_front(&mut self, log_start: i64) {
        let below = self.0.partition_point(|entry| entry.start_offset <= log_start);
        let Some(covering) = below.checked_sub(1) else {
            return;
        };
        self.0.drain(..covering);
        if let Some(first) = self.0.first_mut() {
            first.start_offset = log_start;
        }
    }

    /// Forgets epochs that begin at or above a truncated end.
    pub fn truncate_back(&mut self, log_end: i64) {
        self.0.retain(|entry| entry.start_offset < log_end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Epochs {
        let mut epochs = Epochs::default();
        assert!(epochs.assign(2, 0));
        assert!(epochs.assign(4, 10));
        assert!(epochs.assign(7, 25));
        epochs
    }

    fn end(epochs: &Epochs, requested: i32) -> (i32, i64) {
        let end = epochs.end_for(requested, 40);
        (end.epoch, end.end_offset)
    }

    #[test]
    fn end_offsets_as_kafka_answers_them() {
        let epochs = cache();
        assert_eq!(end(&epochs, 7), (7, 40));
        assert_eq!(end(&epochs, 4), (4, 25));
        assert_eq!(end(&epochs, 5), (4, 25));
        assert_eq!(end(&epochs, 2), (2, 10));
        assert_eq!(end(&epochs, 1), (1, 0));
        assert_eq!(end(&epochs, 8), (-1, -1));
        assert_eq!(end(&epochs, -1), (-1, -1));
        assert_eq!(end(&Epochs::default(), 0), (-1, -1));
    }

    #[test]
    fn an_epoch_is_recorded_once_and_replaces_what_contradicts_it() {
        let mut epochs = cache();
        assert!(!epochs.assign(7, 30));
        assert!(epochs.assign(8, 25), "nothing was written in epoch 7");
        assert_eq!(end(&epochs, 7), (4, 25));
        assert_eq!(epochs.latest(), 8);
    }

    #[test]
    fn fences_both_ways() {
        let epochs = cache();
        assert_eq!(epochs.check(-1), Ok(()));
        assert_eq!(epochs.check(7), Ok(()));
        assert_eq!(epochs.check(6), Err(Refusal::FencedLeaderEpoch));
        assert_eq!(epochs.check(8), Err(Refusal::UnknownLeaderEpoch));
    }

    #[test]
    fn truncates_at_both_ends() {
        let mut epochs = cache();
        epochs.truncate_front(12);
        assert_eq!(epochs.starts().len(), 2);
        assert_eq!(end(&epochs, 2), (2, 12));
        epochs.truncate_back(25);
        assert_eq!(epochs.latest(), 4);
    }
}
