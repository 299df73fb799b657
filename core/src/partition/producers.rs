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
    batches: VecDeque<Batch>,
}

/// Every producer that a partition remembers.
#[derive(Clone, Debug, Default)]
pub struct Producers(BTreeMap<i64, Producer>);

impl Producers {
    pub fn count(&self) -> usize {
        self.0.len()
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
                batches: producer.batches.iter().map(Batch::to_image).collect(),
            })
            .collect()
    }

    /// Restores producers; what an image holds is durable, so stamps are zero.
    pub fn from_image(image: &[ProducerImage]) -> Producers {
        let restored = image.iter().map(|producer| {
            let batches = producer.batches.iter().map(Batch::from_image).collect();
            let state = Producer { epoch: producer.epoch, appended_wall_ms: producer.appended_wall_ms, batches };
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
    fn to_image(&self) -> ProducerBatchImage {
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
