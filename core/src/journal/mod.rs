//! The journal: the one order of a shard's durable changes, committed in groups to a ring of pre-written files.
//!
//! Changes are pushed and get a rising [`Stamp`]; frames are planned from what waits, encoded in the order of their
//! sequences, written in parallel and become durable strictly in order. A stamp whose bytes lie only in a segment is
//! durable when frame *and* segment write have completed. Never: a stamp reported durable before every earlier one, a
//! frame over bytes that a kept image still needs, a write or a clock in here. The driver writes each planned frame
//! durably (`RWF_DSYNC`) and reports it; a failed write is never retried (the process ends).

pub mod entry;
pub mod frame;
pub mod replay;
pub mod ring;

use std::collections::{BTreeSet, VecDeque};

pub use entry::{Append, Change, Entry, Origin, Place};
pub use frame::{FrameEntry, FramePlan, Payload};
pub use ring::{Ring, RingPoint};

use crate::limits;
use crate::units::{BLOCK_BYTES, JournalId, Now, Stamp};
use frame::{Chain, frame_bytes};

/// The sequence of a journal's first frame.
pub const FIRST_SEQUENCE: u64 = 1;

/// A journal's limits. The defaults are the engine's; tests take smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    pub ring_file_bytes: u64,
    pub ring_files_max: u32,
    /// The ring asks for one more file when more than this share of it is used.
    pub grow_at_used_percent: u8,
    /// Kept for control entries, so that deletes and commits go on when no more records are admitted.
    pub control_reserve_bytes: u64,
    pub frame_bytes_max: u32,
    pub frame_entries_max: usize,
    /// Frames that are not yet durable, all kinds together.
    pub frames_in_flight_max: usize,
    /// Frames of small runs that are not yet written; more runs wait and are gathered.
    pub groups_in_flight_max: usize,
    pub solo_run_bytes_min: u32,
}

impl Default for JournalConfig {
    fn default() -> JournalConfig {
        JournalConfig {
            ring_file_bytes: limits::RING_FILE_BYTES,
            ring_files_max: 16,
            grow_at_used_percent: 50,
            control_reserve_bytes: 2 << 20,
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            frame_entries_max: limits::FRAME_ENTRIES_MAX,
            frames_in_flight_max: limits::FRAMES_IN_FLIGHT_MAX,
            groups_in_flight_max: 2,
            solo_run_bytes_min: limits::SOLO_RUN_BYTES_MIN,
        }
    }
}

/// The place between two frames: where replay starts and where a resumed journal goes on. Kept in images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalPoint {
    /// Of the next frame.
    pub sequence: u64,
    pub slot: u32,
    /// Where the frame before ended; the next one may begin in the next slot.
    pub position: u64,
    /// The checksum of the frame before.
    pub previous_checksum: u32,
    /// The last stamp before this point.
    pub stamp: u64,
}

impl JournalPoint {
    /// Before the first frame of a journal.
    pub const START: JournalPoint =
        JournalPoint { sequence: FIRST_SEQUENCE, slot: 0, position: 0, previous_checksum: 0, stamp: 0 };

    pub fn ring_point(&self) -> RingPoint {
        RingPoint { slot: self.slot, position: self.position }
    }
}

/// A frame that was planned and is not yet durable.
#[derive(Debug)]
struct InFlight {
    sequence: u64,
    last_stamp: Stamp,
    group: bool,
    written: bool,
}

/// The journal of one shard and data directory.
#[derive(Debug)]
pub struct Journal {
    config: JournalConfig,
    journal: JournalId,
    run: u64,
    ring: Ring,
    growing: bool,
    pending: VecDeque<(Stamp, Entry)>,
    /// What the pending entries may take in the ring at worst, one frame each.
    pending_bytes: u64,
    wall_ms: i64,
    /// A resumed journal's first frame is written even if empty: nothing behind a cut may ever chain again.
    barrier_due: bool,
    barrier_sequence: u64,
    next_stamp: u64,
    next_sequence: u64,
    in_flight: VecDeque<InFlight>,
    /// References whose segment write has not completed.
    segments_open: BTreeSet<Stamp>,
    durable: Stamp,
    durable_end: u64,
    encoded: JournalPoint,
}

/// What a change may take from the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Records: they leave the reserve alone.
    Records,
    /// Deletes, commits, markers, epochs: they may use the reserve.
    Control,
}

impl Journal {
    /// A new journal over `files_count` ready files of zeroes.
    pub fn create(config: JournalConfig, journal: JournalId, run: u64, files_count: u32) -> Journal {
        let start = JournalPoint::START;
        Journal::resume(config, journal, run, start, RingPoint::default(), files_count)
    }

    /// Goes on at `head` (where replay ended) in a new run, which must be greater than every run before. `tail` is the
    /// point that the older of the kept images needs. The first frame is a barrier: see [`Journal::barrier_durable`].
    pub fn resume(
        config: JournalConfig,
        journal: JournalId,
        run: u64,
        head: JournalPoint,
        tail: RingPoint,
        files_count: u32,
    ) -> Journal {
        assert!(u64::from(config.frame_bytes_max) * 2 <= config.ring_file_bytes);
        assert!(config.frames_in_flight_max > 0 && config.groups_in_flight_max > 0);
        Journal {
            config,
            journal,
            run,
            ring: Ring::new(config.ring_file_bytes, files_count, head.ring_point(), tail),
            growing: false,
            pending: VecDeque::new(),
            pending_bytes: 0,
            wall_ms: 0,
            barrier_due: true,
            barrier_sequence: head.sequence,
            next_stamp: head.stamp + 1,
            next_sequence: head.sequence,
            in_flight: VecDeque::new(),
            segments_open: BTreeSet::new(),
            durable: Stamp(head.stamp),
            durable_end: head.sequence,
            encoded: head,
        }
    }

    pub fn id(&self) -> JournalId {
        self.journal
    }

    pub fn run(&self) -> u64 {
        self.run
    }

    /// Whether this run's first frame is durable. The shard answers nobody before.
    pub fn barrier_durable(&self) -> bool {
        self.durable_end > self.barrier_sequence
    }

    /// Whether a change with `inline_bytes` of payload surely finds room. Ask before `push`; a change that is pushed
    /// without waits for the tail to move.
    pub fn admits(&self, inline_bytes: u32, quota: Quota) -> bool {
        let reserve = match quota {
            Quota::Records => self.config.control_reserve_bytes,
            // The next start's barrier.
            Quota::Control => BLOCK_BYTES,
        };
        let room = self.ring.room_bytes(u64::from(self.config.frame_bytes_max));
        room >= self.pending_bytes + frame_bytes(1, u64::from(inline_bytes)) + reserve
    }

    /// Appends a change to the order. Its stamp is durable once [`Journal::durable`] has reached it.
    pub fn push(&mut self, entry: Entry, now: Now) -> Stamp {
        let alone = frame_bytes(1, u64::from(entry.inline_bytes()));
        assert!(alone <= u64::from(self.config.frame_bytes_max), "a run that fits no frame is written as a reference");
        let stamp = Stamp(self.next_stamp);
        self.next_stamp += 1;
        self.wall_ms = now.wall_ms;
        self.pending_bytes += alone;
        if entry.is_reference() {
            self.segments_open.insert(stamp);
        }
        self.pending.push_back((stamp, entry));
        stamp
    }

    /// The next frame to write now, if there is one. The caller encodes and submits it before asking again.
    ///
    /// Small runs wait while `groups_in_flight_max` groups are being written, and go out together. A large inline run
    /// goes out at once and takes along what was pushed before it. References go out in frames of their own, behind
    /// what was pushed before them.
    pub fn next_frame(&mut self) -> Option<FramePlan> {
        if self.in_flight.len() >= self.config.frames_in_flight_max {
            return None;
        }
        let batch = self.batch()?;
        let length = frame_bytes(batch.entries_count, batch.payload_bytes);
        let point = self.ring.take(length)?;
        Some(self.plan(batch, length, point))
    }

    fn plan(&mut self, batch: Batch, length: u64, point: RingPoint) -> FramePlan {
        let entries: Vec<_> = self.pending.drain(..batch.entries_count).collect();
        for (_, entry) in &entries {
            self.pending_bytes -= frame_bytes(1, u64::from(entry.inline_bytes()));
        }
        let before = self.in_flight.back().map_or(self.durable, |frame| frame.last_stamp);
        let last_stamp = entries.last().map_or(before, |(stamp, _)| *stamp);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.barrier_due = false;
        self.in_flight.push_back(InFlight { sequence, last_stamp, group: batch.group, written: false });
        FramePlan {
            sequence,
            slot: point.slot,
            position: point.position,
            length: u32::try_from(length).expect("a frame's length is limited"),
            entries,
            payload_bytes: u32::try_from(batch.payload_bytes).expect("a frame's length is limited"),
            last_stamp,
            wall_ms: self.wall_ms,
        }
    }

    /// How many of the pending entries make the next frame. `None`: nothing may go out now.
    fn batch(&self) -> Option<Batch> {
        let references = self.pending.front().is_some_and(|(_, entry)| entry.is_reference());
        let mut batch = Batch { group: !references, ..Batch::default() };
        for (_, entry) in &self.pending {
            if entry.is_reference() != references {
                batch.group = false;
                break;
            }
            if !batch.add(entry, &self.config) {
                break;
            }
            if entry.inline_bytes() >= self.config.solo_run_bytes_min {
                batch.group = false;
                break;
            }
        }
        if batch.entries_count == 0 && !self.barrier_due {
            return None;
        }
        let groups = self.in_flight.iter().filter(|frame| frame.group && !frame.written).count();
        (!batch.group || groups < self.config.groups_in_flight_max).then_some(batch)
    }

    /// Fills `out` with the planned frame, in the order of the plans. `copy` is called once for each inline run with
    /// the entry's index in the plan and the place for its bytes.
    pub fn encode_frame(&mut self, plan: &FramePlan, out: &mut [u8], copy: impl FnMut(usize, &mut [u8])) {
        assert_eq!(plan.sequence, self.encoded.sequence, "frames are encoded in order");
        let chain = Chain {
            journal: self.journal,
            run: self.run,
            previous_checksum: self.encoded.previous_checksum,
            durable_end: self.durable_end,
        };
        let checksum = frame::encode(out, plan, &chain, copy);
        self.encoded = JournalPoint {
            sequence: plan.sequence + 1,
            slot: plan.slot,
            position: plan.position + u64::from(plan.length),
            previous_checksum: checksum,
            stamp: plan.last_stamp.0,
        };
    }

    /// The frame's durable write has completed. Returns the durable stamp, which may have moved.
    pub fn frame_written(&mut self, sequence: u64) -> Stamp {
        let frame =
            self.in_flight.iter_mut().find(|frame| frame.sequence == sequence).expect("only a planned frame completes");
        assert!(!frame.written, "a frame completes once");
        frame.written = true;
        self.advance()
    }

    /// The durable write of a reference's bytes into its segment has completed. Returns the durable stamp.
    pub fn segment_written(&mut self, stamp: Stamp) -> Stamp {
        assert!(self.segments_open.remove(&stamp), "only a pushed reference's segment write completes, and once");
        self.advance()
    }

    fn advance(&mut self) -> Stamp {
        let segments = self.segments_open.first().copied();
        while let Some(frame) = self.in_flight.front() {
            if !frame.written || segments.is_some_and(|open| open <= frame.last_stamp) {
                break;
            }
            self.durable = frame.last_stamp;
            self.durable_end = frame.sequence + 1;
            self.in_flight.pop_front();
        }
        self.durable
    }

    /// Every change up to and with this stamp survives a power loss.
    pub fn durable(&self) -> Stamp {
        self.durable
    }

    /// Every frame with a lower sequence is durable.
    pub fn durable_end(&self) -> u64 {
        self.durable_end
    }

    /// Every change up to and with this stamp lies in frames whose writes have completed, whatever the segments.
    pub fn written(&self) -> Stamp {
        let frames = self.in_flight.iter().take_while(|frame| frame.written);
        frames.last().map_or(self.durable, |frame| frame.last_stamp)
    }

    /// The last stamp that was given.
    pub fn last_stamp(&self) -> Stamp {
        Stamp(self.next_stamp - 1)
    }

    /// Frames that are being written.
    pub fn in_flight_count(&self) -> usize {
        self.in_flight.iter().filter(|frame| !frame.written).count()
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_empty() && !self.barrier_due
    }

    /// Behind the last encoded frame: what a checkpoint that begins now keeps. Changes with a stamp above the point's
    /// lie in later frames, also if the image already holds them. No checkpoint begins before the barrier is durable,
    /// unless the barrier itself waits for room.
    pub fn point(&self) -> JournalPoint {
        self.encoded
    }

    /// Moves the tail to what the older of the two kept images needs.
    pub fn release(&mut self, point: RingPoint) {
        self.ring.release(point);
    }

    /// The slot of a file to create, zero and flush, if the ring should grow. Asked for once.
    pub fn growth(&mut self) -> Option<u32> {
        let files_count = self.ring.files_count();
        let used_percent = self.ring.used_bytes() * 100 / self.ring.total_bytes();
        let wanted = used_percent > u64::from(self.config.grow_at_used_percent);
        if self.growing || !wanted || files_count >= self.config.ring_files_max {
            return None;
        }
        self.growing = true;
        Some(files_count)
    }

    /// The file asked for by [`Journal::growth`] is durable and its directory entry too.
    pub fn file_ready(&mut self, slot: u32) {
        self.growing = false;
        self.ring.file_ready(slot);
    }

    /// There was no space for the file; it is asked for again.
    pub fn growth_failed(&mut self) {
        self.growing = false;
    }

    pub fn ring(&self) -> &Ring {
        &self.ring
    }
}

/// How much of the pending queue goes into one frame.
#[derive(Debug, Default)]
struct Batch {
    entries_count: usize,
    payload_bytes: u64,
    /// A gathering of small runs and control entries with nothing large right behind it.
    group: bool,
}

impl Batch {
    fn add(&mut self, entry: &Entry, config: &JournalConfig) -> bool {
        let payload_bytes = self.payload_bytes + u64::from(entry.inline_bytes());
        let length = frame_bytes(self.entries_count + 1, payload_bytes);
        if self.entries_count >= config.frame_entries_max || length > u64::from(config.frame_bytes_max) {
            return false;
        }
        self.entries_count += 1;
        self.payload_bytes = payload_bytes;
        true
    }
}
