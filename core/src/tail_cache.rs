//! Which chunk of memory holds which bytes of which segment: the tails that are not drained, and what readers near the tail
//! still want.
//!
//! A chunk begins on a block boundary of its segment and its memory is laid out as the segment's file is, so whole blocks are
//! drained from it as they are. Only a slot's last chunk takes bytes. A chunk is evicted, oldest first, once all its bytes
//! are drained and nobody has it pinned; hence a partly filled last block stays. The driver owns the memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    is_evictable: bool,
    /// Its slot or file was dropped while it was pinned.
    orphan: bool,
}

#[derive(Clone, Debug, Default)]
struct SlotChunks {
    /// In the order in which they were first filled.
    files: Vec<FileChunks>,
    capacity_next: u32,
}

#[derive(Clone, Debug)]
struct FileChunks {
    file: FileId,
    drained: u64,
    /// By their starts, rising; the last one takes bytes.
    chunks: VecDeque<(u64, ChunkId)>,
}

/// The tail cache of one shard.
#[derive(Clone, Debug)]
pub struct TailCache {
    /// By their numbers.
    chunks: Vec<Option<Chunk>>,
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
            chunks: Vec::new(),
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
    /// buffer of that capacity, which begins on a block boundary and is zero-padded to whole blocks, becomes a chunk. A recovered tail is
    /// placed from its block's beginning.
    pub fn place(&mut self, slot: Slot, file: FileId, position: u64, length: u32, adopt: Option<u32>) -> Vec<Placed> {
        let end = position + u64::from(length);
        let mut placed = Vec::new();
        let mut at = position;
        if let Some(capacity) = adopt {
            placed.push(self.open(slot, file, at, capacity, length));
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
        let last = self.file(slot, file)?.last()?;
        let end = self.chunk(last)?.end;
        self.extend(slot, file, end, block_ceil(end))
    }

    /// Where bytes of a segment are: in memory or on disk, in order.
    pub fn sources(&self, slot: Slot, file: FileId, range: Range<u64>) -> Vec<Source> {
        let mut sources = Vec::new();
        let mut at = range.start;
        let chunks = self.file(slot, file).map(|held| held.chunks.range(held.before(range.start)..));
        for (_, id) in chunks.into_iter().flatten() {
            let Some(chunk) = self.chunk(*id) else { continue };
            if chunk.start >= range.end {
                break;
            }
            let from = chunk.start.max(at);
            let to = chunk.end.min(range.end);
            if from < to {
                sources.extend(disk(at, from));
                sources.push(Source::Memory(chunk.piece(*id, from, to)));
                at = to;
            }
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
        let chunk = self.chunk_mut(id).expect("a pinned chunk exists");
        chunk.pins += 1;
        self.judge(id);
    }

    /// Ends one pin. Returns the chunk if it is to be freed now: its slot or file went meanwhile.
    pub fn unpin(&mut self, id: ChunkId) -> Option<ChunkId> {
        let chunk = self.chunk_mut(id).expect("an unpinned chunk exists");
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
        let held = self.slots.get_mut(&slot).and_then(|held| held.file_mut(file));
        let Some(held) = held.filter(|held| held.drained < position) else { return };
        let reached = held.before(held.drained)..held.chunks.partition_point(|(start, _)| *start < position);
        held.drained = position;
        let reached: Vec<_> = held.chunks.range(reached).map(|(_, id)| *id).collect();
        reached.into_iter().for_each(|id| self.judge(id));
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
        let Some(held) = self.file(slot, file) else { return Vec::new() };
        let gone = held.chunks.iter().filter(|(start, _)| *start >= position).map(|(_, id)| *id).collect();
        let freed = self.release(gone);
        let last = self.file(slot, file).and_then(FileChunks::last);
        if let Some(last) = last.and_then(|id| self.chunk_mut(id)) {
            last.end = last.end.min(position);
        }
        freed
    }

    /// Forgets a dropped segment. Pinned chunks follow at their `unpin`.
    pub fn drop_file(&mut self, slot: Slot, file: FileId) -> Vec<ChunkId> {
        let gone = self.file(slot, file).map(FileChunks::ids).unwrap_or_default();
        self.release(gone)
    }

    /// Forgets a dropped slot. Pinned chunks follow at their `unpin`.
    pub fn drop_slot(&mut self, slot: Slot) -> Vec<ChunkId> {
        let gone = self.slots.get(&slot).map(|held| held.files.iter().flat_map(FileChunks::ids).collect());
        self.release(gone.unwrap_or_default())
    }

    fn release(&mut self, gone: Vec<ChunkId>) -> Vec<ChunkId> {
        let mut freed = Vec::new();
        for id in gone {
            let Some(chunk) = self.chunk_mut(id) else { continue };
            if chunk.pins == 0 {
                self.forget(id);
                freed.push(id);
            } else {
                chunk.orphan = true;
                let (slot, file, start) = (chunk.slot, chunk.file, chunk.start);
                self.unlink(slot, file, start);
            }
        }
        freed
    }

    fn chunk(&self, id: ChunkId) -> Option<&Chunk> {
        self.chunks.get(id.0 as usize)?.as_ref()
    }

    fn chunk_mut(&mut self, id: ChunkId) -> Option<&mut Chunk> {
        self.chunks.get_mut(id.0 as usize)?.as_mut()
    }

    fn file(&self, slot: Slot, file: FileId) -> Option<&FileChunks> {
        self.slots.get(&slot)?.files.iter().rev().find(|held| held.file == file)
    }

    /// Fills the file's last chunk, if bytes at `position` continue it.
    fn extend(&mut self, slot: Slot, file: FileId, position: u64, end: u64) -> Option<Piece> {
        let id = self.file(slot, file)?.last()?;
        let chunk = self.chunk_mut(id)?;
        let to = end.min(chunk.start + u64::from(chunk.capacity));
        if chunk.end != position || to <= position {
            return None;
        }
        chunk.end = to;
        let piece = chunk.piece(id, position, to);
        self.judge(id);
        Some(piece)
    }

    fn open(&mut self, slot: Slot, file: FileId, start: u64, capacity: u32, filled: u32) -> Placed {
        assert!(start.is_multiple_of(BLOCK_BYTES), "a chunk begins on a block boundary");
        let id = self.free_ids.pop().unwrap_or_else(|| {
            self.chunks.push(None);
            ChunkId(u32::try_from(self.chunks.len() - 1).expect("fewer chunks than 2^32"))
        });
        self.sequence += 1;
        let chunk = Chunk {
            slot,
            file,
            start,
            end: start + u64::from(filled),
            capacity,
            pins: 0,
            sequence: self.sequence,
            is_evictable: false,
            orphan: false,
        };
        self.bytes += u64::from(capacity);
        *self.chunks.get_mut(id.0 as usize).expect("a number is free or was just made") = Some(chunk);
        self.slots.entry(slot).or_default().enter(file, start, id);
        Placed { piece: Piece { chunk: id, at: 0, length: filled }, allocate_bytes: Some(capacity) }
    }

    /// Twice the slot's last capacity, or what the bytes at hand need if that is more; with many slots less, so that their
    /// half-filled last chunks do not take the memory of the cache.
    fn capacity_for(&mut self, slot: Slot, bytes: u64) -> u32 {
        let share = self.limit_bytes / (SLOT_SHARES * (self.slots.len() as u64).max(1));
        let most = u32::try_from(share).unwrap_or(CHUNK_BYTES_MAX).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let most = 1 << most.ilog2();
        let held = self.slots.entry(slot).or_default();
        if held.files.is_empty() {
            held.capacity_next = CHUNK_BYTES_MIN;
        }
        let needed = bytes.min(u64::from(CHUNK_BYTES_MAX)).next_power_of_two();
        let capacity = held.capacity_next.min(most).max(compact(needed)).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        held.capacity_next = (capacity * 2).min(CHUNK_BYTES_MAX);
        capacity
    }

    /// Enters a chunk among the evictable ones, or takes it out.
    fn judge(&mut self, id: ChunkId) {
        let Some(chunk) = self.chunk(id) else { return };
        let drained = self.file(chunk.slot, chunk.file).map_or(0, |held| held.drained);
        let is_evictable = chunk.pins == 0 && chunk.end <= drained;
        let (was_evictable, entry) = (chunk.is_evictable, (chunk.sequence, id));
        match (was_evictable, is_evictable) {
            (false, true) => self.evictable.insert(entry),
            (true, false) => self.evictable.remove(&entry),
            _ => return,
        };
        if let Some(chunk) = self.chunk_mut(id) {
            chunk.is_evictable = is_evictable;
        }
    }

    fn forget(&mut self, id: ChunkId) {
        let Some(chunk) = self.chunks.get_mut(id.0 as usize).and_then(Option::take) else { return };
        self.evictable.remove(&(chunk.sequence, id));
        self.bytes -= u64::from(chunk.capacity);
        self.free_ids.push(id);
        if !chunk.orphan {
            self.unlink(chunk.slot, chunk.file, chunk.start);
        }
    }

    fn unlink(&mut self, slot: Slot, file: FileId, start: u64) {
        let Some(held) = self.slots.get_mut(&slot) else { return };
        if let Some(chunks) = held.file_mut(file) {
            chunks.remove(start);
        }
        held.files.retain(|held| !held.chunks.is_empty());
        if held.files.is_empty() {
            self.slots.remove(&slot);
        }
    }
}

impl SlotChunks {
    fn file_mut(&mut self, file: FileId) -> Option<&mut FileChunks> {
        self.files.iter_mut().rev().find(|held| held.file == file)
    }

    fn enter(&mut self, file: FileId, start: u64, id: ChunkId) {
        if self.file_mut(file).is_none() {
            self.files.push(FileChunks { file, drained: 0, chunks: VecDeque::new() });
        }
        let held = self.file_mut(file).expect("the file was just entered");
        let place = held.chunks.partition_point(|(other, _)| *other < start);
        held.chunks.insert(place, (start, id));
    }
}

impl FileChunks {
    fn last(&self) -> Option<ChunkId> {
        self.chunks.back().map(|(_, id)| *id)
    }

    fn ids(&self) -> Vec<ChunkId> {
        self.chunks.iter().map(|(_, id)| *id).collect()
    }

    /// The place of the last chunk that begins at or below `position`; the first place if there is none.
    fn before(&self, position: u64) -> usize {
        self.chunks.partition_point(|(start, _)| *start <= position).saturating_sub(1)
    }

    fn remove(&mut self, start: u64) {
        if let Ok(place) = self.chunks.binary_search_by_key(&start, |(other, _)| *other) {
            self.chunks.remove(place);
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
            made.extend(capacities(&cache.place(A, FILE, position, 1000, None)));
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
                cache.place(Slot(slot), FileId(u64::from(slot)), round * 4096, 4096, None);
            }
        }
        let filled = rounds * u64::from(slots) * 4096;
        assert!(cache.bytes() - filled <= limit_bytes / SLOT_SHARES, "{} bytes are not filled", cache.bytes() - filled);
    }

    #[test]
    fn a_partly_filled_block_stays_and_a_full_one_goes_once_drained() {
        let mut cache = TailCache::new(0);
        cache.place(A, FILE, 0, 5000, None);
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
        cache.place(A, FILE, 0, 100, None);
        cache.pad(A, FILE);
        let adopted = cache.place(A, FILE, 4096, 200_704, Some(204_800));
        assert_eq!(capacities(&adopted), [204_800]);
        let next = cache.place(A, FILE, 4096 + 200_704, 4097, None);
        assert_eq!((next[0].allocate_bytes, next[0].piece.length), (None, 4096), "what is left of it is used");
        assert_eq!(capacities(&next), [8192], "its size does not set the next");
    }

    #[test]
    fn a_pinned_chunk_outlives_eviction_and_drop() {
        let mut cache = TailCache::new(0);
        let chunk = cache.place(A, FILE, 0, 4096, None)[0].piece.chunk;
        cache.pin(chunk);
        cache.drained(A, FILE, 4096);
        assert!(cache.evict().is_empty());
        assert!(cache.drop_file(A, FILE).is_empty());
        assert_eq!(cache.pieces(A, FILE, 0..10), None, "no new reader finds it");
        assert_ne!(cache.place(A, FileId(2), 0, 10, None)[0].piece.chunk, chunk);
        assert_eq!(cache.unpin(chunk), Some(chunk));
        assert_eq!(cache.place(A, FileId(2), 4096, 10, None)[0].piece.chunk, chunk, "its id is free");
    }

    #[test]
    fn an_unpinned_chunk_is_evictable_again() {
        let mut cache = TailCache::new(0);
        let chunk = cache.place(A, FILE, 0, 4096, None)[0].piece.chunk;
        cache.pin(chunk);
        cache.drained(A, FILE, 4096);
        assert_eq!(cache.unpin(chunk), None);
        assert_eq!(cache.evict(), [chunk]);
    }

    #[test]
    fn the_oldest_goes_first_and_only_above_the_limit() {
        let mut cache = TailCache::new(8192);
        let first = cache.place(A, FILE, 0, 4096, None)[0].piece.chunk;
        cache.place(Slot(2), FileId(2), 0, 4096, None);
        cache.drained(A, FILE, 4096);
        cache.drained(Slot(2), FileId(2), 4096);
        assert!(cache.evict().is_empty());
        cache.place(Slot(3), FileId(3), 0, 1, None);
        assert_eq!(cache.evict(), [first]);
        assert_eq!(cache.drop_slot(Slot(2)).len(), 1);
        assert_eq!(cache.bytes(), 4096);
    }

    #[test]
    #[should_panic(expected = "block boundary")]
    fn a_chunk_does_not_begin_inside_a_block() {
        TailCache::new(0).place(A, FILE, 100, 10, None);
    }
}
