//! The ring of pre-written files that frames go to: where the next frame lies and what may be overwritten.
//!
//! Files are slots 0..n. A frame never spans files: one that does not fit goes to the next slot's beginning, after the
//! last slot to slot 0. Invariants: nothing between tail (the oldest byte that a kept image needs) and head is ever
//! handed out; the head never reaches the tail from behind, so `head == tail` always means empty.

use crate::units::BLOCK_BYTES;

/// A place in the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingPoint {
    pub slot: u32,
    pub position: u64,
}

/// The ring's places. Bytes are whole blocks everywhere.
#[derive(Clone, Debug)]
pub struct Ring {
    file_bytes: u64,
    files_count: u32,
    head: RingPoint,
    tail: RingPoint,
}

impl Ring {
    /// A ring of `files_count` files with `head` where the next frame goes and `tail` the oldest needed byte.
    pub fn new(file_bytes: u64, files_count: u32, head: RingPoint, tail: RingPoint) -> Ring {
        assert!(files_count > 0 && file_bytes.is_multiple_of(BLOCK_BYTES) && file_bytes > 0);
        assert!(head.slot < files_count && tail.slot < files_count);
        Ring { file_bytes, files_count, head, tail }
    }

    pub fn files_count(&self) -> u32 {
        self.files_count
    }

    pub fn head(&self) -> RingPoint {
        self.head
    }

    pub fn tail(&self) -> RingPoint {
        self.tail
    }

    /// Takes the next `length` bytes. `None`: they would overwrite what is needed.
    pub fn take(&mut self, length: u64) -> Option<RingPoint> {
        let wrapped = self.head < self.tail;
        let point = if self.fits(self.head, length, wrapped) { self.head } else { self.skip(length, wrapped)? };
        self.head = RingPoint { slot: point.slot, position: point.position + length };
        Some(point)
    }

    /// The next slot's beginning, if only this file's end is in the way here.
    fn skip(&self, length: u64, wrapped: bool) -> Option<RingPoint> {
        let tail_ahead = wrapped && self.head.slot == self.tail.slot;
        if tail_ahead || self.head.position + length <= self.file_bytes {
            return None;
        }
        let next = self.next_slot();
        let wraps = wrapped || next.slot <= self.head.slot;
        self.fits(next, length, wraps).then_some(next)
    }

    /// Whether `length` bytes at `at` end inside the file and, once wrapped, before the tail.
    fn fits(&self, at: RingPoint, length: u64, wrapped: bool) -> bool {
        let clear = !wrapped || self.flat(at) + length < self.flat(self.tail);
        at.position + length <= self.file_bytes && clear
    }

    fn next_slot(&self) -> RingPoint {
        let slot = self.head.slot + 1;
        RingPoint { slot: if slot < self.files_count { slot } else { 0 }, position: 0 }
    }

    /// Moves the tail: everything before `point` may be overwritten.
    pub fn release(&mut self, point: RingPoint) {
        assert!(
            self.distance(self.tail, point) <= self.distance(self.tail, self.head),
            "the tail moves forward and never past the head"
        );
        self.tail = point;
    }

    /// File `slot`, the next after the last, is written and may be used.
    pub fn file_ready(&mut self, slot: u32) {
        assert_eq!(slot, self.files_count, "the ring grows by its next slot");
        self.files_count += 1;
    }

    /// Bytes between tail and head, those that were skipped at a file's end included.
    pub fn used_bytes(&self) -> u64 {
        self.distance(self.tail, self.head)
    }

    pub fn total_bytes(&self) -> u64 {
        u64::from(self.files_count) * self.file_bytes
    }

    /// The place as if the files lay end to end.
    fn flat(&self, point: RingPoint) -> u64 {
        u64::from(point.slot) * self.file_bytes + point.position
    }

    fn distance(&self, from: RingPoint, to: RingPoint) -> u64 {
        let (from_at, to_at) = (self.flat(from), self.flat(to));
        if to_at >= from_at { to_at - from_at } else { self.total_bytes() - from_at + to_at }
    }

    /// Bytes that frames of at most `frame_bytes_max` can surely be placed in, whatever their sizes.
    pub fn room_bytes(&self, frame_bytes_max: u64) -> u64 {
        let waste = frame_bytes_max - BLOCK_BYTES;
        let (head, tail) = (self.head, self.tail);
        // One block before the tail stays free, so that the head never meets it.
        let before_tail = tail.position.saturating_sub(BLOCK_BYTES);
        let gap = if tail.position == 0 { BLOCK_BYTES } else { 0 };
        let usable = |bytes: u64| bytes.saturating_sub(waste);
        let rest = self.file_bytes - head.position;
        if head < tail && head.slot == tail.slot {
            return usable(before_tail.saturating_sub(head.position));
        }
        let whole_files =
            if head < tail { tail.slot - head.slot - 1 } else { self.files_count - head.slot - 1 + tail.slot };
        (usable(rest) + u64::from(whole_files) * usable(self.file_bytes) + usable(before_tail)).saturating_sub(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE_BYTES: u64 = 16 * BLOCK_BYTES;

    fn at(slot: u32, block: u64) -> RingPoint {
        RingPoint { slot, position: block * BLOCK_BYTES }
    }

    #[test]
    fn a_frame_that_does_not_fit_goes_to_the_next_slot_and_then_to_the_first() {
        let mut ring = Ring::new(FILE_BYTES, 2, at(0, 14), at(0, 14));
        assert_eq!(ring.take(3 * BLOCK_BYTES), Some(at(1, 0)));
        assert_eq!(ring.take(13 * BLOCK_BYTES), Some(at(1, 3)));
        assert_eq!(ring.take(13 * BLOCK_BYTES), Some(at(0, 0)));
        assert_eq!(ring.take(BLOCK_BYTES), None, "the head never reaches the tail");
        ring.release(at(1, 0));
        assert_eq!(ring.take(3 * BLOCK_BYTES), None, "nor a tail at a file's beginning");
        assert_eq!(ring.take(2 * BLOCK_BYTES), Some(at(0, 13)));
    }

    #[test]
    fn a_grown_file_comes_after_the_last() {
        let mut ring = Ring::new(FILE_BYTES, 1, at(0, 10), at(0, 2));
        assert_eq!(ring.take(8 * BLOCK_BYTES), None);
        ring.file_ready(1);
        assert_eq!(ring.take(8 * BLOCK_BYTES), Some(at(1, 0)));
        assert_eq!(ring.used_bytes(), 22 * BLOCK_BYTES);
    }

    #[test]
    #[should_panic(expected = "never past the head")]
    fn the_tail_never_passes_the_head() {
        Ring::new(FILE_BYTES, 2, at(0, 10), at(0, 2)).release(at(0, 11));
    }

    proptest! {
        /// Against a map of all blocks: what lies between tail and head is never handed out, and the room is there.
        #[test]
        fn nothing_needed_is_handed_out_and_promised_room_exists(files_count in 1u32..4, sizes in prop::collection::vec((1u64..8, any::<bool>()), 1..200)) {
            let mut ring = Ring::new(FILE_BYTES, files_count, at(0, 0), at(0, 0));
            let mut live: Vec<(RingPoint, u64)> = Vec::new();
            for (blocks, release) in sizes {
                let promised = ring.room_bytes(8 * BLOCK_BYTES) >= blocks * BLOCK_BYTES;
                let point = ring.take(blocks * BLOCK_BYTES);
                prop_assert!(point.is_some() || !promised);
                if let Some(point) = point {
                    prop_assert!(point.position + blocks * BLOCK_BYTES <= FILE_BYTES);
                    let end = point.position + blocks * BLOCK_BYTES;
                    for (other, other_end) in &live {
                        let apart = other.slot != point.slot || end <= other.position || *other_end <= point.position;
                        prop_assert!(apart, "{:?} overlaps {:?}", point, other);
                    }
                    live.push((point, end));
                }
                if release && live.len() > 1 {
                    live.remove(0);
                    ring.release(live[0].0);
                }
            }
        }
    }
}
