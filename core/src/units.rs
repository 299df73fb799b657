//! The numbers that the engine speaks in, each with a type or a name that carries its unit.
//!
//! Offsets are `i64` as in Kafka; ends are exclusive everywhere.

use std::fmt;

/// A 4 KiB block of disk: the unit of direct I/O. A segment block is written once.
pub const BLOCK_BYTES: u64 = 4096;

/// Rounds `bytes` up to whole blocks.
pub const fn block_ceil(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// Rounds `bytes` down to whole blocks.
pub const fn block_floor(bytes: u64) -> u64 {
    bytes / BLOCK_BYTES * BLOCK_BYTES
}

/// The time as a machine sees it: an argument, never a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since an arbitrary start; never goes back. For every timer.
    pub monotonic_us: u64,
    /// Milliseconds since the Unix epoch; may jump. For record timestamps and retention only.
    pub wall_ms: i64,
}

/// A topic's identity (KIP-516). Names are for people; this is what disk and messages carry.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// "No id": never given to a topic.
    pub const ZERO: TopicId = TopicId([0; 16]);
    /// Kafka's fixed id of `__cluster_metadata`.
    pub const CLUSTER_METADATA: TopicId = TopicId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

impl fmt::Display for TopicId {
    /// URL-safe base64 without padding, as Kafka prints ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(self.0);
        for place in 0..22u32 {
            // 128 bits are 21 sextets and 2 bits, which the last character carries in its upper end.
            let sextet = if place == 21 { (bits << 4) & 0x30 } else { bits >> (122 - 6 * place) };
            let letter = ALPHABET.get((sextet & 0x3f) as usize).copied().unwrap_or(b'?');
            write!(f, "{}", letter as char)?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: TopicId,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// One core's server, counted from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// A journal. It belongs to a data directory, not to a core, and outlives a change in the number of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalId(pub u32);

/// A segment's file in the data directory: journal id in the upper 32 bits, a counter in the lower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u64);

impl FileId {
    pub const fn new(journal: JournalId, counter: u32) -> FileId {
        FileId(((journal.0 as u64) << 32) | counter as u64)
    }
}

/// A partition's index among those of its shard; reused after a drop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// A piece of memory that the driver holds and a machine speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub u32);

/// The place of a change in its journal's order. A reply computed from a change waits until the durable stamp reaches its stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_ids_as_kafka_does() {
        assert_eq!(TopicId::CLUSTER_METADATA.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(TopicId([0xff; 16]).to_string(), "_____________________w");
    }

    #[test]
    fn rounds_to_whole_blocks() {
        assert_eq!((block_ceil(1), block_ceil(4096), block_floor(4097)), (4096, 4096, 4096));
    }
}
