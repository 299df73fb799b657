//! The memory of the simulator's driver: chunks under the tail cache's numbers, filled and given back as the real driver does.
//!
//! Never decides what is evicted. What is asked for as not drained and is not in memory is a mistake of the engine: it ends
//! the history.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::tail_cache::{Piece, Placed, Source, TailCache};
use crate::units::{ChunkId, FileId, Slot, block_ceil};

pub(super) struct Memory {
    cache: TailCache,
    chunks: BTreeMap<ChunkId, Vec<u8>>,
    /// Where each slot's last bytes were put.
    ends: BTreeMap<Slot, (FileId, u64)>,
}

impl Memory {
    pub(super) fn new(limit_bytes: u64) -> Memory {
        Memory { cache: TailCache::new(limit_bytes), chunks: BTreeMap::new(), ends: BTreeMap::new() }
    }

    /// Puts a small batch behind the slot's tail, to stay until its frame is encoded.
    pub(super) fn put_for_frame(&mut self, slot: Slot, file: FileId, position: u64, bytes: &[u8]) {
        self.put(slot, file, position, bytes);
        for piece in self.pieces(slot, file, position..position + bytes.len() as u64) {
            self.cache.pin(piece.chunk);
        }
    }

    /// The frame holds these bytes now.
    pub(super) fn framed(&mut self, slot: Slot, file: FileId, range: Range<u64>) {
        for piece in self.pieces(slot, file, range) {
            let freed = self.cache.unpin(piece.chunk);
            freed.and_then(|id| self.chunks.remove(&id));
        }
    }

    fn put(&mut self, slot: Slot, file: FileId, position: u64, bytes: &[u8]) {
        self.pad(slot, file, position);
        self.place(slot, file, position, bytes, false);
    }

    /// Makes a large batch, padded to whole blocks, a chunk of its own.
    pub(super) fn adopt(&mut self, slot: Slot, file: FileId, position: u64, bytes: &[u8]) {
        self.pad(slot, file, position);
        let mut whole = bytes.to_vec();
        whole.resize(block_ceil(bytes.len() as u64) as usize, 0);
        self.place(slot, file, position, &whole, true);
    }

    /// Puts recovered bytes in place: what is there already is skipped.
    pub(super) fn restore(&mut self, slot: Slot, file: FileId, position: u64, bytes: &[u8]) {
        let end = self.ends.get(&slot).filter(|(held, _)| *held == file).map_or(position, |(_, end)| *end);
        let rest = bytes.get(end.saturating_sub(position) as usize..).unwrap_or_default();
        if !rest.is_empty() {
            self.put(slot, file, position.max(end), rest);
        }
    }

    fn place(&mut self, slot: Slot, file: FileId, position: u64, bytes: &[u8], adopt: bool) {
        let mut rest = bytes;
        let length = bytes.len() as u32;
        let placed = self.cache.place(slot, file, position, length, adopt.then_some(length));
        for Placed { piece, allocate_bytes } in placed {
            if let Some(capacity) = allocate_bytes {
                // Memory is never clean.
                self.chunks.insert(piece.chunk, vec![0xaa; capacity as usize]);
            }
            let (now, later) = rest.split_at(piece.length as usize);
            self.place_of(piece).copy_from_slice(now);
            rest = later;
        }
        self.ends.insert(slot, (file, position + bytes.len() as u64));
    }

    fn pad(&mut self, slot: Slot, file: FileId, position: u64) {
        let held = self.ends.get(&slot).copied().filter(|end| *end != (file, position));
        if let Some(piece) = held.and_then(|(held, _)| self.cache.pad(slot, held)) {
            self.place_of(piece).fill(0);
        }
    }

    fn place_of(&mut self, piece: Piece) -> &mut [u8] {
        let chunk = self.chunks.get_mut(&piece.chunk).expect("the cache knows the chunks that there are");
        chunk.get_mut(piece.at as usize..(piece.at + piece.length) as usize).expect("a piece lies in its chunk")
    }

    fn bytes_of(&self, piece: Piece) -> &[u8] {
        let chunk = self.chunks.get(&piece.chunk).expect("the cache knows the chunks that there are");
        chunk.get(piece.at as usize..(piece.at + piece.length) as usize).expect("a piece lies in its chunk")
    }

    fn pieces(&self, slot: Slot, file: FileId, range: Range<u64>) -> Vec<Piece> {
        let pieces = self.cache.pieces(slot, file, range.clone());
        pieces.unwrap_or_else(|| panic!("{range:?} of {file:?} is not drained, and not in memory"))
    }

    /// Whole blocks that are to be drained; the last one is padded here if nothing was put behind it yet.
    pub(super) fn blocks(&mut self, slot: Slot, file: FileId, range: Range<u64>) -> Vec<u8> {
        if self.ends.get(&slot).is_some_and(|(held, end)| *held == file && *end < range.end) {
            self.pad(slot, file, range.end);
        }
        self.pieces(slot, file, range).into_iter().flat_map(|piece| self.bytes_of(piece).to_vec()).collect()
    }

    /// A stretch of a segment, from `disk` where it is not in memory.
    pub(super) fn read(
        &self,
        slot: Slot,
        file: FileId,
        range: Range<u64>,
        disk: impl Fn(u64, u64) -> Vec<u8>,
    ) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let mut from_disk = false;
        for source in self.cache.sources(slot, file, range) {
            match source {
                Source::Memory(piece) => bytes.extend_from_slice(self.bytes_of(piece)),
                Source::Disk { position, length } => {
                    from_disk = true;
                    bytes.extend(disk(position, length));
                }
            }
        }
        (bytes, from_disk)
    }

    /// A stretch that is not drained; zeroes where its last block was not padded yet.
    pub(super) fn copy(&self, slot: Slot, file: FileId, range: Range<u64>) -> Vec<u8> {
        self.read(slot, file, range, |_, length| vec![0; length as usize]).0
    }

    pub(super) fn drained(&mut self, slot: Slot, file: FileId, position: u64) {
        self.cache.drained(slot, file, position);
        for id in self.cache.evict() {
            self.chunks.remove(&id);
        }
    }

    pub(super) fn forget(&mut self, slot: Slot, file: FileId) {
        for id in self.cache.drop_file(slot, file) {
            self.chunks.remove(&id);
        }
        if self.ends.get(&slot).is_some_and(|(held, _)| *held == file) {
            self.ends.remove(&slot);
        }
    }
}
