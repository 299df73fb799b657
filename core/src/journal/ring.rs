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
        let end = at.position + length;
        let clear = !wrapped || at.slot < self.tail.slot || at.slot == self.tail.slot && end < self.tail.position;
        end <= self.file_bytes && clear
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

    fn distance(&self, from: RingPoint, to: RingPoint) -> u64 {
        let place = |point: RingPoint| u64::from(point.slot) * self.file_bytes + point.position;
        let (from_at, to_at) = (place(from), place(to));
        if to_at >= from_at { to_at - from_at } else { self.total_bytes() - from_at + to_at }
    }

    /// Bytes that frames of at most `frame_bytes_max` can surely be placed in, whatever their sizes.
    pub fn room_bytes(&self, frame_bytes_max: u64) -> u64 {
        let waste = frame_bytes_max - BLOCK_BYTES;
        let (head, tail) = (self.head, self.tail);
        // Before the tail one block stays free, so that the head never meets it.
        let before_tail = tail.position.saturating_sub(BLOCK_BYTES);
        let usable = |bytes: u64| bytes.saturating_sub(waste);
        let rest = self.file_bytes - head.position;
        if head < tail && head.slot == tail.slot {
            return usable(before_tail.saturating_sub(head.position));
        }
        let whole_files =
            if head < tail { tail.slot - head.slot - 1 } else { self.files_count - head.slot - 1 + tail.slot };
        usable(rest) + u64::from(whole_files) * usable(self.file_bytes) + usable(before_tail)
    }
}
