//! What a job writes: which block every map has for every reduce, and with which bytes. All of it follows from numbers, so
//! that a reader knows what it must find without a copy of what was sent.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use crate::payload::{Random, half_random};

/// Payloads are cut from this much; blocks of several maps share their bytes, but not within a few hundred of them.
const POOL_BYTES: usize = 4 << 20;
const PAYLOADS: u32 = 509;
/// Spark's layout of a block id: sequence, partition, attempt, and the attempt's own number within its map.
const PARTITION_BITS: u32 = 20;
const ATTEMPT_BITS: u32 = 22;
const RETRY_BITS: u32 = 2;

/// The shape of a job.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) maps: u32,
    pub(crate) reduces: u32,
    /// Bytes of a block, evenly spread.
    pub(crate) block_bytes: RangeInclusive<u32>,
    /// What all maps write together, about; at least a block for every map and reduce.
    pub(crate) total_bytes: u64,
}

impl Shape {
    fn blocks_per_cell(&self) -> u64 {
        let mean = (u64::from(*self.block_bytes.start()) + u64::from(*self.block_bytes.end())) / 2;
        let cells = u64::from(self.maps) * u64::from(self.reduces);
        let layer = (mean * cells).max(1);
        // The nearest to what was asked for.
        ((self.total_bytes + layer / 2) / layer).max(1)
    }
}

/// A block's bytes and their CRC-32.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub(crate) data: Bytes,
    pub(crate) crc: u32,
}

/// A block to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    pub(crate) id: i64,
    pub(crate) partition: i32,
    pub(crate) attempt: i64,
    pub(crate) payload: &'a Payload,
}

/// A job whose blocks are known.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) maps: u32,
    pub(crate) reduces: u32,
    sequences: u32,
    payloads: Vec<Payload>,
}

impl Job {
    pub(crate) fn new(shape: &Shape) -> Result<Job> {
        let (least, most) = (*shape.block_bytes.start(), *shape.block_bytes.end());
        ensure!((1..=most).contains(&least), "a block has at least a byte, and a range its smaller end first");
        ensure!((1..=1 << (ATTEMPT_BITS - RETRY_BITS)).contains(&shape.maps), "1 to 1,048,576 maps");
        ensure!((1..=1 << PARTITION_BITS).contains(&shape.reduces), "1 to 1,048,576 reduces");
        let sequences = u32::try_from(shape.blocks_per_cell()).ok().filter(|count| *count < 1 << 21);
        let sequences = sequences.context("more blocks of one map and reduce than a block id can tell apart")?;
        let pool = Bytes::from(half_random(POOL_BYTES + most as usize, 1));
        let mut random = Random::new(2);
        let payload = |_| {
            let length = (least + random.below(most - least + 1)) as usize;
            let start = random.below(POOL_BYTES as u32) as usize;
            let data = pool.slice(start..start + length);
            Payload { crc: crc32fast::hash(&data), data }
        };
        Ok(Job { maps: shape.maps, reduces: shape.reduces, sequences, payloads: (0..PAYLOADS).map(payload).collect() })
    }

    /// All blocks of a map, in the order in which its buffers become full: every reduce in turn.
    pub(crate) fn blocks(&self, map: u32) -> impl Iterator<Item = Block<'_>> {
        let of = move |sequence| (0..self.reduces).map(move |reduce| self.block(sequence, reduce, map));
        (0..self.sequences).flat_map(of)
    }

    /// The ids that a reduce must see, in rising order.
    pub(crate) fn expected(&self, reduce: u32) -> Vec<i64> {
        let of = |sequence| (0..self.maps).map(move |map| id(sequence, reduce, map));
        (0..self.sequences).flat_map(of).collect()
    }

    /// The bytes that a block with this id has.
    pub(crate) fn payload(&self, id: i64) -> &Payload {
        // Mixed, so that neighbours in any direction differ.
        let mixed = id.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let index = (mixed % u64::from(PAYLOADS)) as usize;
        self.payloads.get(index).expect("there are as many payloads as that")
    }

    fn block(&self, sequence: u32, reduce: u32, map: u32) -> Block<'_> {
        let id = id(sequence, reduce, map);
        Block { id, partition: reduce.cast_signed(), attempt: attempt(map), payload: self.payload(id) }
    }

    pub(crate) fn bytes(&self) -> u64 {
        (0..self.maps).flat_map(|map| self.blocks(map)).map(|block| block.payload.data.len() as u64).sum()
    }

    pub(crate) fn block_count(&self) -> u64 {
        u64::from(self.maps) * u64::from(self.reduces) * u64::from(self.sequences)
    }
}

/// Of the first attempt of a map.
pub(crate) fn attempt(map: u32) -> i64 {
    i64::from(map) << RETRY_BITS
}

fn id(sequence: u32, reduce: u32, map: u32) -> i64 {
    (i64::from(sequence) << (PARTITION_BITS + ATTEMPT_BITS)) | (i64::from(reduce) << ATTEMPT_BITS) | attempt(map)
}

/// How a request is told where its blocks' ids have what.
pub(crate) fn layout() -> watershed_shuffle::wire::proto::BlockIdLayout {
    watershed_shuffle::wire::proto::BlockIdLayout {
        sequence_no_bits: (63 - PARTITION_BITS - ATTEMPT_BITS).cast_signed(),
        partition_id_bits: PARTITION_BITS.cast_signed(),
        task_attempt_id_bits: ATTEMPT_BITS.cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_written_once_and_expected_once() {
        let shape = Shape { maps: 3, reduces: 5, block_bytes: 10..=30, total_bytes: 3 * 5 * 20 * 4 };
        let job = Job::new(&shape).unwrap();
        let mut written: Vec<i64> = (0..3).flat_map(|map| job.blocks(map)).map(|block| block.id).collect();
        let mut expected: Vec<i64> = (0..5).flat_map(|reduce| job.expected(reduce)).collect();
        assert!(job.expected(2).is_sorted());
        written.sort_unstable();
        expected.sort_unstable();
        assert_eq!((written.len() as u64, job.block_count()), (60, 60));
        assert_eq!(written, expected);
        written.dedup();
        assert_eq!(written.len(), 60);
    }

    #[test]
    fn ids_are_those_of_sparks_clients() {
        assert_eq!(id(0, 1, 1), 4_194_308);
        assert_eq!(id(1, 0, 0), 1 << 42);
    }

    #[test]
    fn a_payload_has_its_checksum_and_a_length_of_the_range() {
        let job = Job::new(&Shape { maps: 9, reduces: 9, block_bytes: 100..=200, total_bytes: 0 }).unwrap();
        for block in job.blocks(4) {
            assert!((100..=200).contains(&block.payload.data.len()));
            assert_eq!(crc32fast::hash(&block.payload.data), block.payload.crc);
            assert_eq!(job.payload(block.id).crc, block.payload.crc);
        }
        assert!(Job::new(&Shape { maps: 0, reduces: 9, block_bytes: 1..=2, total_bytes: 0 }).is_err());
    }
}
