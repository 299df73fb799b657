//! Walks the record batches of a stretch of a segment, over its padding, and cuts it to what a fetch may return.
//!
//! Pure functions over borrowed slices, which together are one stretch of a segment. Padding rule: fewer than 12 bytes left
//! in a block, or a batch length of 0, means that the next batch begins at the next block boundary. Padding never
//! leaves: what `trim` returns are ranges of whole batches.

use std::ops::Range;

use crate::batch::{BatchHeader, HEADER_BYTES, LENGTH_OVERHEAD_BYTES};
use crate::units::{BLOCK_BYTES, block_ceil};

/// Borrowed bytes of a segment from `position` on, in order, cut anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    pub position: u64,
    pub slices: &'a [&'a [u8]],
}

/// One whole batch of a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    pub position: u64,
    pub header: BatchHeader,
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkEnd {
    /// The stretch is used up: no batch is cut.
    Done,
    /// The batch at `position` needs bytes up to `end` at least.
    Cut { position: u64, end: u64 },
    /// What stands at `position` is no batch.
    Damaged { position: u64 },
}

/// Iterates over the whole batches of a stretch that begins where a batch does (or with padding).
pub struct Walk<'a> {
    stretch: Stretch<'a>,
    at: u64,
    end: u64,
    ended: Option<WalkEnd>,
}

impl<'a> Stretch<'a> {
    pub fn new(position: u64, slices: &'a [&'a [u8]]) -> Stretch<'a> {
        Stretch { position, slices }
    }

    pub fn end(&self) -> u64 {
        let bytes: usize = self.slices.iter().map(|slice| slice.len()).sum();
        self.position + bytes as u64
    }

    pub fn walk(self) -> Walk<'a> {
        Walk { stretch: self, at: self.position, end: self.end(), ended: None }
    }

    /// Copies bytes from `position` on into `into`, as many as there are.
    fn copy(&self, position: u64, into: &mut [u8]) -> usize {
        let mut skip = position.saturating_sub(self.position);
        let mut copied = 0;
        for slice in self.slices {
            let from = skip.min(slice.len() as u64);
            skip -= from;
            let rest = slice.get(from as usize..).unwrap_or_default();
            let room = into.get_mut(copied..).unwrap_or_default();
            let count = rest.len().min(room.len());
            for (to, byte) in room.iter_mut().zip(rest) {
                *to = *byte;
            }
            copied += count;
        }
        copied
    }
}

impl Walk<'_> {
    /// Why there are no more batches; `None` before the end.
    pub fn ended(&self) -> Option<WalkEnd> {
        self.ended
    }

    fn stop(&mut self, end: WalkEnd) -> Option<Walked> {
        self.ended = Some(end);
        None
    }

    fn cut(&mut self, bytes: u64) -> Option<Walked> {
        let position = self.at;
        self.stop(WalkEnd::Cut { position, end: position + bytes })
    }
}

impl Iterator for Walk<'_> {
    type Item = Walked;

    fn next(&mut self) -> Option<Walked> {
        if self.ended.is_some() {
            return None;
        }
        let mut head = [0; HEADER_BYTES];
        loop {
            if self.at >= self.end {
                return self.stop(WalkEnd::Done);
            }
            let left = BLOCK_BYTES - self.at % BLOCK_BYTES;
            if left < LENGTH_OVERHEAD_BYTES as u64 {
                self.at = block_ceil(self.at);
                continue;
            }
            let copied = self.stretch.copy(self.at, &mut head);
            if copied < LENGTH_OVERHEAD_BYTES {
                return self.cut(HEADER_BYTES as u64);
            }
            if head.get(8..LENGTH_OVERHEAD_BYTES) == Some(&[0; 4]) {
                self.at = block_ceil(self.at + 1);
                continue;
            }
            if copied < HEADER_BYTES {
                return self.cut(HEADER_BYTES as u64);
            }
            let position = self.at;
            let Some(header) = BatchHeader::parse(&head) else {
                return self.stop(WalkEnd::Damaged { position });
            };
            if position + u64::from(header.bytes) > self.end {
                return self.cut(u64::from(header.bytes));
            }
            self.at = position + u64::from(header.bytes);
            return Some(Walked { position, header });
        }
    }
}

/// What a fetch may return of a stretch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Positions within the segment: whole batches without padding, in order.
    pub ranges: Vec<Range<u64>>,
    pub bytes: u64,
    /// Base offset of the first batch, and the offset after the last; equal if there is nothing.
    pub first_offset: i64,
    pub next_offset: i64,
    /// The stretch ends inside the first batch: read up to here at least and trim again.
    pub missing: Option<u64>,
    /// What stands here is no batch.
    pub damaged: Option<u64>,
}

/// How a stretch is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// The first batch that ends above this offset comes first.
    pub from_offset: i64,
    /// Batches that end above this offset are not returned.
    pub limit_offset: i64,
    pub max_bytes: u64,
    /// Return the first batch even if it is larger than `max_bytes` (the first non-empty partition of a fetch).
    pub first_whole: bool,
}

/// Cuts a stretch to whole batches from the one that holds `from_offset` on.
pub fn trim(stretch: Stretch<'_>, cut: Trim) -> Trimmed {
    let mut trimmed = Trimmed { first_offset: cut.from_offset, next_offset: cut.from_offset, ..Trimmed::default() };
    let mut walk = stretch.walk();
    for batch in walk.by_ref() {
        if batch.header.end_offset() <= cut.from_offset {
            continue;
        }
        if trimmed.bytes == 0 && batch.header.base_offset > cut.from_offset {
            // Offsets have no gaps: the batch that holds this one does not say so any more.
            trimmed.damaged = Some(batch.position);
            return trimmed;
        }
        let fits =
            trimmed.bytes + u64::from(batch.header.bytes) <= cut.max_bytes || (cut.first_whole && trimmed.bytes == 0);
        if batch.header.end_offset() > cut.limit_offset || !fits {
            return trimmed;
        }
        trimmed.push(&batch);
    }
    match walk.ended() {
        Some(WalkEnd::Cut { end, .. }) if trimmed.bytes == 0 => trimmed.missing = Some(end),
        Some(WalkEnd::Damaged { position }) => trimmed.damaged = Some(position),
        _ => {}
    }
    trimmed
}

impl Trimmed {
    fn push(&mut self, batch: &Walked) {
        let end = batch.position + u64::from(batch.header.bytes);
        if self.bytes == 0 {
            self.first_offset = batch.header.base_offset;
        }
        self.bytes += u64::from(batch.header.bytes);
        self.next_offset = batch.header.end_offset();
        match self.ranges.last_mut() {
            Some(last) if last.end == batch.position => last.end = end,
            _ => self.ranges.push(batch.position..end),
        }
    }
}

/// The first batch of a stretch that may hold a record of at least `timestamp` at or above `from_offset`.
pub fn first_at_timestamp(stretch: Stretch<'_>, timestamp: i64, from_offset: i64) -> Option<Walked> {
    stretch.walk().find(|batch| batch.header.max_timestamp >= timestamp && batch.header.end_offset() > from_offset)
}
