//! The store's driver in the simulator: memory, disk and effects under way.
//!
//! Every effect starts when it is handed out and completes when chance says so. Invariants checked here: a block is written
//! once in a life unless with identical bytes, and no two segments share a file.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::{Disk, Name, WriteId};
use super::faults::{Counts, Mode, superblock};
use super::memory::Memory;
use super::random::Random;
use crate::checksum::crc32c;
use crate::journal::replay::RingRead;
use crate::partition::Extent;
use crate::store::planted::Bug;
use crate::store::recovery::{Need, Recovery, Report, Restored};
use crate::store::{Effect, OpId, Outcome, Placed, Store, StoreConfig};
use crate::superblock::{Anchor, SLOT_BYTES, Superblock, TWO_SLOTS_BYTES, is_in_doubt};
use crate::units::{BLOCK_BYTES, FileId, JournalId, Now, TopicPartition};

pub(super) const JOURNAL: JournalId = JournalId(3);
pub(super) const DIRECTORY: [u8; 16] = [9; 16];
/// Small, so that most reads go to the disk.
const TAIL_CACHE_BYTES: u64 = 64 << 10;

/// What the disk does when an effect completes.
#[derive(Debug)]
enum Act {
    Nothing,
    Write(WriteId, bool),
    /// Of the writes that were complete when it began.
    Flush(Name, u64),
    SyncSegments,
    SyncJournal,
    Rename(Name, Name),
    Remove(Name),
}

#[derive(Debug)]
enum Done {
    Frame(u64),
    Op(OpId, Outcome),
}

/// Everything of one machine but its clients.
pub(super) struct World {
    pub disk: Disk,
    pub store: Store,
    pub now: Now,
    /// While true, creations and writes outside the ring may find no space.
    pub full: bool,
    pub random: Random,
    pub mode: Mode,
    pub faults: Counts,
    /// A write or a flush has failed: the process ends.
    pub failed: bool,
    bug: Option<Bug>,
    memory: Memory,
    under_way: Vec<(Done, Act)>,
    written: BTreeMap<(FileId, u64), u32>,
    /// In this life: frames wait long (true), everything else does (false), or neither.
    slow_frames: Option<bool>,
}

impl World {
    pub(super) fn create(config: StoreConfig, random: Random, now: Now, mode: Mode) -> World {
        let mut disk = Disk::new(u64::MAX);
        disk.create(Name::Anchor, TWO_SLOTS_BYTES);
        disk.create(Name::Superblock, TWO_SLOTS_BYTES);
        for generation in 1..3 {
            let (slot, bytes) = superblock(generation).encode();
            if let Some(write) = disk.submit(Name::Superblock, slot * SLOT_BYTES, bytes.to_vec()) {
                disk.complete(write, true);
            }
        }
        disk.create(Name::Ring(0), config.journal.ring_file_bytes as usize);
        disk.sync_names(|_| true);
        let (store, _) = Store::create(config, JOURNAL, DIRECTORY);
        World {
            disk,
            store,
            now,
            full: false,
            random,
            mode,
            faults: Counts::default(),
            failed: false,
            bug: config.bug,
            memory: Memory::new(TAIL_CACHE_BYTES),
            under_way: Vec::new(),
            written: BTreeMap::new(),
            slow_frames: None,
        }
    }

    /// Power fails and comes back: a new life over what is left, and over what flipped meanwhile. Returns the partitions that
    /// a flip may have damaged, and what recovery says.
    pub(super) fn restart(&mut self, config: StoreConfig) -> Result<(BTreeSet<TopicPartition>, Report), String> {
        self.disk.crash(&mut self.random);
        self.faults.add("power failures");
        self.slow_frames = if self.random.chance(50) { Some(self.random.chance(50)) } else { None };
        if let Some(frames) = self.slow_frames {
            self.faults.add(if frames { "lives with slow frames" } else { "lives with slow files" });
        }
        self.failed = false;
        self.memory = Memory::new(TAIL_CACHE_BYTES);
        self.under_way.clear();
        self.written.clear();
        let flips = self.mode == Mode::Flips && self.random.chance(60);
        let may_concern = if flips { self.flip(&config) } else { BTreeSet::new() };
        self.check_identity()?;
        let bytes = self.disk.read(Name::Anchor, 0, TWO_SLOTS_BYTES);
        let Ok(anchor) = Anchor::decode("anchor", &bytes, DIRECTORY, JOURNAL) else {
            self.store = Store::create(config, JOURNAL, DIRECTORY).0;
            return Ok((may_concern, Report::default()));
        };
        let is_whole = |slot: &u32| self.disk.length(Name::Ring(*slot)) == anchor.ring_file_bytes;
        let ring_files_count = (anchor.ring_files_count..).find(|slot| !is_whole(slot)).unwrap_or(u32::MAX);
        let recovery = Recovery::new(config, Anchor { ring_files_count, ..anchor }, self.segment_files(), self.now);
        let in_doubt = is_in_doubt(&bytes);
        self.recover(if in_doubt { recovery.doubting_anchor() } else { recovery }, &anchor)
            .map(|report| (may_concern, report))
    }

    /// What the superblock says survives the loss of either slot.
    fn check_identity(&self) -> Result<(), String> {
        let bytes = self.disk.read(Name::Superblock, 0, TWO_SLOTS_BYTES);
        let found =
            Superblock::decode("superblock", &bytes).map_err(|fault| format!("the start is refused: {fault}"))?;
        match superblock(found.generation) == found {
            true => Ok(()),
            false => Err(format!("the superblock came back as {found:?}")),
        }
    }

    fn recover(&mut self, mut recovery: Recovery, anchor: &Anchor) -> Result<Report, String> {
        let fails = self.mode == Mode::Errors && self.random.chance(30);
        let unreadable = self.replaceable_image(anchor).filter(|_| fails);
        while let Some(need) = recovery.need() {
            let bytes = match need {
                Need::Image { id } if Some(id) == unreadable => {
                    self.faults.add("images that could not be read");
                    Vec::new()
                }
                need => self.fetch(&need),
            };
            recovery.supply(&bytes).map_err(|fault| format!("the start is refused: {fault}"))?;
            self.restore(&mut recovery);
        }
        self.restore(&mut recovery);
        let (store, report) = recovery.finish();
        self.store = store;
        Ok(report)
    }

    pub(super) fn segment_files(&self) -> BTreeMap<FileId, u64> {
        let files = self.disk.names().into_iter().filter_map(|name| match name {
            Name::Segment(file) => Some((file, self.disk.length(name))),
            _ => None,
        });
        files.collect()
    }

    fn fetch(&self, need: &Need) -> Vec<u8> {
        match need {
            Need::Image { id } => self.disk.read(Name::Image(*id), 0, usize::MAX),
            Need::Ring(read) => self.ring(read),
            Need::Segment { file, position, length } => {
                self.disk.read(Name::Segment(*file), *position as usize, *length as usize)
            }
        }
    }

    pub(super) fn ring(&self, read: &RingRead) -> Vec<u8> {
        let mut bytes = self.disk.read(Name::Ring(read.slot), read.position as usize, read.length as usize);
        bytes.resize(read.length as usize, 0);
        bytes
    }

    fn restore(&mut self, recovery: &mut Recovery) {
        for (slot, file) in recovery.take_forgotten() {
            self.memory.forget(slot, file);
        }
        for Restored { slot, file, position, bytes } in recovery.take_restored() {
            self.memory.restore(slot, file, position, &bytes);
        }
    }

    /// Puts a placed batch, with its final bytes, into memory.
    pub(super) fn place(&mut self, placed: &Placed, bytes: &[u8]) {
        match placed.reference {
            true => self.memory.adopt(placed.slot, placed.file, placed.position, bytes),
            false => self.memory.put_for_frame(placed.slot, placed.file, placed.position, bytes),
        }
    }

    /// Bytes of a segment and whether some came from disk; `None` if the disk fails.
    pub(super) fn read(&mut self, key: TopicPartition, extent: &Extent) -> Option<(Vec<u8>, bool)> {
        let slot = self.store.slot(key)?;
        let range = extent.position..extent.position + extent.length;
        let from = |position: u64, length: u64| {
            let mut bytes = self.disk.read(Name::Segment(extent.file), position as usize, length as usize);
            bytes.resize(length as usize, 0);
            bytes
        };
        let (bytes, from_disk) = self.memory.read(slot, extent.file, range, from);
        if from_disk && self.mode == Mode::Errors && self.random.chance(5) {
            self.faults.add("reads that failed");
            return None;
        }
        Some((bytes, from_disk))
    }

    /// Starts every effect that the store hands out.
    pub(super) fn pump(&mut self) -> Result<(), String> {
        for _ in 0..10_000 {
            let Some(effect) = self.store.next_effect() else { return Ok(()) };
            self.perform(effect)?;
        }
        Err("the store hands out effects without an end".to_owned())
    }

    pub(super) fn perform(&mut self, effect: Effect) -> Result<(), String> {
        let Some(effect) = self.perform_now(effect)? else { return Ok(()) };
        if let Effect::WriteSegment { op, .. } | Effect::CreateFile { op, .. } | Effect::WriteImage { op, .. } = effect
            && self.finds_no_space()
        {
            self.under_way.push((Done::Op(op, Outcome::NoSpace), Act::Nothing));
            return Ok(());
        }
        let (op, act) = self.begin(effect)?;
        self.under_way.push((Done::Op(op, Outcome::Done), act));
        Ok(())
    }

    /// Effects that end at once, and frames, which are encoded at once.
    fn perform_now(&mut self, effect: Effect) -> Result<Option<Effect>, String> {
        match effect {
            Effect::WriteFrame(plan) => {
                let mut bytes = vec![0xaa; plan.length as usize];
                let memory = &mut self.memory;
                self.store.encode_frame(&plan, &mut bytes, |slot, file, range, place| {
                    place.copy_from_slice(&memory.copy(slot, file, range.clone()));
                    memory.framed(slot, file, range);
                });
                let write = self.submit(Name::Ring(plan.slot), plan.position, bytes)?;
                self.under_way.push((Done::Frame(plan.sequence), Act::Write(write, true)));
            }
            Effect::SliceImage => {
                let memory = &self.memory;
                self.store.slice_image(|slot, file, range, out| out.extend(memory.copy(slot, file, range)));
            }
            Effect::Again => {}
            Effect::ForgetFile { slot, file } => {
                self.memory.forget(slot, file);
                self.written.retain(|(other, _), _| *other != file);
            }
            Effect::Drained { slot, file, position } => self.memory.drained(slot, file, position),
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// Effects that end later: what the disk does until then.
    fn begin(&mut self, effect: Effect) -> Result<(OpId, Act), String> {
        Ok(match effect {
            Effect::WriteSegment { op, slot, file, position, length, durable } => {
                let bytes = self.memory.blocks(slot, file, position..position + length);
                self.note_written(file, position, &bytes)?;
                (op, Act::Write(self.submit(Name::Segment(file), position, bytes)?, durable))
            }
            Effect::CreateRingFile { op, slot } => {
                let bytes = self.store.anchor().ring_file_bytes as usize;
                self.disk.create(Name::Ring(slot), bytes);
                (op, Act::SyncJournal)
            }
            Effect::CreateFile { op, file, .. } => {
                self.disk.create(Name::Segment(file), 0);
                (op, Act::SyncSegments)
            }
            Effect::WriteImage { op, image, bytes } => {
                let name = Name::ImageInProgress(image);
                self.disk.create(name, 0);
                (op, Act::Write(self.submit(name, 0, bytes)?, false))
            }
            Effect::WriteAnchor { op, slot, bytes } => {
                let position = u64::from(slot) * SLOT_BYTES as u64;
                (op, Act::Write(self.submit(Name::Anchor, position, bytes)?, true))
            }
            Effect::FlushFile { op, file } => (op, Act::Flush(Name::Segment(file), self.disk.mark())),
            Effect::FlushImage { op, image } => (op, Act::Flush(Name::ImageInProgress(image), self.disk.mark())),
            Effect::SyncSegments { op } => (op, Act::SyncSegments),
            Effect::SyncImages { op } => (op, Act::SyncJournal),
            Effect::RenameImage { op, image } => (op, Act::Rename(Name::ImageInProgress(image), Name::Image(image))),
            Effect::RemoveImage { op, image } => (op, Act::Remove(Name::Image(image))),
            Effect::RemoveFile { op, file } => (op, Act::Remove(Name::Segment(file))),
            other => return Err(format!("{other:?} was performed before")),
        })
    }

    fn finds_no_space(&mut self) -> bool {
        let none = self.full && self.random.chance(50);
        if none {
            self.faults.add("writes that found no space");
        }
        none
    }

    fn submit(&mut self, name: Name, position: u64, bytes: Vec<u8>) -> Result<WriteId, String> {
        self.disk
            .submit(name, position as usize, bytes)
            .ok_or_else(|| format!("a write into {name:?}, which is missing"))
    }

    fn note_written(&mut self, file: FileId, position: u64, bytes: &[u8]) -> Result<(), String> {
        for (index, block) in bytes.chunks(BLOCK_BYTES as usize).enumerate() {
            let at = position / BLOCK_BYTES + index as u64;
            let sum = crc32c(block);
            if self.written.insert((file, at), sum).is_some_and(|before| before != sum) {
                return Err(format!("block {at} of file {:x} is written again with other bytes", file.0));
            }
        }
        Ok(())
    }

    pub(super) fn under_way_count(&self) -> usize {
        self.under_way.len()
    }

    /// Completes one effect that chance picks.
    pub(super) fn complete_one(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let mut at = self.random.below(self.under_way.len() as u64) as usize;
        for _ in 0..6 {
            let is_frame = matches!(self.under_way.get(at), Some((Done::Frame(_), _)));
            if self.slow_frames != Some(is_frame) {
                break;
            }
            at = self.random.below(self.under_way.len() as u64) as usize;
        }
        let (done, act) = self.under_way.swap_remove(at);
        if self.mode == Mode::Errors && self.random.below(1000) < 8 {
            self.faults.add(if matches!(act, Act::Write(..)) { "writes that failed" } else { "flushes that failed" });
            self.failed = self.bug != Some(Bug::ErrorIgnored);
            if !self.failed {
                self.report(done);
            }
            return;
        }
        match act {
            Act::Nothing => {}
            Act::Write(write, durable) => self.disk.complete(write, durable),
            Act::Flush(name, mark) => self.disk.flush_before(name, mark),
            Act::SyncSegments => self.disk.sync_names(|name| matches!(name, Name::Segment(_))),
            Act::SyncJournal => self.disk.sync_names(|name| !matches!(name, Name::Segment(_))),
            Act::Rename(from, to) => self.disk.rename(from, to),
            Act::Remove(name) => self.disk.remove(name),
        }
        self.report(done);
    }

    fn report(&mut self, done: Done) {
        match done {
            Done::Frame(sequence) => self.store.frame_written(sequence),
            Done::Op(op, outcome) => self.store.complete(self.now, op, outcome),
        }
    }

    /// No two live segments share a file.
    pub(super) fn check_files(&self) -> Result<(), String> {
        let mut files = BTreeSet::new();
        for segment in self.store.partitions().flat_map(|partition| partition.segments().iter()) {
            if !files.insert(segment.file) {
                return Err(format!("two segments live in file {:x}", segment.file.0));
            }
        }
        Ok(())
    }
}
