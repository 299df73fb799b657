//! Read-ahead: which readers go through a log from disk in order, which blocks lie ahead of them, and when those go.
//!
//! A reader is known by where it goes on: its partition and the offset behind its last answer. Blocks lie on a grid over the
//! segment's file, so readers that are near one another share them. Never touches bytes. Invariants: a reader holds a lease
//! on its file, since files are used again; a block is known while a reader counts on it; there are at most
//! `blocks_count_max` blocks, and a reader that gets none reads for itself: nobody's blocks go for another's.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::units::{FileId, Now, TopicPartition};

/// The grid, and the size of one read.
pub const AHEAD_BLOCK_BYTES: u64 = 1 << 20;
/// Blocks ahead of one reader; it gets there by doubling, since many a reader stops soon.
const WINDOW_BLOCKS: u64 = 8;
/// Readers that are remembered.
const READERS_COUNT_MAX: usize = 256;
/// A reader that does not come back within this time is forgotten.
const IDLE_US: u64 = 5_000_000;

/// A block: its file, and its number on the grid.
pub type AheadBlock = (FileId, u64);

/// How far a reader came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Behind the last record that it was given.
    pub offset: i64,
    pub file: FileId,
    /// Behind the last batch that it was given.
    pub position: u64,
    /// Bytes of the file below are on disk and do not change.
    pub on_disk_until: u64,
}

/// What the driver does: leases first, then reads; releases last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    pub leased: Vec<FileId>,
    pub reads: Vec<(AheadBlock, Range<u64>)>,
    pub gone: Vec<AheadBlock>,
    pub released: Vec<FileId>,
}

#[derive(Clone, Debug)]
struct Reader {
    file: FileId,
    position: u64,
    /// Its blocks.
    blocks: Range<u64>,
    window_blocks: u64,
    used_us: u64,
}

/// The sequential readers of one shard.
#[derive(Clone, Debug)]
pub struct ReadAhead {
    readers: BTreeMap<(TopicPartition, i64), Reader>,
    /// How many readers count on each block.
    blocks: BTreeMap<AheadBlock, u32>,
    blocks_count_max: usize,
}

impl ReadAhead {
    pub fn new(blocks_count_max: usize) -> ReadAhead {
        ReadAhead { readers: BTreeMap::new(), blocks: BTreeMap::new(), blocks_count_max }
    }

    /// Where a reader that asks for `offset` goes on, if its last answer ended there.
    pub fn place(&self, key: TopicPartition, offset: i64) -> Option<(FileId, u64)> {
        self.readers.get(&(key, offset)).map(|reader| (reader.file, reader.position))
    }

    /// A reader that asked for `from_offset` was answered from disk.
    pub fn moved(&mut self, now: Now, key: TopicPartition, from_offset: i64, to: Reached) -> Moves {
        let mut moves = Moves::default();
        let before = self.readers.remove(&(key, from_offset));
        let is_sequential = before.is_some();
        let first = to.position / AHEAD_BLOCK_BYTES;
        let mut reader = Reader {
            file: to.file,
            position: to.position,
            blocks: first..first,
            window_blocks: 0,
            used_us: now.monotonic_us,
        };
        moves.leased.push(to.file);
        if let Some(before) = before.as_ref().filter(|before| before.file == to.file) {
            reader.blocks = first.max(before.blocks.start)..before.blocks.end.max(first);
            reader.window_blocks = before.window_blocks;
        }
        if is_sequential {
            reader.window_blocks = (reader.window_blocks * 2).clamp(1, WINDOW_BLOCKS);
            self.extend(&mut reader, first, to.on_disk_until, &mut moves);
        }
        if let Some(before) = before {
            self.leave(&before, &mut moves);
        }
        if let Some(other) = self.readers.insert((key, to.offset), reader) {
            self.leave(&other, &mut moves);
        }
        self.forget_oldest(&mut moves);
        moves
    }

    /// Takes the reader's blocks into account, and as many new ones as its window and the maximum allow.
    fn extend(&mut self, reader: &mut Reader, first: u64, on_disk_until: u64, moves: &mut Moves) {
        let kept = reader.blocks.clone();
        let wanted = first + reader.window_blocks + 1;
        let mut end = kept.start;
        while end < wanted.max(kept.end) && end * AHEAD_BLOCK_BYTES < on_disk_until {
            let block = (reader.file, end);
            let is_full = self.blocks.len() >= self.blocks_count_max;
            match self.blocks.get_mut(&block) {
                Some(count) => *count += 1,
                None if is_full => break,
                None => {
                    self.blocks.insert(block, 1);
                    let start = end * AHEAD_BLOCK_BYTES;
                    moves.reads.push((block, start..on_disk_until.min(start + AHEAD_BLOCK_BYTES)));
                }
            }
            end += 1;
        }
        reader.blocks = kept.start..end;
    }

    /// Forgets who did not come back.
    pub fn expire(&mut self, now: Now) -> Moves {
        self.forget(|_, reader| now.monotonic_us.saturating_sub(reader.used_us) > IDLE_US)
    }

    /// Forgets the readers of a file that is to go.
    pub fn forget_file(&mut self, file: FileId) -> Moves {
        self.forget(|_, reader| reader.file == file)
    }

    fn forget(&mut self, which: impl Fn(&(TopicPartition, i64), &Reader) -> bool) -> Moves {
        let mut moves = Moves::default();
        let gone: Vec<_> =
            self.readers.iter().filter(|(key, reader)| which(key, reader)).map(|(key, _)| *key).collect();
        for key in gone {
            if let Some(reader) = self.readers.remove(&key) {
                self.leave(&reader, &mut moves);
            }
        }
        moves
    }

    fn forget_oldest(&mut self, moves: &mut Moves) {
        if self.readers.len() <= READERS_COUNT_MAX {
            return;
        }
        let oldest = self.readers.iter().min_by_key(|(_, reader)| reader.used_us).map(|(key, _)| *key);
        if let Some(reader) = oldest.and_then(|key| self.readers.remove(&key)) {
            self.leave(&reader, moves);
        }
    }

    /// A reader counts on its blocks and its file no more.
    fn leave(&mut self, reader: &Reader, moves: &mut Moves) {
        for number in reader.blocks.clone() {
            let block = (reader.file, number);
            let Some(count) = self.blocks.get_mut(&block) else { continue };
            *count -= 1;
            if *count == 0 {
                self.blocks.remove(&block);
                moves.gone.push(block);
            }
        }
        moves.released.push(reader.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::TopicId;

    const MIB: u64 = 1 << 20;
    const FILE: FileId = FileId(1);
    const KEY: TopicPartition = TopicPartition { topic: TopicId([7; 16]), partition: 0 };

    fn at(offset: i64, mib: u64) -> Reached {
        Reached { offset, file: FILE, position: mib * MIB, on_disk_until: 64 * MIB }
    }

    fn read(ahead: &mut ReadAhead, from: i64, to: Reached) -> Moves {
        ahead.moved(Now::default(), KEY, from, to)
    }

    fn numbers(moves: &Moves) -> Vec<u64> {
        moves.reads.iter().map(|((_, number), _)| *number).collect()
    }

    #[test]
    fn a_reader_that_goes_on_is_read_ahead_of_by_more_and_more() {
        let mut ahead = ReadAhead::new(64);
        assert!(read(&mut ahead, 0, at(10, 1)).reads.is_empty(), "it may be its only read");
        assert_eq!(ahead.place(KEY, 10), Some((FILE, MIB)));
        assert_eq!(numbers(&read(&mut ahead, 10, at(20, 2))), [2, 3]);
        let moves = read(&mut ahead, 20, at(30, 3));
        assert_eq!((numbers(&moves), moves.gone), (vec![4, 5], vec![(FILE, 2)]));
        assert_eq!(numbers(&read(&mut ahead, 30, at(40, 4))), [6, 7, 8]);
        assert_eq!(ahead.place(KEY, 30), None);
    }

    #[test]
    fn blocks_are_shared_and_go_with_their_last_reader() {
        let mut ahead = ReadAhead::new(64);
        read(&mut ahead, 0, at(10, 1));
        assert_eq!(numbers(&read(&mut ahead, 10, at(20, 2))), [2, 3]);
        read(&mut ahead, 5, at(15, 1));
        assert_eq!(numbers(&read(&mut ahead, 15, at(25, 2))), [] as [u64; 0]);
        assert_eq!(read(&mut ahead, 20, at(99, 9)).gone, [] as [AheadBlock; 0]);
        assert_eq!(read(&mut ahead, 25, at(98, 20)).gone, [(FILE, 2), (FILE, 3)]);
    }

    #[test]
    fn nothing_is_read_beyond_the_disk_or_the_maximum() {
        let mut ahead = ReadAhead::new(2);
        let near_end = |offset, mib| Reached { on_disk_until: 2 * MIB + 4096, ..at(offset, mib) };
        read(&mut ahead, 0, near_end(10, 1));
        let moves = read(&mut ahead, 10, near_end(20, 1));
        assert_eq!(moves.reads, [((FILE, 1), MIB..2 * MIB), ((FILE, 2), 2 * MIB..2 * MIB + 4096)]);
        let other = TopicPartition { partition: 1, ..KEY };
        let file = FileId(2);
        ahead.moved(Now::default(), other, 0, Reached { file, ..at(10, 1) });
        assert!(ahead.moved(Now::default(), other, 10, Reached { file, ..at(20, 2) }).reads.is_empty());
    }

    #[test]
    fn leases_and_releases_are_even_whoever_leaves() {
        let mut ahead = ReadAhead::new(64);
        let (mut leased, mut released) = (0, 0);
        let mut count = |moves: Moves| {
            leased += moves.leased.len();
            released += moves.released.len();
        };
        for partition in 0..300 {
            let key = TopicPartition { partition, ..KEY };
            count(ahead.moved(Now::default(), key, 0, at(10, 1)));
            count(ahead.moved(Now::default(), key, 10, Reached { file: FileId(2), ..at(20, 0) }));
        }
        count(ahead.forget_file(FILE));
        count(ahead.expire(Now { monotonic_us: IDLE_US + 1, wall_ms: 0 }));
        assert_eq!((leased, released), (600, 600));
        assert!(ahead.blocks.is_empty() && ahead.readers.is_empty());
    }
}
