//! Performs a store's effects: each one a task of its own that ends in the store's completion.
//!
//! Owns the open files of one journal. A failed write or flush is never retried; only a lack of space outside the ring is
//! reported to the store, which knows what to do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use super::arena::{Arena, Lease};
use super::buffers::Piece;
use super::data_dir::DataDir;
use super::executor::{self, machine_now};
use super::file::{self, File, OpenHow, Space};
use super::names::Names;
use super::open_files::OpenFiles;
use super::shard::{DiskOp, Shard};
use crate::error::Fault;
use crate::journal::FramePlan;
use crate::limits::{FRAME_BYTES_MAX, FRAMES_IN_FLIGHT_MAX, RING_FILE_BYTES};
use crate::store::{Effect, OpId, Outcome};
use crate::superblock::SLOT_BYTES;
use crate::units::{FileId, JournalId, block_ceil};

/// Segment files that all shards together keep open: this part of what the process may have open.
const OPEN_FILES_DIVISOR: usize = 2;
/// Zeroes are written in steps of this size.
const STEP_BYTES: usize = 1 << 20;

pub(super) const DIRECT: OpenHow =
    OpenHow { read_only: false, create: false, exclusive: false, truncate: false, direct: true };
pub(super) const DIRECT_NEW: OpenHow = OpenHow { create: true, ..DIRECT };

/// The files of one journal, and buffers for its frames.
pub(super) struct Performer {
    dir: DataDir,
    journal: JournalId,
    anchor: File,
    anchor_block: RefCell<Option<Lease>>,
    ring: RefCell<BTreeMap<u32, File>>,
    segments: RefCell<OpenFiles>,
    names: Names,
    frames: Rc<RefCell<Vec<Lease>>>,
}

impl Performer {
    pub(super) fn new(
        dir: DataDir,
        journal: JournalId,
        anchor: File,
        ring: BTreeMap<u32, File>,
        arena: &Arena,
    ) -> Result<Performer, Fault> {
        let lease = |bytes| arena.try_alloc(bytes).ok_or(Fault::NoSpace { what: "the journal's frames" });
        let frames =
            (0..FRAMES_IN_FLIGHT_MAX).map(|_| lease(FRAME_BYTES_MAX as usize)).collect::<Result<Vec<_>, _>>()?;
        let anchor_block = RefCell::new(Some(lease(SLOT_BYTES)?));
        let open_files_max = file::open_files_limit() / OPEN_FILES_DIVISOR / dir.journals().len().max(1);
        Ok(Performer {
            names: Names::new(dir.segments()),
            dir,
            journal,
            anchor,
            anchor_block,
            ring: RefCell::new(ring),
            segments: RefCell::new(OpenFiles::new(open_files_max)),
            frames: Rc::new(RefCell::new(frames)),
        })
    }

    /// The space of the data directory's file system.
    pub(super) fn space(&self) -> Result<Space, Fault> {
        file::space(self.dir.path())
    }

    /// The open file of a segment.
    pub(super) async fn segment(&self, id: FileId) -> Result<File, Fault> {
        if let Some(file) = self.segments.borrow_mut().get(id) {
            return Ok(file);
        }
        let file = File::open(self.dir.segment(id), DIRECT).await?;
        self.segments.borrow_mut().insert(id, file.clone());
        Ok(file)
    }

    fn ring_file(&self, slot: u32) -> File {
        self.ring.borrow().get(&slot).cloned().expect("frames go to files that are open")
    }
}

impl Shard {
    pub(super) fn perform(&self, effect: Effect) {
        match effect {
            Effect::WriteFrame(plan) => self.write_frame(&plan),
            Effect::SliceImage => self.slice_image(),
            Effect::Again => {}
            Effect::ForgetFile { slot, file } => {
                self.0.memory.borrow_mut().forget(slot, file);
                self.ahead_forget(file);
                self.0.performer.segments.borrow_mut().remove(file);
            }
            Effect::Drained { slot, file, position } => self.0.memory.borrow_mut().drained(slot, file, position),
            Effect::WriteSegment { op, slot, file, position, length, durable } => {
                let slices = self.0.memory.borrow_mut().blocks(slot, file, position..position + length);
                let pieces = slices.into_iter().map(Piece::from).collect();
                self.run(op, async move |shard| {
                    let opened = shard.0.performer.segment(file).await?;
                    let submitted = executor::now();
                    opened.write_at(pieces, position, durable).await?;
                    shard.observe(DiskOp::SegmentWrite, submitted);
                    shard.count(|counters| counters.segment_bytes += length);
                    Ok(())
                });
            }
            Effect::FlushFile { op, file } => self.run_or_fail(op, async move |shard| {
                let opened = shard.0.performer.segment(file).await?;
                let submitted = executor::now();
                opened.fdatasync().await?;
                shard.observe(DiskOp::SegmentFlush, submitted);
                shard.count(|counters| counters.flushes_count += 1);
                Ok(())
            }),
            Effect::CreateFile { op, file, allocate_bytes, write_zeroes } => {
                self.run(op, async move |shard| shard.create_file(file, allocate_bytes, write_zeroes).await);
            }
            other => self.perform_path(other),
        }
    }

    /// Effects on names, images and the anchor.
    fn perform_path(&self, effect: Effect) {
        match effect {
            Effect::CreateRingFile { op, slot } => {
                self.run(op, async move |shard| shard.create_ring_file(slot).await);
            }
            Effect::SyncSegments { op } => {
                self.run_or_fail(op, async move |shard| file::sync_dir(&shard.0.performer.dir.segments()).await);
            }
            Effect::WriteImage { op, image, bytes } => {
                self.run(op, async move |shard| shard.write_image(image, bytes).await);
            }
            Effect::FlushImage { op, image } => self.run(op, async move |shard| {
                let performer = &shard.0.performer;
                let path = performer.dir.image_in_progress(performer.journal, image);
                File::open(path, DIRECT).await?.fdatasync().await
            }),
            Effect::RenameImage { op, image } => self.run(op, async move |shard| {
                let performer = &shard.0.performer;
                let from = performer.dir.image_in_progress(performer.journal, image);
                file::rename(&from, &performer.dir.image(performer.journal, image)).await
            }),
            Effect::SyncImages { op } => {
                self.run_or_fail(op, async move |shard| file::sync_dir(&shard.0.performer.dir.images()).await);
            }
            Effect::WriteAnchor { op, slot, bytes } => {
                self.run_or_fail(op, async move |shard| shard.write_anchor(slot, &bytes).await);
            }
            Effect::RemoveImage { op, image } => self.run(op, async move |shard| {
                let performer = &shard.0.performer;
                unlink_if_there(&performer.dir.image(performer.journal, image)).await
            }),
            Effect::RemoveFile { op, file } => self.run(op, async move |shard| {
                shard.0.performer.segments.borrow_mut().remove(file);
                unlink_if_there(&shard.0.performer.dir.segment(file)).await
            }),
            _ => unreachable!("handled by perform"),
        }
    }

    fn run<F>(&self, op: OpId, body: F)
    where
        F: AsyncFnOnce(Shard) -> Result<(), Fault> + 'static,
    {
        self.run_as(op, true, body);
    }

    /// A flush that failed has lost what it was to keep, for whatever reason: it is not tried again.
    fn run_or_fail<F>(&self, op: OpId, body: F)
    where
        F: AsyncFnOnce(Shard) -> Result<(), Fault> + 'static,
    {
        self.run_as(op, false, body);
    }

    fn run_as<F>(&self, op: OpId, may_lack_space: bool, body: F)
    where
        F: AsyncFnOnce(Shard) -> Result<(), Fault> + 'static,
    {
        let shard = self.clone();
        executor::spawn(async move {
            let result = body(shard.clone()).await;
            let outcome = match result {
                Ok(()) => Outcome::Done,
                Err(fault) if may_lack_space && fault.is_no_space() => {
                    tracing::warn!(shard = shard.0.id.0, %fault, "disk full");
                    Outcome::NoSpace
                }
                Err(fault) => return shard.fail(fault),
            };
            shard.0.store.borrow_mut().complete(machine_now(), op, outcome);
            shard.progressed();
        });
    }

    /// Encodes at once, since the order of frames is the order of their encoding, and writes in the background.
    fn write_frame(&self, plan: &FramePlan) {
        let performer = &self.0.performer;
        let length = plan.length as usize;
        let mut lease = performer.frames.borrow_mut().pop().expect("there is a buffer for each frame in flight");
        let mut memory = self.0.memory.borrow_mut();
        let out = lease.get_mut(..length).expect("a frame fits its buffer");
        self.0.store.borrow_mut().encode_frame(plan, out, |slot, file, range, place| {
            let mut at = 0;
            memory.copy(slot, file, range.clone(), |bytes| {
                if let Some(target) = place.get_mut(at..at + bytes.len()) {
                    target.copy_from_slice(bytes);
                }
                at += bytes.len();
            });
            memory.framed(slot, file, range);
        });
        drop(memory);
        let (ring, position, sequence) = (performer.ring_file(plan.slot), plan.position, plan.sequence);
        let shard = self.clone();
        let submitted = executor::now();
        executor::spawn(async move {
            match ring.write_lease_at(lease, position, length, true).await {
                Ok(lease) => shard.0.performer.frames.borrow_mut().push(lease),
                Err(fault) => return shard.fail(fault),
            }
            shard.count(|counters| {
                counters.frames_count += 1;
                counters.frame_bytes += length as u64;
            });
            shard.observe(DiskOp::Commit, submitted);
            shard.0.store.borrow_mut().frame_written(sequence);
            shard.progressed();
        });
    }

    fn slice_image(&self) {
        let memory = self.0.memory.borrow();
        self.0.store.borrow_mut().slice_image(|slot, file, range, out| {
            memory.copy(slot, file, range, |bytes| out.extend_from_slice(bytes));
        });
    }

    async fn create_file(&self, id: FileId, allocate_bytes: u64, write_zeroes: bool) -> Result<(), Fault> {
        let performer = &self.0.performer;
        let opened = File::open(performer.dir.segment(id), DIRECT_NEW).await?;
        // A file without bytes is its name: what flushes the directory makes both durable.
        if allocate_bytes > 0 {
            opened.fallocate(0, allocate_bytes).await?;
            if write_zeroes {
                write_zeroed(&opened, allocate_bytes, &self.0.arena).await?;
                self.count(|counters| counters.pool_bytes += allocate_bytes);
            }
            opened.fdatasync().await?;
        }
        performer.names.flush().await?;
        performer.segments.borrow_mut().insert(id, opened);
        Ok(())
    }

    async fn create_ring_file(&self, slot: u32) -> Result<(), Fault> {
        let performer = &self.0.performer;
        let opened = make_ring_file(&performer.dir, performer.journal, slot, &self.0.arena).await?;
        performer.ring.borrow_mut().insert(slot, opened);
        Ok(())
    }

    async fn write_image(&self, image: u64, bytes: Vec<u8>) -> Result<(), Fault> {
        let performer = &self.0.performer;
        let path = performer.dir.image_in_progress(performer.journal, image);
        let opened = File::open(path, OpenHow { truncate: true, ..DIRECT_NEW }).await?;
        let mut lease = self.0.arena.try_alloc(STEP_BYTES).ok_or(Fault::NoSpace { what: "an image's buffer" })?;
        let mut position = 0;
        for step in bytes.chunks(STEP_BYTES) {
            lease.get_mut(..step.len()).expect("a step fits its buffer").copy_from_slice(step);
            lease = opened.write_lease_at(lease, position, step.len(), false).await?;
            position += step.len() as u64;
        }
        self.count(|counters| {
            counters.checkpoints_count += 1;
            counters.image_bytes += position;
        });
        Ok(())
    }

    async fn write_anchor(&self, slot: u8, bytes: &[u8]) -> Result<(), Fault> {
        let performer = &self.0.performer;
        let held = performer.anchor_block.borrow_mut().take().or_else(|| self.0.arena.try_alloc(bytes.len()));
        let mut lease = held.ok_or(Fault::NoSpace { what: "an anchor's buffer" })?;
        lease.get_mut(..bytes.len()).expect("a block fits its buffer").copy_from_slice(bytes);
        let position = u64::from(slot) * bytes.len() as u64;
        let lease = performer.anchor.write_lease_at(lease, position, bytes.len(), true).await?;
        *performer.anchor_block.borrow_mut() = Some(lease);
        Ok(())
    }
}

async fn unlink_if_there(path: &Path) -> Result<(), Fault> {
    match file::unlink(path).await {
        Err(fault) if fault.errno() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// A ring file of zeroes, durable with its name.
pub(super) async fn make_ring_file(dir: &DataDir, journal: JournalId, slot: u32, arena: &Arena) -> Result<File, Fault> {
    let opened = File::open(dir.ring(journal, slot), DIRECT_NEW).await?;
    opened.fallocate(0, RING_FILE_BYTES).await?;
    write_zeroed(&opened, RING_FILE_BYTES, arena).await?;
    opened.fdatasync().await?;
    file::sync_dir(&dir.journal(journal)).await?;
    Ok(opened)
}

async fn write_zeroed(file: &File, bytes: u64, arena: &Arena) -> Result<(), Fault> {
    let mut lease = arena.try_alloc(STEP_BYTES).ok_or(Fault::NoSpace { what: "a buffer of zeroes" })?;
    lease.get_mut(..STEP_BYTES).expect("a lease is as long as asked").fill(0);
    let zeroes = lease.freeze();
    let mut position = 0;
    while position < bytes {
        let step = block_ceil((bytes - position).min(STEP_BYTES as u64)) as usize;
        file.write_slice_at(zeroes.slice(0..step), position, false).await?;
        position += step as u64;
        executor::yield_if_needed().await;
    }
    Ok(())
}
