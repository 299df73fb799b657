//! Segment files: which are free, which wait to be free, which to write before they are needed.
//!
//! A dropped file is free once the entry that drops it is durable and no reader or writer holds a lease on it; before that it
//! is neither reused nor unlinked. Up to a maximum of free files is kept, the others are unlinked. A large run is durable at
//! full speed only in extents that were written before: recycled or pre-written files go first.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::SEGMENT_FILE_BYTES;
use crate::units::{FileId, JournalId, Stamp, block_floor};

/// How much of a new file is allocated at a time.
pub const GROWTH_BYTES: u64 = 8 << 20;
/// How much is pre-written at a time.
pub const PREWRITE_BYTES: u64 = 1 << 20;

/// A file for a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileGrant {
    pub file: FileId,
    /// All its extents were written before; otherwise it is new: create it, and `grow` it before writes.
    pub prewritten: bool,
}

/// Bytes of a file to allocate or to pre-write with zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRange {
    pub file: FileId,
    pub position: u64,
    pub length: u64,
}

#[derive(Clone, Copy, Debug)]
struct Retired {
    file: FileId,
    stamp: Stamp,
}

#[derive(Clone, Copy, Debug, Default)]
struct Growing {
    allocated: u64,
    /// Where the highest write so far ends.
    written: u64,
}

/// The segment files of one journal.
#[derive(Clone, Debug)]
pub struct SegmentPool {
    journal: JournalId,
    counter_next: u32,
    spares_max: usize,
    /// Whole and written: ready for large runs.
    spares: VecDeque<FileId>,
    /// Files that were not wholly written when they were taken.
    growing: BTreeMap<FileId, Growing>,
    /// Free, but only partly written: pre-writing goes on with them, and they are taken before a new file is made.
    partial: VecDeque<FileId>,
    leases: BTreeMap<FileId, u32>,
    /// Dropped, in the order of their stamps.
    retired: Vec<Retired>,
    durable: Stamp,
    prewriting: Option<FileRange>,
    prewriting_under_way: bool,
}

impl SegmentPool {
    /// A pool whose next new file is `counter_next`, above every file that exists; `spares` are free whole files.
    pub fn new(journal: JournalId, counter_next: u32, spares: Vec<FileId>, spares_max: usize) -> SegmentPool {
        SegmentPool {
            journal,
            counter_next,
            spares_max,
            spares: spares.into(),
            growing: BTreeMap::new(),
            partial: VecDeque::new(),
            leases: BTreeMap::new(),
            retired: Vec::new(),
            durable: Stamp(0),
            prewriting: None,
            prewriting_under_way: false,
        }
    }

    /// The number of the next new file, to be kept in the image.
    pub fn counter_next(&self) -> u32 {
        self.counter_next
    }

    /// Free whole files, to be kept in the image.
    pub fn spares(&self) -> impl Iterator<Item = FileId> {
        self.spares.iter().copied()
    }

    /// Files that were dropped but are not free yet.
    pub fn retired_count(&self) -> usize {
        self.retired.len()
    }

    /// Takes a file: a spare, or else a new one.
    pub fn take(&mut self) -> FileGrant {
        if let Some(file) = self.spares.pop_front() {
            return FileGrant { file, prewritten: true };
        }
        let file = self.partial.pop_front().unwrap_or_else(|| self.new_file());
        self.growing.entry(file).or_default();
        FileGrant { file, prewritten: false }
    }

    /// Call before every write into `file`: what to allocate before bytes up to `end_position` are written; `None` if it is allocated that far. Counts as
    /// done: a failure ends the process or the write.
    pub fn grow(&mut self, file: FileId, end_position: u64) -> Option<FileRange> {
        let growing = self.growing.get_mut(&file)?;
        growing.written = growing.written.max(end_position);
        if end_position <= growing.allocated {
            return None;
        }
        let position = growing.allocated;
        let target = end_position.div_ceil(GROWTH_BYTES) * GROWTH_BYTES;
        let end = target.min(SEGMENT_FILE_BYTES).max(end_position);
        growing.allocated = end;
        Some(FileRange { file, position, length: end - position })
    }

    /// A reader or a writer uses the file.
    pub fn lease(&mut self, file: FileId) {
        *self.leases.entry(file).or_default() += 1;
    }

    /// Ends one lease; returns files to unlink.
    pub fn release(&mut self, file: FileId) -> Vec<FileId> {
        let count = self.leases.get_mut(&file).expect("a lease ends once");
        *count -= 1;
        if *count == 0 {
            self.leases.remove(&file);
        }
        self.settle()
    }

    /// A file was dropped by the entry at `stamp`.
    pub fn retire(&mut self, file: FileId, stamp: Stamp) -> Vec<FileId> {
        self.retired.push(Retired { file, stamp });
        self.settle()
    }

    /// The journal is durable up to `stamp`; returns files to unlink.
    pub fn durable(&mut self, stamp: Stamp) -> Vec<FileId> {
        self.durable = self.durable.max(stamp);
        self.settle()
    }

    /// While the disk is idle: the next bytes to pre-write of a spare file; one at a time, until `prewritten`. The first
    /// (position 0) creates the file.
    pub fn prewrite(&mut self) -> Option<FileRange> {
        if self.prewriting_under_way || self.spares.len() >= self.spares_max {
            return None;
        }
        let range = self.prewriting.unwrap_or_else(|| self.prewrite_from());
        self.prewriting = Some(range);
        self.prewriting_under_way = true;
        Some(range)
    }

    /// What `prewrite` asked for is written.
    pub fn prewritten(&mut self, range: FileRange) {
        assert!(self.prewriting == Some(range) && self.prewriting_under_way, "only what was asked for is pre-written");
        self.prewriting_under_way = false;
        let position = range.position + range.length;
        if position >= SEGMENT_FILE_BYTES {
            self.prewriting = None;
            self.spares.push_back(range.file);
            return;
        }
        self.prewriting =
            Some(FileRange { position, length: PREWRITE_BYTES.min(SEGMENT_FILE_BYTES - position), ..range });
    }

    /// Frees what may be freed; what the maximum does not hold is unlinked.
    fn settle(&mut self) -> Vec<FileId> {
        let (durable, leases) = (self.durable, &self.leases);
        let is_free = |file: &Retired| file.stamp <= durable && !leases.contains_key(&file.file);
        let (free, kept) = self.retired.iter().partition::<Vec<Retired>, _>(|file| is_free(file));
        self.retired = kept;
        let mut unlinked = Vec::new();
        for Retired { file, .. } in free {
            if self.spares.len() + self.partial.len() >= self.spares_max {
                self.growing.remove(&file);
                unlinked.push(file);
            } else if self.is_whole(file) {
                self.growing.remove(&file);
                self.spares.push_back(file);
            } else {
                self.partial.push_back(file);
            }
        }
        unlinked
    }

    fn is_whole(&self, file: FileId) -> bool {
        self.growing.get(&file).is_none_or(|growing| growing.written >= SEGMENT_FILE_BYTES)
    }

    /// Where pre-writing begins: behind what a recycled file's last user wrote, or with a new file.
    fn prewrite_from(&mut self) -> FileRange {
        let (file, written) = match self.partial.pop_front() {
            Some(file) => (file, self.growing.remove(&file).unwrap_or_default().written),
            None => (self.new_file(), 0),
        };
        let position = block_floor(written);
        FileRange { file, position, length: PREWRITE_BYTES.min(SEGMENT_FILE_BYTES - position) }
    }

    fn new_file(&mut self) -> FileId {
        let file = FileId::new(self.journal, self.counter_next);
        self.counter_next = self.counter_next.checked_add(1).expect("fewer files than 2^32");
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(spares: u32, spares_max: usize) -> SegmentPool {
        let files = (0..spares).map(|n| FileId::new(JournalId(1), n)).collect();
        SegmentPool::new(JournalId(1), spares, files, spares_max)
    }

    #[test]
    fn a_dropped_file_is_free_once_durable_and_unread() {
        let mut pool = pool(1, 1);
        let grant = pool.take();
        assert!(grant.prewritten);
        pool.lease(grant.file);
        pool.retire(grant.file, Stamp(5));
        pool.durable(Stamp(4));
        pool.release(grant.file);
        assert_eq!(pool.spares().count(), 0, "the drop is not durable");
        pool.lease(grant.file);
        pool.durable(Stamp(5));
        assert_eq!(pool.spares().count(), 0, "a reader holds it");
        assert!(pool.release(grant.file).is_empty());
        assert_eq!(pool.take(), grant, "recycled");
    }

    #[test]
    fn files_above_the_maximum_are_unlinked() {
        let mut pool = pool(2, 1);
        let files = [pool.take().file, pool.take().file];
        pool.retire(files[0], Stamp(1));
        pool.retire(files[1], Stamp(1));
        assert_eq!(pool.durable(Stamp(1)), [files[1]]);
        assert_eq!(pool.spares().collect::<Vec<_>>(), [files[0]]);
    }

    #[test]
    fn a_new_file_grows_in_steps_and_a_whole_one_never() {
        let mut pool = pool(1, 1);
        let whole = pool.take().file;
        assert_eq!(pool.grow(whole, 4096), None);
        let new = pool.take();
        assert!(!new.prewritten && new.file.0 & 0xffff_ffff == 1);
        let step = pool.grow(new.file, 4096).unwrap();
        assert_eq!((step.position, step.length), (0, GROWTH_BYTES));
        assert_eq!(pool.grow(new.file, GROWTH_BYTES), None);
        let last = pool.grow(new.file, SEGMENT_FILE_BYTES).unwrap();
        assert_eq!(last.position + last.length, SEGMENT_FILE_BYTES);
    }

    #[test]
    fn prewriting_makes_spares_one_piece_at_a_time() {
        let mut pool = pool(0, 1);
        let mut written = 0;
        while let Some(range) = pool.prewrite() {
            assert_eq!(pool.prewrite(), None, "one is under way");
            assert_eq!(range.position, written);
            written += range.length;
            pool.prewritten(range);
        }
        assert_eq!(written, SEGMENT_FILE_BYTES);
        assert!(pool.take().prewritten);
    }

    #[test]
    fn a_partly_written_file_is_finished_before_a_new_one() {
        let mut pool = pool(0, 2);
        let file = pool.take().file;
        pool.grow(file, 10 << 20);
        pool.retire(file, Stamp(1));
        assert!(pool.durable(Stamp(1)).is_empty());
        let range = pool.prewrite().unwrap();
        assert_eq!((range.file, range.position), (file, 10 << 20));
        let other = pool.take();
        assert!(other.file != file && !other.prewritten);
    }
}
