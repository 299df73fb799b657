//! A journal entry: one change of one partition's durable state, as numbers, in 112 little-endian bytes.
//!
//! Owns the entry's layout. The bytes of an Append lie beside the directory (inline) or in a segment; an entry holds only
//! their place, length and checksum. Invariants: a kind or place that is not known never decodes; the checksum is seeded
//! with journal, run, sequence and index, so an entry never checks in another frame or place. Entries of version 1 were
//! 96 bytes: the same without a referenced batch's own numbers; they are read, never written.

use crate::batch::{BatchHeader, NO_PRODUCER};
use crate::checksum::Seeded;
use crate::le::{get, get_i32, get_i64, get_u32, get_u64, put};
use crate::units::{FileId, JournalId, Stamp, TopicId, TopicPartition};

/// Bytes of an entry in a frame's directory.
pub const ENTRY_BYTES: usize = 112;
/// The same in frames of version 1.
pub const ENTRY_BYTES_1: usize = 96;

/// Where the fields lie (`FORMAT.md`, "Entry").
pub mod at {
    pub const KIND: usize = 0;
    pub const PLACE: usize = 1;
    pub const PARTITION: usize = 4;
    pub const TOPIC: usize = 8;
    pub const LEADER_EPOCH: usize = 24;
    pub const LENGTH: usize = 28;
    pub const STAMP: usize = 32;
    pub const FIRST: usize = 40;
    pub const END_OFFSET: usize = 48;
    pub const SEGMENT_BASE: usize = 56;
    pub const FILE: usize = 64;
    pub const MAX_TIMESTAMP: usize = 72;
    pub const POSITION: usize = 80;
    pub const PAYLOAD_AT: usize = 84;
    pub const PAYLOAD_CHECKSUM: usize = 88;
    pub const BASE_SEQUENCE: usize = 92;
    pub const PRODUCER_ID: usize = 96;
    pub const PRODUCER_EPOCH: usize = 104;
    pub const ATTRIBUTES: usize = 106;
    pub const CHECKSUM: usize = 108;
}

/// The kinds' numbers on disk. 0 is never a kind, so zeroes never decode.
pub mod kind {
    pub const APPEND: u8 = 1;
    pub const LOG_START: u8 = 2;
    pub const EPOCH: u8 = 3;
    pub const TRUNCATE: u8 = 4;
    pub const ROLL: u8 = 5;
    /// Kept for compaction: old and new segments in the payload. This version neither writes nor reads it.
    pub const REPLACE: u8 = 6;
    pub const DROP: u8 = 7;
    pub const ASSIGN: u8 = 8;
    pub const PRODUCER_EXPIRE: u8 = 9;
}

/// One change of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub target: TopicPartition,
    pub change: Change,
}

/// What changes. Replay is positional: applying an entry twice is the same as once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One or more whole record batches with assigned offsets.
    Append(Append),
    /// The log begins at `offset` now (retention, DeleteRecords).
    LogStart { offset: i64 },
    /// Leader epoch `epoch` begins at `start_offset`.
    Epoch { epoch: i32, start_offset: i64 },
    /// Everything from `end_offset` on is gone.
    Truncate { end_offset: i64 },
    /// A new active segment that begins at `base_offset` and lives in `file`.
    Roll { base_offset: i64, file: FileId },
    /// The partition is gone, its files may be recycled once this is durable.
    Drop,
    /// This journal owns the partition, under this leader epoch.
    Assign { leader_epoch: i32 },
    /// The state of an idle producer is forgotten.
    ProducerExpire { producer_id: i64 },
}

/// A run of whole record batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append {
    pub leader_epoch: i32,
    pub base_offset: i64,
    pub end_offset: i64,
    /// Base offset of the segment that holds the run.
    pub segment_base: i64,
    /// Byte position in that segment's file.
    pub position: u32,
    pub length: u32,
    pub max_timestamp: i64,
    pub place: Place,
}

/// Where a run's bytes are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the frame itself; the frame's encoder computes their checksum.
    Inline,
    /// Only in the segment's file. `checksum` is the CRC-32C of the whole run; entries of version 1 lack the origin.
    Segment { file: FileId, checksum: u32, origin: Option<Origin> },
}

/// What replay needs of a referenced batch's header beside its offsets: its records may be deleted and its file gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub attributes: i16,
}

impl Origin {
    pub fn of(header: &BatchHeader) -> Origin {
        Origin {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            attributes: header.attributes,
        }
    }
}

impl Append {
    /// A header with the run's numbers, as far as replay looks at them. A run of unknown origin is nobody's.
    pub fn header(&self) -> BatchHeader {
        let origin = match self.place {
            Place::Segment { origin: Some(origin), .. } => origin,
            _ => Origin { producer_id: NO_PRODUCER, producer_epoch: -1, base_sequence: -1, attributes: 0 },
        };
        let records_count = i32::try_from(self.end_offset.saturating_sub(self.base_offset)).unwrap_or(i32::MAX);
        BatchHeader {
            base_offset: self.base_offset,
            bytes: self.length,
            leader_epoch: self.leader_epoch,
            magic: crate::batch::MAGIC,
            crc: 0,
            attributes: origin.attributes,
            last_offset_delta: records_count.saturating_sub(1),
            base_timestamp: self.max_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: origin.producer_id,
            producer_epoch: origin.producer_epoch,
            base_sequence: origin.base_sequence,
            records_count,
        }
    }
}

impl Entry {
    /// Bytes that the frame carries for this entry beside the directory.
    pub fn inline_bytes(&self) -> u32 {
        match self.change {
            Change::Append(run) if run.place == Place::Inline => run.length,
            _ => 0,
        }
    }

    /// Whether the entry's bytes are durable only in a segment's file.
    pub fn is_reference(&self) -> bool {
        matches!(self.change, Change::Append(run) if run.place != Place::Inline)
    }

    /// Whether the entry adds records. All others are control entries and may use the ring's reserve.
    pub fn is_append(&self) -> bool {
        matches!(self.change, Change::Append(_))
    }
}

/// What an entry's checksum is seeded with beside its own bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntrySeed {
    pub journal: JournalId,
    pub run: u64,
    pub sequence: u64,
    pub index: u32,
}

/// An entry as it lies in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    pub stamp: Stamp,
    pub entry: Entry,
    /// Where the inline payload begins in the frame; 0 if there is none.
    pub payload_at: u32,
    /// CRC-32C of the run's bytes, inline or in the segment; 0 for a control entry.
    pub payload_checksum: u32,
}

impl StoredEntry {
    pub(crate) fn encode(&self, out: &mut [u8], seed: EntrySeed) {
        let out = out.get_mut(..ENTRY_BYTES).expect("the directory has room for its entries");
        out.fill(0);
        put(out, at::PARTITION, self.entry.target.partition.to_le_bytes());
        put(out, at::TOPIC, self.entry.target.topic.0);
        put(out, at::STAMP, self.stamp.0.to_le_bytes());
        put(out, at::PAYLOAD_AT, self.payload_at.to_le_bytes());
        put(out, at::PAYLOAD_CHECKSUM, self.payload_checksum.to_le_bytes());
        let kind = encode_change(&self.entry.change, out);
        put(out, at::KIND, [kind]);
        let sum = checksum(out.get(..at::CHECKSUM).unwrap_or_default(), seed);
        put(out, at::CHECKSUM, sum.to_le_bytes());
    }

    /// Reads an entry, of the version that its length tells, whose checksum fits its place. `None` for everything else.
    pub(crate) fn decode(bytes: &[u8], seed: EntrySeed) -> Option<StoredEntry> {
        let (covered, sum) = bytes.split_last_chunk::<4>()?;
        if !matches!(bytes.len(), ENTRY_BYTES | ENTRY_BYTES_1) || checksum(covered, seed) != u32::from_le_bytes(*sum) {
            return None;
        }
        let target = TopicPartition { topic: TopicId(get(bytes, at::TOPIC)), partition: get_i32(bytes, at::PARTITION) };
        Some(StoredEntry {
            stamp: Stamp(get_u64(bytes, at::STAMP)),
            entry: Entry { target, change: decode_change(bytes)? },
            payload_at: get_u32(bytes, at::PAYLOAD_AT),
            payload_checksum: get_u32(bytes, at::PAYLOAD_CHECKSUM),
        })
    }
}

fn checksum(covered: &[u8], seed: EntrySeed) -> u32 {
    let mut sum = Seeded::new(&[u64::from(seed.journal.0), seed.run, seed.sequence, u64::from(seed.index)]);
    sum.update(covered);
    sum.finish()
}

/// Writes the change's own fields and returns its kind.
fn encode_change(change: &Change, out: &mut [u8]) -> u8 {
    match *change {
        Change::Append(run) => {
            encode_append(&run, out);
            kind::APPEND
        }
        Change::LogStart { offset } => {
            put(out, at::FIRST, offset.to_le_bytes());
            kind::LOG_START
        }
        Change::Epoch { epoch, start_offset } => {
            put(out, at::LEADER_EPOCH, epoch.to_le_bytes());
            put(out, at::FIRST, start_offset.to_le_bytes());
            kind::EPOCH
        }
        Change::Truncate { end_offset } => {
            put(out, at::END_OFFSET, end_offset.to_le_bytes());
            kind::TRUNCATE
        }
        Change::Roll { base_offset, file } => {
            put(out, at::SEGMENT_BASE, base_offset.to_le_bytes());
            put(out, at::FILE, file.0.to_le_bytes());
            kind::ROLL
        }
        Change::Drop => kind::DROP,
        Change::Assign { leader_epoch } => {
            put(out, at::LEADER_EPOCH, leader_epoch.to_le_bytes());
            kind::ASSIGN
        }
        Change::ProducerExpire { producer_id } => {
            put(out, at::FIRST, producer_id.to_le_bytes());
            kind::PRODUCER_EXPIRE
        }
    }
}

const PLACE_INLINE: u8 = 1;
const PLACE_SEGMENT: u8 = 2;

fn encode_append(run: &Append, out: &mut [u8]) {
    put(out, at::LEADER_EPOCH, run.leader_epoch.to_le_bytes());
    put(out, at::LENGTH, run.length.to_le_bytes());
    put(out, at::FIRST, run.base_offset.to_le_bytes());
    put(out, at::END_OFFSET, run.end_offset.to_le_bytes());
    put(out, at::SEGMENT_BASE, run.segment_base.to_le_bytes());
    put(out, at::MAX_TIMESTAMP, run.max_timestamp.to_le_bytes());
    put(out, at::POSITION, run.position.to_le_bytes());
    match run.place {
        Place::Inline => put(out, at::PLACE, [PLACE_INLINE]),
        Place::Segment { file, origin, .. } => {
            put(out, at::PLACE, [PLACE_SEGMENT]);
            put(out, at::FILE, file.0.to_le_bytes());
            let origin = origin.expect("a reference that is written tells its origin");
            put(out, at::BASE_SEQUENCE, origin.base_sequence.to_le_bytes());
            put(out, at::PRODUCER_ID, origin.producer_id.to_le_bytes());
            put(out, at::PRODUCER_EPOCH, origin.producer_epoch.to_le_bytes());
            put(out, at::ATTRIBUTES, origin.attributes.to_le_bytes());
        }
    }
}

fn decode_change(bytes: &[u8]) -> Option<Change> {
    let [kind_number] = get(bytes, at::KIND);
    Some(match kind_number {
        kind::APPEND => Change::Append(decode_append(bytes)?),
        kind::LOG_START => Change::LogStart { offset: get_i64(bytes, at::FIRST) },
        kind::EPOCH => {
            Change::Epoch { epoch: get_i32(bytes, at::LEADER_EPOCH), start_offset: get_i64(bytes, at::FIRST) }
        }
        kind::TRUNCATE => Change::Truncate { end_offset: get_i64(bytes, at::END_OFFSET) },
        kind::ROLL => {
            Change::Roll { base_offset: get_i64(bytes, at::SEGMENT_BASE), file: FileId(get_u64(bytes, at::FILE)) }
        }
        kind::DROP => Change::Drop,
        kind::ASSIGN => Change::Assign { leader_epoch: get_i32(bytes, at::LEADER_EPOCH) },
        kind::PRODUCER_EXPIRE => Change::ProducerExpire { producer_id: get_i64(bytes, at::FIRST) },
        _ => return None,
    })
}

fn decode_append(bytes: &[u8]) -> Option<Append> {
    let [place_number] = get(bytes, at::PLACE);
    let place = match place_number {
        PLACE_INLINE => Place::Inline,
        PLACE_SEGMENT => Place::Segment {
            file: FileId(get_u64(bytes, at::FILE)),
            checksum: get_u32(bytes, at::PAYLOAD_CHECKSUM),
            origin: (bytes.len() == ENTRY_BYTES).then(|| Origin {
                producer_id: get_i64(bytes, at::PRODUCER_ID),
                producer_epoch: i16::from_le_bytes(get(bytes, at::PRODUCER_EPOCH)),
                base_sequence: get_i32(bytes, at::BASE_SEQUENCE),
                attributes: i16::from_le_bytes(get(bytes, at::ATTRIBUTES)),
            }),
        },
        _ => return None,
    };
    Some(Append {
        leader_epoch: get_i32(bytes, at::LEADER_EPOCH),
        base_offset: get_i64(bytes, at::FIRST),
        end_offset: get_i64(bytes, at::END_OFFSET),
        segment_base: get_i64(bytes, at::SEGMENT_BASE),
        position: get_u32(bytes, at::POSITION),
        length: get_u32(bytes, at::LENGTH),
        max_timestamp: get_i64(bytes, at::MAX_TIMESTAMP),
        place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changes() -> impl Strategy<Value = Change> {
        let append =
            (any::<(i32, i64, i64, i64)>(), any::<(u32, u32, i64)>(), any::<Option<(u64, u32, i64, i16, i32, i16)>>())
                .prop_map(
                    |(
                        (leader_epoch, base_offset, end_offset, segment_base),
                        (position, length, max_timestamp),
                        file,
                    )| {
                        Change::Append(Append {
                            leader_epoch,
                            base_offset,
                            end_offset,
                            segment_base,
                            position,
                            length,
                            max_timestamp,
                            place: file.map_or(
                                Place::Inline,
                                |(file, checksum, producer_id, producer_epoch, base_sequence, attributes)| {
                                    let origin = Origin { producer_id, producer_epoch, base_sequence, attributes };
                                    Place::Segment { file: FileId(file), checksum, origin: Some(origin) }
                                },
                            ),
                        })
                    },
                );
        prop_oneof![
            append,
            any::<i64>().prop_map(|offset| Change::LogStart { offset }),
            any::<(i32, i64)>().prop_map(|(epoch, start_offset)| Change::Epoch { epoch, start_offset }),
            any::<i64>().prop_map(|end_offset| Change::Truncate { end_offset }),
            any::<(i64, u64)>().prop_map(|(base_offset, file)| Change::Roll { base_offset, file: FileId(file) }),
            Just(Change::Drop),
            any::<i32>().prop_map(|leader_epoch| Change::Assign { leader_epoch }),
            any::<i64>().prop_map(|producer_id| Change::ProducerExpire { producer_id }),
        ]
    }

    fn seed(index: u32) -> EntrySeed {
        EntrySeed { journal: JournalId(1), run: 2, sequence: 3, index }
    }

    proptest! {
        #[test]
        fn comes_back_as_written_and_only_in_its_place(change in changes(), topic in any::<[u8; 16]>(), partition in any::<i32>(), stamp in any::<u64>(), bit in 0..ENTRY_BYTES * 8) {
            let checksum = match change {
                Change::Append(Append { place: Place::Segment { checksum, .. }, .. }) => checksum,
                _ => 7,
            };
            let stored = StoredEntry {
                stamp: Stamp(stamp),
                entry: Entry { target: TopicPartition { topic: TopicId(topic), partition }, change },
                payload_at: 4000,
                payload_checksum: checksum,
            };
            let mut bytes = [0u8; ENTRY_BYTES];
            stored.encode(&mut bytes, seed(5));
            prop_assert_eq!(StoredEntry::decode(&bytes, seed(5)), Some(stored));
            prop_assert_eq!(StoredEntry::decode(&bytes, seed(6)), None);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(StoredEntry::decode(&bytes, seed(5)), None);
        }
    }

    #[test]
    fn zeroes_and_the_kind_kept_for_compaction_do_not_decode() {
        assert_eq!(StoredEntry::decode(&[0; ENTRY_BYTES], seed(0)), None);
        let mut bytes = [0u8; ENTRY_BYTES];
        bytes[at::KIND] = kind::REPLACE;
        let sum = checksum(&bytes[..at::CHECKSUM], seed(0));
        put(&mut bytes, at::CHECKSUM, sum.to_le_bytes());
        assert_eq!(StoredEntry::decode(&bytes, seed(0)), None);
    }
}
