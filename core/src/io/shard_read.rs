//! Reads of a shard's logs: from the tails in memory where they are there, else from disk by large aligned reads.
//!
//! What leaves is whole batches without padding. Bytes that come from disk are checked against their batches' checksums
//! first; damage closes the partition and never leaves. A file that is read is leased, so that it is not used again meanwhile.

use std::ops::Range;

use super::arena::Slice;
use super::executor;
use super::shard::{DiskOp, Shard, Until};
use super::tail_memory::Found;
use crate::batch::{BatchHeader, CHECKSUM_FROM};
use crate::checksum::Seeded;
use crate::error::{Fault, Refusal};
use crate::partition::walk::{self, Stretch, Trimmed, WalkEnd};
use crate::partition::{Extent, Planned, ScanPlan, TimestampPlan};
use crate::read_ahead::Reached;
use crate::units::{FileId, TopicPartition, block_ceil, block_floor};

/// Scans and look-ups go through a segment in steps of this size.
const STEP_BYTES: u64 = 1 << 20;
/// What one read of one partition returns at most, whatever a client asks for; a larger first batch is still whole.
const READ_BYTES_MAX: u32 = 8 << 20;

/// A read that was planned: metadata only, nothing is held.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    key: TopicPartition,
    offset: i64,
    bytes_max: u32,
    until: Until,
    planned: Planned,
}

impl ReadPlan {
    /// What the read will return at most; 0 if there is nothing yet.
    pub fn bytes(&self) -> u64 {
        match &self.planned {
            Planned::Ready(plan) if plan.exact => plan.bytes,
            Planned::Ready(plan) => plan.bytes.min(u64::from(self.bytes_max).max(1)),
            Planned::ScanFirst(_) => u64::from(self.bytes_max).max(1),
        }
    }

    /// Takes back what exceeds a budget; the first batch stays whole.
    pub fn limit(&mut self, bytes_max: u32) {
        self.bytes_max = self.bytes_max.min(bytes_max);
    }
}

/// Bytes of a segment in memory, in order, from `position` on.
struct Loaded {
    position: u64,
    slices: Vec<Slice>,
    from_disk: bool,
}

impl Shard {
    /// Plans a read from `offset` on. Between the limit and the log end there is nothing yet, which is no error.
    pub fn plan_read(
        &self,
        key: TopicPartition,
        offset: i64,
        bytes_max: u32,
        until: Until,
    ) -> Result<ReadPlan, Refusal> {
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        let store = self.0.store.borrow();
        let planned = store.partition(key)?.plan_read(offset, u64::from(bytes_max), until)?;
        Ok(ReadPlan { key, offset, bytes_max, until, planned })
    }

    /// Performs a planned read. Empty if the partition went meanwhile.
    pub async fn read(&self, plan: ReadPlan) -> Result<Vec<Slice>, Fault> {
        let ReadPlan { key, offset, bytes_max, until, .. } = plan;
        // The state may have moved since the plan: it is made anew, from what is there now.
        loop {
            let place = self.ahead_place(key, offset);
            let planned = match self.0.store.borrow().partition(key) {
                Ok(partition) => partition.plan_read_on(offset, u64::from(bytes_max), until, place),
                Err(refusal) => Err(refusal),
            };
            match planned {
                Err(_) => return Ok(Vec::new()),
                Ok(Planned::ScanFirst(scan)) => self.scan(key, &scan).await?,
                Ok(Planned::Ready(plan)) if plan.exact => return self.read_exactly(key, offset, plan.extents).await,
                Ok(Planned::Ready(plan)) => {
                    let Some(extent) = plan.extents.first() else { return Ok(Vec::new()) };
                    return self.read_trimmed(key, *extent, plan.trim).await;
                }
            }
        }
    }

    async fn read_exactly(
        &self,
        key: TopicPartition,
        from_offset: i64,
        extents: Vec<Extent>,
    ) -> Result<Vec<Slice>, Fault> {
        let mut slices = Vec::new();
        let mut due = Some(from_offset);
        for extent in extents {
            let loaded = self.load(key, extent).await?;
            due = self.check(key, extent.file, &loaded, loaded.position..loaded.end(), due)?;
            slices.extend(loaded.slices);
        }
        Ok(slices)
    }

    async fn read_trimmed(
        &self,
        key: TopicPartition,
        mut extent: Extent,
        trim: walk::Trim,
    ) -> Result<Vec<Slice>, Fault> {
        loop {
            let loaded = self.load(key, extent).await?;
            let views = loaded.views();
            let trimmed = walk::trim(Stretch::new(loaded.position, &views), trim);
            if let Some(position) = trimmed.damaged.filter(|_| trimmed.ranges.is_empty()) {
                return Err(self.close_damaged(key, extent.file, position, "what stands here is no record batch"));
            }
            match trimmed.missing {
                Some(end) if end > extent.position + extent.length => extent.length = end - extent.position,
                _ => {
                    self.note_reader(key, extent.file, &loaded, &trimmed, trim.from_offset);
                    let mut slices = Vec::new();
                    let mut due = Some(trim.from_offset);
                    for range in trimmed.ranges {
                        due = self.check(key, extent.file, &loaded, range.clone(), due)?;
                        slices.extend(loaded.cut(range));
                    }
                    return Ok(slices);
                }
            }
        }
    }

    /// Remembers where a reader from disk goes on.
    fn note_reader(&self, key: TopicPartition, file: FileId, loaded: &Loaded, trimmed: &Trimmed, from_offset: i64) {
        let Some(last) = trimmed.ranges.last().filter(|_| loaded.from_disk) else { return };
        let on_disk_until = {
            let store = self.0.store.borrow();
            let segments = store.partition(key).ok().map(|partition| partition.segments());
            segments
                .and_then(|segments| segments.iter().find(|segment| segment.file == file)?.drained_position().into())
        };
        let Some(on_disk_until) = on_disk_until else { return };
        let reached = Reached { offset: trimmed.next_offset, file, position: last.end, on_disk_until };
        self.ahead_moved(key, from_offset, reached);
    }

    /// The first batch that may hold a record with a timestamp of at least `timestamp_ms`, among those a consumer may see;
    /// `from_offset` goes on behind a batch that turned out to hold none.
    pub async fn batch_at_timestamp(
        &self,
        key: TopicPartition,
        timestamp_ms: i64,
        from_offset: i64,
    ) -> Result<Option<Slice>, Fault> {
        let mut from_offset = from_offset;
        loop {
            let plan = self.0.store.borrow().partition(key).map(|partition| {
                let from = from_offset.max(partition.log_start());
                partition.find_timestamp_from(timestamp_ms, from, Until::HighWatermark)
            });
            match plan {
                Ok(Ok(TimestampPlan::Walk { extent, timestamp, from_offset: from, limit_offset, next_from })) => {
                    let found = self.walk_to_timestamp(key, extent, timestamp, from, limit_offset).await?;
                    if found.is_some() || next_from <= from_offset {
                        return Ok(found);
                    }
                    from_offset = next_from;
                }
                Ok(Ok(TimestampPlan::ScanFirst(scan))) => self.scan(key, &scan).await?,
                _ => return Ok(None),
            }
        }
    }

    /// The batch that holds the largest timestamp that a consumer may see.
    pub async fn batch_of_max_timestamp(&self, key: TopicPartition) -> Result<Option<Slice>, Fault> {
        loop {
            let plan = self
                .0
                .store
                .borrow()
                .partition(key)
                .map(|partition| partition.find_max_timestamp(Until::HighWatermark));
            match plan {
                Ok(Ok(TimestampPlan::Walk { extent, timestamp, from_offset, limit_offset, .. })) => {
                    return self.walk_to_timestamp(key, extent, timestamp, from_offset, limit_offset).await;
                }
                Ok(Ok(TimestampPlan::ScanFirst(scan))) => self.scan(key, &scan).await?,
                _ => return Ok(None),
            }
        }
    }

    async fn walk_to_timestamp(
        &self,
        key: TopicPartition,
        extent: Extent,
        timestamp: i64,
        from_offset: i64,
        limit_offset: i64,
    ) -> Result<Option<Slice>, Fault> {
        let end = extent.position + extent.length;
        let (mut at, mut step) = (extent.position, STEP_BYTES);
        while at < end {
            let loaded = self.load(key, Extent { position: at, length: step.min(end - at), ..extent }).await?;
            let views = loaded.views();
            let mut walk = Stretch::new(loaded.position, &views).walk();
            let found = walk
                .by_ref()
                .find(|batch| batch.header.max_timestamp >= timestamp && batch.header.end_offset() > from_offset);
            if let Some(batch) = found.filter(|batch| batch.header.end_offset() <= limit_offset) {
                let range = batch.position..batch.position + u64::from(batch.header.bytes);
                self.check(key, extent.file, &loaded, range.clone(), None)?;
                return self.whole(loaded.cut(range)).map(Some);
            }
            if found.is_some() {
                return Ok(None);
            }
            match next_step(&walk.ended(), at, loaded.end()) {
                Some((position, length)) => (at, step) = (position, length),
                None => return Err(self.close_damaged(key, extent.file, at, "what stands here is no record batch")),
            }
        }
        Ok(None)
    }

    /// Rebuilds a segment's index by walking its batches, in steps that give way to requests.
    async fn scan(&self, key: TopicPartition, plan: &ScanPlan) -> Result<(), Fault> {
        let Ok(mut scan) = self.0.store.borrow().partition(key).map(|partition| partition.index_scan(plan)) else {
            return Ok(());
        };
        let extent = plan.extent;
        let end = extent.position + extent.length;
        let (mut at, mut step) = (extent.position, STEP_BYTES);
        while at < end {
            let loaded = self.load(key, Extent { position: at, length: step.min(end - at), ..extent }).await?;
            let views = loaded.views();
            let mut walk = Stretch::new(loaded.position, &views).walk();
            scan.feed(&mut walk);
            match next_step(&walk.ended(), at, loaded.end()) {
                Some((position, length)) => (at, step) = (position, length),
                None => return Err(self.close_damaged(key, extent.file, at, "what stands here is no record batch")),
            }
            executor::yield_if_needed().await;
        }
        if let Ok(partition) = self.0.store.borrow_mut().partition_mut(key) {
            partition.index_scanned(scan);
        }
        Ok(())
    }

    /// Brings a stretch of a segment into memory.
    async fn load(&self, key: TopicPartition, extent: Extent) -> Result<Loaded, Fault> {
        let _lease = self.lease(extent.file);
        let range = extent.position..extent.position + extent.length;
        let slot = self.0.store.borrow().slot(key);
        let found = match slot {
            Some(slot) => self.0.memory.borrow().find(slot, extent.file, range),
            None => vec![Found::Disk { position: extent.position, length: extent.length }],
        };
        let mut loaded =
            Loaded { position: extent.position, slices: Vec::with_capacity(found.len()), from_disk: false };
        for part in found {
            match part {
                Found::Memory(slice) => {
                    self.count(|counters| {
                        counters.memory_reads += 1;
                        counters.memory_read_bytes += slice.len() as u64;
                    });
                    loaded.slices.push(slice);
                }
                Found::Disk { position, length } => {
                    loaded.from_disk = true;
                    self.load_disk(extent.file, position, length, &mut loaded.slices).await?;
                }
            }
        }
        Ok(loaded)
    }

    /// What was read ahead, and the rest by a read of its own.
    async fn load_disk(&self, id: FileId, position: u64, length: u64, slices: &mut Vec<Slice>) -> Result<(), Fault> {
        let (mut at, end) = (position, position + length);
        while at < end {
            let slice = match self.ahead_bytes(id, at, end - at).await {
                Some(slice) => slice,
                None => self.read_disk(id, at, end - at).await?,
            };
            at += slice.len() as u64;
            slices.push(slice);
        }
        Ok(())
    }

    pub(super) async fn read_disk(&self, id: FileId, position: u64, length: u64) -> Result<Slice, Fault> {
        let file = self.0.performer.segment(id).await?;
        let (from, to) = (block_floor(position), block_ceil(position + length));
        let bytes = (to - from) as usize;
        let lease = self.0.arena.try_alloc(bytes).ok_or(Fault::NoSpace { what: "a read's buffer" })?;
        let submitted = executor::now();
        let (lease, read) = file.read_at(lease, from, bytes).await?;
        self.observe(DiskOp::SegmentRead, submitted);
        self.count(|counters| {
            counters.disk_reads += 1;
            counters.disk_read_bytes += read as u64;
        });
        let head = (position - from) as usize;
        if read < head + length as usize {
            return Err(Fault::Corrupt {
                file: file.path().display().to_string(),
                position: from + read as u64,
                what: "the file ends before its log does",
            });
        }
        Ok(lease.freeze().slice(head..head + length as usize))
    }

    /// Checks the batches of a range, if the bytes come from disk: against their own checksums, and that they are those that
    /// belong there; the first must hold the offset that is due. Returns the offset that is due next, if it is known.
    fn check(
        &self,
        key: TopicPartition,
        file: FileId,
        loaded: &Loaded,
        range: Range<u64>,
        due: Option<i64>,
    ) -> Result<Option<i64>, Fault> {
        if !loaded.from_disk {
            return Ok(None);
        }
        let parts = loaded.cut(range.clone());
        let views: Vec<&[u8]> = parts.iter().map(|slice| &**slice).collect();
        for batch in Stretch::new(range.start, &views).walk() {
            let covered = batch.position + CHECKSUM_FROM as u64..batch.position + u64::from(batch.header.bytes);
            if !fits(&batch.header, loaded.cut(covered)) {
                return Err(self.close_damaged(
                    key,
                    file,
                    batch.position,
                    "a record batch does not match its checksum",
                ));
            }
        }
        let stretch = Stretch::new(range.start, &views);
        let next = self.0.store.borrow().partition(key).map(|partition| partition.check_read(stretch, due));
        match next {
            Ok(Ok(next)) => Ok(next),
            Ok(Err(position)) => Err(self.close_damaged(key, file, position, "a record batch of another place")),
            Err(_) => Ok(None),
        }
    }

    fn close_damaged(&self, key: TopicPartition, file: FileId, position: u64, what: &'static str) -> Fault {
        if let Ok(partition) = self.0.store.borrow_mut().partition_mut(key) {
            partition.close();
        }
        let fault = Fault::Corrupt { file: format!("segments/{:016x}", file.0), position, what };
        tracing::error!(partition = %key, %fault, "the partition failed closed");
        fault
    }

    /// One slice of several that lie one behind the other.
    fn whole(&self, slices: Vec<Slice>) -> Result<Slice, Fault> {
        if let [only] = slices.as_slice() {
            return Ok(only.clone());
        }
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut lease = self.0.arena.try_alloc(bytes).ok_or(Fault::NoSpace { what: "a read's buffer" })?;
        let mut at = 0;
        for slice in &slices {
            lease.get_mut(at..at + slice.len()).expect("a lease is as long as asked").copy_from_slice(slice);
            at += slice.len();
        }
        Ok(lease.freeze().slice(0..bytes))
    }

    fn lease(&self, file: FileId) -> FileLease<'_> {
        self.0.store.borrow_mut().lease_file(file);
        FileLease { shard: self, file }
    }
}

struct FileLease<'a> {
    shard: &'a Shard,
    file: FileId,
}

impl Drop for FileLease<'_> {
    fn drop(&mut self) {
        self.shard.0.store.borrow_mut().release_file(self.file);
        self.shard.kick();
    }
}

impl Loaded {
    fn end(&self) -> u64 {
        self.position + self.slices.iter().map(|slice| slice.len() as u64).sum::<u64>()
    }

    fn views(&self) -> Vec<&[u8]> {
        self.slices.iter().map(|slice| &**slice).collect()
    }

    /// The slices of a range of positions.
    fn cut(&self, range: Range<u64>) -> Vec<Slice> {
        let mut cut = Vec::new();
        let mut start = self.position;
        for slice in &self.slices {
            let end = start + slice.len() as u64;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                cut.push(slice.slice((from - start) as usize..(to - start) as usize));
            }
            start = end;
        }
        cut
    }
}

fn fits(header: &BatchHeader, covered: Vec<Slice>) -> bool {
    let mut crc = Seeded::new(&[]);
    covered.iter().for_each(|slice| crc.update(slice));
    crc.finish() == header.crc
}

/// Where the next step begins and how long it is; `None` at damage.
fn next_step(ended: &Option<WalkEnd>, at: u64, end: u64) -> Option<(u64, u64)> {
    match *ended {
        Some(WalkEnd::Cut { position, end: needed }) if position > at => {
            Some((position, STEP_BYTES.max(needed - position)))
        }
        Some(WalkEnd::Cut { position, end: needed }) if needed > end => {
            Some((position, needed - position + STEP_BYTES))
        }
        Some(WalkEnd::Cut { .. } | WalkEnd::Damaged { .. }) => None,
        _ => Some((end, STEP_BYTES)),
    }
}
