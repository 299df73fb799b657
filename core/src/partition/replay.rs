//! Recovery: applies a partition's journaled changes again, in their order.
//!
//! The store skips changes at or below the stamp that an image holds; the others are applied here exactly as they were
//! decided, never judged anew. What is replayed is durable.

use crate::batch::BatchHeader;
use crate::partition::log::Partition;
use crate::partition::segments::Placement;
use crate::units::{FileId, Now, Stamp};

/// One journaled change of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One batch with its final base offset, at its place in the active segment.
    Append {
        header: BatchHeader,
        position: u64,
        /// The bytes went straight into the segment.
        aligned: bool,
    },
    LogStart {
        offset: i64,
    },
    Epoch {
        epoch: i32,
        start_offset: i64,
    },
    Truncate {
        end_offset: i64,
        end_position: u64,
    },
    Roll {
        base_offset: i64,
        file: FileId,
    },
    ProducerExpire {
        producer_id: i64,
    },
}

/// A change that does not fit the state it is applied to: the journal or the image is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit {
    pub change: Change,
    pub log_end: i64,
}

impl Partition {
    /// Applies one change; returns the files that the partition no longer uses.
    pub fn replay(&mut self, now: Now, change: Change) -> Result<Vec<FileId>, Misfit> {
        let misfit = Misfit { change, log_end: self.log_end() };
        match change {
            Change::Append { header, position, aligned } => {
                self.replay_append(now, &header, Placement { position, aligned }).ok_or(misfit)?;
                Ok(Vec::new())
            }
            Change::LogStart { offset } if offset <= self.log_end() => Ok(self.start_at(offset).dropped),
            Change::LogStart { .. } => Err(misfit),
            Change::Epoch { epoch, start_offset } => {
                self.epochs.assign(epoch, start_offset);
                Ok(Vec::new())
            }
            Change::Truncate { end_offset, end_position } => Ok(self.truncate(end_offset, end_position)),
            Change::Roll { base_offset, file } if base_offset == self.log_end() => {
                self.roll(now, file);
                Ok(Vec::new())
            }
            Change::Roll { .. } => Err(misfit),
            Change::ProducerExpire { producer_id } => {
                self.producers.expire(producer_id);
                Ok(Vec::new())
            }
        }
    }

    fn replay_append(&mut self, now: Now, header: &BatchHeader, at: Placement) -> Option<()> {
        let active = self.segments.active()?;
        let fits = header.base_offset >= self.log_end() && at.position >= active.next_position();
        let inside = active.holds(at.position, header.bytes);
        (fits && inside && header.last_offset_delta >= 0).then_some(())?;
        let append_time_ms = if header.is_log_append_time() { header.max_timestamp } else { -1 };
        self.push(now, header, at, append_time_ms);
        self.producers.stamped(header.producer_id, Stamp(0));
        let flush_mode = self.settings.is_flush_mode();
        self.marks.durable(header.end_offset(), flush_mode);
        Some(())
    }
}
