//! Checkpoints of a running store: when one begins, what it waits for, and its image built a few partitions at a time.
//!
//! Order: whole blocks placed until now drained → image sliced, each partition at its own stamp → the steps of
//! [`Checkpoint`]. The image holds of each open stretch the first block only: later bytes lie in frames behind the point.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::ops::Range;

use super::image::{OpenRange, TailRecord};
use super::planted::Bug;
use super::{Effect, Op, Outcome, Store};
use crate::checkpoint::{
    Checkpoint, CheckpointStart, CheckpointStep, FreeFile, ImageWriter, PartitionRecord, ShardRecord,
};
use crate::superblock::{Anchor, KeptImage};
use crate::units::{BLOCK_BYTES, FileId, Now, Slot, Stamp, TopicPartition};

/// Partitions taken into an image in one slice.
const SLICE_PARTITIONS_COUNT: usize = 64;

#[derive(Debug)]
enum Phase {
    Idle,
    Draining {
        goals: BTreeMap<FileId, u64>,
        writer: Box<ImageWriter>,
    },
    Slicing {
        writer: Box<ImageWriter>,
        after: Option<TopicPartition>,
    },
    Steps(Box<Checkpoint>),
    /// The last anchor, of a clean stop or a grown ring.
    Anchor {
        then: Then,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Stopped,
    RingReady(u32),
}

/// The store's checkpoints.
#[derive(Debug)]
pub(super) struct Checkpointing {
    phase: Phase,
    anchor: Anchor,
    next_image: u64,
    image: Vec<u8>,
    image_bytes: u64,
    appended_bytes: u64,
    flushes: VecDeque<FileId>,
    outstanding_count: usize,
    awaits: Option<Stamp>,
    grown: Option<u32>,
    stopping: bool,
    stopped: bool,
}

impl Checkpointing {
    pub(super) fn new(anchor: Anchor) -> Checkpointing {
        let next_image = anchor.images.iter().flatten().map(|kept| kept.id).max().unwrap_or(0) + 1;
        Checkpointing {
            phase: Phase::Idle,
            anchor,
            next_image,
            image: Vec::new(),
            image_bytes: 0,
            appended_bytes: 0,
            flushes: VecDeque::new(),
            outstanding_count: 0,
            awaits: None,
            grown: None,
            stopping: false,
            stopped: false,
        }
    }

    pub(super) fn appended(&mut self, bytes: u64) {
        self.appended_bytes += bytes;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.stopping || matches!(self.phase, Phase::Draining { .. })
    }

    /// No segment uses the file any more; the next one to use it is none of a checkpoint that has begun.
    pub(super) fn retired(&mut self, file: FileId) {
        if let Phase::Draining { goals, .. } = &mut self.phase {
            goals.remove(&file);
        }
    }

    /// A ring file is written and flushed: it counts once the anchor says so.
    pub(super) fn ring_grown(&mut self, slot: u32) {
        self.grown = Some(slot);
    }
}

impl Store {
    /// Asks for a clean stop: everything drained, a last checkpoint, an anchor that says so. No append may follow.
    pub fn stop(&mut self) {
        self.checkpointing.stopping = true;
    }

    pub fn is_stopped(&self) -> bool {
        self.checkpointing.stopped
    }

    /// The anchor that is durable now.
    pub fn anchor(&self) -> &Anchor {
        &self.checkpointing.anchor
    }

    /// Bytes of the last image.
    pub fn image_bytes(&self) -> u64 {
        self.checkpointing.image_bytes
    }

    pub(super) fn next_checkpoint_effect(&mut self) -> Option<Effect> {
        match &mut self.checkpointing.phase {
            Phase::Idle => self.leave_idle(),
            Phase::Draining { goals, .. } => {
                // Only the first is looked at: this runs after every completion, and there may be as many as partitions.
                while let Some(first) = goals.first_entry() {
                    if !self.files.reached(*first.key(), *first.get()) {
                        return None;
                    }
                    first.remove();
                }
                if let Phase::Draining { writer, .. } = std::mem::replace(&mut self.checkpointing.phase, Phase::Idle) {
                    self.checkpointing.phase = Phase::Slicing { writer, after: None };
                }
                Some(Effect::SliceImage)
            }
            Phase::Slicing { .. } => Some(Effect::SliceImage),
            Phase::Steps(_) => self.next_step_effect(),
            Phase::Anchor { .. } => None,
        }
    }

    fn leave_idle(&mut self) -> Option<Effect> {
        if let Some(slot) = self.checkpointing.grown.take() {
            let anchor = self.checkpointing.anchor.grown(slot + 1);
            return Some(self.write_anchor(anchor, Then::RingReady(slot)));
        }
        if self.checkpointing.stopping && self.nothing_since_last() {
            if self.checkpointing.stopped || !self.journal.is_idle() {
                return None;
            }
            let anchor = self.checkpointing.anchor.clean_stop(self.journal.durable_end());
            return Some(self.write_anchor(anchor, Then::Stopped));
        }
        if !self.checkpointing.stopping && !self.is_due() {
            return None;
        }
        if self.checkpointing.stopping && !self.journal.is_idle() {
            return None;
        }
        let point = self.journal.point();
        let writer = Box::new(ImageWriter::new(self.journal.id(), self.checkpointing.next_image, point));
        self.checkpointing.next_image += 1;
        self.checkpointing.appended_bytes = 0;
        let skip = self.config.has_bug(Bug::SkippedDrain);
        let goals = if skip { BTreeMap::new() } else { self.files.drain_goals() };
        self.checkpointing.phase = Phase::Draining { goals, writer };
        self.next_file_effect().or(Some(Effect::Again))
    }

    fn nothing_since_last(&self) -> bool {
        let newest = self.checkpointing.anchor.images.first().copied().flatten();
        newest.is_some_and(|kept| kept.point == self.journal.point()) && self.files.is_drained()
    }

    fn is_due(&self) -> bool {
        let ring = self.journal.ring();
        let ring_half_used = ring.used_bytes() * 2 > ring.total_bytes();
        let image_allows = self.checkpointing.appended_bytes > self.checkpointing.image_bytes * 10;
        self.checkpointing.appended_bytes >= self.config.checkpoint_bytes && image_allows || ring_half_used
    }

    /// Takes the next few partitions into the image. `copy` appends the bytes of a file's positions from memory.
    pub fn slice_image(&mut self, mut copy: impl FnMut(Slot, FileId, Range<u64>, &mut Vec<u8>)) {
        let phase = std::mem::replace(&mut self.checkpointing.phase, Phase::Idle);
        let Phase::Slicing { mut writer, mut after } = phase else {
            self.checkpointing.phase = phase;
            return;
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.keys.range((from, Bound::Unbounded)).map(|(key, _)| *key);
        let keys: Vec<_> = rest.take(SLICE_PARTITIONS_COUNT + 1).collect();
        for key in keys.iter().take(SLICE_PARTITIONS_COUNT) {
            if let Some(record) = self.record(*key, BLOCK_BYTES, &mut copy) {
                writer.partition(&record);
            }
            after = Some(*key);
        }
        if keys.len() > SLICE_PARTITIONS_COUNT {
            self.checkpointing.phase = Phase::Slicing { writer, after };
        } else {
            self.begin_steps(*writer);
        }
    }

    /// Every partition with all its bytes that are in no file: what another journal may begin with.
    pub fn export(&self, mut copy: impl FnMut(Slot, FileId, Range<u64>, &mut Vec<u8>)) -> Vec<PartitionRecord> {
        let records = self.keys.keys().filter_map(|key| self.record(*key, u64::MAX, &mut copy));
        records.map(|record| PartitionRecord { applied_stamp: 0, ..record }).collect()
    }

    /// A partition's state, with at most `tail_bytes_max` of the bytes of each file that are not in it.
    fn record(
        &self,
        key: TopicPartition,
        tail_bytes_max: u64,
        copy: &mut impl FnMut(Slot, FileId, Range<u64>, &mut Vec<u8>),
    ) -> Option<PartitionRecord> {
        let slot = self.slot(key)?;
        let tenant = self.tenant(key).ok()?;
        let mut open = Vec::new();
        let mut tails = Vec::new();
        for segment in tenant.partition.segments().iter() {
            let file = segment.file;
            let mut rest = tail_bytes_max;
            for range in self.files.open_ranges(file) {
                open.push(OpenRange { file: file.0, start: range.start, end: range.end });
                let taken = range.start..range.end.min(range.start.saturating_add(rest));
                rest -= taken.end - taken.start;
                if !taken.is_empty() {
                    let mut bytes = Vec::new();
                    copy(slot, file, taken.clone(), &mut bytes);
                    tails.push(TailRecord { file: file.0, position: taken.start, bytes });
                }
                if tail_bytes_max < u64::MAX {
                    rest = 0;
                }
            }
        }
        let ahead = if self.config.has_bug(Bug::AppliedStampTooHigh) { 3 } else { 0 };
        let applied_stamp = self.journal.last_stamp().0 + ahead;
        if self.config.has_bug(Bug::LostTail) {
            tails.clear();
        }
        let mut image = tenant.partition.to_image();
        if self.config.has_bug(Bug::ProducersForgotten) {
            image.producers.clear();
        }
        Some(PartitionRecord { applied_stamp, image, closed: tenant.partition.is_closed(), open, tails })
    }

    fn begin_steps(&mut self, writer: ImageWriter) {
        let free_files = self
            .files
            .pool()
            .iter()
            .map(|file| FreeFile { file: file.0, written_bytes: crate::limits::SEGMENT_FILE_BYTES });
        let shard = ShardRecord { next_file_counter: self.files.next_counter(), free_files: free_files.collect() };
        let (id, point) = (self.checkpointing.next_image - 1, writer.point());
        let (bytes, applied_max) = writer.finish(&shard);
        self.checkpointing.image_bytes = bytes.len() as u64;
        self.checkpointing.image = bytes;
        let steps = Checkpoint::start(CheckpointStart {
            anchor: self.checkpointing.anchor,
            image: KeptImage { id, point },
            applied_max,
            durable_end: self.journal.durable_end(),
            dirty_files: self.files.take_dirty(),
        });
        self.checkpointing.phase = Phase::Steps(Box::new(steps));
    }

    fn next_step_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.next_flush() {
            return Some(effect);
        }
        if let Some(stamp) = self.checkpointing.awaits {
            if self.journal.durable() < stamp {
                return None;
            }
            self.checkpointing.awaits = None;
            self.step_over();
        }
        let Phase::Steps(steps) = &mut self.checkpointing.phase else { return None };
        let step = steps.next_step()?;
        self.perform(step)
    }

    fn next_flush(&mut self) -> Option<Effect> {
        if self.checkpointing.outstanding_count >= self.config.flushes_in_flight_max {
            return None;
        }
        let file = self.checkpointing.flushes.pop_front()?;
        self.checkpointing.outstanding_count += 1;
        let op = self.begin(Op::Flush);
        Some(Effect::FlushFile { op, file })
    }

    fn perform(&mut self, step: CheckpointStep) -> Option<Effect> {
        match step {
            CheckpointStep::FlushFiles(files) if !self.config.has_bug(Bug::SkippedSegmentFlush) => {
                self.checkpointing.flushes = files.into();
                return self.next_flush();
            }
            CheckpointStep::AwaitDurable(stamp) if !self.config.has_bug(Bug::ImageBeforeJournal) => {
                self.checkpointing.awaits = Some(stamp);
                return self.next_step_effect();
            }
            CheckpointStep::ReleaseRing(point) => {
                let early = self.config.has_bug(Bug::RingReleasedTooEarly);
                self.journal.release(if early { self.journal.ring().head() } else { point });
                self.step_over();
                return self.next_checkpoint_effect();
            }
            _ if self.skips(&step) => {
                self.step_over();
                return self.next_checkpoint_effect();
            }
            _ => {}
        }
        let op = self.begin_step();
        Some(match step {
            CheckpointStep::SyncSegmentsDirectory => Effect::SyncSegments { op },
            CheckpointStep::WriteImage(image) => {
                Effect::WriteImage { op, image, bytes: std::mem::take(&mut self.checkpointing.image) }
            }
            CheckpointStep::FlushImage(image) => Effect::FlushImage { op, image },
            CheckpointStep::RenameImage(image) => Effect::RenameImage { op, image },
            CheckpointStep::SyncImagesDirectory => Effect::SyncImages { op },
            CheckpointStep::RemoveImage(image) => Effect::RemoveImage { op, image },
            CheckpointStep::WriteAnchor(anchor) => anchor_effect(op, &anchor),
            CheckpointStep::FlushFiles(_) | CheckpointStep::AwaitDurable(_) | CheckpointStep::ReleaseRing(_) => {
                unreachable!("handled above")
            }
        })
    }

    /// Steps that a planted fault leaves out.
    fn skips(&self, step: &CheckpointStep) -> bool {
        match step {
            CheckpointStep::FlushFiles(_) | CheckpointStep::AwaitDurable(_) => true,
            CheckpointStep::FlushImage(_) => self.config.has_bug(Bug::SkippedImageFlush),
            CheckpointStep::SyncImagesDirectory => self.config.has_bug(Bug::SkippedImageSync),
            _ => false,
        }
    }

    fn begin_step(&mut self) -> super::OpId {
        self.checkpointing.outstanding_count += 1;
        self.begin(Op::Checkpoint)
    }

    pub(super) fn checkpoint_step_done(&mut self, _now: Now, outcome: Outcome) {
        self.checkpointing.outstanding_count -= 1;
        if outcome == Outcome::NoSpace {
            assert!(matches!(self.checkpointing.phase, Phase::Steps(_)), "only an image may find no space");
            return self.abandon();
        }
        if let Phase::Anchor { then } = self.checkpointing.phase {
            self.checkpointing.phase = Phase::Idle;
            match then {
                Then::Stopped => self.checkpointing.stopped = true,
                Then::RingReady(slot) => self.journal.file_ready(slot),
            }
            return;
        }
        if self.checkpointing.outstanding_count == 0 && self.checkpointing.flushes.is_empty() {
            self.step_over();
        }
    }

    fn step_over(&mut self) {
        let Phase::Steps(steps) = &mut self.checkpointing.phase else { return };
        let anchor = steps.step_done();
        let is_over = steps.is_over();
        if let Some(anchor) = anchor {
            self.checkpointing.anchor = anchor;
        }
        if is_over {
            self.checkpointing.phase = Phase::Idle;
        }
    }

    /// The image found no space: the checkpoint is given up, and the next image takes its name, so that nothing is left behind.
    fn abandon(&mut self) {
        self.disk_full = true;
        self.checkpointing.next_image -= 1;
        self.checkpointing.flushes.clear();
        self.checkpointing.phase = Phase::Idle;
    }

    fn write_anchor(&mut self, anchor: Anchor, then: Then) -> Effect {
        self.checkpointing.anchor = anchor;
        self.checkpointing.phase = Phase::Anchor { then };
        let op = self.begin_step();
        anchor_effect(op, &anchor)
    }
}

pub(super) fn anchor_effect(op: super::OpId, anchor: &Anchor) -> Effect {
    let (slot, bytes) = anchor.encode();
    Effect::WriteAnchor { op, slot: slot as u8, bytes: bytes.to_vec() }
}
