//! The check of one segment's bytes: batch after batch, without a gap, up to the recorded end.

use crate::batch::{self, BatchHeader, MAGIC};
use crate::partition::image::SegmentImage;
use crate::partition::walk::{Stretch, WalkEnd, Walked};

/// How far a segment is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentWalk {
    pub batches_count: u64,
    /// After the last sound record, and where its batch ends.
    pub sound_offset: i64,
    pub sound_position: u64,
    /// Of the sound batches.
    pub(super) batch_bytes_max: u32,
    pub(super) max_timestamp: i64,
    pub(super) max_timestamp_offset: i64,
    /// Where the first batch lies that is not sound, and why.
    pub damage: Option<(u64, &'static str)>,
}

impl SegmentWalk {
    /// Walks a segment's bytes. Records below `log_start` are deleted: their checksums do not count.
    pub fn of(bytes: &[u8], segment: &SegmentImage, log_start: i64) -> SegmentWalk {
        let mut found = SegmentWalk {
            batches_count: 0,
            sound_offset: segment.base_offset,
            sound_position: 0,
            batch_bytes_max: 0,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            damage: None,
        };
        let slices = [bytes];
        let mut walk = Stretch::new(0, &slices).walk();
        for walked in walk.by_ref() {
            if let Err(what) = found.check(bytes, &walked, log_start) {
                found.damage = Some((walked.position, what));
                return found;
            }
            found.take(walked.position, &walked.header);
        }
        found.damage = match walk.ended() {
            Some(WalkEnd::Cut { position, .. }) => Some((position, "a batch goes beyond the segment's end")),
            Some(WalkEnd::Damaged { position }) => Some((position, "no batch begins here")),
            _ if found.sound_offset != segment.end_offset => {
                Some((found.sound_position, "the segment's batches end before its records do"))
            }
            _ => None,
        };
        found
    }

    fn check(&self, bytes: &[u8], walked: &Walked, log_start: i64) -> Result<(), &'static str> {
        let header = &walked.header;
        if header.base_offset != self.sound_offset || header.last_offset_delta < 0 || header.magic != MAGIC {
            return Err("a batch does not follow the one before");
        }
        let batch = bytes.get(walked.position as usize..).unwrap_or_default();
        match header.end_offset() <= log_start || batch::checksum_fits(batch, header) {
            true => Ok(()),
            false => Err("a batch's checksum does not fit"),
        }
    }

    fn take(&mut self, position: u64, header: &BatchHeader) {
        self.batches_count += 1;
        self.sound_offset = header.end_offset();
        self.sound_position = position + u64::from(header.bytes);
        self.batch_bytes_max = self.batch_bytes_max.max(header.bytes);
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_offset = header.base_offset;
        }
    }
}
