//! Which chunk of memory holds which bytes of which segment: the tails that are not drained, and what readers near the tail
//! still want.
//!
//! A chunk begins on a block boundary of its segment and its memory is laid out as the segment's file is, so whole blocks are
//! drained from it as they are. Only a slot's last chunk takes bytes. A chunk is evicted, oldest first, once all its bytes
//! are drained and nobody has it pinned; hence a partly filled last block stays. The driver owns the memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::units::{BLOCK_BYTES, ChunkId, FileId, Slot, block_ceil};

/// A slot's first chunk; each following one is twice as large, up to the maximum.
pub const CHUNK_BYTES_MIN: u32 = BLOCK_BYTES as u32;
pub const CHUNK_BYTES_MAX: u32 = 1 << 20;
/// A slot's next chunk is at most this part of its even share of the limit.
const SLOT_SHARES: u64 = 4;

/// Where bytes lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub chunk: ChunkId,
    pub at: u32,
    pub length: u32,
}

/// A piece to fill, and whether its chunk is to be made first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub piece: Piece,
    /// The capacity of the chunk that the driver allocates (or of the buffer it adopts) under this id; `None`: it has it.
    pub allocate_bytes: Option<u32>,
}

/// Where bytes of a segment are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Memory(Piece),
    /// Not in memory: positions of the segment's file.
    Disk {
        position: u64,
        length: u64,
    },
}

#[derive(Clone, Debug)]
struct Chunk {
    slot: Slot,
    file: FileId,
    start: u64,
    end: u64,
    capacity: u32,
    pins: u32,
    sequence: u64,
    /// Its slot or file was dropped while it was pinned.
    orphan: bool,
}

#[derive(Clone, Debug, Default)]
struct SlotChunks {
    /// In the order in which they were filled.
    chunks: Vec<ChunkId>,
    drained: BTreeMap<FileId, u64>,
    capacity_next: u32,
}

/// The tail cache of one shard.
#[derive(Clone, Debug)]
pub struct TailCache {
    chunks: BTreeMap<ChunkId, Chunk>,
    slots: BTreeMap<Slot, SlotChunks>,
    evictable: BTreeSet<(u64, ChunkId)>,
    free_ids: Vec<ChunkId>,
    sequence: u64,
    bytes: u64,
    limit_bytes: u64,
}

impl TailCache {
    /// Evicts above `limit_bytes`; what is not drained or is pinned may exceed it.
    pub fn new(limit_bytes: u64) -> TailCache {
        TailCache {
            chunks: BTreeMap::new(),
            slots: BTreeMap::new(),
            evictable: BTreeSet::new(),
            free_ids: Vec::new(),
            sequence: 0,
            bytes: 0,
            limit_bytes,
        }
    }

    /// Bytes of all chunks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Places bytes at the end of a slot's tail: in the rest of its last chunk, then in new ones. With `adopt` the run's own
    /// buffer, which begins on a block boundary and is zero-padded to whole blocks, becomes a chunk. A recovered tail is
    /// placed from its block's beginning.
    pub fn place(&mut self, slot: Slot, file: FileId, position: u64, length: u32, adopt: bool) -> Vec<Placed> {
        let end = position + u64::from(length);
        let mut placed = Vec::new();
        let mut at = position;
        if adopt {
            let capacity = block_ceil(u64::from(length));
            placed.push(self.open(slot, file, at, compact(capacity), length));
            return placed;
        }
        if let Some(piece) = self.extend(slot, file, at, end) {
            at += u64::from(piece.length);
            placed.push(Placed { piece, allocate_bytes: None });
        }
        while at < end {
            let capacity = self.capacity_for(slot, end - at);
            let filled = compact((end - at).min(u64::from(capacity)));
            placed.push(self.open(slot, file, at, capacity, filled));
            at += u64::from(filled);
        }
        placed
    }

    /// Fills the last block of a slot's tail up to its boundary, before an aligned run, a roll or a batch that would begin
    /// too near to the boundary. The driver zeroes the piece. `None` if the tail ends on a boundary or is the padded end of
    /// an adopted run.
    pub fn pad(&mut self, slot: Slot, file: FileId) -> Option<Piece> {
        let last = self.last(slot).filter(|chunk| chunk.file == file)?;
        let end = last.end;
        self.extend(slot, file, end, block_ceil(end))
    }

    /// Where bytes of a segment are: in memory or on disk, in order.
    pub fn sources(&self, slot: Slot, file: FileId, range: Range<u64>) -> Vec<Source> {
        let mut sources = Vec::new();
        let mut at = range.start;
        let chunks = self.slots.get(&slot).map_or(&[][..], |held| &held.chunks);
        for id in chunks {
            let Some(chunk) = self.chunks.get(id).filter(|chunk| chunk.file == file) else {
                continue;
            };
            let from = chunk.start.max(at);
            let to = chunk.end.min(range.end);
            if from >= to {
                continue;
            }
            sources.extend(disk(at, from));
            sources.push(Source::Memory(chunk.piece(*id, from, to)));
            at = to;
        }
        sources.extend(disk(at, range.end));
        sources
    }

    /// The pieces of a range that lies wholly in memory, as everything undrained does; `None` if a part does not.
    pub fn pieces(&self, slot: Slot, file: FileId, range: Range<u64>) -> Option<Vec<Piece>> {
        self.sources(slot, file, range)
            .into_iter()
            .map(|source| match source {
                Source::Memory(piece) => Some(piece),
                Source::Disk { .. } => None,
            })
            .collect()
    }

    /// Keeps a chunk until `unpin`: a reply or a write under way uses it.
    pub fn pin(&mut self, id: ChunkId) {
        let chunk = self.chunks.get_mut(&id).expect("a pinned chunk exists");
        chunk.pins += 1;
        self.evictable.remove(&(chunk.sequence, id));
    }

    /// Ends one pin. Returns the chunk if it is to be freed now: its slot or file went meanwhile.
    pub fn unpin(&mut self, id: ChunkId) -> Option<ChunkId> {
        let chunk = self.chunks.get_mut(&id).expect("an unpinned chunk exists");
        chunk.pins = chunk.pins.checked_sub(1).expect("a pin ends once");
        if chunk.pins == 0 && chunk.orphan {
            self.forget(id);
            return Some(id);
        }
        self.judge(id);
        None
    }

    /// Bytes of `file` below `position` are in the segment's file.
    pub fn drained(&mut self, slot: Slot, file: FileId, position: u64) {
        let Some(held) = self.slots.get_mut(&slot) else {
            return;
        };
        let drained = held.drained.entry(file).or_default();
        *drained = position.max(*drained);
        for id in held.chunks.clone() {
            self.judge(id);
        }
    }

    /// Evicts, oldest first, until the limit is kept or nothing may go. The driver frees what is returned.
    pub fn evict(&mut self) -> Vec<ChunkId> {
        let mut freed = Vec::new();
        while self.bytes > self.limit_bytes {
            let Some((_, id)) = self.evictable.pop_first() else {
                break;
            };
            self.forget(id);
            freed.push(id);
        }
        freed
    }

    /// Forgets bytes of `file` at and above `position` after a truncation; the driver frees what is returned.
    pub fn truncate(&mut self, slot: Slot, file: FileId, position: u64) -> Vec<ChunkId> {
        let gone = self.held(slot, |chunk| chunk.file == file && chunk.start >= position);
        let freed = self.release(gone);
        if let Some(last) = self.last_mut(slot).filter(|chunk| chunk.file == file) {
            last.end = last.end.min(position);
        }
        freed
    }

    /// Forgets a dropped segment. Pinned chunks follow at their `unpin`.
    pub fn drop_file(&mut self, slot: Slot, file: FileId) -> Vec<ChunkId> {
        let gone = self.held(slot, |chunk| chunk.file == file);
        self.release(gone)
    }

    /// Forgets a dropped slot. Pinned chunks follow at their `unpin`.
    pub fn drop_slot(&mut self, slot: Slot) -> Vec<ChunkId> {
        let gone = self.held(slot, |_| true);
        let freed = self.release(gone);
        self.slots.remove(&slot);
        freed
    }

    fn held(&self, slot: Slot, which: impl Fn(&Chunk) -> bool) -> Vec<ChunkId> {
        let chunks = self.slots.get(&slot).map_or(&[][..], |held| &held.chunks);
        let matches = |id: &&ChunkId| self.chunks.get(id).is_some_and(&which);
        chunks.iter().filter(matches).copied().collect()
    }

    fn release(&mut self, gone: Vec<ChunkId>) -> Vec<ChunkId> {
        let mut freed = Vec::new();
        for id in gone {
            let Some(chunk) = self.chunks.get_mut(&id) else {
                continue;
            };
            if chunk.pins == 0 {
                self.forget(id);
                freed.push(id);
            } else {
                chunk.orphan = true;
                let slot = chunk.slot;
                self.unlink(slot, id);
            }
        }
        freed
    }

    fn last(&self, slot: Slot) -> Option<&Chunk> {
        let id = self.slots.get(&slot)?.chunks.last()?;
        self.chunks.get(id)
    }

    fn last_mut(&mut self, slot: Slot) -> Option<&mut Chunk> {
        let id = self.slots.get(&slot)?.chunks.last()?;
        self.chunks.get_mut(id)
    }

    /// Fills the slot's last chunk, if bytes at `position` continue it.
    fn extend(&mut self, slot: Slot, file: FileId, position: u64, end: u64) -> Option<Piece> {
        let id = *self.slots.get(&slot)?.chunks.last()?;
        let chunk = self.chunks.get_mut(&id)?;
        let to = end.min(chunk.start + u64::from(chunk.capacity));
        if chunk.file != file || chunk.end != position || to <= position {
            return None;
        }
        chunk.end = to;
        let piece = chunk.piece(id, position, to);
        self.judge(id);
        Some(piece)
    }

    fn open(&mut self, slot: Slot, file: FileId, start: u64, capacity: u32, filled: u32) -> Placed {
        assert!(start.is_multiple_of(BLOCK_BYTES), "a chunk begins on a block boundary");
        let id = self
            .free_ids
            .pop()
            .unwrap_or_else(|| ChunkId(u32::try_from(self.chunks.len()).expect("fewer chunks than 2^32")));
        self.sequence += 1;
        let chunk = Chunk {
            slot,
            file,
            start,
            end: start + u64::from(filled),
            capacity,
            pins: 0,
            sequence: self.sequence,
            orphan: false,
        };
        self.bytes += u64::from(capacity);
        self.chunks.insert(id, chunk);
        self.slots.entry(slot).or_default().chunks.push(id);
        Placed { piece: Piece { chunk: id, at: 0, length: filled }, allocate_bytes: Some(capacity) }
    }

    /// Twice the slot's last capacity, or what the bytes at hand need if that is more; with many slots less, so that their
    /// half-filled last chunks do not take the memory of the cache.
    fn capacity_for(&mut self, slot: Slot, bytes: u64) -> u32 {
        let share = self.limit_bytes / (SLOT_SHARES * (self.slots.len() as u64).max(1));
        let most = u32::try_from(share).unwrap_or(CHUNK_BYTES_MAX).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let most = 1 << most.ilog2();
        let held = self.slots.entry(slot).or_default();
        if held.chunks.is_empty() {
            held.capacity_next = CHUNK_BYTES_MIN;
        }
        let needed = bytes.min(u64::from(CHUNK_BYTES_MAX)).next_power_of_two();
        let capacity = held.capacity_next.min(most).max(compact(needed)).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        held.capacity_next = (capacity * 2).min(CHUNK_BYTES_MAX);
        capacity
    }

    /// Enters a chunk among the evictable ones, or takes it out.
    fn judge(&mut self, id: ChunkId) {
        let Some(chunk) = self.chunks.get(&id) else {
            return;
        };
        let drained =
            self.slots.get(&chunk.slot).and_then(|held| held.drained.get(&chunk.file)).copied().unwrap_or_default();
        if chunk.pins == 0 && chunk.end <= drained {
            self.evictable.insert((chunk.sequence, id));
        } else {
            self.evictable.remove(&(chunk.sequence, id));
        }
    }

    fn forget(&mut self, id: ChunkId) {
        let Some(chunk) = self.chunks.remove(&id) else {
            return;
        };
        self.evictable.remove(&(chunk.sequence, id));
        self.bytes -= u64::from(chunk.capacity);
        self.free_ids.push(id);
        if !chunk.orphan {
            self.unlink(chunk.slot, id);
        }
    }

    fn unlink(&mut self, slot: Slot, id: ChunkId) {
        let Some(held) = self.slots.get_mut(&slot) else {
            return;
        };
        held.chunks.retain(|other| *other != id);
        let chunks = &self.chunks;
        let used = |file: FileId| {
            let of = |id: &ChunkId| chunks.get(id).is_some_and(|chunk| chunk.file == file);
            held.chunks.iter().any(of)
        };
        held.drained.retain(|file, _| used(*file));
        if held.chunks.is_empty() {
            self.slots.remove(&slot);
        }
    }
}

impl Chunk {
    fn piece(&self, chunk: ChunkId, from: u64, to: u64) -> Piece {
        Piece { chunk, at: compact(from - self.start), length: compact(to - from) }
    }
}

fn disk(from: u64, to: u64) -> Option<Source> {
    (from < to).then(|| Source::Disk { position: from, length: to - from })
}

fn compact(bytes: u64) -> u32 {
    u32::try_from(bytes).expect("a chunk is smaller than a segment file")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Slot = Slot(1);
    const FILE: FileId = FileId(1);

    fn capacities(placed: &[Placed]) -> Vec<u32> {
        placed.iter().filter_map(|place| place.allocate_bytes).collect()
    }

    #[test]
    fn chunks_double_up_to_the_maximum() {
        let mut cache = TailCache::new(64 << 20);
        let mut position = 0;
        let mut made = Vec::new();
        while position < 6 << 20 {
            made.extend(capacities(&cache.place(A, FILE, position, 1000, false)));
            position += 1000;
        }
        assert_eq!(made[..4], [4096, 8192, 16384, 32768]);
        assert_eq!(*made.last().unwrap(), CHUNK_BYTES_MAX);
        assert_eq!(cache.bytes(), made.iter().map(|&bytes| u64::from(bytes)).sum::<u64>());
        let pieces = cache.pieces(A, FILE, 0..position).unwrap();
        assert_eq!(pieces.iter().map(|piece| u64::from(piece.length)).sum::<u64>(), position);
    }

    #[test]
    fn last_chunks_of_many_slots_leave_room_for_the_others() {
        let limit_bytes = 64 << 20;
        let mut cache = TailCache::new(limit_bytes);
        let (rounds, slots) = (16, 1000);
        for round in 0..rounds {
            for slot in 0..slots {
                cache.place(Slot(slot), FileId(u64::from(slot)), round * 4096, 4096, false);
            }
        }
        let filled = rounds * u64::from(slots) * 4096;
        assert!(cache.bytes() - filled <= limit_bytes / SLOT_SHARES, "{} bytes are not filled", cache.bytes() - filled);
    }

    #[test]
    fn a_partly_filled_block_stays_and_a_full_one_goes_once_drained() {
        let mut cache = TailCache::new(0);
        cache.place(A, FILE, 0, 5000, false);
        cache.drained(A, FILE, 4096);
        assert!(cache.evict().is_empty());
        assert_eq!(cache.pad(A, FILE).map(|piece| (piece.at, piece.length)), Some((5000, 3192)));
        assert!(cache.evict().is_empty(), "not drained");
        cache.drained(A, FILE, 8192);
        assert_eq!((cache.evict().len(), cache.bytes()), (1, 0));
        let on_disk = Source::Disk { position: 100, length: 10 };
        assert_eq!(cache.sources(A, FILE, 100..110), [on_disk]);
        assert_eq!(cache.pieces(A, FILE, 100..110), None);
    }

    #[test]
    fn an_adopted_run_is_a_chunk_of_its_own() {
        let mut cache = TailCache::new(64 << 20);
        cache.place(A, FILE, 0, 100, false);
        cache.pad(A, FILE);
        let adopted = cache.place(A, FILE, 4096, 200_000, true);
        assert_eq!(capacities(&adopted), [200_704]);
        let next = cache.place(A, FILE, 4096 + 200_704, 10, false);
        assert_eq!(capacities(&next), [8192], "its size does not set the next");
    }

    #[test]
    fn a_pinned_chunk_outlives_eviction_and_drop() {
        let mut cache = TailCache::new(0);
        let chunk = cache.place(A, FILE, 0, 4096, false)[0].piece.chunk;
        cache.pin(chunk);
        cache.drained(A, FILE, 4096);
        assert!(cache.evict().is_empty());
        assert!(cache.drop_file(A, FILE).is_empty());
        assert_eq!(cache.pieces(A, FILE, 0..10), None, "no new reader finds it");
        assert_ne!(cache.place(A, FileId(2), 0, 10, false)[0].piece.chunk, chunk);
        assert_eq!(cache.unpin(chunk), Some(chunk));
        assert_eq!(cache.place(A, FileId(2), 4096, 10, false)[0].piece.chunk, chunk, "its id is free");
    }

    #[test]
    fn an_unpinned_chunk_is_evictable_again() {
        let mut cache = TailCache::new(0);
        let chunk = cache.place(A, FILE, 0, 4096, false)[0].piece.chunk;
        cache.pin(chunk);
        cache.drained(A, FILE, 4096);
        assert_eq!(cache.unpin(chunk), None);
        assert_eq!(cache.evict(), [chunk]);
    }

    #[test]
    fn the_oldest_goes_first_and_only_above_the_limit() {
        let mut cache = TailCache::new(8192);
        let first = cache.place(A, FILE, 0, 4096, false)[0].piece.chunk;
        cache.place(Slot(2), FileId(2), 0, 4096, false);
        cache.drained(A, FILE, 4096);
        cache.drained(Slot(2), FileId(2), 4096);
        assert!(cache.evict().is_empty());
        cache.place(Slot(3), FileId(3), 0, 1, false);
        assert_eq!(cache.evict(), [first]);
        assert_eq!(cache.drop_slot(Slot(2)).len(), 1);
        assert_eq!(cache.bytes(), 4096);
    }

    #[test]
    #[should_panic(expected = "block boundary")]
    fn a_chunk_does_not_begin_inside_a_block() {
        TailCache::new(0).place(A, FILE, 100, 10, false);
    }
}
