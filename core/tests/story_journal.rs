//! Stories of the journal over a disk in memory: every frame that was reported durable comes back, nothing else does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use watershed_core::checksum::crc32c;
use watershed_core::journal::frame::{FrameHeader, FramePlace};
use watershed_core::journal::replay::{Damage, Replay, ReplayEnd, ReplayStart, Step};
use watershed_core::journal::{
    Append, Change, Entry, FramePlan, Journal, JournalConfig, JournalPoint, Origin, Payload, Place, Quota, RingPoint,
};
use watershed_core::units::{BLOCK_BYTES, FileId, JournalId, Now, Stamp, TopicId, TopicPartition};

const ID: JournalId = JournalId(7);
const FILE_BYTES: u64 = 64 << 10;
const ORIGIN: Origin = Origin { producer_id: 5, producer_epoch: 1, base_sequence: 9, attributes: 0 };

fn config() -> JournalConfig {
    JournalConfig {
        ring_file_bytes: FILE_BYTES,
        ring_files_max: 4,
        grow_at_used_percent: 50,
        control_reserve_bytes: 16 << 10,
        frame_bytes_max: 16 << 10,
        frame_entries_max: 64,
        frames_in_flight_max: 4,
        groups_in_flight_max: 2,
        solo_run_bytes_min: 6000,
    }
}

fn target(partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([9; 16]), partition }
}

fn append(length: u32, place: Place) -> Entry {
    let change = Change::Append(Append {
        leader_epoch: 1,
        base_offset: 10,
        end_offset: 20,
        segment_base: 0,
        position: 4096,
        length,
        max_timestamp: 5,
        place,
    });
    Entry { target: target(1), change }
}

fn reference() -> Entry {
    append(200_000, Place::Segment { file: FileId(3), checksum: 77, origin: Some(ORIGIN) })
}

fn control() -> Entry {
    Entry { target: target(2), change: Change::LogStart { offset: 3 } }
}

/// The bytes of a run, known by its stamp.
fn bytes_of(stamp: Stamp, length: usize) -> Vec<u8> {
    (0..length).map(|at| (stamp.0 as usize * 31 + at * 7) as u8).collect()
}

/// What a walk found.
#[derive(Default)]
struct Found {
    /// Stamps with whole entries, by sequence.
    frames: BTreeMap<u64, Vec<(Stamp, Entry)>>,
    damage: Vec<Damage>,
    end: Option<ReplayEnd>,
}

impl Found {
    fn end(&self) -> ReplayEnd {
        self.end.unwrap()
    }

    fn stamps(&self) -> Vec<u64> {
        self.frames.values().flatten().map(|(stamp, _)| stamp.0).collect()
    }
}

/// A journal and its ring in memory.
struct Rig {
    files: Vec<Vec<u8>>,
    journal: Journal,
}

impl Rig {
    fn new(files_count: usize) -> Rig {
        let files = vec![vec![0; FILE_BYTES as usize]; files_count];
        let mut rig = Rig { files, journal: Journal::create(config(), ID, 1, files_count as u32) };
        assert!(!rig.journal.barrier_durable());
        rig.commit();
        assert!(rig.journal.barrier_durable(), "the barrier goes out without a push");
        rig
    }

    fn push(&mut self, entry: Entry) -> Stamp {
        self.journal.push(entry, Now { monotonic_us: 1, wall_ms: 1234 })
    }

    /// Plans and encodes what may go out now.
    fn start(&mut self) -> Vec<(FramePlan, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some(plan) = self.journal.next_frame() {
            let mut bytes = vec![0xee; plan.length as usize];
            self.journal.encode_frame(&plan, &mut bytes, |index, place| {
                place.copy_from_slice(&bytes_of(plan.entries[index].0, place.len()));
            });
            frames.push((plan, bytes));
        }
        frames
    }

    fn write(&mut self, plan: &FramePlan, bytes: &[u8]) {
        self.place(plan).copy_from_slice(bytes);
    }

    fn place(&mut self, plan: &FramePlan) -> &mut [u8] {
        let from = plan.position as usize;
        &mut self.files[plan.slot as usize][from..from + plan.length as usize]
    }

    /// Writes and completes everything that may go out.
    fn commit(&mut self) -> Vec<FramePlan> {
        let mut plans = Vec::new();
        loop {
            let frames = self.start();
            if frames.is_empty() {
                return plans;
            }
            for (plan, bytes) in frames {
                self.write(&plan, &bytes);
                self.journal.frame_written(plan.sequence);
                plans.push(plan);
            }
        }
    }

    fn commit_run(&mut self, length: u32) -> FramePlan {
        self.push(append(length, Place::Inline));
        self.commit().pop().unwrap()
    }

    fn replay(&self, point: JournalPoint) -> Found {
        self.replay_from(ReplayStart {
            journal: ID,
            run_max: self.journal.run(),
            point,
            durable_end: 0,
            until: None,
            files_count: self.files.len() as u32,
        })
    }

    fn replay_from(&self, start: ReplayStart) -> Found {
        let mut replay = Replay::new(config(), start);
        let mut found = Found::default();
        while let Some(read) = replay.next_read() {
            let from = read.position as usize;
            let bytes = &self.files[read.slot as usize][from..from + read.length as usize];
            for step in replay.supply(bytes) {
                match step {
                    Step::Frame(frame) => {
                        for entry in &frame.entries {
                            if let Payload::Inline(range) = &entry.payload {
                                assert_eq!(bytes[range.clone()], bytes_of(entry.stamp, range.len()));
                            }
                        }
                        let entries = frame.entries.iter().map(|entry| (entry.stamp, entry.entry));
                        found.frames.insert(frame.header.sequence, entries.collect());
                    }
                    Step::Corrupt(damage) => found.damage.push(damage),
                    Step::End(end) => found.end = Some(end),
                }
            }
        }
        found
    }

    /// Crash, replay, start again in the next run.
    fn restart(&mut self, point: JournalPoint) -> Found {
        let found = self.replay(point);
        let run = self.journal.run() + 1;
        let files_count = self.files.len() as u32;
        self.journal = Journal::resume(config(), ID, run, found.end().point, point.ring_point(), files_count);
        found
    }
}

#[test]
fn a_ring_that_wraps_ten_times_replays_what_was_kept() {
    for files_count in [1, 3] {
        let mut rig = Rig::new(files_count);
        let (mut laps, mut last_slot_point) = (0, RingPoint::default());
        let mut kept = rig.journal.point();
        let mut expected = Vec::new();
        for round in 0u32.. {
            let point = rig.journal.point();
            let first = rig.journal.last_stamp().0 + 1;
            for small in 0..round % 5 {
                rig.push(append(100 + 700 * small, Place::Inline));
            }
            let plan = rig.commit_run(1 + (round * 2711) % 9000);
            let here = RingPoint { slot: plan.slot, position: plan.position };
            laps += u32::from(here < last_slot_point);
            last_slot_point = here;
            expected.extend(first..=rig.journal.last_stamp().0);
            let found = rig.replay(kept);
            assert_eq!(found.stamps(), expected);
            assert_eq!(found.end().point, rig.journal.point());
            assert!(found.damage.is_empty());
            if round % 2 == 1 {
                rig.journal.release(point.ring_point());
                kept = point;
                expected.retain(|stamp| *stamp >= first);
            }
            if laps == 12 {
                break;
            }
        }
    }
}

#[test]
fn frames_of_an_earlier_lap_and_misplaced_frames_never_decode_as_the_next() {
    let mut rig = Rig::new(2);
    let (mut last, mut laps) = (RingPoint::default(), 0);
    while laps < 2 {
        let plan = rig.commit_run(9000);
        let point = rig.journal.point();
        rig.journal.release(point.ring_point());
        let here = RingPoint { slot: plan.slot, position: plan.position };
        laps += u32::from(here < last);
        last = here;
    }
    let head = rig.journal.point();
    let place = FramePlace { journal: ID, slot: head.slot, position: head.position };
    let behind = &rig.files[head.slot as usize][head.position as usize..];
    assert!(FrameHeader::decode(behind, place).is_some(), "a whole frame of the lap before lies there");
    let moved = FramePlace { position: head.position + BLOCK_BYTES, ..place };
    assert_eq!(FrameHeader::decode(behind, moved), None);
    assert_eq!(FrameHeader::decode(behind, FramePlace { slot: 1 - head.slot, ..place }), None);
    assert_eq!(FrameHeader::decode(behind, FramePlace { journal: JournalId(8), ..place }), None);
    let found = rig.replay(head);
    assert!(found.frames.is_empty() && found.damage.is_empty());
    assert_eq!(found.end().point, head);
}

#[test]
fn a_tail_torn_at_any_sector_is_cut_and_never_comes_back() {
    for length in [500, 9000] {
        let sectors = Rig::new(1).commit_run(length).length as usize / 512;
        for cut in 0..sectors * 2 {
            let mut rig = Rig::new(1);
            let start = rig.journal.point();
            let acked = rig.commit_run(3000);
            rig.push(append(length, Place::Inline));
            let (torn, bytes) = rig.start().pop().unwrap();
            rig.push(append(6000, Place::Inline));
            let (behind, behind_bytes) = rig.start().pop().unwrap();
            rig.write(&behind, &behind_bytes);
            let at = cut / 2 * 512;
            let (kept, lost) = if cut % 2 == 0 { (0..at, at..bytes.len()) } else { (at..bytes.len(), 0..at) };
            rig.place(&torn)[kept.clone()].copy_from_slice(&bytes[kept]);
            let content = 224 + length as usize;
            // Zeroes between payload and copies, and the copies themselves, carry nothing that the head does not.
            let harmless = lost.is_empty() || lost.start >= content;

            let found = rig.restart(start);
            let expected: &[u64] = if harmless { &[1, 2, 3] } else { &[1] };
            assert_eq!(found.stamps(), expected, "length {length} cut {cut}");
            assert!(found.damage.is_empty());
            assert!(found.end().point.sequence > acked.sequence);

            // The new run goes on there; what lies behind the cut never chains to it.
            rig.commit_run(length);
            let past_the_cut = rig.replay(rig.journal.point());
            assert!(past_the_cut.frames.is_empty(), "also for an image that was taken since");
            let again = rig.restart(start);
            let last = expected.len() as u64 + 1;
            assert_eq!(again.stamps(), (1..=last).collect::<Vec<_>>());
            assert!(again.damage.is_empty());
            assert_eq!(rig.restart(start).stamps(), again.stamps());
        }
    }
}

/// Six acked frames of one run and one control entry each, and the third one's place.
fn six_frames() -> (Rig, JournalPoint, FramePlan) {
    let mut rig = Rig::new(2);
    let start = rig.journal.point();
    let mut plans = Vec::new();
    for _ in 0..6 {
        rig.push(control());
        plans.push(rig.commit_run(5000));
    }
    let third = plans.swap_remove(2);
    (rig, start, third)
}

#[test]
fn damage_in_the_middle_is_reported_and_the_rest_goes_on() {
    for (from, to, entries_count, damaged_count) in [
        (0, 8, 2, 0),       // the magic: the copy at the tail serves
        (130, 140, 2, 0),   // the directory: its copy serves
        (1000, 1004, 2, 1), // the payload: its partition is named
        (4096, 4097, 2, 1), // the payload's second block
        (0, 4096, 2, 1),    // the whole head
    ] {
        let (mut rig, start, third) = six_frames();
        for byte in &mut rig.place(&third)[from..to] {
            *byte ^= 0x55;
        }
        let found = rig.replay(start);
        assert_eq!(found.frames.len(), 5, "damage at {from}");
        let [damage] = &found.damage[..] else {
            panic!("one damage, not {:?}", found.damage);
        };
        assert_eq!((damage.slot, damage.position), (third.slot, third.position));
        assert_eq!((damage.sequence, damage.sequence_end), (third.sequence, third.sequence + 1));
        let stamps: Vec<_> = damage.entries.iter().map(|entry| entry.stamp).collect();
        assert_eq!(stamps, third.entries.iter().map(|(stamp, _)| *stamp).collect::<Vec<_>>());
        assert_eq!(damage.entries.len(), entries_count);
        let damaged = damage.entries.iter().filter(|entry| entry.payload == Payload::Damaged);
        assert_eq!(damaged.count(), damaged_count);
        assert!(!damage.entries_lost);
        assert_eq!(found.end().point, rig.journal.point());
    }
}

#[test]
fn a_frame_that_is_gone_altogether_is_damage_too() {
    let (mut rig, start, third) = six_frames();
    rig.place(&third).fill(0);
    let found = rig.replay(start);
    assert_eq!(found.frames.len(), 5);
    assert_eq!(found.damage.len(), 1);
    assert!(found.damage[0].entries_lost && found.damage[0].entries.is_empty());
    assert_eq!((found.damage[0].sequence, found.damage[0].sequence_end), (third.sequence, third.sequence + 1));
    assert_eq!(found.end().point, rig.journal.point());
}

#[test]
fn the_anchor_proves_the_last_frames_after_a_clean_stop() {
    let mut rig = Rig::new(1);
    let point = rig.journal.point();
    let last = rig.commit_run(5000);
    rig.place(&last)[2000] ^= 1;
    let torn = rig.replay(point);
    assert!(torn.damage.is_empty() && torn.frames.is_empty());
    let start = ReplayStart {
        journal: ID,
        run_max: 1,
        point,
        durable_end: rig.journal.durable_end(),
        until: None,
        files_count: 1,
    };
    let found = rig.replay_from(start);
    assert_eq!(found.damage.len(), 1);
    assert_eq!(found.end().point, rig.journal.point());
}

#[test]
fn frames_complete_in_any_order_and_become_durable_in_theirs() {
    let mut rig = Rig::new(2);
    let stamps: Vec<_> = (0..5).map(|_| rig.push(append(6000, Place::Inline))).collect();
    let frames = rig.start();
    assert_eq!(frames.len(), 4, "four in flight, the fifth waits");
    let sequences: Vec<_> = frames.iter().map(|(plan, _)| plan.sequence).collect();
    let before = rig.journal.durable();
    assert_eq!(rig.journal.frame_written(sequences[2]), before);
    assert_eq!(rig.journal.frame_written(sequences[1]), before);
    assert!(rig.start().is_empty());
    assert_eq!(rig.journal.frame_written(sequences[0]), stamps[2]);
    assert_eq!(rig.start().len(), 1);
    assert_eq!(rig.journal.frame_written(sequences[3]), stamps[3]);
}

#[test]
fn small_runs_are_gathered_while_two_groups_are_written() {
    let mut rig = Rig::new(2);
    rig.push(control());
    let (first, _) = rig.start().pop().unwrap();
    rig.push(append(100, Place::Inline));
    let (second, _) = rig.start().pop().unwrap();
    for _ in 0..5 {
        rig.push(append(100, Place::Inline));
    }
    assert!(rig.start().is_empty(), "two groups are under way");
    rig.journal.frame_written(second.sequence);
    let third = rig.start();
    assert_eq!(third.len(), 1);
    assert_eq!(third[0].0.entries.len(), 5, "one frame for all that waited");
    rig.push(append(100, Place::Inline));
    assert!(rig.start().is_empty());
    let large = rig.push(append(6000, Place::Inline));
    let fourth = rig.start();
    assert_eq!(fourth[0].0.entries.last().unwrap().0, large, "a large run does not wait");
    assert_eq!(rig.journal.frame_written(first.sequence), second.last_stamp);
}

#[test]
fn a_reference_is_durable_when_frame_and_segment_are() {
    for segment_first in [false, true] {
        let mut rig = Rig::new(2);
        let small = rig.push(append(100, Place::Inline));
        let large = rig.push(reference());
        let also = rig.push(reference());
        let after = rig.push(control());
        let frames = rig.start();
        assert_eq!(
            frames.iter().map(|(plan, _)| plan.entries.len()).collect::<Vec<_>>(),
            [1, 2, 1],
            "references share a frame with nothing else"
        );
        if segment_first {
            rig.journal.segment_written(large);
            rig.journal.segment_written(also);
        }
        for (plan, bytes) in &frames {
            rig.write(plan, bytes);
            rig.journal.frame_written(plan.sequence);
        }
        if !segment_first {
            assert_eq!(rig.journal.durable(), small);
            assert_eq!(rig.journal.written(), after);
            assert_eq!(rig.journal.segment_written(also), small);
            assert_eq!(rig.journal.segment_written(large), after);
        }
        assert_eq!(rig.journal.durable(), after);
    }
}

#[test]
fn an_unproven_reference_whose_bytes_do_not_check_cuts_the_chain() {
    let mut rig = Rig::new(2);
    let start = rig.journal.point();
    let before = rig.commit_run(100);
    rig.push(reference());
    rig.push(control());
    rig.commit();
    let found = rig.replay(start);
    let reference_sequence = before.sequence + 1;
    assert!(found.end().durable_end <= reference_sequence, "its segment write never completed");
    assert!(found.end().durable_end > before.sequence);
    let second_pass = ReplayStart {
        journal: ID,
        run_max: 1,
        point: start,
        durable_end: 0,
        until: Some(reference_sequence),
        files_count: 2,
    };
    let cut = rig.replay_from(second_pass);
    assert_eq!(cut.frames.len(), 1);
    let end = cut.end().point;
    assert_eq!(end.sequence, reference_sequence);
    rig.journal = Journal::resume(config(), ID, 2, end, start.ring_point(), 2);
    rig.commit();
    let after = rig.replay(start);
    assert_eq!(after.stamps(), cut.stamps(), "the barrier seals the cut");
    assert_eq!(after.end().point.sequence, reference_sequence + 1);
}

#[test]
fn the_ring_grows_behind_its_last_file_and_a_reader_finds_either_way() {
    for ready_early in [true, false] {
        let mut rig = Rig::new(2);
        let start = rig.journal.point();
        let slot = loop {
            rig.commit_run(9000);
            if let Some(slot) = rig.journal.growth() {
                break slot;
            }
        };
        assert_eq!(slot, 2);
        assert_eq!(rig.journal.growth(), None, "asked for once");
        let mut kept = start;
        if !ready_early {
            // The tail moves, the writer wraps to slot 0, then the file comes.
            while rig.journal.point().slot == 1 || kept == start {
                kept = rig.journal.point();
                rig.journal.release(kept.ring_point());
                rig.commit_run(9000);
            }
            assert_eq!(rig.journal.point().slot, 0);
        }
        rig.files.push(vec![0; FILE_BYTES as usize]);
        rig.journal.file_ready(slot);
        let mut slots = Vec::new();
        for _ in 0..14 {
            if !rig.journal.admits(9000, Quota::Records) {
                break;
            }
            let point = rig.journal.point();
            if !ready_early {
                rig.journal.release(point.ring_point());
                kept = point;
            }
            slots.push(rig.commit_run(9000).slot);
            let found = rig.replay(kept);
            assert!(found.damage.is_empty());
            assert_eq!(found.end().point, rig.journal.point());
        }
        slots.dedup();
        assert!(slots.contains(&2), "{slots:?}");
    }
}

#[test]
fn a_full_ring_still_takes_control_entries_and_never_overwrites() {
    let mut rig = Rig::new(2);
    let start = rig.journal.point();
    let mut stamps = Vec::new();
    while rig.journal.admits(3000, Quota::Records) {
        stamps.push(rig.push(append(3000, Place::Inline)).0);
        rig.commit();
    }
    assert!(stamps.len() > 8);
    let records_count = stamps.len();
    while rig.journal.admits(0, Quota::Control) {
        stamps.push(rig.push(control()).0);
        rig.commit();
    }
    assert!(stamps.len() >= records_count + 3, "the reserve is for these");
    assert!(rig.journal.is_idle(), "whatever was admitted found room");
    for _ in 0..40 {
        rig.push(append(3000, Place::Inline));
        rig.commit();
    }
    assert!(!rig.journal.is_idle(), "the ring is full");
    let found = rig.replay(start);
    assert_eq!(found.stamps()[..stamps.len()], stamps[..]);
    assert_eq!(found.end().point, rig.journal.point());
    rig.journal.release(rig.journal.point().ring_point());
    assert!(!rig.commit().is_empty(), "a moved tail lets what waits go out");
}

#[derive(Clone, Debug)]
enum Move {
    Push(u32),
    Reference,
    Control,
    Complete(usize),
    Segment(usize),
    Release,
    Crash(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => (1u32..12_000).prop_map(Move::Push),
        2 => Just(Move::Reference),
        2 => Just(Move::Control),
        8 => (0usize..4).prop_map(Move::Complete),
        3 => (0usize..4).prop_map(Move::Segment),
        2 => Just(Move::Release),
        1 => any::<u64>().prop_map(Move::Crash),
    ];
    prop::collection::vec(one, 1..120)
}

/// The journal under random work, with writes that tear by sector at a crash.
struct Storm {
    rig: Rig,
    kept: JournalPoint,
    flying: Vec<(FramePlan, Vec<u8>)>,
    segments: Vec<Stamp>,
    durable: Stamp,
}

impl Storm {
    fn step(&mut self, step: &Move) {
        match *step {
            Move::Push(length) if self.rig.journal.admits(length, Quota::Records) => {
                self.rig.push(append(length, Place::Inline));
            }
            Move::Reference if self.rig.journal.admits(0, Quota::Records) => {
                let stamp = self.rig.push(reference());
                self.segments.push(stamp);
            }
            Move::Control if self.rig.journal.admits(0, Quota::Control) => {
                self.rig.push(control());
            }
            Move::Complete(index) if index < self.flying.len() => {
                let (plan, bytes) = self.flying.swap_remove(index);
                self.rig.write(&plan, &bytes);
                self.rig.journal.frame_written(plan.sequence);
            }
            Move::Segment(index) if index < self.segments.len() => {
                self.rig.journal.segment_written(self.segments.swap_remove(index));
            }
            Move::Release if self.flying.is_empty() && self.rig.journal.is_idle() => {
                self.kept = self.rig.journal.point();
                self.rig.journal.release(self.kept.ring_point());
            }
            Move::Crash(seed) => self.crash(seed),
            _ => {}
        }
        self.flying.extend(self.rig.start());
        assert!(self.rig.journal.durable() >= self.durable);
        self.durable = self.rig.journal.durable();
    }

    fn crash(&mut self, mut seed: u64) {
        for (plan, bytes) in std::mem::take(&mut self.flying) {
            for (sector, bytes) in bytes.chunks(512).enumerate() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if seed >> 63 == 1 || seed >> 60 == 2 {
                    self.rig.place(&plan)[sector * 512..][..512].copy_from_slice(bytes);
                }
            }
        }
        let durable_end = self.rig.journal.durable_end();
        self.segments.clear();
        let found = self.rig.restart(self.kept);
        assert!(found.damage.is_empty(), "{:?}", found.damage);
        let stamps = found.stamps();
        let first = self.kept.stamp + 1;
        assert_eq!(stamps, (first..first + stamps.len() as u64).collect::<Vec<_>>());
        assert!(first + stamps.len() as u64 > self.durable.0, "nothing that was acked is missing");
        assert!(found.end().point.sequence >= durable_end);
        assert!(found.end().durable_end <= durable_end, "a frame is never proven that was not durable");
        self.durable = Stamp(0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_durable_survives_any_crash(moves in moves()) {
        let rig = Rig::new(2);
        let kept = rig.journal.point();
        let mut storm = Storm { rig, kept, flying: Vec::new(), segments: Vec::new(), durable: Stamp(0) };
        for step in &moves {
            storm.step(step);
        }
        storm.crash(1);
    }
}

#[test]
fn the_checksum_of_a_reference_is_the_callers() {
    let mut rig = Rig::new(1);
    let start = rig.journal.point();
    let checksum = crc32c(b"a large run");
    let stamp = rig.push(append(1 << 20, Place::Segment { file: FileId(5), checksum, origin: Some(ORIGIN) }));
    rig.journal.segment_written(stamp);
    rig.commit();
    let found = rig.replay(start);
    let (_, entry) = found.frames.values().flatten().next().unwrap();
    assert!(
        matches!(entry.change, Change::Append(Append { place: Place::Segment { checksum: read, .. }, .. }) if read == checksum)
    );
}

#[test]
fn every_byte_of_a_frame_counts() {
    let mut rig = Rig::new(1);
    let start = rig.journal.point();
    rig.push(control());
    let plan = rig.commit_run(300);
    let content = plan.position as usize + 128 + 2 * 96 + 300;
    for at in plan.position as usize..content {
        rig.files[0][at] ^= 0x40;
        let found = rig.replay(start);
        assert!(found.frames.is_empty(), "byte {at}");
        assert_eq!(found.end().point, start);
        rig.files[0][at] ^= 0x40;
    }
    assert_eq!(rig.replay(start).frames.len(), 1);
}

#[test]
fn a_full_ring_can_start_again() {
    let mut rig = Rig::new(1);
    let start = rig.journal.point();
    while rig.journal.admits(0, Quota::Control) {
        rig.push(control());
        rig.commit();
    }
    rig.restart(start);
    rig.commit();
    assert!(rig.journal.barrier_durable(), "the barrier has its place");
}

#[test]
fn a_run_that_the_anchor_does_not_know_is_not_followed() {
    let mut rig = Rig::new(1);
    let point = rig.journal.point();
    rig.commit_run(300);
    let start = |run_max| ReplayStart { journal: ID, run_max, point, durable_end: 0, until: None, files_count: 1 };
    assert_eq!(rig.replay_from(start(1)).frames.len(), 1);
    assert!(rig.replay_from(start(0)).frames.is_empty());
}
