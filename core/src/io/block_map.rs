//! Which parts of an arena's address space are free: a buddy allocator in 2 MiB regions, with runs of regions for
//! larger requests.
//!
//! Owns offsets only; it never touches memory, so it is plain data. Takes the lowest free address first, which keeps the
//! touched part of the arena dense. Invariant: a region is either in `free_regions`, beyond `frontier`, or split or used;
//! two free buddies never exist side by side.

use std::collections::{BTreeMap, BTreeSet};

/// The step in which an arena grows, and the size of a huge page.
pub const REGION_BYTES: usize = 2 << 20;
/// The smallest block.
pub const BLOCK_BYTES_MIN: usize = 4 << 10;
/// The largest single allocation.
pub const ALLOCATION_BYTES_MAX: usize = 64 << 20;

const REGION_ORDER: usize = 9;
const LEAVES: u32 = 1 << REGION_ORDER;
const _: () = assert!(BLOCK_BYTES_MIN << REGION_ORDER == REGION_BYTES);

/// A block: where it starts and how long it is, both in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
}

pub(crate) struct BlockMap {
    regions_max: u32,
    /// Regions from here on were never handed out.
    frontier: u32,
    /// Start of a run of free regions below the frontier to its length; neighbours are joined.
    free_regions: BTreeMap<u32, u32>,
    /// Per order, the first leaf of each free block smaller than a region.
    free_blocks: [BTreeSet<u32>; REGION_ORDER],
}

impl BlockMap {
    /// `limit_bytes` is rounded down to whole regions.
    pub(crate) fn new(limit_bytes: usize) -> BlockMap {
        BlockMap {
            regions_max: u32::try_from(limit_bytes / REGION_BYTES).unwrap_or(u32::MAX / LEAVES),
            frontier: 0,
            free_regions: BTreeMap::new(),
            free_blocks: Default::default(),
        }
    }

    /// Bytes that were ever handed out: what the operating system may have backed with pages.
    pub(crate) fn touched_bytes(&self) -> usize {
        self.frontier as usize * REGION_BYTES
    }

    /// A block of at least `bytes`: a power of two up to a region, whole regions above. `None` if it does not fit.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Option<Span> {
        if bytes == 0 || bytes > ALLOCATION_BYTES_MAX {
            return None;
        }
        if bytes > REGION_BYTES / 2 {
            let count = u32::try_from(bytes.div_ceil(REGION_BYTES)).ok()?;
            let start = self.take_regions(count)?;
            return Some(Span { offset: start as usize * REGION_BYTES, bytes: count as usize * REGION_BYTES });
        }
        let size = bytes.next_power_of_two().max(BLOCK_BYTES_MIN);
        let order = (size / BLOCK_BYTES_MIN).trailing_zeros() as usize;
        let leaf = self.take_block(order)?;
        Some(Span { offset: leaf as usize * BLOCK_BYTES_MIN, bytes: size })
    }

    /// Takes back what `allocate` handed out.
    pub(crate) fn release(&mut self, span: Span) {
        if span.bytes >= REGION_BYTES {
            let start = (span.offset / REGION_BYTES) as u32;
            self.give_regions(start, (span.bytes / REGION_BYTES) as u32);
            return;
        }
        let mut order = (span.bytes / BLOCK_BYTES_MIN).trailing_zeros() as usize;
        let mut leaf = (span.offset / BLOCK_BYTES_MIN) as u32;
        while let Some(free) = self.free_blocks.get_mut(order) {
            let buddy = leaf ^ (1 << order);
            if !free.remove(&buddy) {
                assert!(free.insert(leaf), "a block was released twice");
                return;
            }
            leaf = leaf.min(buddy);
            order += 1;
        }
        self.give_regions(leaf / LEAVES, 1);
    }

    fn take_block(&mut self, order: usize) -> Option<u32> {
        let found = self
            .free_blocks
            .iter_mut()
            .enumerate()
            .skip(order)
            .find_map(|(found, free)| free.pop_first().map(|leaf| (found, leaf)));
        let (mut have, leaf) = match found {
            Some(found) => found,
            None => (REGION_ORDER, self.take_regions(1)? * LEAVES),
        };
        while have > order {
            have -= 1;
            if let Some(free) = self.free_blocks.get_mut(have) {
                free.insert(leaf + (1 << have));
            }
        }
        Some(leaf)
    }

    fn take_regions(&mut self, count: u32) -> Option<u32> {
        let fit =
            self.free_regions.iter().find(|(_, length)| **length >= count).map(|(start, length)| (*start, *length));
        if let Some((start, length)) = fit {
            self.free_regions.remove(&start);
            if length > count {
                self.free_regions.insert(start + count, length - count);
            }
            return Some(start);
        }
        // A free run that ends at the frontier is extended rather than skipped.
        let start = match self.free_regions.last_key_value() {
            Some((start, length)) if start + length == self.frontier => *start,
            _ => self.frontier,
        };
        if start.checked_add(count)? > self.regions_max {
            return None;
        }
        self.free_regions.remove(&start);
        self.frontier = start + count;
        Some(start)
    }

    fn give_regions(&mut self, mut start: u32, mut count: u32) {
        if let Some((before, length)) = self.free_regions.range(..start).next_back() {
            let (before, length) = (*before, *length);
            assert!(before + length <= start, "a region was released twice");
            if before + length == start {
                self.free_regions.remove(&before);
                start = before;
                count += length;
            }
        }
        if let Some(length) = self.free_regions.remove(&(start + count)) {
            count += length;
        }
        let taken = self.free_regions.insert(start, count);
        assert!(taken.is_none(), "a region was released twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn sizes_are_rounded_to_classes() {
        let mut map = BlockMap::new(80 * MIB);
        for (asked, given) in
            [(1, 4096), (4097, 8192), (MIB, MIB), (MIB + 1, 2 * MIB), (5 * MIB, 6 * MIB), (64 * MIB, 64 * MIB)]
        {
            assert_eq!(map.allocate(asked).unwrap().bytes, given);
        }
        assert_eq!(map.allocate(0), None);
        assert_eq!(map.allocate(64 * MIB + 1), None);
    }

    #[test]
    fn released_memory_joins_and_serves_a_large_request() {
        let mut map = BlockMap::new(4 * MIB);
        let small: Vec<Span> = (0..1024).map(|_| map.allocate(4096).unwrap()).collect();
        assert_eq!(map.allocate(1), None);
        assert_eq!(map.touched_bytes(), 4 * MIB);
        // Every second block first, so that joining has to happen on the second pass.
        for span in small.iter().step_by(2).chain(small.iter().skip(1).step_by(2)) {
            map.release(*span);
        }
        assert_eq!(map.allocate(4 * MIB).unwrap(), Span { offset: 0, bytes: 4 * MIB });
    }

    #[test]
    fn a_free_run_at_the_frontier_is_extended() {
        let mut map = BlockMap::new(6 * MIB);
        let first = map.allocate(2 * MIB).unwrap();
        map.release(first);
        assert_eq!(map.allocate(6 * MIB).unwrap().offset, 0);
    }

    #[test]
    #[should_panic(expected = "released twice")]
    fn a_double_release_is_noticed() {
        let mut map = BlockMap::new(2 * MIB);
        let kept = map.allocate(4096).unwrap();
        let span = map.allocate(4096).unwrap();
        assert_ne!(kept, span);
        map.release(span);
        map.release(span);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 64 },
            failure_persistence: None,
            ..Default::default()
        })]
        /// Blocks never overlap, stay inside the limit, and all memory comes back whole.
        #[test]
        fn blocks_are_disjoint(steps in proptest::collection::vec((1usize..3 << 20, 0usize..8), 1..200)) {
            let mut map = BlockMap::new(32 * MIB);
            let mut held: Vec<Span> = Vec::new();
            for (bytes, choice) in steps {
                if choice < 3 && !held.is_empty() {
                    map.release(held.swap_remove(choice % held.len()));
                } else if let Some(span) = map.allocate(bytes) {
                    assert!(span.offset + span.bytes <= 32 * MIB && span.bytes >= bytes);
                    let apart = |other: &Span| {
                        span.offset + span.bytes <= other.offset || other.offset + other.bytes <= span.offset
                    };
                    assert!(held.iter().all(apart));
                    held.push(span);
                }
            }
            for span in held {
                map.release(span);
            }
            assert_eq!(map.allocate(32 * MIB).unwrap().offset, 0);
        }
    }
}
