//! When tails are written into their segments: whole blocks, in the background, from memory.
//!
//! Owns how far each slot's segments are drained. Each block is written once and in order; one write per slot is under way
//! at most. Aligned runs are written by their own commit and only counted here. Never plans a partly filled block.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::units::{FileId, Slot, block_ceil, block_floor};

/// The longest single write.
pub const DRAIN_BYTES_MAX: u64 = 1 << 20;

/// Whole blocks to write from the tail cache into a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainWrite {
    pub slot: Slot,
    pub file: FileId,
    pub position: u64,
    pub length: u64,
}

/// Bytes of `file` below `position` are in the segment's file: tell the partition and the tail cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    pub slot: Slot,
    pub file: FileId,
    pub position: u64,
}

/// Which slot goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOrder {
    /// The most bytes per write: the rule.
    Largest,
    /// The slot that has waited longest: to let the journal's ring move.
    Oldest,
}

#[derive(Clone, Debug)]
struct AlignedRun {
    start: u64,
    end: u64,
    written: bool,
}

#[derive(Clone, Debug)]
struct SegmentDrain {
    file: FileId,
    drained: u64,
    /// Blocks below are full.
    whole: u64,
    sealed: bool,
    aligned: VecDeque<AlignedRun>,
}

#[derive(Clone, Debug, Default)]
struct SlotDrain {
    segments: VecDeque<SegmentDrain>,
    in_flight: Option<DrainWrite>,
    /// When its present backlog began, in the planner's own count.
    since: u64,
    ready_bytes: u64,
    dirty_bytes: u64,
}

/// The drain planner of one shard.
#[derive(Clone, Debug, Default)]
pub struct DrainPlanner {
    slots: BTreeMap<Slot, SlotDrain>,
    by_size: BTreeSet<(u64, Slot)>,
    by_age: BTreeSet<(u64, Slot)>,
    count: u64,
    dirty_bytes: u64,
}

impl DrainPlanner {
    /// Full blocks that are not yet written, aligned runs not counted; the cap on recovery is measured against it.
    pub fn dirty_bytes(&self) -> u64 {
        self.dirty_bytes
    }

    /// A segment of the slot begins (or is restored) with bytes below `drained` written.
    pub fn opened(&mut self, slot: Slot, file: FileId, drained: u64) {
        let segment = SegmentDrain { file, drained, whole: drained, sealed: false, aligned: VecDeque::new() };
        self.update(slot, |held| held.segments.push_back(segment));
    }

    /// The tail of the slot's segment now ends at `end_position`.
    pub fn appended(&mut self, slot: Slot, file: FileId, end_position: u64) {
        self.update(slot, |held| {
            if let Some(segment) = held.segment(file) {
                segment.whole = segment.whole.max(block_floor(end_position));
            }
        });
    }

    /// An aligned run was placed; what stood before it is padded to its block's boundary.
    pub fn aligned(&mut self, slot: Slot, file: FileId, position: u64, end_position: u64) {
        self.update(slot, |held| {
            if let Some(segment) = held.segment(file) {
                segment.whole = block_ceil(end_position);
                segment.aligned.push_back(AlignedRun {
                    start: position,
                    end: block_ceil(end_position),
                    written: false,
                });
            }
        });
    }

    /// The aligned run at `position` was written by its commit.
    pub fn aligned_written(&mut self, slot: Slot, file: FileId, position: u64) -> Option<Drained> {
        self.update(slot, |held| {
            let segment = held.segment(file)?;
            let run = segment.aligned.iter_mut().find(|run| run.start == position)?;
            run.written = true;
            held.settle(slot, file)
        })
    }

    /// The segment ends at `end_position`; its last block is padded.
    pub fn sealed(&mut self, slot: Slot, file: FileId, end_position: u64) {
        self.update(slot, |held| {
            if let Some(segment) = held.segment(file) {
                segment.whole = segment.whole.max(block_ceil(end_position));
                segment.sealed = true;
            }
            held.forget_finished();
        });
    }

    /// The next write, if a slot has at least `bytes_min` ready. It is under way until `completed`.
    pub fn plan(&mut self, order: DrainOrder, bytes_min: u64) -> Option<DrainWrite> {
        let slot = match order {
            DrainOrder::Largest => self.by_size.last()?.1,
            DrainOrder::Oldest => self.by_age.first()?.1,
        };
        self.plan_slot(slot, bytes_min)
    }

    /// The next write of one slot.
    pub fn plan_slot(&mut self, slot: Slot, bytes_min: u64) -> Option<DrainWrite> {
        let held = self.slots.get(&slot)?;
        let ready = held.ready_bytes;
        let segment = held.segments.front().filter(|_| ready > 0 && ready >= bytes_min)?;
        let write =
            DrainWrite { slot, file: segment.file, position: segment.drained, length: ready.min(DRAIN_BYTES_MAX) };
        self.update(slot, |held| held.in_flight = Some(write));
        Some(write)
    }

    /// A planned write succeeded. `None` if its segment went meanwhile.
    pub fn completed(&mut self, write: DrainWrite) -> Option<Drained> {
        self.update(write.slot, |held| {
            if held.in_flight != Some(write) {
                return None;
            }
            held.in_flight = None;
            let segment = held.segment(write.file)?;
            segment.drained = write.position + write.length;
            held.settle(write.slot, write.file)
        })
    }

    /// The slot's segment was dropped or cut: nothing of it is drained any more.
    pub fn drop_file(&mut self, slot: Slot, file: FileId) {
        self.update(slot, |held| {
            held.segments.retain(|segment| segment.file != file);
            held.in_flight = held.in_flight.filter(|write| write.file != file);
        });
    }

    /// The slot was dropped.
    pub fn drop_slot(&mut self, slot: Slot) {
        self.update(slot, |held| *held = SlotDrain::default());
    }

    /// Changes one slot and keeps the orders and sums in step.
    fn update<T>(&mut self, slot: Slot, change: impl FnOnce(&mut SlotDrain) -> T) -> T {
        let held = self.slots.entry(slot).or_default();
        self.by_size.remove(&(held.ready_bytes, slot));
        self.by_age.remove(&(held.since, slot));
        let dirty_before = held.dirty_bytes;
        let changed = change(held);
        let (ready, dirty) = (held.ready(), held.dirty());
        if dirty_before == 0 && dirty > 0 {
            self.count += 1;
            held.since = self.count;
        }
        (held.ready_bytes, held.dirty_bytes) = (ready, dirty);
        self.dirty_bytes = self.dirty_bytes - dirty_before + dirty;
        if ready > 0 {
            self.by_size.insert((ready, slot));
            self.by_age.insert((held.since, slot));
        }
        if held.segments.is_empty() && held.in_flight.is_none() {
            self.slots.remove(&slot);
        }
        changed
    }
}

impl SlotDrain {
    fn segment(&mut self, file: FileId) -> Option<&mut SegmentDrain> {
        self.segments.iter_mut().rev().find(|segment| segment.file == file)
    }

    /// Bytes that may be written now, in one piece.
    fn ready(&self) -> u64 {
        match (self.in_flight, self.segments.front()) {
            (None, Some(segment)) => segment.ready(),
            _ => 0,
        }
    }

    fn dirty(&self) -> u64 {
        self.segments.iter().map(SegmentDrain::dirty).sum()
    }

    /// Passes aligned runs that the drained position has reached, and reports it.
    fn settle(&mut self, slot: Slot, file: FileId) -> Option<Drained> {
        let segment = self.segment(file)?;
        while let Some(run) = segment.aligned.front() {
            if !run.written || run.start > segment.drained {
                break;
            }
            segment.drained = segment.drained.max(run.end);
            segment.aligned.pop_front();
        }
        let position = segment.drained;
        self.forget_finished();
        Some(Drained { slot, file, position })
    }

    fn forget_finished(&mut self) {
        self.segments.retain(|segment| !segment.sealed || segment.drained < segment.whole);
    }
}

impl SegmentDrain {
    fn ready(&self) -> u64 {
        let until = self.aligned.front().map_or(self.whole, |run| run.start);
        until.saturating_sub(self.drained)
    }

    fn dirty(&self) -> u64 {
        let aligned: u64 = self.aligned.iter().map(|run| run.end - run.start).sum();
        (self.whole - self.drained).saturating_sub(aligned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Slot = Slot(1);
    const B: Slot = Slot(2);
    const FILE: FileId = FileId(1);
    const OTHER: FileId = FileId(2);

    fn planner(ends: &[(Slot, FileId, u64)]) -> DrainPlanner {
        let mut planner = DrainPlanner::default();
        for &(slot, file, end) in ends {
            planner.opened(slot, file, 0);
            planner.appended(slot, file, end);
        }
        planner
    }

    fn ranges(planner: &mut DrainPlanner, order: DrainOrder) -> Vec<(Slot, u64, u64)> {
        let mut ranges = Vec::new();
        while let Some(write) = planner.plan(order, 1) {
            ranges.push((write.slot, write.position, write.length));
            planner.completed(write);
        }
        ranges
    }

    #[test]
    fn a_partly_filled_block_is_never_written_but_for_a_sealed_end() {
        let mut planner = planner(&[(A, FILE, 4095)]);
        assert_eq!(planner.plan(DrainOrder::Largest, 1), None);
        planner.appended(A, FILE, 9000);
        assert_eq!(planner.dirty_bytes(), 8192);
        assert_eq!(ranges(&mut planner, DrainOrder::Largest), [(A, 0, 8192)]);
        planner.sealed(A, FILE, 9000);
        assert_eq!(ranges(&mut planner, DrainOrder::Largest), [(A, 8192, 4096)]);
        assert_eq!(planner.dirty_bytes(), 0);
    }

    #[test]
    fn the_largest_goes_first_or_the_oldest() {
        let backlog = [(A, FILE, 4096), (B, OTHER, 8192)];
        assert_eq!(ranges(&mut planner(&backlog), DrainOrder::Largest), [(B, 0, 8192), (A, 0, 4096)]);
        assert_eq!(ranges(&mut planner(&backlog), DrainOrder::Oldest), [(A, 0, 4096), (B, 0, 8192)]);
        assert_eq!(planner(&backlog).plan(DrainOrder::Largest, 8193), None, "too little to bother");
    }

    #[test]
    fn one_write_of_a_slot_is_under_way_and_none_exceeds_the_maximum() {
        let mut planner = planner(&[(A, FILE, 3 << 20)]);
        let first = planner.plan(DrainOrder::Largest, 1).unwrap();
        assert_eq!(first.length, DRAIN_BYTES_MAX);
        assert_eq!(planner.plan(DrainOrder::Largest, 1), None);
        let drained = planner.completed(first).unwrap();
        assert_eq!(drained.position, DRAIN_BYTES_MAX);
        assert_eq!(planner.plan(DrainOrder::Largest, 1).unwrap().position, DRAIN_BYTES_MAX);
    }

    #[test]
    fn an_aligned_run_is_passed_once_written_and_holds_back_what_follows() {
        let mut planner = planner(&[(A, FILE, 100)]);
        planner.aligned(A, FILE, 4096, 4096 + 200_000);
        planner.appended(A, FILE, 4096 + block_ceil(200_000) + 5000);
        assert_eq!(planner.dirty_bytes(), 8192, "the run is not counted");
        assert_eq!(ranges(&mut planner, DrainOrder::Largest), [(A, 0, 4096)]);
        let drained = planner.aligned_written(A, FILE, 4096).unwrap();
        assert_eq!(drained.position, 4096 + block_ceil(200_000));
        assert_eq!(ranges(&mut planner, DrainOrder::Largest), [(A, drained.position, 4096)]);
    }

    #[test]
    fn segments_drain_in_their_order() {
        let mut planner = planner(&[(A, FILE, 4096)]);
        planner.sealed(A, FILE, 4096);
        planner.opened(A, OTHER, 0);
        planner.appended(A, OTHER, 8192);
        let first = planner.plan(DrainOrder::Largest, 1).unwrap();
        assert_eq!(first.file, FILE);
        planner.completed(first);
        assert_eq!(planner.plan(DrainOrder::Largest, 1).unwrap().file, OTHER);
    }

    #[test]
    fn a_completion_after_a_drop_changes_nothing() {
        let mut planner = planner(&[(A, FILE, 4096)]);
        let write = planner.plan(DrainOrder::Largest, 1).unwrap();
        planner.drop_file(A, FILE);
        assert_eq!((planner.completed(write), planner.dirty_bytes()), (None, 0));
        planner.opened(A, OTHER, 0);
        planner.appended(A, OTHER, 4096);
        planner.drop_slot(A);
        assert_eq!((planner.plan(DrainOrder::Oldest, 1), planner.dirty_bytes()), (None, 0));
    }
}
