//! A shard's memory: one reserved stretch of address space, 2 MiB-aligned and advised to use huge pages, touched from
//! the front in 2 MiB steps up to a limit.
//!
//! A `Lease` is a block, or a part of one, held for writing, a `Slice` shares it read-only on its core, a `Tail` is filled
//! from the front while slices of its filled part are read, a `Parcel` is filled in parts by several writers at once, a
//! `Lent` is a slice that another core may read and that comes home by itself. Invariants: bytes below a `Tail`'s end and
//! of any `Slice` never change; no two leases overlap, nor a lease and a slice; memory returns to the map only when nothing refers to it; the mapping outlives every block. Memory is never unmapped below a live block, never moved, and
//! not cleared between uses.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::block_map::{BlockMap, REGION_BYTES, Span};
use super::executor;
use super::lock;
use crate::error::Fault;

/// What an arena holds at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaUsage {
    pub in_use_bytes: usize,
    pub peak_bytes: usize,
    /// Ever handed out; the operating system may have backed this much.
    pub touched_bytes: usize,
    pub limit_bytes: usize,
    /// Slices that other threads hold at the moment.
    pub lent_count: usize,
}

/// The memory of one shard. A cheap handle; stays on its thread.
#[derive(Clone)]
pub struct Arena {
    inner: Rc<Inner>,
}

struct Inner {
    mapping: Mapping,
    limit_bytes: usize,
    map: RefCell<BlockMap>,
    in_use_bytes: Cell<usize>,
    peak_bytes: Cell<usize>,
    /// What is lent keeps its block, and by it this arena, alive until it is back.
    lent: RefCell<BTreeMap<u64, Rc<Block>>>,
    next_loan: Cell<u64>,
    returns: Arc<ReturnQueue>,
}

impl Arena {
    /// Reserves address space for `limit_bytes`, rounded up to 2 MiB; no memory is used before it is allocated.
    /// On an executor's thread, loans that come back are taken in at every turn.
    pub fn new(limit_bytes: usize) -> Result<Arena, Fault> {
        let limit_bytes = limit_bytes.max(1).div_ceil(REGION_BYTES) * REGION_BYTES;
        let inner = Rc::new(Inner {
            mapping: Mapping::reserve(limit_bytes)?,
            limit_bytes,
            map: RefCell::new(BlockMap::new(limit_bytes)),
            in_use_bytes: Cell::new(0),
            peak_bytes: Cell::new(0),
            lent: RefCell::default(),
            next_loan: Cell::new(0),
            returns: Arc::default(),
        });
        let weak: Weak<Inner> = Rc::downgrade(&inner);
        executor::each_turn(move || weak.upgrade().map(|arena| arena.take_returns()).is_some());
        Ok(Arena { inner })
    }

    /// A block of at least `bytes`: the next power of two from 4 KiB to 2 MiB, or whole 2 MiB up to 64 MiB, aligned to
    /// 4 KiB. Its content is whatever was there. `None` at the limit.
    pub fn try_alloc(&self, bytes: usize) -> Option<Lease> {
        self.inner.take_returns();
        let span = self.inner.map.borrow_mut().allocate(bytes)?;
        let in_use_bytes = self.inner.in_use_bytes.get() + span.bytes;
        self.inner.in_use_bytes.set(in_use_bytes);
        let peak_bytes = self.inner.peak_bytes.get().max(in_use_bytes);
        self.inner.peak_bytes.set(peak_bytes);
        let end = span.bytes;
        let block = Block { arena: self.inner.clone(), span, writers: RefCell::default() };
        Some(Lease { block: Rc::new(block), start: 0, end })
    }

    /// What the arena holds now.
    pub fn usage(&self) -> ArenaUsage {
        self.inner.take_returns();
        ArenaUsage {
            in_use_bytes: self.inner.in_use_bytes.get(),
            peak_bytes: self.inner.peak_bytes.get(),
            touched_bytes: self.inner.map.borrow().touched_bytes(),
            limit_bytes: self.inner.limit_bytes,
            lent_count: self.inner.lent.borrow().len(),
        }
    }

    /// Bytes that huge pages back, as the kernel reports them. Reads `/proc`, so never on a request's path.
    pub fn huge_page_bytes(&self) -> Result<u64, Fault> {
        let smaps = std::fs::read_to_string("/proc/self/smaps")
            .map_err(|error| Fault::io("read", "/proc/self/smaps", 0, &error))?;
        let start = self.inner.mapping.base.as_ptr() as usize;
        Ok(huge_bytes_within(&smaps, start..start + self.inner.limit_bytes))
    }
}

/// Sums `AnonHugePages` over the mappings that overlap `addresses`.
fn huge_bytes_within(smaps: &str, addresses: Range<usize>) -> u64 {
    let mut inside = false;
    let mut huge_kib = 0;
    for line in smaps.lines() {
        if let Some(mapping) = mapping_of(line) {
            inside = mapping.start < addresses.end && addresses.start < mapping.end;
        } else if let Some(value) = line.strip_prefix("AnonHugePages:").filter(|_| inside) {
            let number = value.trim().trim_end_matches("kB").trim();
            huge_kib += number.parse::<u64>().unwrap_or(0);
        }
    }
    huge_kib << 10
}

fn mapping_of(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

impl Inner {
    fn take_returns(&self) {
        if !self.returns.any.swap(false, Ordering::Acquire) {
            return;
        }
        let back = std::mem::take(&mut *lock(&self.returns.loans));
        for loan in back {
            // The block's drop borrows the map, so the table is released first.
            let block = self.lent.borrow_mut().remove(&loan);
            drop(block);
        }
    }
}

/// Address space, released when the last block is gone.
struct Mapping {
    base: NonNull<u8>,
    raw: NonNull<libc::c_void>,
    raw_bytes: usize,
}

impl Mapping {
    fn reserve(bytes: usize) -> Result<Mapping, Fault> {
        let fault = |error| Fault::io("map", "arena memory", bytes as u64, &error);
        let raw_bytes = bytes + REGION_BYTES;
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches no existing memory.
        let raw = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                raw_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if raw == libc::MAP_FAILED {
            return Err(fault(std::io::Error::last_os_error()));
        }
        let raw = NonNull::new(raw).ok_or_else(|| fault(std::io::ErrorKind::OutOfMemory.into()))?;
        let skipped = raw.as_ptr().cast::<u8>().align_offset(REGION_BYTES);
        // SAFETY: the mapping is one region longer than asked, so the aligned start lies inside it.
        let base = unsafe { raw.cast::<u8>().add(skipped) };
        // SAFETY: the range lies inside the mapping. Advice may be refused (no huge pages): then small pages serve.
        unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        Ok(Mapping { base, raw, raw_bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this exact mapping was made in `reserve`; every block holds the arena, so none refers to it any more.
        unsafe { libc::munmap(self.raw.as_ptr(), self.raw_bytes) };
    }
}

/// A part of an arena that is in use. Returns to its arena when dropped.
struct Block {
    arena: Rc<Inner>,
    span: Span,
    /// The parts of a parcel that are being written.
    writers: RefCell<Vec<Range<usize>>>,
}

impl Block {
    fn start(&self) -> *mut u8 {
        // SAFETY: the map hands out spans inside the mapping only.
        unsafe { self.arena.mapping.base.as_ptr().add(self.span.offset) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.arena.map.borrow_mut().release(self.span);
        let in_use_bytes = self.arena.in_use_bytes.get() - self.span.bytes;
        self.arena.in_use_bytes.set(in_use_bytes);
    }
}

/// A block, or a part of one, held by one owner for writing.
pub struct Lease {
    block: Rc<Block>,
    start: usize,
    end: usize,
}

impl Lease {
    /// Ends writing: the bytes may be shared from now on.
    pub fn freeze(self) -> Slice {
        Slice { block: self.block.clone(), start: self.start, end: self.end }
    }

    /// A block that is filled from the front, and whose filled part may be read meanwhile. The first `filled` bytes
    /// are taken over as they are.
    pub fn into_tail(self, filled: usize) -> Tail {
        assert!(filled <= self.whole(), "the filled part exceeds its block");
        Tail { block: self.block.clone(), filled }
    }

    /// A block that several writers fill at once.
    pub fn into_parcel(self) -> Parcel {
        self.whole();
        Parcel { block: self.block.clone(), given: 0 }
    }

    /// The length of what must be a whole block, and the only reference to it.
    fn whole(&self) -> usize {
        let is_whole = self.start == 0 && self.end == self.block.span.bytes && Rc::strong_count(&self.block) == 1;
        assert!(is_whole, "a part of a block stays a part");
        self.end
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in a mapped block that is zeroed or written; only this lease refers to it.
        unsafe { std::slice::from_raw_parts(self.block.start().add(self.start), self.end - self.start) }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.block.start().add(self.start), self.end - self.start) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let part = self.start..self.end;
        self.block.writers.borrow_mut().retain(|writer| *writer != part);
    }
}

/// A block that is given out from the front in parts, each to a writer of its own; what is not being written may be read.
pub struct Parcel {
    block: Rc<Block>,
    given: usize,
}

impl Parcel {
    /// Bytes given out so far.
    pub fn given(&self) -> usize {
        self.given
    }

    /// Bytes that are left to give.
    pub fn room(&self) -> usize {
        self.block.span.bytes - self.given
    }

    /// The next `bytes`, for one writer. The caller has checked `room`; a part of no bytes is no part.
    pub fn give(&mut self, bytes: usize) -> Lease {
        assert!(bytes > 0 && bytes <= self.room(), "a parcel gives what it has");
        let (start, end) = (self.given, self.given + bytes);
        self.given = end;
        self.block.writers.borrow_mut().push(start..end);
        Lease { block: self.block.clone(), start, end }
    }

    /// Shares a part of what was given and is written no more.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.given, "a slice reaches beyond what was given");
        let overlaps = |writer: &Range<usize>| writer.start < range.end && range.start < writer.end;
        assert!(!self.block.writers.borrow().iter().any(overlaps), "a slice overlaps what is still written");
        Slice { block: self.block.clone(), start: range.start, end: range.end }
    }
}

/// A block that grows from the front: what is filled never changes and may be sliced, the rest is written by its owner.
pub struct Tail {
    block: Rc<Block>,
    filled: usize,
}

impl Tail {
    /// Bytes filled so far.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.block.span.bytes - self.filled
    }

    /// Copies `bytes` behind what is filled. The caller has checked `room`.
    pub fn append(&mut self, bytes: &[u8]) {
        let spare = self.spare_mut();
        let place = spare.get_mut(..bytes.len()).expect("the caller checked the room");
        place.copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// The unfilled rest, to be written and then `advance`d over. Its content is whatever was there.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        // SAFETY: slices cover filled bytes only, and only this tail writes behind them, under `&mut self`.
        unsafe {
            let start = self.block.start().add(self.filled);
            std::slice::from_raw_parts_mut(start, self.room())
        }
    }

    /// Declares the next `count` bytes filled.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.room(), "the filled part exceeds its block");
        self.filled += count;
    }

    /// Shares a part of what is filled.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.filled, "a slice reaches beyond what is filled");
        Slice { block: self.block.clone(), start: range.start, end: range.end }
    }
}

impl Deref for Tail {
    type Target = [u8];

    /// What is filled.
    fn deref(&self) -> &[u8] {
        // SAFETY: filled bytes are never written again.
        unsafe { std::slice::from_raw_parts(self.block.start(), self.filled) }
    }
}

/// Bytes of a block that never change while this exists. Cheap to clone; stays on its core.
#[derive(Clone)]
pub struct Slice {
    block: Rc<Block>,
    start: usize,
    end: usize,
}

impl Slice {
    /// A part of this slice, counted from its own start. The range must lie inside.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.len(), "a slice reaches beyond its parent");
        Slice { block: self.block.clone(), start: self.start + range.start, end: self.start + range.end }
    }

    /// The whole block for writing again, if nothing else refers to it.
    pub fn try_thaw(self) -> Result<Lease, Slice> {
        let (start, end) = (self.start, self.end);
        let thawed = |block: Block| {
            let end = block.span.bytes;
            Lease { block: Rc::new(block), start: 0, end }
        };
        Rc::try_unwrap(self.block).map(thawed).map_err(|block| Slice { block, start, end })
    }

    /// Lets another thread read these bytes. They come home when the loan is dropped.
    pub fn lend(&self) -> Lent {
        let arena = &self.block.arena;
        let loan = arena.next_loan.get();
        arena.next_loan.set(loan + 1);
        arena.lent.borrow_mut().insert(loan, self.block.clone());
        Lent { start: self.as_ptr(), bytes: self.len(), loan, home: arena.returns.clone() }
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range was checked against the block; frozen and filled bytes are never written again.
        unsafe { std::slice::from_raw_parts(self.block.start().add(self.start), self.end - self.start) }
    }
}

/// Bytes lent to another thread. Dropping it on any thread gives them back to the owning core.
pub struct Lent {
    start: *const u8,
    bytes: usize,
    loan: u64,
    home: Arc<ReturnQueue>,
}

// SAFETY: the bytes never change while the loan exists, and the owner's table keeps them mapped until the loan is back,
// even if the owner's thread ends. Nothing of the owner's non-atomic state is reachable from here.
unsafe impl Send for Lent {}
// SAFETY: as above; only shared reads are offered.
unsafe impl Sync for Lent {}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: see `Send`.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        lock(&self.home.loans).push(self.loan);
        self.home.any.store(true, Ordering::Release);
    }
}

/// Loans on their way home. The flag is set after the push, so a look that misses it is followed by one that does not.
#[derive(Default)]
struct ReturnQueue {
    any: AtomicBool,
    loans: std::sync::Mutex<Vec<u64>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_huge_pages_of_its_own_mappings_only() {
        let smaps = "1000-3000 rw-p 0 00:00 0\nAnonHugePages:      2048 kB\n\
                     3000-5000 rw-p 0 00:00 0\nRss: 4 kB\nAnonHugePages:      4096 kB\n\
                     7f00-8f00 rw-p 0 00:00 0 [heap]\nAnonHugePages:      8192 kB\n";
        assert_eq!(huge_bytes_within(smaps, 0x3000..0x5000), 4096 << 10);
        assert_eq!(huge_bytes_within(smaps, 0x2000..0x4000), 6144 << 10);
    }
}
