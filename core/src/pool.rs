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
        let range = match self.prewriting {
            Some(range) => range,
            None => FileRange { file: self.new_file(), position: 0, length: PREWRITE_BYTES.min(SEGMENT_FILE_BYTES) },
        };
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
