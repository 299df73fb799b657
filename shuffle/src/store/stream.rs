//! The memory of one shuffle: a stream of bytes that lies in chunks, each freed when nothing in it is needed any more.
//!
//! A block's place is its position in the stream, so it may cross from one chunk into the next and no room is wasted.
//! Invariants: chunks lie in rising order of their positions; a chunk's live bytes are those that were placed in it and
//! not released since; positions are never used twice.

use std::collections::VecDeque;
use std::ops::Range;

use watershed_core::units::ChunkId;

/// Sizes of new chunks: a quarter of what the shuffle has already, between these, so that a small shuffle takes little.
const CHUNK_BYTES_MIN: u64 = 16 << 10;
const CHUNK_BYTES_MAX: u64 = 2 << 20;

#[derive(Debug)]
struct Chunk {
    id: ChunkId,
    start: u64,
    bytes: u64,
    live_bytes: u64,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.bytes
    }
}

/// A part of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub chunk: ChunkId,
    pub range: Range<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    chunks: VecDeque<Chunk>,
    /// Where the next block begins.
    end: u64,
    bytes: u64,
}

impl Stream {
    /// Bytes of all chunks: what the shuffle costs.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The size of the chunk that is missing before `bytes` more fit; `None` when they do.
    pub(super) fn missing(&self, bytes: u64) -> Option<u64> {
        let lacks = bytes.saturating_sub(self.room());
        let usual = (self.bytes / 4).next_power_of_two().clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        (lacks > 0).then(|| usual.max(lacks.next_power_of_two()).min(CHUNK_BYTES_MAX))
    }

    /// Room in all chunks that are not full.
    fn room(&self) -> u64 {
        self.chunks.back().map_or(0, |last| last.end().saturating_sub(self.next()))
    }

    /// Where the next block begins: behind the last one, or in the first chunk that is left.
    fn next(&self) -> u64 {
        match self.chunks.iter().rev().take_while(|chunk| chunk.end() > self.end).last() {
            Some(chunk) => self.end.max(chunk.start),
            None => self.end,
        }
    }

    pub(super) fn extend(&mut self, id: ChunkId, bytes: u64) {
        let start = self.chunks.back().map_or(self.end, |last| last.end().max(self.end));
        self.chunks.push_back(Chunk { id, start, bytes, live_bytes: 0 });
        self.bytes += bytes;
    }

    /// Takes the next `bytes`, which are live from now on. There is room: `missing` said so.
    pub(super) fn place(&mut self, bytes: u64) -> u64 {
        let position = self.next();
        assert!(bytes <= self.room(), "a block is placed where there is room");
        self.end = position + bytes;
        self.each(position, bytes, |chunk, range| chunk.live_bytes += range.end - range.start);
        position
    }

    /// What was placed is needed no more. Chunks in which nothing is left are given back.
    pub(super) fn release(&mut self, position: u64, bytes: u64, freed: &mut Vec<ChunkId>) {
        let mut is_empty = false;
        self.each(position, bytes, |chunk, range| {
            chunk.live_bytes -= range.end - range.start;
            is_empty |= chunk.live_bytes == 0;
        });
        if is_empty {
            self.free_empty(freed);
        }
    }

    /// The chunk that is still being filled stays, if it is the last one.
    fn free_empty(&mut self, freed: &mut Vec<ChunkId>) {
        let next = self.next();
        let bytes = &mut self.bytes;
        self.chunks.retain(|chunk| {
            let stays = chunk.live_bytes > 0 || chunk.end() > next;
            if !stays {
                freed.push(chunk.id);
                *bytes -= chunk.bytes;
            }
            stays
        });
    }

    /// Gives back the chunks at the end in which nothing lies.
    pub(super) fn shrink(&mut self, freed: &mut Vec<ChunkId>) {
        while let Some(last) = self.chunks.back().filter(|chunk| chunk.live_bytes == 0) {
            self.end = self.end.max(last.end());
            self.bytes -= last.bytes;
            freed.push(last.id);
            self.chunks.pop_back();
        }
    }

    /// The chunks in which these bytes lie.
    pub(super) fn parts(&self, position: u64, bytes: u64) -> impl Iterator<Item = Part> {
        let end = position + bytes;
        let first = self.chunks.partition_point(|chunk| chunk.end() <= position);
        self.chunks.range(first..).take_while(move |chunk| chunk.start < end).map(move |chunk| {
            let range = position.max(chunk.start) - chunk.start..end.min(chunk.end()) - chunk.start;
            Part { chunk: chunk.id, range: range.start as usize..range.end as usize }
        })
    }

    fn each(&mut self, position: u64, bytes: u64, mut apply: impl FnMut(&mut Chunk, Range<u64>)) {
        let end = position + bytes;
        let first = self.chunks.partition_point(|chunk| chunk.end() <= position);
        for chunk in self.chunks.range_mut(first..).take_while(|chunk| chunk.start < end) {
            let range = position.max(chunk.start)..end.min(chunk.end());
            apply(chunk, range);
        }
    }

    /// The position behind the oldest chunks that have `bytes` together.
    pub(super) fn cut(&self, bytes: u64) -> u64 {
        let mut sum = 0;
        let within = self.chunks.iter().take_while(|chunk| {
            let takes = sum < bytes;
            sum += chunk.bytes;
            takes
        });
        within.last().map_or(0, Chunk::end)
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = ChunkId> {
        self.chunks.iter().map(|chunk| chunk.id)
    }
}
