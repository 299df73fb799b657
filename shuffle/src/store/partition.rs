//! One partition of a shuffle on its shard: which blocks it has, and where each lies.
//!
//! Owns the order in which readers see blocks: in memory as they came, on disk in the order in which runs were written.
//! Invariants: a block is in memory or on disk, never in neither; the order in memory never changes, so that a reader who
//! names the last block that it saw misses none; virtual offsets only grow, so that what an index said stays true.

use std::collections::BTreeMap;

use super::block::{BlockHead, Packed};
use crate::wire::bitmap::BlockIds;

/// A block in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) block: Packed,
    /// In the shuffle's stream.
    pub(super) position: u64,
}

/// Blocks that one run wrote, back to back.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Piece {
    pub(super) virtual_start: u64,
    pub(super) file_start: u64,
    /// Its first block among those on disk.
    pub(super) first: u64,
}

/// Bytes of the shuffle's file that hold whole blocks, back to back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub file_start: u64,
    pub length: u64,
    /// Length and CRC-32 of each block, in order; where the asked range cuts a block, the extent has none of its.
    pub checks: Vec<(u32, u32)>,
}

/// An entry of a partition's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub offset: u64,
    pub head: BlockHead,
}

/// Which blocks a run writes: of the first `count` in memory those that lie before `position`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    count: usize,
    position: u64,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Every block that came.
    pub(super) received: BlockIds,
    /// Every block that a task says it has sent.
    pub(super) reported: BlockIds,
    pub(super) memory: Vec<Placed>,
    /// The run under way.
    pub(super) run: Option<Cut>,
    pub(super) disk: Vec<Packed>,
    pub(super) pieces: Vec<Piece>,
    pub(super) disk_bytes: u64,
    pub(super) memory_bytes: u64,
    /// Attempts that no layout of block ids explains.
    pub(super) attempts: BTreeMap<i64, i64>,
}

impl Partition {
    pub(super) fn has(&self, block: i64) -> bool {
        self.received.contains(block)
    }

    /// A block whose bytes lie at `position` now. Each block comes once.
    pub(super) fn keep(&mut self, head: &BlockHead, position: u64) {
        let is_new = self.received.insert(head.id);
        assert!(is_new, "a block that is had is not kept again");
        let (block, attempt) = Packed::new(head);
        if let Some(attempt) = attempt {
            self.attempts.insert(head.id, attempt);
        }
        self.memory_bytes += u64::from(head.length);
        self.memory.push(Placed { block, position });
    }

    pub(super) fn report(&mut self, block: i64) {
        self.reported.insert(block);
    }

    pub(super) fn reported(&self) -> &BlockIds {
        &self.reported
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    pub(super) fn block_count(&self) -> usize {
        self.memory.len() + self.disk.len()
    }

    fn head(&self, block: &Packed) -> BlockHead {
        let elsewhere = || self.attempts.get(&block.id).copied().unwrap_or_default();
        block.head(block.attempt().unwrap_or_else(elsewhere))
    }

    /// Blocks in memory behind `last`, or all if that is not there (any more), until they are `bytes_max` or more
    /// together. Only those of `attempts`, if given.
    pub(super) fn in_memory(&self, last: i64, bytes_max: u64, attempts: Option<&BlockIds>) -> Vec<(BlockHead, u64)> {
        let behind = self.memory.iter().position(|placed| placed.block.id == last).map_or(0, |place| place + 1);
        let wanted = self.memory.iter().skip(behind).map(|placed| (self.head(&placed.block), placed.position));
        let wanted = wanted.filter(|(head, _)| attempts.is_none_or(|attempts| attempts.contains(head.attempt)));
        let mut bytes = 0;
        let within = |(head, _): &(BlockHead, u64)| {
            let takes = bytes < bytes_max;
            bytes += u64::from(head.length);
            takes
        };
        wanted.take_while(within).collect()
    }

    /// What lies on disk, in the order of its virtual offsets.
    pub(super) fn index(&self) -> impl Iterator<Item = IndexEntry> {
        let mut offset = 0;
        self.disk.iter().map(move |block| {
            let entry = IndexEntry { offset, head: self.head(block) };
            offset += u64::from(block.length());
            entry
        })
    }

    /// Where the bytes at these virtual offsets lie; `None` if there are none.
    pub(super) fn extents(&self, offset: u64, length: u64) -> Option<Vec<Extent>> {
        let end = offset.checked_add(length).filter(|end| *end <= self.disk_bytes)?;
        let first = self.pieces.partition_point(|piece| piece.virtual_start <= offset).saturating_sub(1);
        let pieces = self.pieces.get(first..)?.iter().enumerate();
        let within = pieces.take_while(|(_, piece)| piece.virtual_start < end);
        Some(within.map(|(place, piece)| self.extent(first + place, piece, offset, end)).collect())
    }

    fn extent(&self, place: usize, piece: &Piece, offset: u64, end: u64) -> Extent {
        let next = self.pieces.get(place + 1);
        let piece_end = next.map_or(self.disk_bytes, |next| next.virtual_start);
        let (start, end) = (offset.max(piece.virtual_start), end.min(piece_end));
        let blocks = self.disk.get(piece.first as usize..next.map_or(self.disk.len(), |next| next.first as usize));
        let blocks = blocks.unwrap_or_default();
        Extent {
            file_start: piece.file_start + (start - piece.virtual_start),
            length: end - start,
            checks: whole_blocks(blocks, piece.virtual_start, start, end).unwrap_or_default(),
        }
    }

    /// Begins a run with what lies before `position`.
    pub(super) fn begin_run(&mut self, position: u64) {
        assert!(self.run.is_none(), "one run at a time");
        self.run = Some(Cut { count: self.memory.len(), position });
    }

    /// What the run writes, in the order in which it is to be written.
    pub(super) fn in_run(&self, by_attempt: bool) -> Vec<Placed> {
        let Some(cut) = self.run else { return Vec::new() };
        let first = self.memory.iter().take(cut.count);
        let mut written: Vec<Placed> = first.filter(|placed| placed.position < cut.position).copied().collect();
        if by_attempt {
            written.sort_by_key(|placed| self.head(&placed.block).attempt);
        }
        written
    }

    /// The run is on disk: its blocks of this partition lie back to back from `file_start`. Gives them, for their memory
    /// to be released.
    pub(super) fn end_run(&mut self, file_start: u64, by_attempt: bool) -> Vec<Placed> {
        let written = self.in_run(by_attempt);
        let Some(cut) = self.run.take() else { return written };
        if written.is_empty() {
            return written;
        }
        let mut place = 0;
        self.memory.retain(|placed| {
            place += 1;
            place > cut.count || placed.position >= cut.position
        });
        self.pieces.push(Piece { virtual_start: self.disk_bytes, file_start, first: self.disk.len() as u64 });
        let bytes: u64 = written.iter().map(|placed| u64::from(placed.block.length())).sum();
        self.disk.extend(written.iter().map(|placed| placed.block));
        self.disk_bytes += bytes;
        self.memory_bytes -= bytes;
        written
    }

    /// The run failed: its blocks are as before it.
    pub(super) fn undo_run(&mut self) {
        self.run = None;
    }
}

/// Length and CRC-32 of the blocks between two virtual offsets; `None` if those are not where blocks begin and end.
fn whole_blocks(blocks: &[Packed], mut at: u64, start: u64, end: u64) -> Option<Vec<(u32, u32)>> {
    let mut checks = Vec::new();
    let mut blocks = blocks.iter();
    while at < start {
        at += u64::from(blocks.next()?.length());
    }
    let begins = at == start;
    while at < end {
        let block = blocks.next()?;
        checks.push((block.length(), block.crc));
        at += u64::from(block.length());
    }
    (begins && at == end).then_some(checks)
}
