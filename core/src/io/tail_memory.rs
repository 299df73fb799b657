//! The bytes of the tails: chunks of the arena under the tail cache's numbers, laid out as the segments' files are.
//!
//! Owns every byte that is not in its segment's file yet, and what readers near the tail still want. Never decides what is
//! evicted (`tail_cache` does); never frees a byte that a slice still refers to.

use std::collections::BTreeMap;
use std::ops::Range;

use super::arena::{Arena, Lease, Slice, Tail};
use crate::tail_cache::{Piece, Placed, Source, TailCache};
use crate::units::{BLOCK_BYTES, ChunkId, FileId, Slot, block_ceil};

/// What the arena keeps free for chunks that must not fail once a batch was placed.
const RESERVE_BYTES: u64 = 16 << 20;

/// A stretch of a segment as a reader finds it.
pub(super) enum Found {
    Memory(Slice),
    Disk { position: u64, length: u64 },
}

pub(super) struct TailMemory {
    arena: Arena,
    cache: TailCache,
    /// By their numbers.
    chunks: Vec<Option<Tail>>,
    /// Where each slot's last bytes were put.
    ends: BTreeMap<Slot, (FileId, u64)>,
}

impl TailMemory {
    pub(super) fn new(arena: Arena, limit_bytes: u64) -> TailMemory {
        TailMemory { arena, cache: TailCache::new(limit_bytes), chunks: Vec::new(), ends: BTreeMap::new() }
    }

    /// Bytes held, cached or not yet drained.
    pub(super) fn bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Whether a batch of `bytes` surely finds memory; evicts what it can.
    pub(super) fn admits(&mut self, bytes: u64) -> bool {
        self.evict();
        let usage = self.arena.usage();
        usage.in_use_bytes as u64 + bytes + RESERVE_BYTES <= usage.limit_bytes as u64
    }

    /// Copies a batch, in two parts, behind the slot's tail, to stay until its frame is encoded (`framed`) whatever is drained before.
    pub(super) fn put_for_frame(&mut self, slot: Slot, file: FileId, position: u64, parts: [&[u8]; 2]) {
        let mut at = position;
        for part in parts {
            self.put(slot, file, at, part);
            at += part.len() as u64;
        }
        for piece in self.pieces(slot, file, position..at) {
            self.cache.pin(piece.chunk);
        }
    }

    /// The frame holds these bytes now.
    pub(super) fn framed(&mut self, slot: Slot, file: FileId, range: Range<u64>) {
        for piece in self.pieces(slot, file, range) {
            let freed = self.cache.unpin(piece.chunk);
            self.free(freed);
        }
    }

    fn pieces(&self, slot: Slot, file: FileId, range: Range<u64>) -> Vec<Piece> {
        self.cache.pieces(slot, file, range).expect("what is not drained is in memory")
    }

    /// Copies bytes behind the slot's tail.
    pub(super) fn put(&mut self, slot: Slot, file: FileId, position: u64, bytes: &[u8]) {
        self.pad(slot, file, position);
        let length = u32::try_from(bytes.len()).expect("a batch is far below 4 GiB");
        let mut rest = bytes;
        for Placed { piece, allocate_bytes } in self.cache.place(slot, file, position, length, None) {
            if let Some(capacity) = allocate_bytes {
                let lease = self.arena.try_alloc(capacity as usize).expect("the arena keeps a reserve for chunks");
                self.insert(piece.chunk, lease.into_tail(0));
            }
            let (now, later) = rest.split_at(piece.length as usize);
            self.chunk_mut(piece.chunk).append(now);
            rest = later;
        }
        self.ends.insert(slot, (file, position + bytes.len() as u64));
    }

    /// Makes a batch's own block a chunk. Its bytes begin the block; the rest of its last 4 KiB is zeroed.
    pub(super) fn adopt(&mut self, slot: Slot, file: FileId, position: u64, mut lease: Lease, length: usize) {
        self.pad(slot, file, position);
        let whole = block_ceil(length as u64) as usize;
        lease.get_mut(length..whole).expect("a block holds whole 4 KiB").fill(0);
        let padded = u32::try_from(whole).expect("a batch is far below 4 GiB");
        let capacity = u32::try_from(lease.len()).expect("a block is far below 4 GiB");
        let placed = self.cache.place(slot, file, position, padded, Some(capacity));
        let chunk = placed.first().expect("an adopted run is one chunk").piece.chunk;
        self.insert(chunk, lease.into_tail(whole));
        self.ends.insert(slot, (file, position + whole as u64));
    }

    /// Puts recovered bytes in place: what is there already is skipped.
    pub(super) fn restore(&mut self, slot: Slot, file: FileId, position: u64, bytes: &[u8]) {
        let end = self.ends.get(&slot).filter(|(held, _)| *held == file).map_or(position, |(_, end)| *end);
        let skip = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
        if let Some(rest) = bytes.get(skip..).filter(|rest| !rest.is_empty()) {
            self.put(slot, file, position.max(end), rest);
        }
    }

    /// Zeroes the rest of the slot's last block, if what comes next does not continue it.
    fn pad(&mut self, slot: Slot, file: FileId, position: u64) {
        let Some((held, end)) = self.ends.get(&slot).copied() else { return };
        if (held, end) == (file, position) {
            return;
        }
        if let Some(piece) = self.cache.pad(slot, held) {
            let chunk = self.chunk_mut(piece.chunk);
            chunk.spare_mut().get_mut(..piece.length as usize).expect("padding lies in its chunk").fill(0);
            chunk.advance(piece.length as usize);
        }
    }

    fn chunk_mut(&mut self, id: ChunkId) -> &mut Tail {
        let chunk = self.chunks.get_mut(id.0 as usize).and_then(Option::as_mut);
        chunk.expect("the cache knows the chunks that there are")
    }

    fn insert(&mut self, id: ChunkId, chunk: Tail) {
        let index = id.0 as usize;
        if index >= self.chunks.len() {
            self.chunks.resize_with(index + 1, || None);
        }
        *self.chunks.get_mut(index).expect("the place was just made") = Some(chunk);
    }

    fn free(&mut self, ids: impl IntoIterator<Item = ChunkId>) {
        for id in ids {
            *self.chunks.get_mut(id.0 as usize).expect("the cache knows the chunks that there are") = None;
        }
    }

    fn slice(&self, piece: Piece) -> Slice {
        let chunk = self.chunks.get(piece.chunk.0 as usize).and_then(Option::as_ref);
        let chunk = chunk.expect("the cache knows the chunks that there are");
        let at = piece.at as usize;
        chunk.slice(at..at + piece.length as usize)
    }

    /// A stretch of a segment, in order, from memory where it is there.
    pub(super) fn find(&self, slot: Slot, file: FileId, range: Range<u64>) -> Vec<Found> {
        let sources = self.cache.sources(slot, file, range).into_iter();
        let found = |source| match source {
            Source::Memory(piece) => Found::Memory(self.slice(piece)),
            Source::Disk { position, length } => Found::Disk { position, length },
        };
        sources.map(found).collect()
    }

    /// Whole blocks that are to be drained. The last one is padded here if nothing was put behind it yet: recovery finds
    /// closed stretches without what closed them.
    pub(super) fn blocks(&mut self, slot: Slot, file: FileId, range: Range<u64>) -> Vec<Slice> {
        if self.ends.get(&slot).is_some_and(|(held, end)| *held == file && *end < range.end) {
            self.pad(slot, file, range.end);
        }
        self.slices(slot, file, range)
    }

    /// Slices of a stretch that is not drained, and hence wholly in memory.
    fn slices(&self, slot: Slot, file: FileId, range: Range<u64>) -> Vec<Slice> {
        self.pieces(slot, file, range).into_iter().map(|piece| self.slice(piece)).collect()
    }

    /// Copies a stretch that is not drained; zeroes where its last block was not padded yet.
    pub(super) fn copy(&self, slot: Slot, file: FileId, range: Range<u64>, mut out: impl FnMut(&[u8])) {
        for found in self.find(slot, file, range) {
            match found {
                Found::Memory(slice) => out(&slice),
                Found::Disk { length, .. } => {
                    let zeroes = [0; BLOCK_BYTES as usize];
                    out(zeroes.get(..length as usize).expect("only padding is not in memory"));
                }
            }
        }
    }

    pub(super) fn drained(&mut self, slot: Slot, file: FileId, position: u64) {
        self.cache.drained(slot, file, position);
        self.evict();
    }

    pub(super) fn forget(&mut self, slot: Slot, file: FileId) {
        let freed = self.cache.drop_file(slot, file);
        self.free(freed);
        if self.ends.get(&slot).is_some_and(|(held, _)| *held == file) {
            self.ends.remove(&slot);
        }
    }

    fn evict(&mut self) {
        let freed = self.cache.evict();
        self.free(freed);
    }
}
