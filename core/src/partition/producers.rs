//! Idempotent producers: what a partition remembers of each to tell a retry from a gap (KIP-98, KIP-360).
//!
//! Owns the last five batches of each producer id. Never refuses a producer it does not know: expired or unknown state is
//! a fresh start at any sequence. State outlives the records it came from, so retention never unsettles a producer.

use std::collections::{BTreeMap, VecDeque};

use crate::batch::{BatchHeader, NO_PRODUCER};
use crate::error::Refusal;
use crate::partition::image::{ProducerBatchImage, ProducerImage};
use crate::units::Stamp;

/// Batches remembered of each producer: what a client may have in flight.
pub const BATCHES_MAX: usize = 5;

/// Marks a batch whose stamp is not yet known.
pub const UNSTAMPED: Stamp = Stamp(u64::MAX);

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// It was appended before: answer with the old offset, once `stamp` is durable.
    Duplicate {
        base_offset: i64,
        /// -1 under create time.
        append_time_ms: i64,
        stamp: Stamp,
    },
}

/// A producer as others are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    /// The largest timestamp of its last batch; after a start from a checkpoint, which does not hold it, the time of the append
    /// until the producer writes again.
    pub last_timestamp_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct Batch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    end_offset: i64,
    append_time_ms: i64,
    stamp: Stamp,
}

#[derive(Clone, Debug)]
struct Producer {
    epoch: i16,
    appended_wall_ms: i64,
    last_timestamp_ms: i64,
    batches: VecDeque<Batch>,
}

/// Every producer that a partition remembers.
#[derive(Clone, Debug, Default)]
pub struct Producers(BTreeMap<i64, Producer>);

impl Producers {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Those that are remembered, by rising id, but for state idle for longer than `expiration_ms`.
    pub fn active(&self, wall_ms: i64, expiration_ms: i64) -> impl Iterator<Item = ActiveProducer> {
        self.0.iter().filter(move |(_, producer)| !producer.is_expired(wall_ms, expiration_ms)).map(
            |(&producer_id, producer)| ActiveProducer {
                producer_id,
                epoch: producer.epoch,
                last_sequence: producer.batches.back().map_or(-1, |batch| batch.last_sequence),
                last_timestamp_ms: producer.last_timestamp_ms,
            },
        )
    }

    /// Judges a batch against the producer's state. State idle for longer than `expiration_ms` counts as none.
    pub fn check(&self, wall_ms: i64, expiration_ms: i64, header: &BatchHeader) -> Result<Verdict, Refusal> {
        let known = (header.producer_id != NO_PRODUCER).then(|| self.0.get(&header.producer_id)).flatten();
        match known {
            Some(producer) if !producer.is_expired(wall_ms, expiration_ms) => producer.check(header),
            _ => Ok(Verdict::Append),
        }
    }

    /// Notes an appended batch, unconditionally: `check` decided, or a replay repeats what was decided. The stamp follows
    /// by `stamped`.
    pub fn appended(&mut self, wall_ms: i64, header: &BatchHeader, append_time_ms: i64) {
        if header.producer_id == NO_PRODUCER {
            return;
        }
        let producer = self.0.entry(header.producer_id).or_insert(Producer {
            epoch: header.producer_epoch,
            appended_wall_ms: wall_ms,
            last_timestamp_ms: header.max_timestamp,
            batches: VecDeque::new(),
        });
        producer.push(wall_ms, header, append_time_ms);
    }

    /// Sets the stamp of the producer's last batch.
    pub fn stamped(&mut self, producer_id: i64, stamp: Stamp) {
        if let Some(last) = self.0.get_mut(&producer_id).and_then(|producer| producer.batches.back_mut()) {
            last.stamp = stamp;
        }
    }

    /// Producers idle for longer than `expiration_ms`: the caller journals a ProducerExpire for each, then calls `expire`.
    pub fn expired(&self, wall_ms: i64, expiration_ms: i64) -> impl Iterator<Item = i64> {
        self.0.iter().filter(move |(_, producer)| producer.is_expired(wall_ms, expiration_ms)).map(|(id, _)| *id)
    }

    /// Forgets one producer.
    pub fn expire(&mut self, producer_id: i64) {
        self.0.remove(&producer_id);
    }

    /// Forgets batches at and above a truncated end, and producers with nothing left.
    pub fn truncate(&mut self, log_end: i64) {
        for producer in self.0.values_mut() {
            producer.batches.retain(|batch| batch.end_offset <= log_end);
        }
        self.0.retain(|_, producer| !producer.batches.is_empty());
    }

    pub fn to_image(&self) -> Vec<ProducerImage> {
        self.0
            .iter()
            .map(|(&producer_id, producer)| ProducerImage {
                producer_id,
                epoch: producer.epoch,
                appended_wall_ms: producer.appended_wall_ms,
                batches: producer.batches.iter().map(Batch::image).collect(),
            })
            .collect()
    }

    /// Restores producers; what an image holds is durable, so stamps are zero.
    pub fn from_image(image: &[ProducerImage]) -> Producers {
        let restored = image.iter().map(|producer| {
            let batches = producer.batches.iter().map(Batch::from_image).collect();
            let (epoch, appended_wall_ms) = (producer.epoch, producer.appended_wall_ms);
            let state = Producer { epoch, appended_wall_ms, last_timestamp_ms: appended_wall_ms, batches };
            (producer.producer_id, state)
        });
        Producers(restored.collect())
    }
}

impl Producer {
    fn is_expired(&self, wall_ms: i64, expiration_ms: i64) -> bool {
        wall_ms.saturating_sub(self.appended_wall_ms) > expiration_ms
    }

    fn check(&self, header: &BatchHeader) -> Result<Verdict, Refusal> {
        if header.producer_epoch < self.epoch {
            return Err(Refusal::InvalidProducerEpoch);
        }
        if header.producer_epoch > self.epoch {
            return match header.base_sequence {
                0 => Ok(Verdict::Append),
                _ => Err(Refusal::OutOfOrderSequence),
            };
        }
        if let Some(batch) = self.duplicate_of(header) {
            return Ok(Verdict::Duplicate {
                base_offset: batch.base_offset,
                append_time_ms: batch.append_time_ms,
                stamp: batch.stamp,
            });
        }
        match self.batches.back() {
            Some(last) if header.base_sequence != sequence_after(last.last_sequence, 1) => Err(self.refuse(header)),
            _ => Ok(Verdict::Append),
        }
    }

    fn duplicate_of(&self, header: &BatchHeader) -> Option<&Batch> {
        let last = last_sequence(header);
        self.batches.iter().find(|batch| batch.first_sequence == header.base_sequence && batch.last_sequence == last)
    }

    /// A batch that ends before everything remembered is an old duplicate; all else is out of order.
    fn refuse(&self, header: &BatchHeader) -> Refusal {
        let full = self.batches.len() == BATCHES_MAX;
        let oldest = self.batches.front().map_or(0, |batch| batch.first_sequence);
        let behind = oldest.wrapping_sub(last_sequence(header)) & i32::MAX;
        if full && behind != 0 && behind < i32::MAX / 2 {
            Refusal::DuplicateSequence
        } else {
            Refusal::OutOfOrderSequence
        }
    }

    fn push(&mut self, wall_ms: i64, header: &BatchHeader, append_time_ms: i64) {
        let follows =
            self.batches.back().is_some_and(|last| sequence_after(last.last_sequence, 1) == header.base_sequence);
        if header.producer_epoch != self.epoch || !follows {
            self.batches.clear();
        }
        self.epoch = header.producer_epoch;
        self.appended_wall_ms = wall_ms;
        self.last_timestamp_ms = if append_time_ms >= 0 { append_time_ms } else { header.max_timestamp };
        if self.batches.len() == BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back(Batch {
            first_sequence: header.base_sequence,
            last_sequence: last_sequence(header),
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
            append_time_ms,
            stamp: UNSTAMPED,
        });
    }
}

impl Batch {
    fn image(&self) -> ProducerBatchImage {
        ProducerBatchImage {
            first_sequence: self.first_sequence,
            last_sequence: self.last_sequence,
            base_offset: self.base_offset,
            end_offset: self.end_offset,
            append_time_ms: self.append_time_ms,
        }
    }

    fn from_image(image: &ProducerBatchImage) -> Batch {
        Batch {
            first_sequence: image.first_sequence,
            last_sequence: image.last_sequence,
            base_offset: image.base_offset,
            end_offset: image.end_offset,
            append_time_ms: image.append_time_ms,
            stamp: Stamp(0),
        }
    }
}

fn last_sequence(header: &BatchHeader) -> i32 {
    sequence_after(header.base_sequence, header.last_offset_delta)
}

/// Sequences run from 0 to 2^31-1 and begin anew.
pub fn sequence_after(sequence: i32, delta: i32) -> i32 {
    sequence.wrapping_add(delta) & i32::MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;

    fn batch(epoch: i16, sequence: i32, records: i32, base_offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset,
            bytes: 100,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: records - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 9,
            producer_epoch: epoch,
            base_sequence: sequence,
            records_count: records,
        }
    }

    fn check(producers: &Producers, header: &BatchHeader) -> Result<Verdict, Refusal> {
        producers.check(0, DAY_MS, header)
    }

    fn with(batches: &[(i16, i32, i32)]) -> Producers {
        let mut producers = Producers::default();
        let mut offset = 1000;
        for &(epoch, sequence, records) in batches {
            let header = batch(epoch, sequence, records, offset);
            assert_eq!(check(&producers, &header), Ok(Verdict::Append));
            producers.appended(0, &header, -1);
            producers.stamped(9, Stamp(offset as u64));
            offset += i64::from(records);
        }
        producers
    }

    #[test]
    fn any_of_the_last_five_batches_is_answered_with_its_old_offset() {
        let producers = with(&[(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1), (0, 5, 1)]);
        for sequence in 1..6 {
            let verdict = check(&producers, &batch(0, sequence, 1, 0));
            let base_offset = 1000 + i64::from(sequence);
            assert_eq!(
                verdict,
                Ok(Verdict::Duplicate { base_offset, append_time_ms: -1, stamp: Stamp(base_offset as u64) })
            );
        }
        assert_eq!(check(&producers, &batch(0, 0, 1, 0)), Err(Refusal::DuplicateSequence));
    }

    #[test]
    fn a_gap_or_a_batch_cut_otherwise_is_out_of_order() {
        let producers = with(&[(0, 0, 4), (0, 4, 4)]);
        for (sequence, records) in [(9, 1), (4, 3), (2, 4), (7, 2)] {
            let header = batch(0, sequence, records, 0);
            assert_eq!(check(&producers, &header), Err(Refusal::OutOfOrderSequence));
        }
        assert_eq!(check(&producers, &batch(0, 8, 1, 0)), Ok(Verdict::Append));
    }

    #[test]
    fn after_the_largest_sequence_comes_zero() {
        let producers = with(&[(0, i32::MAX - 1, 2)]);
        assert_eq!(check(&producers, &batch(0, 0, 1, 0)), Ok(Verdict::Append));
        assert_eq!(check(&producers, &batch(0, 1, 1, 0)), Err(Refusal::OutOfOrderSequence));
        let across = with(&[(0, i32::MAX, 3)]);
        assert_eq!(check(&across, &batch(0, 2, 1, 0)), Ok(Verdict::Append));
        assert!(matches!(check(&across, &batch(0, i32::MAX, 3, 0)), Ok(Verdict::Duplicate { .. })));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_an_old_one_is_fenced() {
        let producers = with(&[(3, 0, 1), (3, 1, 1)]);
        assert_eq!(check(&producers, &batch(4, 2, 1, 0)), Err(Refusal::OutOfOrderSequence));
        assert_eq!(check(&producers, &batch(4, 0, 1, 0)), Ok(Verdict::Append));
        assert_eq!(check(&producers, &batch(2, 2, 1, 0)), Err(Refusal::InvalidProducerEpoch));
        let bumped = with(&[(3, 0, 1), (4, 0, 1)]);
        assert_eq!(check(&bumped, &batch(4, 1, 1, 0)), Ok(Verdict::Append));
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        assert_eq!(check(&Producers::default(), &batch(0, 77, 1, 0)), Ok(Verdict::Append));
    }

    /// Idle state is a fresh start, never a fatal error.
    #[test]
    fn t5_an_expired_producer_starts_afresh() {
        let mut producers = with(&[(3, 0, 1)]);
        let gap = batch(3, 50, 1, 0);
        assert_eq!(producers.check(DAY_MS, DAY_MS, &gap), Err(Refusal::OutOfOrderSequence));
        assert_eq!(producers.check(DAY_MS + 1, DAY_MS, &gap), Ok(Verdict::Append));
        assert_eq!(producers.expired(DAY_MS, DAY_MS).count(), 0);
        assert_eq!(producers.expired(DAY_MS + 1, DAY_MS).collect::<Vec<_>>(), [9]);
        producers.expire(9);
        assert_eq!(producers.count(), 0);
    }

    #[test]
    fn truncation_takes_back_what_was_remembered() {
        let mut producers = with(&[(0, 0, 1), (0, 1, 1)]);
        producers.truncate(1001);
        assert_eq!(check(&producers, &batch(0, 1, 1, 0)), Ok(Verdict::Append));
        producers.truncate(1000);
        assert_eq!(producers.count(), 0);
    }

    #[test]
    fn an_image_restores_all_but_the_stamps() {
        let producers = with(&[(1, 0, 2), (1, 2, 2)]);
        let restored = Producers::from_image(&producers.to_image());
        assert_eq!(restored.to_image(), producers.to_image());
        let verdict = check(&restored, &batch(1, 2, 2, 0));
        assert!(matches!(verdict, Ok(Verdict::Duplicate { base_offset: 1002, stamp: Stamp(0), .. })));
    }

    /// The whole history of accepted batches, judged by a plain search.
    #[derive(Default)]
    struct Naive(Vec<(i16, i32, i32, i64)>);

    impl Naive {
        fn check(&self, epoch: i16, first: i32, last: i32) -> Result<Option<i64>, Refusal> {
            let Some(&(latest, ..)) = self.0.last() else {
                return Ok(None);
            };
            if epoch < latest {
                return Err(Refusal::InvalidProducerEpoch);
            }
            if epoch > latest {
                return if first == 0 { Ok(None) } else { Err(Refusal::OutOfOrderSequence) };
            }
            let current: Vec<_> = self.0.iter().filter(|batch| batch.0 == epoch).collect();
            let window = &current[current.len().saturating_sub(BATCHES_MAX)..];
            if let Some(found) = window.iter().find(|batch| (batch.1, batch.2) == (first, last)) {
                return Ok(Some(found.3));
            }
            if first == window[window.len() - 1].2 + 1 {
                return Ok(None);
            }
            Err(if window.len() == BATCHES_MAX && last < window[0].1 {
                Refusal::DuplicateSequence
            } else {
                Refusal::OutOfOrderSequence
            })
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_search_through_the_whole_history(
            steps in proptest::collection::vec((0i16..3, 0i32..24, 1i32..4, any::<bool>()), 1..120),
        ) {
            let (mut producers, mut naive, mut offset) = (Producers::default(), Naive::default(), 0);
            for (bump, any_sequence, records, follow) in steps {
                let latest = naive.0.last().copied().unwrap_or((1, 0, -1, 0));
                let epoch = if follow { latest.0 } else { latest.0 - 1 + bump };
                let first = if follow { latest.2 + 1 } else { any_sequence };
                let header = batch(epoch, first, records, offset);
                let expected = naive.check(epoch, first, first + records - 1);
                let verdict = check(&producers, &header).map(|verdict| match verdict {
                    Verdict::Append => None,
                    Verdict::Duplicate { base_offset, .. } => Some(base_offset),
                });
                prop_assert_eq!(verdict, expected);
                if expected == Ok(None) {
                    producers.appended(0, &header, -1);
                    naive.0.push((epoch, first, first + records - 1, offset));
                    offset += i64::from(records);
                }
            }
        }
    }
}
