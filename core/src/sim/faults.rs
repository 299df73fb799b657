//! What goes wrong beside power failures: errors of the disk while it runs, and bits that flip while the machine is off.
//!
//! Owns the choice of what is hit and the knowledge of whom it may concern. Never hits what no engine could notice: of the
//! last frames, which nothing proves durable, damage and a torn write look the same.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::Name;
use super::world::{DIRECTORY, JOURNAL, World};
use crate::journal::frame::FrameEntry;
use crate::journal::replay::{Replay, ReplayEnd, ReplayStart, ReplayedFrame, Step};
use crate::journal::{Change, JournalPoint, Place};
use crate::store::StoreConfig;
use crate::superblock::{Anchor, SLOT_BYTES, Superblock, TWO_SLOTS_BYTES, damaged_slots};
use crate::units::{FileId, TopicPartition};

/// Which faults a history has beside power failures, a full disk and slow writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    PowerOnly,
    /// Writes, flushes and reads fail.
    Errors,
    /// Bits flip in what lies on the disk.
    Flips,
}

impl Mode {
    pub(super) fn of(seed: u64) -> Mode {
        match seed % 8 {
            2 => Mode::Errors,
            5 | 6 => Mode::Flips,
            _ => Mode::PowerOnly,
        }
    }
}

/// How often each kind of fault was injected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

impl Counts {
    pub(super) fn add(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Adds another history's.
    pub fn merge(&mut self, other: &Counts) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }
}

/// What identifies the simulated directory.
pub(super) fn superblock(generation: u64) -> Superblock {
    Superblock {
        generation,
        directory_id: DIRECTORY,
        cluster_id: "simulated".to_owned(),
        node_id: 1,
        layout_generation: 1,
        journals: vec![JOURNAL],
        clean: false,
    }
}

impl World {
    /// One bit flips somewhere. Returns the partitions that may be damaged by it.
    pub(super) fn flip(&mut self, config: &StoreConfig) -> BTreeSet<TopicPartition> {
        let bytes = self.disk.read(Name::Anchor, 0, TWO_SLOTS_BYTES);
        let Ok(anchor) = Anchor::decode("anchor", &bytes, DIRECTORY, JOURNAL) else { return BTreeSet::new() };
        let both_slots =
            damaged_slots(&bytes).next().is_none() && bytes.chunks(SLOT_BYTES).all(|slot| slot != [0; SLOT_BYTES]);
        match self.random.below(8) {
            0 if self.superblock_is_whole() => {
                self.flip_in(Name::Superblock, 0..TWO_SLOTS_BYTES as u64, "flips in the superblock")
            }
            1 if both_slots => self.flip_in(Name::Anchor, 0..TWO_SLOTS_BYTES as u64, "flips in the anchor"),
            2 | 3 => self.flip_image(&anchor),
            4 | 5 => return self.flip_frame(&anchor, config),
            _ => return self.flip_segment(&anchor, config),
        }
        BTreeSet::new()
    }

    /// Nobody writes the second slot anew here: a second flip would take both.
    fn superblock_is_whole(&self) -> bool {
        damaged_slots(&self.disk.read(Name::Superblock, 0, TWO_SLOTS_BYTES)).next().is_none()
    }

    fn flip_in(&mut self, name: Name, range: std::ops::Range<u64>, kind: &'static str) {
        let position = range.start + self.random.below(range.end - range.start);
        let bit = self.random.below(8) as u8;
        if self.disk.flip(name, position as usize, bit) {
            self.faults.add(kind);
        }
    }

    /// The newest image, while the older one or the whole ring can stand for it.
    fn flip_image(&mut self, anchor: &Anchor) {
        if let Some(image) = self.replaceable_image(anchor) {
            let length = self.disk.length(Name::Image(image));
            self.flip_in(Name::Image(image), 0..length, "flips in an image");
        }
    }

    /// The newest image, if a start can do without it. The older one is gone if the anchor itself is the older one.
    pub(super) fn replaceable_image(&self, anchor: &Anchor) -> Option<u64> {
        match anchor.images {
            [Some(newest), None] => Some(newest.id),
            [Some(newest), Some(older)] if newest.id != older.id => {
                self.disk.exists(Name::Image(older.id)).then_some(newest.id)
            }
            _ => None,
        }
    }

    fn flip_frame(&mut self, anchor: &Anchor, config: &StoreConfig) -> BTreeSet<TopicPartition> {
        let (frames, end) = self.frames(anchor, config);
        let proven: Vec<_> = frames.iter().filter(|frame| frame.header.sequence < end.durable_end).collect();
        let Some(frame) = self.random.pick(&proven) else { return BTreeSet::new() };
        let range = frame.position..frame.position + u64::from(frame.header.total_bytes);
        self.flip_in(Name::Ring(frame.slot), range, "flips in a frame");
        frame.entries.iter().map(|entry| entry.entry.target).collect()
    }

    /// A file of a live segment, but none with a large run whose frame nothing proves durable.
    fn flip_segment(&mut self, anchor: &Anchor, config: &StoreConfig) -> BTreeSet<TopicPartition> {
        let (frames, end) = self.frames(anchor, config);
        let unproven = frames.iter().filter(|frame| frame.header.sequence >= end.durable_end);
        let unproven: BTreeSet<FileId> = unproven.flat_map(|frame| frame.entries.iter().filter_map(file_of)).collect();
        let mut segments = Vec::new();
        for partition in self.store.partitions() {
            let of = |file: FileId, end: u64| (partition.id(), file, end.min(self.disk.length(Name::Segment(file))));
            segments.extend(partition.segments().iter().map(|segment| of(segment.file, segment.end_position())));
        }
        segments.retain(|(_, file, end)| *end > 0 && !unproven.contains(file));
        let Some((key, file, end)) = self.random.pick(&segments).copied() else { return BTreeSet::new() };
        self.flip_in(Name::Segment(file), 0..end, "flips in a segment");
        BTreeSet::from([key])
    }

    /// The frames that a start from the newest image would find.
    fn frames(&self, anchor: &Anchor, config: &StoreConfig) -> (Vec<ReplayedFrame>, ReplayEnd) {
        let newest = anchor.images.iter().flatten().next();
        let start = ReplayStart {
            journal: JOURNAL,
            run_max: anchor.run,
            point: newest.map_or(JournalPoint::START, |kept| kept.point),
            durable_end: anchor.durable_end,
            until: None,
            files_count: anchor.ring_files_count,
        };
        let mut replay = Replay::new(config.journal, start);
        let mut frames = Vec::new();
        let mut last = ReplayEnd { point: start.point, durable_end: start.durable_end };
        while let Some(read) = replay.next_read() {
            for step in replay.supply(&self.ring(&read)) {
                match step {
                    Step::Frame(frame) => frames.push(frame),
                    Step::End(end) => last = end,
                    Step::Corrupt(_) => {}
                }
            }
        }
        (frames, last)
    }
}

fn file_of(entry: &FrameEntry) -> Option<FileId> {
    match entry.entry.change {
        Change::Append(run) => match run.place {
            Place::Segment { file, .. } => Some(file),
            Place::Inline => None,
        },
        _ => None,
    }
}
