//! From memory to disk in runs: the oldest chunks of the fullest shuffle, its blocks grouped by partition.
//!
//! Owns which run is under way. A run is as large as may be, since what it writes of a partition lies together and is
//! later read together. Invariants: one run at a time; its blocks are readable in memory until the call that puts them
//! into the index; a failed run leaves everything as it was.

use watershed_core::units::{ChunkId, Now, block_ceil};

use super::partition::Partition;
use super::shuffle::{Order, Shuffle};
use super::{ShuffleId, Store};

/// Bounds the time until memory is free again, and the list of a run.
const RUN_BYTES_MAX: u64 = 256 << 20;

/// A run, as long as it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId(u64);

/// What is to be written: these stretches of the shuffle's memory, back to back, from `file_start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub id: RunId,
    pub shuffle: ShuffleId,
    /// A multiple of 4 KiB; behind the last run of this file.
    pub file_start: u64,
    /// Position and length of each block.
    pub blocks: Vec<(u64, u32)>,
    pub bytes: u64,
}

#[derive(Debug)]
pub(super) struct RunUnderWay {
    id: RunId,
    pub(super) shuffle: ShuffleId,
    file_start: u64,
    bytes: u64,
}

impl Store {
    /// The next run, if memory is to be freed now; with `all`, whatever is left.
    pub fn next_run(&mut self, all: bool) -> Option<Run> {
        if self.run.is_some() || !(all || self.is_pressed()) {
            return None;
        }
        let fullest = self.shuffles.iter().filter(|(_, shuffle)| shuffle.memory_bytes() > 0);
        let (id, _) = fullest.max_by_key(|(id, shuffle)| (shuffle.chunk_bytes(), std::cmp::Reverse(*id)))?;
        self.begin_run(*id)
    }

    fn is_pressed(&self) -> bool {
        let usage = self.usage();
        usage.parked_count > 0 || usage.chunk_bytes > self.config.share(self.config.flush_above_percent)
    }

    fn begin_run(&mut self, id: ShuffleId) -> Option<Run> {
        let limit = (self.config.capacity_bytes / 4).min(RUN_BYTES_MAX);
        let shuffle = self.shuffles.get_mut(&id)?;
        let blocks = shuffle.begin_run(shuffle.stream.cut(limit));
        if blocks.is_empty() {
            shuffle.partitions.values_mut().for_each(Partition::undo_run);
            return None;
        }
        let bytes = blocks.iter().map(|(_, length)| u64::from(*length)).sum();
        let run = RunId(self.next_run);
        self.next_run += 1;
        self.run = Some(RunUnderWay { id: run, shuffle: id, file_start: shuffle.file_end, bytes });
        Some(Run { id: run, shuffle: id, file_start: shuffle.file_end, blocks, bytes })
    }

    /// Whether the run's shuffle is still there: its memory may be read.
    pub fn is_under_way(&self, run: RunId) -> bool {
        self.run.as_ref().is_some_and(|under_way| under_way.id == run)
    }

    /// The run is written: its blocks are on disk from this call on, and its memory is given back.
    pub fn end_run(&mut self, run: RunId, now: Now) {
        let Some(done) = self.run.take_if(|under_way| under_way.id == run) else { return };
        if let Some(shuffle) = self.shuffles.get_mut(&done.shuffle) {
            let before = shuffle.chunk_bytes();
            shuffle.end_run(&done, &mut self.effects.freed);
            self.chunk_bytes -= before - shuffle.chunk_bytes();
        }
        self.settle(now);
    }

    /// The run was not written.
    pub fn fail_run(&mut self, run: RunId) {
        let Some(failed) = self.run.take_if(|under_way| under_way.id == run) else { return };
        if let Some(shuffle) = self.shuffles.get_mut(&failed.shuffle) {
            shuffle.partitions.values_mut().for_each(Partition::undo_run);
        }
    }
}

impl Shuffle {
    /// Position and length of what the run writes.
    fn begin_run(&mut self, cut: u64) -> Vec<(u64, u32)> {
        let by_attempt = self.order == Order::Attempt;
        let of_each = self.partitions.values_mut().flat_map(|partition| {
            partition.begin_run(cut);
            partition.in_run(by_attempt)
        });
        of_each.map(|placed| (placed.position, placed.block.length())).collect()
    }

    fn end_run(&mut self, run: &RunUnderWay, freed: &mut Vec<ChunkId>) {
        let by_attempt = self.order == Order::Attempt;
        let mut at = run.file_start;
        for partition in self.partitions.values_mut() {
            for placed in partition.end_run(at, by_attempt) {
                let length = u64::from(placed.block.length());
                self.stream.release(placed.position, length, freed);
                at += length;
            }
        }
        assert_eq!(at, run.file_start + run.bytes, "a run writes what it began with");
        self.stream.shrink(freed);
        self.file_end = block_ceil(at);
    }
}
