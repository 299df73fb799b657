//! The list of a log's segments: where each offset lies, when to roll, what was drained.
//!
//! Invariants: base offsets rise, ends meet bases; only the last segment is active; `drained <= next_position` and a
//! segment never outgrows its file. A batch never begins with fewer than 12 bytes left in its block; an aligned run begins
//! on a block boundary and so does whatever follows it. Never holds record bytes.

use crate::batch::{BatchHeader, LENGTH_OVERHEAD_BYTES};
use crate::limits::SEGMENT_FILE_BYTES;
use crate::partition::image::SegmentImage;
use crate::partition::index::SegmentIndex;
use crate::partition::settings::LogSettings;
use crate::units::{BLOCK_BYTES, FileId, Now, block_ceil};

/// One segment.
#[derive(Clone, Debug)]
pub struct Segment {
    pub base_offset: i64,
    /// After its last record.
    pub end_offset: i64,
    pub file: FileId,
    end_position: u32,
    next_position: u32,
    drained_position: u32,
    pub batch_bytes_max: u32,
    pub first_timestamp: i64,
    /// -1 if no record has one.
    pub max_timestamp: i64,
    /// Base offset of the batch that holds it.
    pub max_timestamp_offset: i64,
    pub opened_wall_ms: i64,
    /// When the last batch arrived.
    pub appended_wall_ms: i64,
    pub sealed: bool,
    pub(super) index: Option<Box<SegmentIndex>>,
}

/// Where a batch goes within the active segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    pub position: u64,
    /// The run is written straight into the segment, from a block boundary.
    pub aligned: bool,
}

impl Segment {
    fn open(base_offset: i64, file: FileId, wall_ms: i64, interval_bytes: u32) -> Segment {
        Segment {
            base_offset,
            end_offset: base_offset,
            file,
            end_position: 0,
            next_position: 0,
            drained_position: 0,
            batch_bytes_max: 0,
            first_timestamp: -1,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            opened_wall_ms: wall_ms,
            appended_wall_ms: wall_ms,
            sealed: false,
            index: Some(Box::new(SegmentIndex::new(base_offset, 0, interval_bytes))),
        }
    }

    /// Where the last batch ends: nothing is ever read beyond.
    pub fn end_position(&self) -> u64 {
        u64::from(self.end_position)
    }

    /// Where the next batch may begin at the earliest.
    pub fn next_position(&self) -> u64 {
        u64::from(self.next_position)
    }

    /// Bytes below are in the segment's file.
    pub fn drained_position(&self) -> u64 {
        u64::from(self.drained_position)
    }

    /// The largest record timestamp, but none from after the append; the append's time if records have none.
    pub fn retention_timestamp(&self) -> i64 {
        match self.max_timestamp {
            absent if absent < 0 => self.appended_wall_ms,
            timestamp => timestamp.min(self.appended_wall_ms),
        }
    }

    /// Where a batch of `bytes` would go.
    pub fn place(&self, settings: &LogSettings, bytes: u32) -> Placement {
        let aligned = settings.is_reference(bytes);
        let next = self.next_position();
        let left = block_ceil(next) - next;
        let boundary = aligned || (left > 0 && left < LENGTH_OVERHEAD_BYTES as u64);
        Placement { position: if boundary { block_ceil(next) } else { next }, aligned }
    }

    /// Whether a batch of `bytes` at `position` stays inside the segment's file.
    pub fn holds(&self, position: u64, bytes: u32) -> bool {
        position.checked_add(u64::from(bytes)).is_some_and(|end| end <= SEGMENT_FILE_BYTES)
    }

    /// Takes a batch at `position`, which `place` gave or a replay repeats.
    pub(super) fn push(&mut self, wall_ms: i64, at: Placement, header: &BatchHeader) {
        let end = at.position + u64::from(header.bytes);
        assert!(
            at.position >= u64::from(self.next_position) && block_ceil(end) <= SEGMENT_FILE_BYTES,
            "a batch lies behind the others and inside the file"
        );
        if let Some(index) = &mut self.index {
            index.push_header(at.position, header);
        }
        if self.end_position == 0 {
            self.first_timestamp = header.max_timestamp;
        }
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_offset = header.base_offset;
        }
        self.end_position = compact(end);
        self.next_position = compact(if at.aligned { block_ceil(end) } else { end });
        self.batch_bytes_max = self.batch_bytes_max.max(header.bytes);
        self.end_offset = header.end_offset();
        self.appended_wall_ms = self.appended_wall_ms.max(wall_ms);
    }

    fn must_roll(&self, now: Now, settings: &LogSettings, header: &BatchHeader, base: i64) -> bool {
        let end = self.place(settings, header.bytes).position + u64::from(header.bytes);
        let last_delta = base + i64::from(header.last_offset_delta) - self.base_offset;
        let full = end > settings.segment_end_bytes() || block_ceil(end) > SEGMENT_FILE_BYTES;
        self.sealed
            || last_delta > i64::from(i32::MAX)
            || (self.end_position > 0 && (full || self.age_ms(now, header) > settings.segment_ms))
    }

    /// By record timestamps as Kafka does, by the clock if records have none.
    fn age_ms(&self, now: Now, header: &BatchHeader) -> i64 {
        if self.first_timestamp >= 0 && header.max_timestamp >= 0 {
            header.max_timestamp - self.first_timestamp
        } else {
            now.wall_ms - self.opened_wall_ms
        }
    }

    fn to_image(&self) -> SegmentImage {
        SegmentImage {
            base_offset: self.base_offset,
            end_offset: self.end_offset,
            file: self.file.0,
            end_position: self.end_position,
            next_position: self.next_position,
            drained_position: self.drained_position,
            batch_bytes_max: self.batch_bytes_max,
            first_timestamp: self.first_timestamp,
            max_timestamp: self.max_timestamp,
            max_timestamp_offset: self.max_timestamp_offset,
            opened_wall_ms: self.opened_wall_ms,
            appended_wall_ms: self.appended_wall_ms,
            sealed: self.sealed,
        }
    }

    /// A restored segment has no index: the active one covers what comes, the others are scanned when they are read.
    fn from_image(image: &SegmentImage) -> Segment {
        Segment {
            base_offset: image.base_offset,
            end_offset: image.end_offset,
            file: FileId(image.file),
            end_position: image.end_position,
            next_position: image.next_position,
            drained_position: image.drained_position,
            batch_bytes_max: image.batch_bytes_max,
            first_timestamp: image.first_timestamp,
            max_timestamp: image.max_timestamp,
            max_timestamp_offset: image.max_timestamp_offset,
            opened_wall_ms: image.opened_wall_ms,
            appended_wall_ms: image.appended_wall_ms,
            sealed: image.sealed,
            index: (!image.sealed).then(|| {
                let covered_from = u64::from(image.next_position);
                Box::new(SegmentIndex::new(image.base_offset, covered_from, 0))
            }),
        }
    }
}

/// All segments of one log, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Segments(Vec<Segment>);

impl Segments {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.0.iter()
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The segment that takes appends.
    pub fn active(&self) -> Option<&Segment> {
        self.0.last().filter(|segment| !segment.sealed)
    }

    pub(super) fn active_mut(&mut self) -> Option<&mut Segment> {
        self.0.last_mut().filter(|segment| !segment.sealed)
    }

    /// The segment that holds `offset`, or the next one if none does.
    pub fn holding(&self, offset: i64) -> Option<&Segment> {
        let at = self.0.partition_point(|segment| segment.end_offset <= offset);
        self.0.get(at)
    }

    pub fn by_base(&self, base_offset: i64) -> Option<&Segment> {
        let at = self.0.binary_search_by_key(&base_offset, |segment| segment.base_offset);
        at.ok().and_then(|at| self.0.get(at))
    }

    pub(super) fn by_base_mut(&mut self, base_offset: i64) -> Option<&mut Segment> {
        let at = self.0.binary_search_by_key(&base_offset, |segment| segment.base_offset);
        at.ok().and_then(|at| self.0.get_mut(at))
    }

    /// Bytes of all segments, padding between batches included.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(Segment::end_position).sum()
    }

    /// Whether a new segment must be opened before this batch at `base`.
    pub fn must_roll(&self, now: Now, settings: &LogSettings, header: &BatchHeader, base: i64) -> bool {
        self.active().is_none_or(|active| active.must_roll(now, settings, header, base))
    }

    /// Seals the active segment.
    pub(super) fn seal(&mut self) {
        if let Some(active) = self.active_mut() {
            active.sealed = true;
            active.next_position = compact(block_ceil(active.next_position()));
        }
    }

    pub(super) fn open(&mut self, base_offset: i64, file: FileId, wall_ms: i64, settings: &LogSettings) {
        assert!(
            self.0.last().is_none_or(|last| last.sealed && last.end_offset <= base_offset),
            "a segment is opened behind a sealed one"
        );
        self.0.push(Segment::open(base_offset, file, wall_ms, settings.index_interval_bytes));
    }

    /// Removes segments that end at or below `log_start` and hold something, and returns their files.
    pub(super) fn drop_below(&mut self, log_start: i64) -> Vec<FileId> {
        let kept = self
            .0
            .partition_point(|segment| segment.end_offset <= log_start && segment.base_offset < segment.end_offset);
        self.0.drain(..kept).map(|segment| segment.file).collect()
    }

    /// Cuts the log at `end_offset`, where a batch ends at `end_position` of its segment. The cut segment is sealed: its
    /// written blocks are not written again. Returns the files that are no longer part of the log.
    pub(super) fn truncate(&mut self, end_offset: i64, end_position: u64) -> Vec<FileId> {
        let kept = self.0.partition_point(|segment| segment.base_offset < end_offset);
        let dropped = self.0.drain(kept..).map(|segment| segment.file).collect();
        if let Some(last) = self.0.last_mut().filter(|last| last.end_offset > end_offset) {
            last.end_offset = end_offset;
            last.end_position = compact(end_position.min(last.end_position()));
            last.next_position = compact(block_ceil(last.end_position()));
            last.drained_position = last.drained_position.min(last.next_position);
            last.index = None;
            last.sealed = true;
        }
        dropped
    }

    /// Notes that bytes of `file` below `position` were written into it.
    pub(super) fn drained(&mut self, file: FileId, position: u64) {
        assert!(position.is_multiple_of(BLOCK_BYTES), "whole blocks are drained");
        if let Some(segment) = self.0.iter_mut().rev().find(|segment| segment.file == file) {
            segment.drained_position = segment.drained_position.max(compact(position));
        }
    }

    /// Forgets the indexes of sealed segments; they are scanned again when they are read.
    pub(super) fn forget_indexes(&mut self) {
        for segment in self.0.iter_mut().filter(|segment| segment.sealed) {
            segment.index = None;
        }
    }

    pub fn to_image(&self) -> Vec<SegmentImage> {
        self.0.iter().map(Segment::to_image).collect()
    }

    pub fn from_image(image: &[SegmentImage]) -> Segments {
        Segments(image.iter().map(Segment::from_image).collect())
    }
}

fn compact(position: u64) -> u32 {
    u32::try_from(position).expect("a position lies inside a segment file")
}
