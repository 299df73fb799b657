//! The segments' files as the store sees them: which bytes still have to be written, what waits for a file to exist, what
//! must be flushed, which files may be used again.
//!
//! Never touches bytes. Invariants: a block is handed out for writing once, when it is full or padded; a stretch is written
//! only into a file that exists durably; a file is used again only when its drop is durable and nobody reads it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use crate::units::{FileId, JournalId, Slot, block_ceil, block_floor};

/// The largest background write.
const DRAIN_BYTES_MAX: u64 = 1 << 20;
/// A tail is drained in the background from this size on.
const DRAIN_BYTES_MIN: u64 = 256 << 10;

/// Segments that grow in files of full size before they have shown that they fill them.
const RESERVED_COUNT_MAX: usize = 32;

/// What a new segment will be written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Little,
    /// A whole file's worth, in the background: nobody waits for those writes.
    Much,
    /// Runs that are acknowledged when their own writes are durable, which only extents that were written before make quick.
    Runs,
}

/// A stretch of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub slot: Slot,
    pub file: FileId,
    pub range: Range<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existence {
    /// Nobody asked for it yet.
    None,
    Creating,
    Ready,
}

#[derive(Clone, Debug)]
struct Segment {
    slot: Slot,
    existence: Existence,
    /// Create it with its extents allocated: large writes are expected.
    allocate: bool,
    /// Placed in memory and not yet handed out for writing, in order; the last one grows.
    unwritten: VecDeque<Range<u64>>,
    /// Handed out, not completed.
    writing: Vec<Range<u64>>,
    /// Waits for the file to exist.
    waiting: Vec<Range<u64>>,
    /// Of those two, the runs that the journal does not hold.
    references: Vec<Range<u64>>,
    /// Behind everything that was placed, in whole blocks.
    end: u64,
    sealed: bool,
    dirty: bool,
    readers_count: u32,
    dropped: bool,
}

/// All files of one journal.
#[derive(Clone, Debug)]
pub struct Files {
    journal: JournalId,
    next_counter: u32,
    segments: BTreeMap<FileId, Segment>,
    /// Files of full size, fully written once, that no segment uses.
    pool: Vec<FileId>,
    pool_count_max: usize,
    /// Rises when a segment for runs found the pool empty.
    pool_count_wanted: usize,
    unwritten_bytes: u64,
    /// Files with enough to write in the background.
    large: BTreeSet<FileId>,
    /// Files with at least one whole block to write, and how many bytes in one piece.
    whole: BTreeMap<FileId, u64>,
    /// The same by size: few large writes make more room than many small ones.
    by_size: BTreeSet<(u64, FileId)>,
    /// Files that must be created first.
    missing: BTreeSet<FileId>,
    /// Files with writes that wait or are under way.
    busy: BTreeSet<FileId>,
    dirty: BTreeSet<FileId>,
    /// Files of full size whose segments still grow.
    reserved: BTreeSet<FileId>,
}

impl Files {
    pub fn new(journal: JournalId, next_counter: u32, pool: Vec<FileId>, pool_count_max: usize) -> Files {
        Files {
            journal,
            next_counter,
            segments: BTreeMap::new(),
            pool,
            pool_count_max,
            pool_count_wanted: 0,
            unwritten_bytes: 0,
            large: BTreeSet::new(),
            whole: BTreeMap::new(),
            by_size: BTreeSet::new(),
            missing: BTreeSet::new(),
            busy: BTreeSet::new(),
            dirty: BTreeSet::new(),
            reserved: BTreeSet::new(),
        }
    }

    /// Whether one more segment may get a file of full size on the mere hope that it fills it: the disk would not hold such a
    /// file for each of very many partitions.
    pub fn may_reserve(&self) -> bool {
        self.reserved.len() < RESERVED_COUNT_MAX
    }

    /// A file for a new segment: unless little is expected a pooled one if there is one, else one whose extents are allocated.
    pub fn take(&mut self, slot: Slot, expected: Expected) -> FileId {
        let allocate = expected != Expected::Little;
        let pooled = if allocate { self.pool.pop() } else { None };
        if expected == Expected::Runs && pooled.is_none() {
            self.pool_count_wanted = (self.pool_count_wanted + 1).min(self.pool_count_max);
        }
        let existence = if pooled.is_some() { Existence::Ready } else { Existence::None };
        let file = pooled.unwrap_or_else(|| self.fresh());
        self.segments.insert(file, Segment::new(slot, existence, allocate));
        self.note(file);
        file
    }

    /// A number that no file has had.
    pub fn fresh(&mut self) -> FileId {
        let file = FileId::new(self.journal, self.next_counter);
        self.next_counter += 1;
        file
    }

    /// A segment's file that recovery found in use.
    pub fn restore(&mut self, slot: Slot, file: FileId, sealed: bool, exists: bool) {
        let existence = if exists { Existence::Ready } else { Existence::None };
        let segment = Segment { sealed, dirty: exists, ..Segment::new(slot, existence, false) };
        if let Some(before) = self.segments.insert(file, segment) {
            self.unwritten_bytes -= before.unwritten_bytes();
        }
        self.note(file);
        if FileId::new(self.journal, 0).0 >> 32 == file.0 >> 32 {
            self.next_counter = self.next_counter.max((file.0 & 0xffff_ffff) as u32 + 1);
        }
        self.pool.retain(|pooled| *pooled != file);
    }

    /// Whether something waits for a file that nobody asked for yet.
    pub fn has_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    /// A run that recovery found in its file: what follows begins a new stretch.
    pub fn restore_reference(&mut self, file: FileId, range: Range<u64>) {
        if let Some(stretch) = self.placed_aligned(file, range) {
            self.written(file, &stretch.range, false);
        }
    }

    /// Recovery found that this slot's segment no longer uses the file; another's may.
    pub fn forget(&mut self, slot: Slot, file: FileId) {
        if self.segments.get(&file).is_none_or(|segment| segment.slot != slot) {
            return;
        }
        if let Some(segment) = self.segments.remove(&file) {
            self.unwritten_bytes -= segment.unwritten_bytes();
        }
        self.note(file);
    }

    /// Whether the file belongs to a segment.
    pub fn is_used(&self, file: FileId) -> bool {
        self.segments.contains_key(&file)
    }

    /// Bytes were placed in memory at `range`; the stretch before it is padded if it is not adjacent.
    pub fn placed(&mut self, file: FileId, range: Range<u64>) {
        let Some(segment) = self.segments.get_mut(&file) else { return };
        let before = segment.unwritten_bytes();
        segment.end = segment.end.max(block_ceil(range.end));
        match segment.unwritten.back_mut() {
            Some(last) if block_ceil(last.end) >= range.start => last.end = last.end.max(range.end),
            _ => segment.unwritten.push_back(block_floor(range.start)..range.end),
        }
        self.unwritten_bytes += segment.unwritten_bytes() - before;
        self.note(file);
    }

    /// A run goes straight into the file: what lies before it is padded to whole blocks, what follows begins a new stretch.
    pub fn placed_aligned(&mut self, file: FileId, range: Range<u64>) -> Option<Stretch> {
        let segment = self.segments.get_mut(&file)?;
        let whole = range.start..block_ceil(range.end);
        segment.end = segment.end.max(whole.end);
        let before = segment.unwritten_bytes();
        if let Some(last) = segment.unwritten.back_mut() {
            last.end = block_ceil(last.end).min(range.start);
        }
        // A stretch that was closed without bytes would hold back the low mark.
        segment.unwritten.retain(|range| !range.is_empty());
        segment.unwritten.push_back(whole.end..whole.end);
        self.unwritten_bytes += segment.unwritten_bytes() - before;
        segment.references.push(whole.clone());
        let stretch = segment.submit(file, whole);
        self.note(file);
        stretch
    }

    /// The segment takes no more: its last block is padded and may be written.
    pub fn seal(&mut self, file: FileId) {
        if let Some(segment) = self.segments.get_mut(&file) {
            segment.sealed = true;
        }
        self.note(file);
    }

    /// The next stretch to write in the background. `all` takes every whole block, the largest stretches first; else only
    /// large tails are taken.
    pub fn next_drain(&mut self, all: bool) -> Option<Stretch> {
        let largest = || self.by_size.last().map(|(_, file)| *file);
        let file = if all { largest() } else { self.large.first().copied() }?;
        let segment = self.segments.get_mut(&file)?;
        let before = segment.unwritten_bytes();
        let range = segment.take_writable();
        self.unwritten_bytes -= before - segment.unwritten_bytes();
        let stretch = segment.submit(file, range);
        self.note(file);
        stretch
    }

    /// The next file that must be created before what waits for it can be written: its id and whether to allocate it whole.
    pub fn next_creation(&mut self) -> Option<(FileId, bool)> {
        let file = *self.missing.first()?;
        let segment = self.segments.get_mut(&file)?;
        segment.existence = Existence::Creating;
        let allocate = segment.allocate;
        self.note(file);
        Some((file, allocate))
    }

    /// The file exists durably: what waited for it may be written.
    pub fn created(&mut self, file: FileId) -> Vec<Stretch> {
        let Some(segment) = self.segments.get_mut(&file) else { return Vec::new() };
        segment.existence = Existence::Ready;
        let waiting = std::mem::take(&mut segment.waiting);
        let stretches = waiting.into_iter().filter_map(|range| segment.submit(file, range)).collect();
        self.note(file);
        stretches
    }

    /// The file could not be created for lack of space; it is tried again.
    pub fn creation_failed(&mut self, file: FileId) {
        if let Some(segment) = self.segments.get_mut(&file) {
            segment.existence = Existence::None;
        }
        self.note(file);
    }

    /// A write has completed. Returns the position below which everything is in the file.
    pub fn written(&mut self, file: FileId, range: &Range<u64>, durable: bool) -> Option<u64> {
        let segment = self.segments.get_mut(&file)?;
        segment.writing.retain(|under_way| under_way != range);
        segment.references.retain(|reference| reference != range);
        segment.dirty |= !durable;
        let mark = segment.low_mark();
        self.note(file);
        Some(mark)
    }

    /// A write found no space: its stretch is written again later, unless its file was dropped meanwhile.
    pub fn write_failed(&mut self, file: FileId, range: Range<u64>) {
        let Some(segment) = self.segments.get_mut(&file) else { return };
        segment.writing.retain(|under_way| *under_way != range);
        if !segment.dropped {
            self.unwritten_bytes += range.end - range.start;
            segment.unwritten.push_front(range);
        }
        self.note(file);
    }

    /// A reference's write found no space: it waits until its file was created with room once more.
    pub fn write_again(&mut self, file: FileId, range: Range<u64>) {
        let Some(segment) = self.segments.get_mut(&file) else { return };
        segment.writing.retain(|under_way| *under_way != range);
        segment.waiting.push(range);
        segment.existence = Existence::None;
        self.note(file);
    }

    /// Whether every whole block that was placed is written.
    pub fn is_drained(&self) -> bool {
        self.whole.is_empty() && self.busy.is_empty()
    }

    /// Files written since they were last flushed; the caller flushes each of them.
    pub fn take_dirty(&mut self) -> Vec<FileId> {
        let dirty: Vec<_> = std::mem::take(&mut self.dirty).into_iter().collect();
        for file in &dirty {
            if let Some(segment) = self.segments.get_mut(file) {
                segment.dirty = false;
            }
        }
        dirty
    }

    /// Stretches in memory that no write has put into the file yet and that the journal or an image must hold, in order.
    pub fn open_ranges(&self, file: FileId) -> Vec<Range<u64>> {
        let Some(segment) = self.segments.get(&file) else { return Vec::new() };
        let in_flight = segment.writing.iter().chain(&segment.waiting);
        let drains = in_flight.filter(|range| !segment.references.contains(range));
        let mut ranges: Vec<_> =
            segment.unwritten.iter().chain(drains).filter(|range| !range.is_empty()).cloned().collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    }

    /// What must be written before everything placed until now is in its file, by file: all whole blocks.
    pub fn drain_goals(&self) -> BTreeMap<FileId, u64> {
        let files = self.whole.keys().chain(&self.busy);
        files.filter_map(|file| Some((*file, self.segments.get(file)?.drain_goal()))).collect()
    }

    /// Whether everything below `goal` is in the file, or the file is gone.
    pub fn reached(&self, file: FileId, goal: u64) -> bool {
        self.segments.get(&file).is_none_or(|segment| segment.dropped || segment.low_mark() >= goal)
    }

    /// Bytes that exist only in memory and in the journal.
    pub fn unwritten_bytes(&self) -> u64 {
        self.unwritten_bytes
    }

    /// A reader holds the file; it is not used again before `release`.
    pub fn lease(&mut self, file: FileId) {
        if let Some(segment) = self.segments.get_mut(&file) {
            segment.readers_count += 1;
        }
    }

    pub fn release(&mut self, file: FileId) -> Option<Retired> {
        let segment = self.segments.get_mut(&file)?;
        segment.readers_count = segment.readers_count.saturating_sub(1);
        self.retire(file)
    }

    /// The entry that drops the file is durable.
    pub fn dropped(&mut self, file: FileId) -> Option<Retired> {
        let segment = self.segments.get_mut(&file)?;
        segment.dropped = true;
        segment.waiting.clear();
        let before = segment.unwritten_bytes();
        segment.unwritten.clear();
        self.unwritten_bytes -= before;
        self.note(file);
        self.retire(file)
    }

    /// Looks whether a dropped file is free now; call it when one of its writes or its creation completed.
    pub fn retire(&mut self, file: FileId) -> Option<Retired> {
        let segment = self.segments.get(&file)?;
        let busy = segment.readers_count > 0 || !segment.writing.is_empty() || segment.existence == Existence::Creating;
        if !segment.dropped || busy {
            return None;
        }
        let segment = self.segments.remove(&file)?;
        self.note(file);
        let whole = segment.allocate && segment.sealed && segment.existence == Existence::Ready;
        if whole && self.pool.len() < self.pool_count_max {
            self.pool.push(file);
            return Some(Retired::Pooled);
        }
        Some(if segment.existence == Existence::None { Retired::NeverCreated } else { Retired::Remove })
    }

    /// Sorts the file anew into the sets of what there is to do.
    fn note(&mut self, file: FileId) {
        let segment = self.segments.get(&file);
        let idle = segment.filter(|segment| segment.writing.is_empty() && segment.waiting.is_empty());
        let writable = idle.map_or(0, Segment::writable);
        let sealed = segment.is_some_and(|segment| segment.sealed);
        mark(&mut self.large, file, writable >= DRAIN_BYTES_MIN || (sealed && writable > 0));
        mark(&mut self.busy, file, segment.is_some() && idle.is_none());
        let missing = |segment: &Segment| segment.existence == Existence::None && !segment.waiting.is_empty();
        mark(&mut self.missing, file, segment.is_some_and(missing));
        mark(&mut self.dirty, file, segment.is_some_and(|segment| segment.dirty));
        mark(&mut self.reserved, file, segment.is_some_and(|segment| segment.allocate && !segment.sealed));
        self.note_size(file, writable);
    }

    fn note_size(&mut self, file: FileId, writable: u64) {
        let before = if writable > 0 { self.whole.insert(file, writable) } else { self.whole.remove(&file) };
        if before == Some(writable) {
            return;
        }
        if let Some(before) = before {
            self.by_size.remove(&(before, file));
        }
        if writable > 0 {
            self.by_size.insert((writable, file));
        }
    }

    /// Whether the pool should get one more file while the disk is idle.
    pub fn wants_pool_file(&self) -> bool {
        self.pool.len() < self.pool_count_wanted
    }

    /// A file of full size was written once and waits for a segment.
    pub fn pooled(&mut self, file: FileId) {
        self.pool.push(file);
    }

    pub fn pool(&self) -> &[FileId] {
        &self.pool
    }

    pub fn next_counter(&self) -> u32 {
        self.next_counter
    }
}

fn mark(set: &mut BTreeSet<FileId>, file: FileId, belongs: bool) {
    if belongs {
        set.insert(file);
    } else {
        set.remove(&file);
    }
}

/// What becomes of a file that no segment uses any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retired {
    /// It waits for the next large segment.
    Pooled,
    Remove,
    NeverCreated,
}

impl Segment {
    fn new(slot: Slot, existence: Existence, allocate: bool) -> Segment {
        Segment {
            slot,
            existence,
            allocate,
            unwritten: VecDeque::new(),
            writing: Vec::new(),
            waiting: Vec::new(),
            references: Vec::new(),
            end: 0,
            sealed: false,
            dirty: false,
            readers_count: 0,
            dropped: false,
        }
    }

    fn unwritten_bytes(&self) -> u64 {
        self.unwritten.iter().map(|range| range.end - range.start).sum()
    }

    /// Bytes of the first stretch that are whole blocks, or will be by padding.
    fn writable(&self) -> u64 {
        self.unwritten.iter().map(|range| self.whole_end(range) - range.start).find(|bytes| *bytes > 0).unwrap_or(0)
    }

    fn whole_end(&self, range: &Range<u64>) -> u64 {
        let is_last = self.unwritten.back() == Some(range);
        let end = if is_last && !self.sealed { block_floor(range.end) } else { block_ceil(range.end) };
        end.max(range.start)
    }

    fn take_writable(&mut self) -> Range<u64> {
        while self.unwritten.len() > 1 && self.unwritten.front().is_some_and(Range::is_empty) {
            self.unwritten.pop_front();
        }
        let Some(first) = self.unwritten.front().cloned() else { return 0..0 };
        let end = self.whole_end(&first).min(first.start + DRAIN_BYTES_MAX);
        let rest_end = first.end.max(end);
        if let Some(front) = self.unwritten.front_mut() {
            *front = end..rest_end;
        }
        if end == rest_end && (self.unwritten.len() > 1 || self.sealed) {
            self.unwritten.pop_front();
        }
        first.start..end
    }

    fn submit(&mut self, file: FileId, range: Range<u64>) -> Option<Stretch> {
        if range.is_empty() {
            return None;
        }
        if self.existence != Existence::Ready {
            self.waiting.push(range);
            return None;
        }
        self.writing.push(range.clone());
        Some(Stretch { slot: self.slot, file, range })
    }

    fn drain_goal(&self) -> u64 {
        let unwritten = self.unwritten.iter().map(|range| self.whole_end(range));
        let in_flight = self.writing.iter().chain(&self.waiting).map(|range| range.end);
        unwritten.chain(in_flight).max().unwrap_or(0)
    }

    fn low_mark(&self) -> u64 {
        let open = self.unwritten.iter().chain(&self.writing).chain(&self.waiting);
        open.map(|range| range.start).min().unwrap_or(self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files::new(JournalId(1), 0, Vec::new(), 2)
    }

    fn ready(files: &mut Files, file: FileId) -> Vec<Stretch> {
        assert_eq!(files.next_creation().map(|(created, _)| created), Some(file));
        files.created(file)
    }

    #[test]
    fn whole_blocks_are_written_once_and_the_partial_one_stays() {
        let mut files = files();
        let file = files.take(Slot(0), Expected::Little);
        files.placed(file, 0..10_000);
        assert_eq!(files.next_drain(true), None);
        let stretches = ready(&mut files, file);
        assert_eq!(stretches, [Stretch { slot: Slot(0), file, range: 0..8192 }]);
        assert_eq!(files.written(file, &(0..8192), false), Some(8192));
        assert_eq!((files.next_drain(true), files.is_drained()), (None, true));
        files.placed(file, 10_000..12_288);
        assert_eq!(files.next_drain(true), Some(Stretch { slot: Slot(0), file, range: 8192..12_288 }));
    }

    #[test]
    fn an_aligned_run_pads_what_lies_before_and_is_written_at_once() {
        let mut files = files();
        let file = files.take(Slot(0), Expected::Runs);
        files.placed(file, 0..100);
        assert_eq!(files.placed_aligned(file, 4096..204_096), None);
        assert_eq!(ready(&mut files, file), [Stretch { slot: Slot(0), file, range: 4096..204_800 }]);
        files.placed(file, 204_800..204_900);
        assert_eq!(files.written(file, &(4096..204_800), true), Some(0));
        assert_eq!(files.next_drain(true), Some(Stretch { slot: Slot(0), file, range: 0..4096 }));
        assert_eq!(files.written(file, &(0..4096), false), Some(204_800));
        assert_eq!(files.next_drain(true), None);
        files.seal(file);
        assert_eq!(files.next_drain(true), Some(Stretch { slot: Slot(0), file, range: 204_800..208_896 }));
    }

    #[test]
    fn few_segments_get_a_whole_file_on_hope() {
        let mut files = files();
        let taken: Vec<_> = (0..RESERVED_COUNT_MAX).map(|_| files.take(Slot(0), Expected::Runs)).collect();
        assert!(!files.may_reserve());
        files.seal(taken[0]);
        assert!(files.may_reserve(), "it has shown what it is worth");
    }

    #[test]
    fn the_largest_stretch_makes_room_first() {
        let mut files = files();
        let sizes = [2, 5, 3];
        let taken = sizes.map(|blocks: u64| {
            let file = files.take(Slot(0), Expected::Runs);
            files.placed_aligned(file, 0..4096);
            ready(&mut files, file);
            files.written(file, &(0..4096), true);
            files.placed(file, 4096..4096 * (blocks + 1));
            file
        });
        let drained: Vec<_> = std::iter::from_fn(|| files.next_drain(true)).map(|stretch| stretch.file).collect();
        assert_eq!(drained, [taken[1], taken[2], taken[0]]);
    }

    #[test]
    fn a_write_that_found_no_space_is_not_repeated_once_its_file_is_dropped() {
        let mut files = files();
        let file = files.take(Slot(0), Expected::Little);
        files.placed(file, 0..8192);
        files.next_drain(true);
        let stretches = ready(&mut files, file);
        assert_eq!(files.dropped(file), None, "the write is under way");
        files.write_failed(file, stretches[0].range.clone());
        assert_eq!((files.next_drain(true), files.unwritten_bytes()), (None, 0));
        assert_eq!(files.retire(file), Some(Retired::Remove));
    }

    #[test]
    fn a_dropped_file_is_used_again_only_when_nobody_reads_it() {
        let mut files = files();
        let file = files.take(Slot(0), Expected::Runs);
        files.placed_aligned(file, 0..200_000);
        ready(&mut files, file);
        files.written(file, &(0..200_704), true);
        files.seal(file);
        files.lease(file);
        assert_eq!(files.dropped(file), None);
        assert_eq!(files.release(file), Some(Retired::Pooled));
        assert_eq!(files.take(Slot(0), Expected::Runs), file);
    }
}
