//! Plans of reads: which bytes of which segment answer a fetch, a look-up by timestamp or a truncation.
//!
//! Never touches bytes. A plan stays within one segment, as Kafka's reads do. Where boundaries are not known in memory the
//! plan is wider than the answer and `walk::trim` cuts what was read; where even the index is missing it asks for a scan.

use crate::batch::MAGIC;
use crate::error::Refusal;
use crate::partition::index::{Lookup, SegmentIndex};
use crate::partition::log::{Partition, Run};
use crate::partition::segments::Segment;
use crate::partition::walk::{Stretch, Trim, Walk, Walked};
use crate::units::{BLOCK_BYTES, FileId};

/// Up to where a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadLimit {
    /// A consumer (read_uncommitted).
    HighWatermark,
    /// A consumer (read_committed).
    LastStable,
    /// A replica, or recovery.
    LogEnd,
}

/// Bytes of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub file: FileId,
    pub segment_base: i64,
    pub position: u64,
    pub length: u64,
}

/// What to read for a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPlan {
    /// In order; empty if there is nothing (yet).
    pub extents: Vec<Extent>,
    /// The extents are exactly the answer: whole batches, no padding. Otherwise there is one, and it must be trimmed by `trim`.
    pub exact: bool,
    /// What is returned at most, padding included if not `exact`.
    pub bytes: u64,
    pub trim: Trim,
    pub log_start: i64,
    pub high_watermark: i64,
    pub last_stable: i64,
}

/// A segment whose index must be rebuilt first: walk these bytes into `IndexScan` and hand it to `index_scanned`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanPlan {
    /// From position 0 to where the index covers.
    pub extent: Extent,
}

/// A plan, or what is needed before there can be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    Ready(ReadPlan),
    ScanFirst(ScanPlan),
}

/// Where to look for a timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampPlan {
    /// No record has it: Kafka answers offset -1, timestamp -1.
    Nothing,
    /// Walk these bytes with `walk::first_at_timestamp`; records inside the batch found are the caller's to look at. If none is
    /// found below `limit_offset`, ask again from `next_from`.
    Walk {
        extent: Extent,
        timestamp: i64,
        from_offset: i64,
        limit_offset: i64,
        next_from: i64,
    },
    ScanFirst(ScanPlan),
}

/// Collects the index of a scanned segment, slice by slice.
#[derive(Debug)]
pub struct IndexScan {
    segment_base: i64,
    index: SegmentIndex,
}

impl IndexScan {
    /// Takes the batches of the next stretch; stretches come in order and begin where the last walk ended.
    pub fn feed(&mut self, walk: &mut Walk<'_>) {
        for batch in walk {
            self.index.push_header(batch.position, &batch.header);
        }
    }
}

impl Partition {
    /// Plans a read from `offset` on. Between the limit and the log end there is nothing yet, which is no error.
    pub fn plan_read(&self, offset: i64, max_bytes: u64, limit: ReadLimit) -> Result<Planned, Refusal> {
        self.plan_read_on(offset, max_bytes, limit, None)
    }

    /// The same for a reader whose last answer ended before `offset`: `place` is the file and the position where it ended.
    pub fn plan_read_on(
        &self,
        offset: i64,
        max_bytes: u64,
        limit: ReadLimit,
        place: Option<(FileId, u64)>,
    ) -> Result<Planned, Refusal> {
        self.check_open()?;
        if offset < self.log_start || offset > self.log_end() {
            return Err(Refusal::OffsetOutOfRange);
        }
        let limit_offset = self.limit_offset(limit);
        let holding = self.segments.holding(offset).filter(|_| offset < limit_offset);
        let plan = self.empty_plan(offset, max_bytes, limit_offset);
        let Some(segment) = holding else {
            return Ok(Planned::Ready(plan));
        };
        if let Some(extents) = self.recent_extents(segment, &plan.trim) {
            let bytes = extents.iter().map(|extent| extent.length).sum();
            return Ok(Planned::Ready(ReadPlan { extents, bytes, ..plan }));
        }
        let known = place.filter(|(file, _)| *file == segment.file).map(|(_, position)| position);
        let begins = (offset == segment.base_offset).then_some(0);
        let extent = match known.or(begins) {
            Some(position) => Ok(self.extent_from(segment, position, &plan.trim)),
            None => self.indexed_extent(segment, &plan.trim),
        };
        Ok(match extent {
            Ok(extent) => {
                Planned::Ready(ReadPlan { bytes: extent.length, extents: vec![extent], exact: false, ..plan })
            }
            Err(scan) => Planned::ScanFirst(scan),
        })
    }

    /// Checks, of batches that were read, what their own checksums do not cover: magic, leader epoch, and offsets without a gap
    /// from the batch that holds `due` on, if that is known. Returns the offset after the last, or the position of the first
    /// misfit.
    pub fn check_read(&self, stretch: Stretch<'_>, mut due: Option<i64>) -> Result<Option<i64>, u64> {
        let mut first = true;
        for Walked { position, header } in stretch.walk() {
            let end = header.end_offset();
            let covers =
                |due: i64| if first { (header.base_offset..end).contains(&due) } else { header.base_offset == due };
            let follows = due.is_none_or(covers);
            let epoch = self.epochs.of(end - 1).max(0);
            if !follows || header.magic != MAGIC || header.leader_epoch != epoch {
                return Err(position);
            }
            (due, first) = (Some(end), false);
        }
        Ok(due)
    }

    /// Plans a look-up of the first record at or above `timestamp`, among those that a reader may see.
    pub fn find_timestamp(&self, timestamp: i64, limit: ReadLimit) -> Result<TimestampPlan, Refusal> {
        self.find_timestamp_from(timestamp, self.log_start, limit)
    }

    /// The same, among offsets from `from_offset` on.
    pub fn find_timestamp_from(
        &self,
        timestamp: i64,
        from_offset: i64,
        limit: ReadLimit,
    ) -> Result<TimestampPlan, Refusal> {
        self.check_open()?;
        let from_offset = from_offset.max(self.log_start);
        let limit_offset = self.limit_offset(limit);
        let candidate = self.segments.iter().find(|segment| {
            segment.max_timestamp >= timestamp && segment.end_offset > from_offset && segment.base_offset < limit_offset
        });
        Ok(candidate.map_or(TimestampPlan::Nothing, |segment| {
            self.timestamp_walk(segment, timestamp, from_offset, limit_offset)
        }))
    }

    /// Plans a look-up of the record with the largest timestamp (ListOffsets -3).
    pub fn find_max_timestamp(&self, limit: ReadLimit) -> Result<TimestampPlan, Refusal> {
        self.check_open()?;
        let limit_offset = self.limit_offset(limit);
        let visible = self.segments.iter().filter(|segment| {
            segment.max_timestamp >= 0 && segment.end_offset > self.log_start && segment.base_offset < limit_offset
        });
        let largest =
            visible.reduce(|best, segment| if segment.max_timestamp > best.max_timestamp { segment } else { best });
        Ok(largest.map_or(TimestampPlan::Nothing, |segment| {
            self.timestamp_walk(segment, segment.max_timestamp, self.log_start, limit_offset)
        }))
    }

    /// Begins the scan that a plan asked for.
    pub fn index_scan(&self, plan: &ScanPlan) -> IndexScan {
        let segment_base = plan.extent.segment_base;
        let interval_bytes = self.settings.index_interval_bytes;
        IndexScan { segment_base, index: SegmentIndex::new(segment_base, 0, interval_bytes) }
    }

    /// Takes a finished scan. A segment that went meanwhile is no error.
    pub fn index_scanned(&mut self, scan: IndexScan) {
        if let Some(segment) = self.segments.by_base_mut(scan.segment_base) {
            match &mut segment.index {
                Some(index) => index.prepend(scan.index),
                None if segment.sealed => segment.index = Some(Box::new(scan.index)),
                None => {}
            }
        }
    }

    fn limit_offset(&self, limit: ReadLimit) -> i64 {
        match limit {
            ReadLimit::HighWatermark => self.high_watermark(),
            ReadLimit::LastStable => self.last_stable(),
            ReadLimit::LogEnd => self.log_end(),
        }
    }

    fn empty_plan(&self, from_offset: i64, max_bytes: u64, limit_offset: i64) -> ReadPlan {
        ReadPlan {
            extents: Vec::new(),
            exact: true,
            bytes: 0,
            trim: Trim { from_offset, limit_offset, max_bytes, first_whole: true },
            log_start: self.log_start,
            high_watermark: self.high_watermark(),
            last_stable: self.last_stable(),
        }
    }

    /// The exact answer, if it begins among the recent batches.
    fn recent_extents(&self, segment: &Segment, trim: &Trim) -> Option<Vec<Extent>> {
        let first = self.recent.partition_point(|run| run.end_offset <= trim.from_offset);
        let known = self.recent.front()?.base_offset <= trim.from_offset;
        let mut extents = Vec::new();
        let mut bytes = 0;
        for run in known.then(|| self.recent.range(first..))? {
            let fits = bytes == 0 || bytes + u64::from(run.bytes) <= trim.max_bytes;
            if run.end_offset > trim.limit_offset || run.base_offset >= segment.end_offset || !fits {
                break;
            }
            bytes += u64::from(run.bytes);
            extend(&mut extents, segment, run);
        }
        Some(extents)
    }

    /// From where a batch begins, or the padding before it: what is asked for, and the first batch whole.
    fn extent_from(&self, segment: &Segment, position: u64, trim: &Trim) -> Extent {
        let end = self.end_position_at(segment, trim.limit_offset);
        let bytes = trim.max_bytes.max(u64::from(segment.batch_bytes_max)).saturating_add(BLOCK_BYTES);
        Extent::of(segment, position, bytes.min(end.saturating_sub(position)))
    }

    fn indexed_extent(&self, segment: &Segment, trim: &Trim) -> Result<Extent, ScanPlan> {
        let (position, next) = match lookup(segment, |index| index.find_offset(trim.from_offset)) {
            Lookup::Found { position, next } => (position, next),
            Lookup::Missing { below } => return Err(ScanPlan::of(segment, below)),
        };
        let end = self.end_position_at(segment, trim.limit_offset);
        // The batch that holds the offset ends before `next`, if that is known.
        let batch_end = next.unwrap_or_else(|| {
            position + u64::from(segment.batch_bytes_max) + u64::from(self.settings.index_interval_bytes)
        });
        let wanted = batch_end.saturating_add(trim.max_bytes).min(end);
        Ok(Extent::of(segment, position, wanted.saturating_sub(position)))
    }

    fn timestamp_walk(&self, segment: &Segment, timestamp: i64, from_offset: i64, limit_offset: i64) -> TimestampPlan {
        match lookup(segment, |index| index.find_timestamp(timestamp)) {
            Lookup::Missing { below } => TimestampPlan::ScanFirst(ScanPlan::of(segment, below)),
            Lookup::Found { position, .. } => {
                let end = self.end_position_at(segment, limit_offset);
                TimestampPlan::Walk {
                    extent: Extent::of(segment, position, end.saturating_sub(position)),
                    timestamp,
                    from_offset,
                    limit_offset,
                    next_from: segment.end_offset,
                }
            }
        }
    }
}

impl Extent {
    fn of(segment: &Segment, position: u64, length: u64) -> Extent {
        Extent { file: segment.file, segment_base: segment.base_offset, position, length }
    }
}

impl ScanPlan {
    fn of(segment: &Segment, below: u64) -> ScanPlan {
        ScanPlan { extent: Extent::of(segment, 0, below) }
    }
}

fn lookup(segment: &Segment, find: impl Fn(&SegmentIndex) -> Lookup) -> Lookup {
    match &segment.index {
        Some(index) => find(index),
        None => Lookup::Missing { below: segment.end_position() },
    }
}

fn extend(extents: &mut Vec<Extent>, segment: &Segment, run: &Run) {
    let position = u64::from(run.position);
    let bytes = u64::from(run.bytes);
    match extents.last_mut() {
        Some(last) if last.position + last.length == position => last.length += bytes,
        _ => extents.push(Extent::of(segment, position, bytes)),
    }
}
