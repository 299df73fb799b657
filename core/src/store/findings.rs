//! What the first walk over the ring found: references that must be checked, and what ended later in the same walk.
//!
//! A file is used again, or removed, once the change that ended its records is durable; hence a reference that such a change
//! ended is not checked against a file that may hold anything by now. Never: a change from behind the cut that counts.

use std::collections::{BTreeMap, VecDeque};

use crate::journal::frame::FrameEntry;
use crate::journal::{Append, Change};
use crate::units::{Stamp, TopicPartition};

#[derive(Clone, Copy, Debug)]
struct Reference {
    sequence: u64,
    stamp: Stamp,
    key: TopicPartition,
    run: Append,
}

/// A change that ended every record below an offset.
#[derive(Clone, Copy, Debug)]
struct Ending {
    sequence: u64,
    stamp: Stamp,
    below: i64,
}

/// A drop ends all of them.
const WHOLE_LOG: i64 = i64::MAX;

/// The findings of one walk.
#[derive(Debug, Default)]
pub(super) struct Findings {
    references: VecDeque<Reference>,
    endings: BTreeMap<TopicPartition, Vec<Ending>>,
    cut: Option<u64>,
}

impl Findings {
    /// Takes the entries of a frame, whole or salvaged.
    pub(super) fn frame(&mut self, sequence: u64, entries: &[FrameEntry]) {
        for FrameEntry { stamp, entry, .. } in entries {
            let (stamp, key) = (*stamp, entry.target);
            let below = match entry.change {
                Change::Append(run) => {
                    if entry.is_reference() {
                        self.references.push_back(Reference { sequence, stamp, key, run });
                    }
                    continue;
                }
                Change::Drop => WHOLE_LOG,
                Change::LogStart { offset } => offset,
                _ => continue,
            };
            self.endings.entry(key).or_default().push(Ending { sequence, stamp, below });
        }
    }

    /// References in frames below are proven durable.
    pub(super) fn proven(&mut self, durable_end: u64) {
        self.references.retain(|reference| reference.sequence >= durable_end);
    }

    /// The walk ends at a frame that was durable and cannot be read: those before it were durable too.
    pub(super) fn ends_at(&mut self, sequence: u64) {
        self.proven(sequence);
        self.cut = Some(sequence);
    }

    /// The next reference whose bytes must be read and checked.
    pub(super) fn next(&self) -> Option<&Append> {
        self.next_index().and_then(|index| self.references.get(index)).map(|reference| &reference.run)
    }

    fn next_index(&self) -> Option<usize> {
        let ended = |reference: &Reference| self.is_ended(reference.key, reference.stamp, reference.run.end_offset);
        self.references.iter().position(|reference| !ended(reference))
    }

    /// The reference that was asked for checks, or does not: then the journal is cut before its frame, and what ended behind
    /// the cut did not end.
    pub(super) fn checked(&mut self, fits: bool) {
        let Some(reference) = self.next_index().and_then(|index| self.references.remove(index)) else { return };
        if !fits {
            self.cut = Some(reference.sequence);
            self.references.retain(|other| other.sequence < reference.sequence);
        }
    }

    /// The first frame that no longer counts.
    pub(super) fn cut(&self) -> Option<u64> {
        self.cut
    }

    /// Whether records that were appended with `stamp` and end at `end_offset` were dropped or deleted later.
    pub(super) fn is_ended(&self, key: TopicPartition, stamp: Stamp, end_offset: i64) -> bool {
        let counts = |ending: &&Ending| self.cut.is_none_or(|cut| ending.sequence < cut);
        let later = self.endings.get(&key).into_iter().flatten().filter(counts);
        later.into_iter().any(|ending| ending.stamp > stamp && ending.below >= end_offset)
    }

    /// Whether the partition was dropped after this change.
    pub(super) fn is_dropped(&self, key: TopicPartition, stamp: Stamp) -> bool {
        self.is_ended(key, stamp, WHOLE_LOG)
    }
}
