//! One shard's storage as one machine: a journal, the partitions that it carries, their files and the checkpoints.
//!
//! Owns the order of everything durable on a shard. A driver hands in appends and completions with the time, performs the
//! [`Effect`]s and holds the bytes; the simulator is another such driver. Invariants:
//! * a change is applied to its partition in the call that pushes it to the journal, so both have one order;
//! * a reply computed from a change leaves only when [`Store::durable`] has reached the change's stamp;
//! * a file is used again, and the ring's tail moves, only when what allows it is durable.

mod append;
mod checkpointing;
pub mod effect;
pub mod files;
mod findings;
pub mod image;
mod maintenance;
pub mod planted;
pub mod recovery;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

pub use append::{Appending, Placed};
pub use effect::{Effect, OpId, Outcome};

use crate::error::Refusal;
use crate::journal::{Change, Entry, FramePlan, Journal, JournalConfig, Quota};
use crate::partition::{ClockGuard, LogSettings, Partition};
use crate::units::{FileId, JournalId, Now, Slot, Stamp, TopicPartition, block_ceil};
use checkpointing::Checkpointing;
use files::{Files, Retired, Stretch};
use planted::Bug;

/// A store's limits. The defaults are the engine's; tests take smaller ones.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    pub journal: JournalConfig,
    /// Fully written files that wait for large segments.
    pub pool_files_max: usize,
    /// Background writes under way at once.
    pub drains_in_flight_max: usize,
    /// Flushes of segment files under way at once.
    pub flushes_in_flight_max: usize,
    /// Tails in memory beyond this are drained although they are small.
    pub unwritten_bytes_max: u64,
    /// A checkpoint begins when this much was appended since the last one, or when the ring is used to half.
    pub checkpoint_bytes: u64,
    /// A planted fault, to prove that the simulator finds it.
    #[cfg(any(test, feature = "sim"))]
    pub bug: Option<Bug>,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            journal: JournalConfig::default(),
            pool_files_max: 16,
            drains_in_flight_max: 4,
            flushes_in_flight_max: 16,
            unwritten_bytes_max: 128 << 20,
            checkpoint_bytes: 512 << 20,
            #[cfg(any(test, feature = "sim"))]
            bug: None,
        }
    }
}

/// A partition and what only its store knows.
#[derive(Debug)]
struct Tenant {
    partition: Partition,
    /// The catalog has spoken: before, no retention runs.
    configured: bool,
    /// The last change of any kind.
    last_stamp: Stamp,
}

/// What is free once a stamp is durable.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    File(Slot, FileId),
    Slot(Slot),
}

/// What an operation was for, until it completes.
#[derive(Clone, Debug)]
enum Op {
    RingFile(u32),
    /// The anchor of this run.
    Run,
    CreateFile(FileId),
    PoolFile(FileId),
    Segment {
        stretch: Stretch,
        durable: bool,
        stamp: Option<Stamp>,
    },
    Checkpoint,
    /// Of a file, for the checkpoint; several at once.
    Flush,
    Remove,
}

/// The storage of one shard.
#[derive(Debug)]
pub struct Store {
    config: StoreConfig,
    journal: Journal,
    keys: BTreeMap<TopicPartition, Slot>,
    tenants: Vec<Option<Box<Tenant>>>,
    free_slots: Vec<Slot>,
    files: Files,
    clock: ClockGuard,
    /// Appends whose durability moves a watermark, in the order of their stamps.
    unacknowledged: VecDeque<(Stamp, TopicPartition)>,
    /// Files that are free once the stamp is durable.
    leaving: VecDeque<(Stamp, Leaving)>,
    /// Where inline runs lie in memory until their frame is encoded.
    inline_files: BTreeMap<Stamp, (Slot, FileId)>,
    /// Drained stretches whose memory a frame up to the stamp still needs.
    held: VecDeque<(Stamp, Effect)>,
    /// Stamps of runs that wait for their file to exist, by where they go.
    references: BTreeMap<(FileId, u64), Stamp>,
    effects: VecDeque<Effect>,
    ops: BTreeMap<OpId, Op>,
    next_op: u64,
    drains_in_flight: usize,
    creating_pool_file: bool,
    /// The anchor says that this run has begun: frames may be written.
    run_is_durable: bool,
    disk_full: bool,
    advanced: Vec<TopicPartition>,
    checkpointing: Checkpointing,
    maintenance_at: Option<TopicPartition>,
}

impl Store {
    pub fn journal_id(&self) -> JournalId {
        self.journal.id()
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The partitions of this shard.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.tenants.iter().flatten().map(|tenant| &tenant.partition)
    }

    pub fn partition(&self, key: TopicPartition) -> Result<&Partition, Refusal> {
        self.tenant(key).map(|tenant| &tenant.partition)
    }

    /// For what changes no durable state: index scans.
    pub fn partition_mut(&mut self, key: TopicPartition) -> Result<&mut Partition, Refusal> {
        self.tenant_mut(key).map(|tenant| &mut tenant.partition)
    }

    /// Every change up to and with this stamp survives a power loss: replies computed from it may leave.
    pub fn durable(&self) -> Stamp {
        self.journal.durable()
    }

    /// What a reply computed from the partition's present state waits for.
    pub fn last_stamp(&self, key: TopicPartition) -> Result<Stamp, Refusal> {
        self.tenant(key).map(|tenant| tenant.last_stamp)
    }

    /// Fully written files that wait for large segments.
    pub fn pool_files_count(&self) -> usize {
        self.files.pool().len()
    }

    /// Bytes of tails that are not in their segments' files yet.
    pub fn unwritten_bytes(&self) -> u64 {
        self.files.unwritten_bytes()
    }

    /// Whether a record batch of any size would be admitted now.
    pub fn has_room(&self) -> bool {
        let run_bytes = crate::limits::REFERENCE_RUN_BYTES_MIN;
        self.journal.barrier_durable()
            && self.journal.admits(run_bytes, Quota::Records)
            && self.files.unwritten_bytes() < self.config.unwritten_bytes_max * 2
    }

    /// Whether a controller's or coordinator's batch of this size would be admitted now.
    pub fn admits_control(&self, bytes: u32) -> bool {
        self.journal.barrier_durable() && self.journal.admits(bytes, Quota::Control)
    }

    /// Takes over a partition that is new here, under this leader epoch; known ones only take the settings.
    pub fn assign(&mut self, now: Now, key: TopicPartition, settings: Arc<LogSettings>, leader_epoch: i32) -> Stamp {
        if let Ok(tenant) = self.tenant_mut(key) {
            tenant.partition.configure(settings);
            tenant.configured = true;
            return self.begin_epoch(now, key, leader_epoch);
        }
        self.adopt(Partition::new(key, settings), true, Stamp(0));
        let stamp = self.push(now, key, Change::Assign { leader_epoch });
        self.begin_epoch(now, key, leader_epoch).max(stamp)
    }

    fn begin_epoch(&mut self, now: Now, key: TopicPartition, epoch: i32) -> Stamp {
        let Ok(tenant) = self.tenant_mut(key) else { return Stamp(0) };
        match tenant.partition.begin_epoch(epoch) {
            Some(start_offset) => self.push(now, key, Change::Epoch { epoch, start_offset }),
            None => tenant.last_stamp,
        }
    }

    /// Takes new settings from the catalog.
    pub fn configure(&mut self, key: TopicPartition, settings: Arc<LogSettings>) -> Result<(), Refusal> {
        let tenant = self.tenant_mut(key)?;
        tenant.partition.configure(settings);
        tenant.configured = true;
        Ok(())
    }

    /// Drops a partition. It is unknown at once; its files are free when the returned stamp is durable.
    pub fn drop_partition(&mut self, now: Now, key: TopicPartition) -> Result<Stamp, Refusal> {
        let tenant = self.tenant(key)?;
        let files: Vec<_> = tenant.partition.segments().iter().map(|segment| segment.file).collect();
        let stamp = self.push(now, key, Change::Drop);
        self.leave(stamp, key, files);
        if let Some(slot) = self.keys.remove(&key) {
            if let Some(place) = self.tenants.get_mut(slot.0 as usize) {
                *place = None;
            }
            self.leaving.push_back((stamp, Leaving::Slot(slot)));
        }
        self.advanced.push(key);
        Ok(stamp)
    }

    /// Moves the log start (-1: to the high watermark); returns the new one and the stamp to wait for.
    pub fn delete_records(&mut self, now: Now, key: TopicPartition, offset: i64) -> Result<(i64, Stamp), Refusal> {
        let tenant = self.tenant_mut(key)?;
        let before = tenant.partition.log_start();
        let start = tenant.partition.delete_records(offset)?;
        if start.log_start == before {
            return Ok((before, tenant.last_stamp));
        }
        let stamp = self.push(now, key, Change::LogStart { offset: start.log_start });
        self.leave(stamp, key, start.dropped);
        Ok((start.log_start, stamp))
    }

    /// Whether new records are refused because the disk is full.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full
    }

    /// The driver has looked at the file system: `full` if less than the reserve is free.
    pub fn set_disk_full(&mut self, full: bool) {
        self.disk_full = full;
    }

    /// A read holds this file until `release_file`.
    pub fn lease_file(&mut self, file: FileId) {
        self.files.lease(file);
    }

    pub fn release_file(&mut self, file: FileId) {
        let retired = self.files.release(file);
        self.retired(file, retired);
    }

    /// Partitions whose high watermark moved, or that are gone, since the last call.
    pub fn take_advanced(&mut self) -> Vec<TopicPartition> {
        std::mem::take(&mut self.advanced)
    }

    /// The next thing to do. A frame must be encoded before the next call.
    pub fn next_effect(&mut self) -> Option<Effect> {
        if (self.run_is_durable || self.config.has_bug(Bug::FramesBeforeAnchor))
            && let Some(plan) = self.journal.next_frame()
        {
            return Some(Effect::WriteFrame(plan));
        }
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        if !self.disk_full
            && let Some(slot) = self.journal.growth()
        {
            let op = self.begin(Op::RingFile(slot));
            return Some(Effect::CreateRingFile { op, slot });
        }
        self.next_file_effect().or_else(|| self.next_checkpoint_effect()).or_else(|| self.next_pool_effect())
    }

    fn next_file_effect(&mut self) -> Option<Effect> {
        if !self.disk_full
            && let Some((file, whole)) = self.files.next_creation()
        {
            let op = self.begin(Op::CreateFile(file));
            let allocate_bytes = if whole { crate::limits::SEGMENT_FILE_BYTES } else { 0 };
            return Some(Effect::CreateFile { op, file, allocate_bytes, write_zeroes: false });
        }
        if self.drains_in_flight >= self.config.drains_in_flight_max || self.disk_full {
            return None;
        }
        let all = self.checkpointing.is_draining() || self.files.unwritten_bytes() > self.config.unwritten_bytes_max;
        if let Some(stretch) = self.files.next_drain(all) {
            self.drains_in_flight += 1;
            return Some(self.write_stretch(stretch, false, None));
        }
        // A stretch that waits for its file makes room for that file's creation.
        (self.files.has_missing() && !self.disk_full).then(|| self.next_file_effect()).flatten()
    }

    fn write_stretch(&mut self, stretch: Stretch, durable: bool, stamp: Option<Stamp>) -> Effect {
        let Stretch { slot, file, range } = stretch.clone();
        let op = self.begin(Op::Segment { stretch, durable, stamp });
        Effect::WriteSegment { op, slot, file, position: range.start, length: range.end - range.start, durable }
    }

    /// Fills `out` with a planned frame. `copy` is called once for each inline run with the slot, the file and the positions whose
    /// bytes belong at the given place.
    pub fn encode_frame(
        &mut self,
        plan: &FramePlan,
        out: &mut [u8],
        mut copy: impl FnMut(Slot, FileId, Range<u64>, &mut [u8]),
    ) {
        let files = &mut self.inline_files;
        self.journal.encode_frame(plan, out, |index, place| {
            let Some((stamp, Entry { change: Change::Append(run), .. })) = plan.entries.get(index) else { return };
            let (slot, file) = files.remove(stamp).expect("an inline run's file is known until its frame is encoded");
            let from = u64::from(run.position);
            copy(slot, file, from..from + u64::from(run.length), place);
        });
        self.let_go();
    }

    /// A frame's durable write has completed.
    pub fn frame_written(&mut self, sequence: u64) {
        self.journal.frame_written(sequence);
        self.advance();
    }

    /// An effect has ended.
    pub fn complete(&mut self, now: Now, op: OpId, outcome: Outcome) {
        let done = self.ops.remove(&op).expect("an effect completes once");
        match (done, outcome) {
            (Op::Run, _) => self.run_is_durable = true,
            (Op::RingFile(slot), Outcome::Done) => self.checkpointing.ring_grown(slot),
            (Op::RingFile(_), Outcome::NoSpace) => {
                self.disk_full = true;
                self.journal.growth_failed();
            }
            (Op::Remove, _) => {}
            (Op::CreateFile(file), Outcome::Done) => self.file_created(file),
            (Op::CreateFile(file), Outcome::NoSpace) => {
                self.disk_full = true;
                self.files.creation_failed(file);
            }
            (Op::PoolFile(file), outcome) => self.pool_file_created(file, outcome),
            (Op::Segment { stretch, durable, stamp }, outcome) => self.segment_done(stretch, durable, stamp, outcome),
            (Op::Checkpoint, outcome) => self.checkpoint_step_done(now, outcome),
            (Op::Flush, outcome) => {
                assert_eq!(outcome, Outcome::Done, "a flush is no matter of space");
                self.checkpoint_step_done(now, outcome);
            }
        }
        self.advance();
    }

    fn file_created(&mut self, file: FileId) {
        for stretch in self.files.created(file) {
            let stamp = self.references.remove(&(file, stretch.range.start));
            self.drains_in_flight += usize::from(stamp.is_none());
            let effect = self.write_stretch(stretch, stamp.is_some(), stamp);
            self.effects.push_back(effect);
        }
        let retired = self.files.retire(file);
        self.retired(file, retired);
    }

    fn segment_done(&mut self, stretch: Stretch, durable: bool, stamp: Option<Stamp>, outcome: Outcome) {
        let Stretch { slot, file, range } = stretch;
        self.drains_in_flight -= usize::from(stamp.is_none());
        if outcome == Outcome::NoSpace {
            self.disk_full = true;
            match stamp {
                Some(stamp) => {
                    self.references.insert((file, range.start), stamp);
                    self.files.write_again(file, range);
                }
                None => self.files.write_failed(file, range),
            }
            let retired = self.files.retire(file);
            return self.retired(file, retired);
        }
        if let Some(stamp) = stamp
            && !self.config.has_bug(Bug::ReferenceByFrameAlone)
        {
            self.journal.segment_written(stamp);
        }
        if let Some(position) = self.files.written(file, &range, durable) {
            self.hold(file, Effect::Drained { slot, file, position });
            self.drained(slot, file, position);
        }
        let retired = self.files.retire(file);
        self.retired(file, retired);
    }

    /// Hands an effect out once every frame that takes bytes from the file's memory is encoded.
    fn hold(&mut self, file: FileId, effect: Effect) {
        let last = self.inline_files.iter().rev().find(|(_, (_, other))| *other == file).map(|(stamp, _)| *stamp);
        self.held.push_back((last.unwrap_or_default(), effect));
        self.let_go();
    }

    fn let_go(&mut self) {
        let encoded = |stamp: Stamp| self.inline_files.first_key_value().is_none_or(|(first, _)| *first > stamp);
        let free = self.held.iter().take_while(|(stamp, _)| encoded(*stamp)).count();
        self.effects.extend(self.held.drain(..free).map(|(_, effect)| effect));
    }

    fn drained(&mut self, slot: Slot, file: FileId, position: u64) {
        if let Some(tenant) = self.tenants.get_mut(slot.0 as usize).and_then(Option::as_deref_mut) {
            let segments = tenant.partition.segments();
            let Some(segment) = segments.iter().find(|segment| segment.file == file) else { return };
            tenant.partition.drained(file, position.min(block_ceil(segment.next_position())));
        }
    }

    /// Moves the watermarks and frees the files that the durable stamp allows.
    fn advance(&mut self) {
        let early = self.config.has_bug(Bug::EarlyWatermark);
        let durable = if early { self.journal.last_stamp() } else { self.journal.durable() };
        while let Some((stamp, key)) = self.unacknowledged.front().copied() {
            if stamp > durable {
                break;
            }
            self.unacknowledged.pop_front();
            if let Ok(tenant) = self.tenant_mut(key)
                && tenant.partition.durable(durable)
            {
                self.advanced.push(key);
            }
        }
        while let Some((stamp, leaving)) = self.leaving.front().copied() {
            if stamp > self.journal.durable() {
                break;
            }
            self.leaving.pop_front();
            match leaving {
                Leaving::Slot(slot) => self.free_slots.push(slot),
                Leaving::File(slot, file) => {
                    self.effects.push_back(Effect::ForgetFile { slot, file });
                    let retired = self.files.dropped(file);
                    self.retired(file, retired);
                }
            }
        }
    }

    fn retired(&mut self, file: FileId, retired: Option<Retired>) {
        if retired.is_some() {
            self.checkpointing.retired(file);
        }
        if retired == Some(Retired::Remove) {
            let op = self.begin(Op::Remove);
            self.effects.push_back(Effect::RemoveFile { op, file });
        }
    }

    fn leave(&mut self, stamp: Stamp, key: TopicPartition, files: Vec<FileId>) {
        let Some(slot) = self.slot(key) else { return };
        let stamp = if self.config.has_bug(Bug::FileFreeTooEarly) { Stamp(0) } else { stamp };
        self.leaving.extend(files.into_iter().map(|file| (stamp, Leaving::File(slot, file))));
    }

    /// The partition's place among the shard's, for the driver's memory.
    pub fn slot(&self, key: TopicPartition) -> Option<Slot> {
        self.keys.get(&key).copied()
    }

    fn push(&mut self, now: Now, key: TopicPartition, change: Change) -> Stamp {
        let forgotten = match change {
            Change::Roll { .. } => self.config.has_bug(Bug::RollNotJournaled),
            Change::Drop => self.config.has_bug(Bug::DropNotJournaled),
            Change::LogStart { .. } => self.config.has_bug(Bug::LogStartNotJournaled),
            _ => false,
        };
        if forgotten {
            return self.journal.last_stamp();
        }
        let stamp = self.journal.push(Entry { target: key, change }, now);
        if let Ok(tenant) = self.tenant_mut(key) {
            tenant.last_stamp = stamp;
        }
        stamp
    }

    fn begin(&mut self, op: Op) -> OpId {
        self.next_op += 1;
        let id = OpId(self.next_op);
        self.ops.insert(id, op);
        id
    }

    fn adopt(&mut self, partition: Partition, configured: bool, last_stamp: Stamp) {
        let key = partition.id();
        let tenant = Some(Box::new(Tenant { partition, configured, last_stamp }));
        let slot = self.free_slots.pop().unwrap_or(Slot(self.tenants.len() as u32));
        match self.tenants.get_mut(slot.0 as usize) {
            Some(place) => *place = tenant,
            None => self.tenants.push(tenant),
        }
        self.keys.insert(key, slot);
    }

    fn tenant(&self, key: TopicPartition) -> Result<&Tenant, Refusal> {
        let slot = self.keys.get(&key).ok_or(Refusal::UnknownPartition)?;
        self.tenants.get(slot.0 as usize).and_then(Option::as_deref).ok_or(Refusal::UnknownPartition)
    }

    fn tenant_mut(&mut self, key: TopicPartition) -> Result<&mut Tenant, Refusal> {
        let slot = self.keys.get(&key).ok_or(Refusal::UnknownPartition)?;
        self.tenants.get_mut(slot.0 as usize).and_then(Option::as_deref_mut).ok_or(Refusal::UnknownPartition)
    }
}
