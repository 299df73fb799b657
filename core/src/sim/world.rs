//! The store's driver in the simulator: memory, disk and effects under way.
//!
//! Every effect starts when it is handed out and completes when chance says so. Invariants checked here: a block is written
//! once in a life unless with identical bytes, and no two segments share a file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::disk::{Disk, Name, WriteId};
use super::random::Random;
use crate::checksum::crc32c;
use crate::store::recovery::{Need, Recovery, Restored};
use crate::store::{Effect, OpId, Outcome, Store, StoreConfig};
use crate::superblock::{Anchor, SLOT_BYTES, TWO_SLOTS_BYTES};
use crate::units::{BLOCK_BYTES, FileId, JournalId, Now, Slot};

const JOURNAL: JournalId = JournalId(3);
const DIRECTORY: [u8; 16] = [9; 16];

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

/// Tails in memory, a block at a time; bytes where nothing was placed are zero.
type Blocks = BTreeMap<u64, Vec<u8>>;

/// Everything of one machine but its clients.
pub(super) struct World {
    pub disk: Disk,
    pub store: Store,
    pub now: Now,
    /// While true, creations and writes outside the ring may find no space.
    pub full: bool,
    pub random: Random,
    memory: BTreeMap<FileId, (Slot, Blocks)>,
    under_way: Vec<(Done, Act)>,
    written: BTreeMap<(FileId, u64), u32>,
    /// In this life: frames wait long (true), everything else does (false), or neither.
    slow_frames: Option<bool>,
}

impl World {
    pub(super) fn create(config: StoreConfig, random: Random, now: Now) -> World {
        let mut disk = Disk::new(u64::MAX);
        disk.create(Name::Anchor, TWO_SLOTS_BYTES);
        disk.create(Name::Ring(0), config.journal.ring_file_bytes as usize);
        disk.sync_names(|_| true);
        let (store, _) = Store::create(config, JOURNAL, DIRECTORY);
        let (memory, written) = (BTreeMap::new(), BTreeMap::new());
        World { disk, store, now, full: false, random, memory, under_way: Vec::new(), written, slow_frames: None }
    }

    /// Power fails and comes back: a new life over what is left.
    pub(super) fn restart(&mut self, config: StoreConfig) -> Result<(), String> {
        self.disk.crash(&mut self.random);
        self.slow_frames = if self.random.chance(50) { Some(self.random.chance(50)) } else { None };
        self.memory.clear();
        self.under_way.clear();
        self.written.clear();
        let bytes = self.disk.read(Name::Anchor, 0, TWO_SLOTS_BYTES);
        let Ok(anchor) = Anchor::decode("anchor", &bytes, DIRECTORY, JOURNAL) else {
            self.store = Store::create(config, JOURNAL, DIRECTORY).0;
            return Ok(());
        };
        let mut recovery = Recovery::new(config, anchor, self.lengths(), self.now);
        while let Some(need) = recovery.need() {
            let bytes = self.fetch(&need);
            self.restore(recovery.take_restored());
            recovery.supply(&bytes).map_err(|fault| format!("the start is refused: {fault}"))?;
        }
        self.restore(recovery.take_restored());
        let (store, report) = recovery.finish();
        self.store = store;
        match report.damaged.first() {
            Some((key, why)) => Err(format!("{key} failed closed although nothing was damaged: {why}")),
            None => Ok(()),
        }
    }

    fn lengths(&self) -> BTreeMap<FileId, u64> {
        let files = self.disk.names().into_iter().filter_map(|name| match name {
            Name::Segment(file) => Some((file, self.disk.length(name))),
            _ => None,
        });
        files.collect()
    }

    fn fetch(&self, need: &Need) -> Vec<u8> {
        match need {
            Need::Image { id } => self.disk.read(Name::Image(*id), 0, usize::MAX),
            Need::Ring(read) => {
                let mut bytes = self.disk.read(Name::Ring(read.slot), read.position as usize, read.length as usize);
                bytes.resize(read.length as usize, 0);
                bytes
            }
            Need::Segment { file, position, length } => {
                self.disk.read(Name::Segment(*file), *position as usize, *length as usize)
            }
        }
    }

    fn restore(&mut self, restored: Vec<Restored>) {
        for Restored { slot, file, position, bytes } in restored {
            self.put(slot, file, position, &bytes);
        }
    }

    /// Puts bytes into memory at their place.
    pub(super) fn put(&mut self, slot: Slot, file: FileId, position: u64, bytes: &[u8]) {
        let (owner, blocks) = self.memory.entry(file).or_insert_with(|| (slot, Blocks::new()));
        if *owner != slot {
            (*owner, *blocks) = (slot, Blocks::new());
        }
        let mut at = position;
        let mut rest = bytes;
        while !rest.is_empty() {
            let inside = (at % BLOCK_BYTES) as usize;
            let (head, tail) = rest.split_at(rest.len().min(BLOCK_BYTES as usize - inside));
            let block = blocks.entry(at / BLOCK_BYTES).or_insert_with(|| vec![0; BLOCK_BYTES as usize]);
            if let Some(place) = block.get_mut(inside..inside + head.len()) {
                place.copy_from_slice(head);
            }
            at += head.len() as u64;
            rest = tail;
        }
    }

    /// Bytes of a file: from memory where they are there, from disk otherwise (`from_disk`) or zero.
    pub(super) fn bytes(&self, file: FileId, range: Range<u64>, from_disk: bool) -> Vec<u8> {
        let blocks = self.memory.get(&file).map(|(_, blocks)| blocks);
        let mut out = Vec::with_capacity((range.end - range.start) as usize);
        let mut at = range.start;
        while at < range.end {
            let end = ((at / BLOCK_BYTES + 1) * BLOCK_BYTES).min(range.end);
            let inside = (at % BLOCK_BYTES) as usize;
            let count = (end - at) as usize;
            match blocks.and_then(|blocks| blocks.get(&(at / BLOCK_BYTES))) {
                Some(block) => out.extend_from_slice(block.get(inside..inside + count).unwrap_or_default()),
                None if from_disk => out.extend(self.disk.read(Name::Segment(file), at as usize, count)),
                None => {}
            }
            out.resize((end - range.start) as usize, 0);
            at = end;
        }
        out
    }

    /// Starts every effect that the store hands out.
    pub(super) fn pump(&mut self) -> Result<(), String> {
        for _ in 0..10_000 {
            let Some(effect) = self.store.next_effect() else { return Ok(()) };
            self.perform(effect)?;
        }
        Err("the store hands out effects without an end".to_owned())
    }

    fn perform(&mut self, effect: Effect) -> Result<(), String> {
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
                let memory = &self.memory;
                self.store.encode_frame(&plan, &mut bytes, |_, file, range, place| copy(memory, file, range, place));
                let write = self.submit(Name::Ring(plan.slot), plan.position, bytes)?;
                self.under_way.push((Done::Frame(plan.sequence), Act::Write(write, true)));
            }
            Effect::SliceImage => {
                let memory = &self.memory;
                self.store.slice_image(|_, file, range, out| {
                    let at = out.len();
                    out.resize(at + (range.end - range.start) as usize, 0);
                    copy(memory, file, range, out.get_mut(at..).unwrap_or_default());
                });
            }
            Effect::Again => {}
            Effect::ForgetFile { slot, file } => {
                if self.memory.get(&file).is_some_and(|(owner, _)| *owner == slot) {
                    self.memory.remove(&file);
                }
                self.written.retain(|(other, _), _| *other != file);
            }
            Effect::Drained { file, position, .. } => {
                if let Some((_, blocks)) = self.memory.get_mut(&file).filter(|_| self.random.chance(50)) {
                    blocks.retain(|block, _| (*block + 1).saturating_mul(BLOCK_BYTES) > position);
                }
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// Effects that end later: what the disk does until then.
    fn begin(&mut self, effect: Effect) -> Result<(OpId, Act), String> {
        Ok(match effect {
            Effect::WriteSegment { op, file, position, length, durable, .. } => {
                let bytes = self.bytes(file, position..position + length, false);
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
        self.full && self.random.chance(50)
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
        match act {
            Act::Nothing => {}
            Act::Write(write, durable) => self.disk.complete(write, durable),
            Act::Flush(name, mark) => self.disk.flush_before(name, mark),
            Act::SyncSegments => self.disk.sync_names(|name| matches!(name, Name::Segment(_))),
            Act::SyncJournal => self.disk.sync_names(|name| !matches!(name, Name::Segment(_))),
            Act::Rename(from, to) => self.disk.rename(from, to),
            Act::Remove(name) => self.disk.remove(name),
        }
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

fn copy(memory: &BTreeMap<FileId, (Slot, Blocks)>, file: FileId, range: Range<u64>, place: &mut [u8]) {
    place.fill(0);
    let Some((_, blocks)) = memory.get(&file) else { return };
    for (index, byte_range) in blocks_of(&range) {
        let Some(block) = blocks.get(&index) else { continue };
        let at = (index * BLOCK_BYTES + byte_range.start as u64 - range.start) as usize;
        let bytes = block.get(byte_range).unwrap_or_default();
        if let Some(to) = place.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }
}

fn blocks_of(range: &Range<u64>) -> impl Iterator<Item = (u64, Range<usize>)> {
    let Range { start, end } = *range;
    (start / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)).map(move |index| {
        let base = index * BLOCK_BYTES;
        (index, (start.max(base) - base) as usize..(end.min(base + BLOCK_BYTES) - base) as usize)
    })
}
