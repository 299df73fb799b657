//! A journal frame: one durable write of whole 4 KiB blocks.
//!
//! `header | directory | inline payloads | zeroes | directory again | header again`. The header binds journal, run,
//! sequence and place in the ring into its checksum, the directory by checksum, the payloads through their entries: the
//! header's checksum therefore stands for the whole frame, and the next frame names it (the chain). Zeroes, frames of an
//! earlier lap and frames written to a wrong place never decode. The copies at the tail serve the other partitions when
//! a block of the head is damaged. A frame is read leniently here; what a damaged one means is `replay`'s decision.

use std::ops::Range;

use super::entry::{ENTRY_BYTES, ENTRY_BYTES_1, Entry, EntrySeed, StoredEntry};
use crate::checksum::{Seeded, crc32c};
use crate::le::{get, get_i64, get_u32, get_u64, put};
use crate::units::{BLOCK_BYTES, JournalId, Stamp, block_ceil};

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 128;
/// The first bytes of every frame.
pub const FRAME_MAGIC: [u8; 8] = *b"WSJFRAME";
/// The version of frame and entry that this code writes. It reads version 1 too, which differs in its entries only.
pub const FRAME_VERSION: u32 = 2;

/// Where the header's fields lie (`FORMAT.md`, "Frame header").
pub mod at {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 8;
    pub const JOURNAL: usize = 12;
    pub const RUN: usize = 16;
    pub const SEQUENCE: usize = 24;
    pub const DURABLE_END: usize = 32;
    pub const LAST_STAMP: usize = 40;
    pub const WALL_MS: usize = 48;
    pub const PREVIOUS_CHECKSUM: usize = 56;
    pub const TOTAL_BYTES: usize = 60;
    pub const ENTRIES_COUNT: usize = 64;
    pub const PAYLOAD_BYTES: usize = 68;
    pub const DIRECTORY_CHECKSUM: usize = 72;
    pub const CHECKSUM: usize = 124;
}

/// The whole frame's bytes for so many entries and inline payload bytes.
pub const fn frame_bytes(entries_count: usize, payload_bytes: u64) -> u64 {
    whole_bytes(entries_count * ENTRY_BYTES, payload_bytes)
}

const fn whole_bytes(directory_bytes: usize, payload_bytes: u64) -> u64 {
    block_ceil((2 * FRAME_HEADER_BYTES + 2 * directory_bytes) as u64 + payload_bytes)
}

/// A frame to be written: its place in the ring and what goes into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramePlan {
    pub sequence: u64,
    /// The ring's file.
    pub slot: u32,
    /// Byte position in that file, whole blocks.
    pub position: u64,
    /// The frame's bytes, whole blocks.
    pub length: u32,
    pub entries: Vec<(Stamp, Entry)>,
    /// Sum of the entries' inline bytes.
    pub payload_bytes: u32,
    /// The stamp of the last entry of this frame or, if it has none, of those before.
    pub last_stamp: Stamp,
    /// Wall time of the last push into the frame.
    pub wall_ms: i64,
}

/// What a frame inherits from its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    pub journal: JournalId,
    pub run: u64,
    /// The checksum of the frame before.
    pub previous_checksum: u32,
    /// Every frame with a lower sequence is durable.
    pub durable_end: u64,
}

/// Where a frame is expected. Part of its checksum's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePlace {
    pub journal: JournalId,
    pub slot: u32,
    pub position: u64,
}

/// A frame's header as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub version: u32,
    pub journal: JournalId,
    pub run: u64,
    pub sequence: u64,
    /// Every frame with a lower sequence was durable when this one was written.
    pub durable_end: u64,
    pub last_stamp: Stamp,
    pub wall_ms: i64,
    pub previous_checksum: u32,
    pub total_bytes: u32,
    pub entries_count: u32,
    pub payload_bytes: u32,
    pub directory_checksum: u32,
    /// Of this header, and through it of the whole frame.
    pub checksum: u32,
}

/// Fills `out` (exactly `plan.length` bytes) and returns the frame's checksum. `copy` is called once for each inline
/// run, in order, with the entry's index and the place for its bytes.
pub fn encode(out: &mut [u8], plan: &FramePlan, chain: &Chain, mut copy: impl FnMut(usize, &mut [u8])) -> u32 {
    assert_eq!(out.len(), plan.length as usize, "a frame fills its write");
    let directory = FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + plan.entries.len() * ENTRY_BYTES;
    let mut payload_at = directory.end;
    for (index, (stamp, entry)) in plan.entries.iter().enumerate() {
        let payload = payload_at..payload_at + entry.inline_bytes() as usize;
        payload_at = payload.end;
        let stored = store_entry(out, index, *stamp, *entry, payload, &mut copy);
        let place =
            out.get_mut(FRAME_HEADER_BYTES + index * ENTRY_BYTES..).expect("the directory lies inside the frame");
        stored.encode(place, seed(chain, plan.sequence, index));
    }
    out.get_mut(payload_at..).expect("payloads lie inside the frame").fill(0);
    seal(out, plan, chain, directory)
}

fn store_entry(
    out: &mut [u8],
    index: usize,
    stamp: Stamp,
    entry: Entry,
    payload: Range<usize>,
    copy: &mut impl FnMut(usize, &mut [u8]),
) -> StoredEntry {
    use super::entry::{Append, Change, Place};
    let (payload_at, payload_checksum) = match entry.change {
        Change::Append(Append { place: Place::Segment { checksum, .. }, .. }) => (0, checksum),
        Change::Append(_) => {
            let at = u32::try_from(payload.start).expect("a frame's length is 32 bits");
            let place = out.get_mut(payload).expect("payloads lie inside the frame");
            copy(index, place);
            (at, crc32c(place))
        }
        _ => (0, 0),
    };
    StoredEntry { stamp, entry, payload_at, payload_checksum }
}

/// Writes the header and the copies at the tail.
fn seal(out: &mut [u8], plan: &FramePlan, chain: &Chain, directory: Range<usize>) -> u32 {
    let tail_at = out.len() - FRAME_HEADER_BYTES - directory.len();
    let mut header = FrameHeader {
        version: FRAME_VERSION,
        journal: chain.journal,
        run: chain.run,
        sequence: plan.sequence,
        durable_end: chain.durable_end,
        last_stamp: plan.last_stamp,
        wall_ms: plan.wall_ms,
        previous_checksum: chain.previous_checksum,
        total_bytes: plan.length,
        entries_count: u32::try_from(plan.entries.len()).expect("entries are limited"),
        payload_bytes: plan.payload_bytes,
        directory_checksum: crc32c(out.get(directory.clone()).unwrap_or_default()),
        checksum: 0,
    };
    let place = FramePlace { journal: chain.journal, slot: plan.slot, position: plan.position };
    header.encode(out, place);
    out.copy_within(directory, tail_at);
    out.copy_within(..FRAME_HEADER_BYTES, plan.length as usize - FRAME_HEADER_BYTES);
    header.checksum
}

fn seed(chain: &Chain, sequence: u64, index: usize) -> EntrySeed {
    EntrySeed { journal: chain.journal, run: chain.run, sequence, index: index as u32 }
}

impl FrameHeader {
    fn encode(&mut self, out: &mut [u8], place: FramePlace) {
        let out = out.get_mut(..FRAME_HEADER_BYTES).expect("a frame begins with its header");
        out.fill(0);
        put(out, at::MAGIC, FRAME_MAGIC);
        put(out, at::VERSION, self.version.to_le_bytes());
        put(out, at::JOURNAL, self.journal.0.to_le_bytes());
        put(out, at::RUN, self.run.to_le_bytes());
        put(out, at::SEQUENCE, self.sequence.to_le_bytes());
        put(out, at::DURABLE_END, self.durable_end.to_le_bytes());
        put(out, at::LAST_STAMP, self.last_stamp.0.to_le_bytes());
        put(out, at::WALL_MS, self.wall_ms.to_le_bytes());
        put(out, at::PREVIOUS_CHECKSUM, self.previous_checksum.to_le_bytes());
        put(out, at::TOTAL_BYTES, self.total_bytes.to_le_bytes());
        put(out, at::ENTRIES_COUNT, self.entries_count.to_le_bytes());
        put(out, at::PAYLOAD_BYTES, self.payload_bytes.to_le_bytes());
        put(out, at::DIRECTORY_CHECKSUM, self.directory_checksum.to_le_bytes());
        self.checksum = header_checksum(out, place, self.run, self.sequence);
        put(out, at::CHECKSUM, self.checksum.to_le_bytes());
    }

    /// Reads the header that `bytes` begins with, if it was written to this place and its numbers agree.
    pub fn decode(bytes: &[u8], place: FramePlace) -> Option<FrameHeader> {
        let bytes: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk()?;
        if get(bytes, at::MAGIC) != FRAME_MAGIC || !(1..=FRAME_VERSION).contains(&get_u32(bytes, at::VERSION)) {
            return None;
        }
        let header = FrameHeader {
            version: get_u32(bytes, at::VERSION),
            journal: JournalId(get_u32(bytes, at::JOURNAL)),
            run: get_u64(bytes, at::RUN),
            sequence: get_u64(bytes, at::SEQUENCE),
            durable_end: get_u64(bytes, at::DURABLE_END),
            last_stamp: Stamp(get_u64(bytes, at::LAST_STAMP)),
            wall_ms: get_i64(bytes, at::WALL_MS),
            previous_checksum: get_u32(bytes, at::PREVIOUS_CHECKSUM),
            total_bytes: get_u32(bytes, at::TOTAL_BYTES),
            entries_count: get_u32(bytes, at::ENTRIES_COUNT),
            payload_bytes: get_u32(bytes, at::PAYLOAD_BYTES),
            directory_checksum: get_u32(bytes, at::DIRECTORY_CHECKSUM),
            checksum: get_u32(bytes, at::CHECKSUM),
        };
        let checks = header.journal == place.journal
            && header.checksum == header_checksum(bytes, place, header.run, header.sequence);
        let length = whole_bytes(header.directory_bytes(), u64::from(header.payload_bytes));
        (checks && length == u64::from(header.total_bytes)).then_some(header)
    }

    /// Bytes of one entry of this frame.
    fn entry_bytes(&self) -> usize {
        if self.version == 1 { ENTRY_BYTES_1 } else { ENTRY_BYTES }
    }

    fn directory_bytes(&self) -> usize {
        (self.entries_count as usize).saturating_mul(self.entry_bytes())
    }

    /// The sequence that bytes with a frame's magic claim, whether they check or not.
    pub fn claimed_sequence(bytes: &[u8]) -> Option<u64> {
        let bytes: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk()?;
        (get(bytes, at::MAGIC) == FRAME_MAGIC).then(|| get_u64(bytes, at::SEQUENCE))
    }

    /// Reads the copy that ends a frame: `block` is the frame's last block, which begins at `place.position`. The
    /// header comes with the position where its frame begins.
    pub fn decode_tail(block: &[u8], place: FramePlace) -> Option<(FrameHeader, u64)> {
        let block: &[u8; BLOCK_BYTES as usize] = block.first_chunk()?;
        let copy: &[u8; FRAME_HEADER_BYTES] = block.last_chunk()?;
        let total_bytes = u64::from(get_u32(copy, at::TOTAL_BYTES));
        let position = (place.position + BLOCK_BYTES).checked_sub(total_bytes)?;
        let header = FrameHeader::decode(copy, FramePlace { position, ..place })?;
        Some((header, position))
    }

    fn seed(&self, index: usize) -> EntrySeed {
        EntrySeed { journal: self.journal, run: self.run, sequence: self.sequence, index: index as u32 }
    }
}

fn header_checksum(header: &[u8], place: FramePlace, run: u64, sequence: u64) -> u32 {
    let mut sum = Seeded::new(&[u64::from(place.journal.0), run, sequence, u64::from(place.slot), place.position]);
    sum.update(header.get(..at::CHECKSUM).unwrap_or_default());
    sum.finish()
}

/// What became of an entry's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A control entry.
    None,
    /// They lie in the bytes that were decoded, and check.
    Inline(Range<usize>),
    /// They lie in a segment's file and must be checked there if the frame is not proven durable.
    Segment,
    /// They do not check.
    Damaged,
}

/// An entry that was read, with the state of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameEntry {
    pub stamp: Stamp,
    pub entry: Entry,
    pub payload: Payload,
    /// CRC-32C of the run's bytes.
    pub payload_checksum: u32,
}

/// A frame as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub header: FrameHeader,
    /// The entries that check, in order.
    pub entries: Vec<FrameEntry>,
    /// Every entry and every inline payload checks, and the head's directory is the one that the header names.
    pub whole: bool,
}

impl Frame {
    /// Reads the frame of `header` from `bytes`, which begins with the frame and holds at least all of it.
    pub fn decode(header: FrameHeader, bytes: &[u8]) -> Option<Frame> {
        let bytes = bytes.get(..header.total_bytes as usize)?;
        let head = FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.directory_bytes();
        let tail_at = bytes.len().checked_sub(FRAME_HEADER_BYTES + head.len())?;
        let head = bytes.get(head)?;
        let tail = bytes.get(tail_at..tail_at + head.len())?;
        let mut whole = crc32c(head) == header.directory_checksum;
        let mut entries = Vec::with_capacity(header.entries_count as usize);
        let entry_bytes = header.entry_bytes();
        let copies = head.chunks_exact(entry_bytes).zip(tail.chunks_exact(entry_bytes));
        for (index, (head, tail)) in copies.enumerate() {
            let seed = header.seed(index);
            let stored = StoredEntry::decode(head, seed).or_else(|| StoredEntry::decode(tail, seed));
            let entry = stored.map(|stored| FrameEntry::of(stored, bytes));
            whole &= entry.as_ref().is_some_and(|entry| entry.payload != Payload::Damaged);
            entries.extend(entry);
        }
        Some(Frame { header, entries, whole })
    }

    /// The entries that do not check at all: their partitions are not known.
    pub fn entries_lost_count(&self) -> usize {
        (self.header.entries_count as usize).saturating_sub(self.entries.len())
    }
}

impl FrameEntry {
    fn of(stored: StoredEntry, frame: &[u8]) -> FrameEntry {
        FrameEntry {
            stamp: stored.stamp,
            entry: stored.entry,
            payload: payload(&stored, frame),
            payload_checksum: stored.payload_checksum,
        }
    }
}

fn payload(stored: &StoredEntry, frame: &[u8]) -> Payload {
    if stored.entry.is_reference() {
        return Payload::Segment;
    }
    if !stored.entry.is_append() {
        return Payload::None;
    }
    let start = stored.payload_at as usize;
    let range = start..start.saturating_add(stored.entry.inline_bytes() as usize);
    match frame.get(range.clone()) {
        Some(bytes) if crc32c(bytes) == stored.payload_checksum => Payload::Inline(range),
        _ => Payload::Damaged,
    }
}
