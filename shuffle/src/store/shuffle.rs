//! One shuffle on its shard: its memory, its partitions and how far its file reaches.

use std::collections::BTreeMap;

use watershed_core::units::ChunkId;

use super::Kept;
use super::block::BlockHead;
use super::partition::Partition;
use super::stream::Stream;

/// How blocks of a partition that are written together lie on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    Arrival,
    /// By attempt: a reader of a range of map tasks finds long stretches (Uniffle's `LOCAL_ORDER`).
    Attempt,
}

#[derive(Debug)]
pub(super) struct Shuffle {
    pub(super) order: Order,
    pub(super) stream: Stream,
    pub(super) partitions: BTreeMap<i32, Partition>,
    /// Where the next run is written: whole blocks of disk.
    pub(super) file_end: u64,
}

impl Shuffle {
    pub(super) fn new(order: Order) -> Shuffle {
        Shuffle { order, stream: Stream::default(), partitions: BTreeMap::new(), file_end: 0 }
    }

    pub(super) fn partition(&self, number: i32) -> Option<&Partition> {
        self.partitions.get(&number)
    }

    pub(super) fn keep(&mut self, partition: i32, head: &BlockHead, position: u64) -> Kept {
        let target = self.partitions.entry(partition).or_default();
        if target.has(head.id) {
            return Kept::Again;
        }
        target.keep(head, position);
        Kept::New
    }

    pub(super) fn report(&mut self, partition: i32, blocks: &[i64]) {
        let target = self.partitions.entry(partition).or_default();
        blocks.iter().for_each(|block| target.report(*block));
    }

    pub(super) fn chunk_bytes(&self) -> u64 {
        self.stream.bytes()
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = ChunkId> {
        self.stream.chunks()
    }

    pub(super) fn block_count(&self) -> u64 {
        self.partitions.values().map(|partition| partition.block_count() as u64).sum()
    }

    /// Bytes of blocks on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.partitions.values().map(Partition::disk_bytes).sum()
    }

    /// Bytes of blocks in memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.partitions.values().map(Partition::memory_bytes).sum()
    }
}
