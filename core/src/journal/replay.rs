//! Replay: walks a journal's frames from a kept point to its end and tells a torn tail from damage.
//!
//! The driver reads what `next_read` asks for and supplies the bytes; frames come out in order. The chain of checksums
//! decides whether a frame follows, so zeroes, earlier laps and frames behind a former cut never do. A frame that does
//! not check is the torn tail, unless a later frame (or the anchor) says that it had been durable: then it is damage,
//! and what its tail copy still tells is handed on. Never: a frame out of order, or a cut below what is proven durable.
//! The driver flushes the ring's files before the first read, so that what replay accepts is durable from then on.

use std::collections::VecDeque;

use super::frame::{Frame, FrameEntry, FrameHeader, FramePlace, Payload};
use super::{JournalConfig, JournalPoint, RingPoint};
use crate::units::{BLOCK_BYTES, JournalId, Stamp};

/// What replay knows before it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayStart {
    pub journal: JournalId,
    /// The highest run that the anchor knows; frames of a higher one were never written.
    pub run_max: u64,
    pub point: JournalPoint,
    /// Every frame with a lower sequence is known to be durable (from the anchor).
    pub durable_end: u64,
    /// Ends before this frame: set in a second pass, when a reference's bytes did not check in the first.
    pub until: Option<u64>,
    pub files_count: u32,
}

/// A read of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingRead {
    pub slot: u32,
    pub position: u64,
    pub length: u32,
}

/// What the supplied bytes held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Frame(ReplayedFrame),
    Corrupt(Damage),
    End(ReplayEnd),
}

/// A frame that checks. Inline payloads are ranges of the bytes that were just supplied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedFrame {
    pub header: FrameHeader,
    pub slot: u32,
    pub position: u64,
    pub entries: Vec<FrameEntry>,
}

/// A frame that was durable and does not check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub slot: u32,
    pub position: u64,
    pub sequence: u64,
    /// Frames from `sequence` up to this one are concerned.
    pub sequence_end: u64,
    /// What can still be read, with [`Payload::Damaged`] where the bytes do not check.
    pub entries: Vec<FrameEntry>,
    /// Whether there may be entries of which nothing is known: then any partition of the journal may be concerned.
    pub entries_lost: bool,
}

/// Where the journal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayEnd {
    /// Where a resumed journal goes on.
    pub point: JournalPoint,
    /// Frames from here on are not proven durable: the bytes of their references must be checked.
    pub durable_end: u64,
}

/// The replay of one journal.
#[derive(Debug)]
pub struct Replay {
    config: JournalConfig,
    start: ReplayStart,
    at: JournalPoint,
    run: u64,
    durable_end: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The next frame lies at one of these places, if it exists.
    Next(VecDeque<RingPoint>),
    /// The next frame was not found whole; looks for frames that prove it had been durable.
    Scan(Scan),
    /// Reads the damaged frame once more, as one piece.
    Salvage(FrameHeader, RingPoint),
    Done,
}

#[derive(Debug)]
struct Scan {
    ranges: VecDeque<RingRange>,
    /// The frame itself, by a copy of its header.
    located: Option<(FrameHeader, RingPoint)>,
    later: Vec<(FrameHeader, RingPoint)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RingRange {
    slot: u32,
    from: u64,
    to: u64,
}

/// What lies at a place.
enum Found {
    Frame(Frame),
    /// The frame we look for, with bytes that do not check.
    Broken(FrameHeader),
    /// The frame we look for goes beyond the supplied bytes.
    Short,
    Nothing,
}

impl Replay {
    /// `config` must be the one that the ring was written with.
    pub fn new(config: JournalConfig, start: ReplayStart) -> Replay {
        let mut replay = Replay {
            config,
            start,
            at: start.point,
            run: 0,
            durable_end: start.durable_end.max(start.point.sequence),
            state: State::Done,
        };
        replay.expect_next(0);
        replay
    }

    /// The next read to perform. `None` once the end was reported.
    pub fn next_read(&self) -> Option<RingRead> {
        let (slot, position, end) = match &self.state {
            State::Next(places) => {
                let place = places.front()?;
                (place.slot, place.position, self.config.ring_file_bytes)
            }
            State::Scan(scan) => {
                let range = scan.ranges.front()?;
                (range.slot, range.from, range.to)
            }
            State::Salvage(header, place) => {
                let end = place.position + u64::from(header.total_bytes);
                (place.slot, place.position, end)
            }
            State::Done => return None,
        };
        let length = (end - position).min(u64::from(self.config.frame_bytes_max));
        Some(RingRead { slot, position, length: length as u32 })
    }

    /// Takes the bytes of the read that was asked for and returns what they hold, in order.
    pub fn supply(&mut self, bytes: &[u8]) -> Vec<Step> {
        let read = self.next_read().expect("bytes answer a read");
        assert_eq!(bytes.len(), read.length as usize, "a short read is an error of the driver");
        let mut steps = Vec::new();
        match std::mem::replace(&mut self.state, State::Done) {
            State::Next(places) => self.take_frames(places, bytes, &mut steps),
            State::Scan(scan) => self.scan(scan, read, bytes, &mut steps),
            State::Salvage(header, place) => self.salvage(header, place, bytes, &mut steps),
            State::Done => {}
        }
        if matches!(self.state, State::Done) {
            steps.push(Step::End(ReplayEnd { point: self.at, durable_end: self.durable_end }));
        }
        steps
    }

    fn take_frames(&mut self, mut places: VecDeque<RingPoint>, bytes: &[u8], steps: &mut Vec<Step>) {
        let Some(first) = places.pop_front() else {
            return;
        };
        let mut taken = 0;
        while taken < bytes.len() {
            let place = RingPoint { slot: first.slot, position: first.position + taken as u64 };
            let rest = bytes.get(taken..).unwrap_or_default();
            match self.find(rest, place) {
                Found::Frame(frame) if !self.is_over() => {
                    let length = frame.header.total_bytes as usize;
                    self.pass(&frame.header, place);
                    steps.push(Step::Frame(replayed(frame, place, taken)));
                    taken += length;
                }
                Found::Broken(header) if !self.is_over() => {
                    return self.begin_scan(Some((header, place)));
                }
                Found::Short if taken > 0 => return self.expect_next(0),
                _ => break,
            }
        }
        if taken > 0 {
            // What lies in these bytes behind the last frame was looked at already.
            let seen = usize::from(taken < bytes.len());
            return self.expect_next(seen);
        }
        if places.is_empty() {
            return self.begin_scan(None);
        }
        self.state = State::Next(places);
    }

    /// Looks for the next frame where it may lie, but for the first `seen` of those places.
    fn expect_next(&mut self, seen: usize) {
        if self.is_over() {
            self.state = State::Done;
            return;
        }
        let places: VecDeque<_> = self.places().into_iter().skip(seen).collect();
        if places.is_empty() {
            return self.begin_scan(None);
        }
        self.state = State::Next(places);
    }

    fn is_over(&self) -> bool {
        self.start.until.is_some_and(|until| self.at.sequence >= until)
    }

    /// Right behind the last frame, in the next slot, or in slot 0 if there was no next slot then.
    fn places(&self) -> Vec<RingPoint> {
        let here = self.at.ring_point();
        let mut places = Vec::with_capacity(3);
        if here.position < self.config.ring_file_bytes {
            places.push(here);
        }
        let next = RingPoint { slot: here.slot + 1, position: 0 };
        if next.slot < self.start.files_count {
            places.push(next);
        }
        if here != RingPoint::default() {
            places.push(RingPoint::default());
        }
        places
    }

    fn find(&self, bytes: &[u8], place: RingPoint) -> Found {
        let Some(header) = FrameHeader::decode(bytes, self.frame_place(place)) else {
            return Found::Nothing;
        };
        if !self.chains(&header) {
            return Found::Nothing;
        }
        match Frame::decode(header, bytes) {
            None => Found::Short,
            Some(frame) if frame.whole => Found::Frame(frame),
            Some(_) => Found::Broken(header),
        }
    }

    fn frame_place(&self, place: RingPoint) -> FramePlace {
        FramePlace { journal: self.start.journal, slot: place.slot, position: place.position }
    }

    fn chains(&self, header: &FrameHeader) -> bool {
        header.sequence == self.at.sequence
            && header.previous_checksum == self.at.previous_checksum
            && self.run_fits(header)
    }

    fn run_fits(&self, header: &FrameHeader) -> bool {
        (self.run..=self.start.run_max).contains(&header.run)
    }

    /// The chain goes on behind this frame.
    fn pass(&mut self, header: &FrameHeader, place: RingPoint) {
        self.run = header.run;
        self.durable_end = self.durable_end.max(header.durable_end);
        self.at = JournalPoint {
            sequence: header.sequence + 1,
            slot: place.slot,
            position: place.position + u64::from(header.total_bytes),
            previous_checksum: header.checksum,
            stamp: header.last_stamp.0,
        };
    }

    fn begin_scan(&mut self, located: Option<(FrameHeader, RingPoint)>) {
        self.state = State::Scan(Scan { ranges: self.scan_ranges(), located, later: Vec::new() });
    }

    /// The rest of this file, and as much of the files that may come next as the frames in flight can take.
    fn scan_ranges(&self) -> VecDeque<RingRange> {
        let here = self.at.ring_point();
        let file_bytes = self.config.ring_file_bytes;
        let window = u64::from(self.config.frame_bytes_max) * (self.config.frames_in_flight_max as u64 + 1);
        let mut ranges = VecDeque::new();
        let rest = here.position..file_bytes.min(here.position + window);
        ranges.push_back(RingRange { slot: here.slot, from: rest.start, to: rest.end });
        for first in [here.slot + 1, 0] {
            let mut left = window;
            let files = (0..self.start.files_count).cycle().skip(first as usize);
            for slot in files.take(self.start.files_count as usize) {
                let end = if slot == here.slot { here.position } else { file_bytes };
                let to = end.min(left);
                left = left.saturating_sub(file_bytes);
                let seen =
                    ranges.iter().any(|range: &RingRange| range.slot == slot && range.from == 0 && range.to >= to);
                if to > 0 && !seen {
                    ranges.push_back(RingRange { slot, from: 0, to });
                }
                if slot == here.slot || left == 0 {
                    break;
                }
            }
        }
        ranges.retain(|range| range.from < range.to);
        ranges
    }

    fn scan(&mut self, mut scan: Scan, read: RingRead, bytes: &[u8], steps: &mut Vec<Step>) {
        for (index, block) in bytes.chunks_exact(BLOCK_BYTES as usize).enumerate() {
            let place = RingPoint { slot: read.slot, position: read.position + index as u64 * BLOCK_BYTES };
            self.scan_block(&mut scan, block, place);
        }
        if let Some(mut range) = scan.ranges.pop_front() {
            range.from += u64::from(read.length);
            if range.from < range.to {
                scan.ranges.push_front(range);
            }
        }
        if scan.ranges.is_empty() {
            self.conclude(scan, steps);
        } else {
            self.state = State::Scan(scan);
        }
    }

    fn scan_block(&self, scan: &mut Scan, block: &[u8], place: RingPoint) {
        let frame_place = self.frame_place(place);
        if let Some(header) = FrameHeader::decode(block, frame_place)
            && header.sequence > self.at.sequence
            && self.run_fits(&header)
        {
            scan.later.push((header, place));
        }
        if scan.located.is_none()
            && let Some((header, position)) = FrameHeader::decode_tail(block, frame_place)
            && self.chains(&header)
        {
            scan.located = Some((header, RingPoint { position, ..place }));
        }
    }

    fn conclude(&mut self, scan: Scan, steps: &mut Vec<Step>) {
        let proof = scan.later.iter().map(|(header, _)| header.durable_end).max();
        let durable_end = self.durable_end.max(proof.unwrap_or(0));
        if durable_end <= self.at.sequence {
            // Torn: nothing says that this frame, or any behind it, was ever durable.
            self.state = State::Done;
            return;
        }
        self.durable_end = durable_end;
        if let Some((header, place)) = scan.located {
            self.state = State::Salvage(header, place);
            return;
        }
        let damaged = self.at;
        let later = first_of_chain(&scan.later);
        self.skip_to(later);
        steps.push(Step::Corrupt(Damage {
            slot: damaged.slot,
            position: damaged.position,
            sequence: damaged.sequence,
            sequence_end: self.at.sequence,
            entries: Vec::new(),
            entries_lost: true,
        }));
    }

    /// Goes on at the first frame that can be read again, or ends behind what is proven.
    fn skip_to(&mut self, later: Option<(FrameHeader, RingPoint)>) {
        let Some((header, place)) = later else {
            self.at.sequence = self.durable_end;
            self.state = State::Done;
            return;
        };
        self.at = JournalPoint {
            sequence: header.sequence,
            slot: place.slot,
            position: place.position,
            previous_checksum: header.previous_checksum,
            ..self.at
        };
        self.state = State::Next(VecDeque::from([place]));
    }

    fn salvage(&mut self, header: FrameHeader, place: RingPoint, bytes: &[u8], steps: &mut Vec<Step>) {
        let frame = Frame::decode(header, bytes);
        let entries_lost = frame.as_ref().is_none_or(|frame| frame.entries_lost_count() > 0);
        steps.push(Step::Corrupt(Damage {
            slot: place.slot,
            position: place.position,
            sequence: header.sequence,
            sequence_end: header.sequence + 1,
            entries: frame.map(|frame| frame.entries).unwrap_or_default(),
            entries_lost,
        }));
        self.pass(&header, place);
        self.expect_next(0);
    }

    /// The stamp of the last frame that was passed.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.at.stamp)
    }
}

/// The earliest of the later frames that is not behind a cut: no newer run has written the same sequence or an earlier.
fn first_of_chain(later: &[(FrameHeader, RingPoint)]) -> Option<(FrameHeader, RingPoint)> {
    let cut_off = |header: &FrameHeader| {
        later.iter().any(|(other, _)| other.run > header.run && other.sequence <= header.sequence)
    };
    later.iter().filter(|(header, _)| !cut_off(header)).min_by_key(|(header, _)| header.sequence).copied()
}

/// Moves the payload ranges from the frame's bytes to those that were supplied.
fn replayed(frame: Frame, place: RingPoint, offset: usize) -> ReplayedFrame {
    let mut entries = frame.entries;
    for entry in &mut entries {
        if let Payload::Inline(range) = &mut entry.payload {
            *range = range.start + offset..range.end + offset;
        }
    }
    ReplayedFrame { header: frame.header, slot: place.slot, position: place.position, entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_behind_a_cut_is_not_where_the_chain_goes_on() {
        let header = |run, sequence| FrameHeader {
            version: crate::journal::frame::FRAME_VERSION,
            journal: JournalId(1),
            run,
            sequence,
            durable_end: 0,
            last_stamp: Stamp(0),
            wall_ms: 0,
            previous_checksum: 0,
            total_bytes: 4096,
            entries_count: 0,
            payload_bytes: 0,
            directory_checksum: 0,
            checksum: 0,
        };
        let found = |frames: &[(u64, u64)]| {
            let later: Vec<_> = frames.iter().map(|(run, seq)| (header(*run, *seq), RingPoint::default())).collect();
            first_of_chain(&later).map(|(header, _)| (header.run, header.sequence))
        };
        assert_eq!(found(&[(1, 6), (1, 5), (2, 8)]), Some((1, 5)));
        assert_eq!(found(&[(1, 7), (2, 6), (2, 8)]), Some((2, 6)));
        assert_eq!(found(&[(1, 6), (2, 6)]), Some((2, 6)));
        assert_eq!(found(&[]), None);
    }
}
