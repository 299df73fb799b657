//! Reads a whole data directory and checks all of it, without a ring and without a write.
//!
//! A journal is recovered by the same machine as at a start, so that what is told is what a start would see. Every byte that
//! is kept is checked: both slots of superblock and anchors, kept images, the ring from the older image's point on, and each
//! batch of each segment. Never changes, creates, locks or flushes anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::data_dir::DataDir;
use super::executor::machine_now;
use crate::checkpoint::{PartitionRecord, ShardImage};
use crate::error::Fault;
use crate::inspect::FrameLine;
use crate::journal::frame::FrameHeader;
use crate::journal::replay::{Replay, ReplayStart, Step};
use crate::journal::{Change, JournalPoint};
use crate::partition::image::SegmentImage;
use crate::store::StoreConfig;
use crate::store::recovery::{Need, Recovery, Report};
use crate::superblock::{self, Anchor, KeptImage, SLOT_BYTES, Superblock};
use crate::units::{FileId, JournalId, Slot, TopicId, TopicPartition};

pub use super::segment_walk::SegmentWalk;

/// Something that does not check, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub file: String,
    pub position: u64,
    pub what: String,
}

/// A data directory as it was read.
#[derive(Clone, Debug)]
pub struct Examination {
    pub superblock: Superblock,
    pub journals: Vec<ExaminedJournal>,
    pub damages: Vec<Damage>,
}

/// One journal and its partitions.
#[derive(Clone, Debug)]
pub struct ExaminedJournal {
    pub journal: JournalId,
    /// `None`: never started, or damaged.
    pub anchor: Option<Anchor>,
    pub images: Vec<ExaminedImage>,
    pub ring: ExaminedRing,
    /// The first frame that a start would cut although it checks: a run that it refers to is not whole.
    pub cut: Option<u64>,
    pub partitions: Vec<ExaminedPartition>,
    pub unused_files_count: usize,
}

/// A kept image that was read whole.
#[derive(Clone, Debug)]
pub struct ExaminedImage {
    pub kept: KeptImage,
    pub bytes: u64,
    pub partitions_count: usize,
}

/// What the ring holds from a point on.
#[derive(Clone, Debug, Default)]
pub struct ExaminedRing {
    pub frames_count: u64,
    pub entries_count: u64,
    pub bytes: u64,
    pub end: Option<JournalPoint>,
    /// Where a frame begins that was never finished.
    pub torn: Option<(u32, u64)>,
    /// The frames, if they were asked for.
    pub frames: Vec<FrameLine>,
    /// Log ends by the appends that were read, damaged or not.
    pub(super) log_ends: BTreeMap<TopicPartition, i64>,
}

/// A partition as a start would see it.
#[derive(Clone, Debug)]
pub struct ExaminedPartition {
    pub key: TopicPartition,
    pub log_start: i64,
    pub log_end: i64,
    pub segments_count: usize,
    pub bytes: u64,
    pub batches_count: u64,
    pub producers_count: usize,
    /// Bytes that are in the journal or an image and not yet in their file.
    pub open_bytes: u64,
    /// Why a start would refuse to serve it.
    pub closed: Option<String>,
}

/// A journal's partitions as recovery finds them, each with all bytes that are in no file.
pub(super) struct RecoveredJournal {
    pub(super) records: Vec<PartitionRecord>,
    pub(super) report: Report,
    pub(super) end: JournalPoint,
    unused_files_count: usize,
}

/// Bytes that belong into a file and are not in it yet.
struct Tail {
    position: u64,
    bytes: Vec<u8>,
}

/// Reads and checks the directory; `frames` keeps what each frame holds.
pub fn examine(path: &Path, frames: bool) -> Result<Examination, Fault> {
    let dir = DataDir::inspect(path)?;
    let superblock = dir.superblock().clone();
    let mut examination = Examination { superblock, journals: Vec::new(), damages: Vec::new() };
    let file = path.join(crate::paths::SUPERBLOCK);
    examination.check_slots(&file, &read_file(&file)?);
    for journal in dir.journals() {
        let examined = examination.journal(&dir, *journal, frames)?;
        examination.journals.push(examined);
    }
    Ok(examination)
}

impl Examination {
    fn check_slots(&mut self, file: &Path, bytes: &[u8]) {
        let slots = superblock::damaged_slots(bytes);
        self.damages.extend(slots.map(|slot| Damage {
            file: file.display().to_string(),
            position: (slot * SLOT_BYTES) as u64,
            what: format!("slot {slot} does not check; the other one counts"),
        }));
    }

    /// Notes damage; what is of another version or cannot be read ends the examination.
    fn note(&mut self, fault: Fault) -> Result<(), Fault> {
        match fault {
            Fault::Corrupt { file, position, what } => {
                self.damages.push(Damage { file, position, what: what.to_owned() });
                Ok(())
            }
            other => Err(other),
        }
    }

    fn journal(&mut self, dir: &DataDir, journal: JournalId, frames: bool) -> Result<ExaminedJournal, Fault> {
        let mut examined = ExaminedJournal {
            journal,
            anchor: None,
            images: Vec::new(),
            ring: ExaminedRing::default(),
            cut: None,
            partitions: Vec::new(),
            unused_files_count: 0,
        };
        let path = dir.anchor(journal);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) if bytes.len() >= SLOT_BYTES => bytes,
            // As at a start.
            _ => return dir.expect_unused(journal).or_else(|fault| self.note(fault)).map(|()| examined),
        };
        let anchor = match Anchor::decode(&path.display().to_string(), &bytes, dir.directory_id(), journal) {
            Ok(anchor) => anchor,
            Err(fault) => return self.note(fault).map(|()| examined),
        };
        self.check_slots(&path, &bytes);
        dir.expect_whole_ring(&anchor).or_else(|fault| self.note(fault))?;
        examined.anchor = Some(anchor);
        self.images(dir, &anchor, &mut examined)?;
        examined.ring = read_ring(dir, &anchor, anchor.needed_point(), frames, &mut self.damages)?;
        match recover(dir, anchor, false) {
            Ok(recovered) => self.partitions(dir, recovered, &mut examined)?,
            // Images and ring have told their damage already, with its place.
            Err(Fault::Corrupt { .. }) if !self.damages.is_empty() => {}
            Err(fault) => self.note(fault)?,
        }
        Ok(examined)
    }

    fn images(&mut self, dir: &DataDir, anchor: &Anchor, examined: &mut ExaminedJournal) -> Result<(), Fault> {
        for (kept, read) in read_images(dir, anchor) {
            match read {
                Ok((bytes, image)) => {
                    let partitions_count = image.partitions.len();
                    examined.images.push(ExaminedImage { kept, bytes, partitions_count });
                }
                Err(fault) => self.note(fault)?,
            }
        }
        Ok(())
    }

    fn partitions(
        &mut self,
        dir: &DataDir,
        recovered: RecoveredJournal,
        examined: &mut ExaminedJournal,
    ) -> Result<(), Fault> {
        let read_to = examined.ring.end.map_or(0, |end| end.sequence);
        examined.cut = (recovered.end.sequence < read_to).then_some(recovered.end.sequence);
        examined.unused_files_count = recovered.unused_files_count;
        for record in &recovered.records {
            let found = self.partition(dir, record, &recovered.report)?;
            examined.partitions.push(found);
        }
        Ok(())
    }

    fn partition(
        &mut self,
        dir: &DataDir,
        record: &PartitionRecord,
        report: &Report,
    ) -> Result<ExaminedPartition, Fault> {
        let image = &record.image;
        let key = key_of(record);
        let mut batches_count = 0;
        for segment in &image.segments {
            let bytes = segment_bytes(dir, record, segment)?;
            let walk = SegmentWalk::of(&bytes, segment, image.log_start);
            batches_count += walk.batches_count;
            let file = dir.segment(FileId(segment.file)).display().to_string();
            self.damages.extend(walk.damage.map(|(position, what)| Damage {
                file,
                position,
                what: format!("{what} ({key}, offsets from {})", walk.sound_offset),
            }));
        }
        let why = report.damaged.iter().find(|(damaged, _)| *damaged == key).map(|(_, why)| why.clone());
        Ok(ExaminedPartition {
            key,
            log_start: image.log_start,
            log_end: image.log_end,
            segments_count: image.segments.len(),
            bytes: image.segments.iter().map(|segment| u64::from(segment.end_position)).sum(),
            batches_count,
            producers_count: image.producers.len(),
            open_bytes: record.open.iter().map(|range| range.end - range.start).sum(),
            closed: why.or_else(|| record.closed.then(|| "it failed closed".to_owned())),
        })
    }

    /// Whether anything does not check.
    pub fn is_damaged(&self) -> bool {
        let partitions = || self.journals.iter().flat_map(|journal| &journal.partitions);
        !self.damages.is_empty() || partitions().any(|partition| partition.closed.is_some())
    }
}

pub(super) fn key_of(record: &PartitionRecord) -> TopicPartition {
    TopicPartition { topic: TopicId(record.image.topic), partition: record.image.partition }
}

fn config_of(anchor: &Anchor) -> StoreConfig {
    let mut config = StoreConfig::default();
    config.journal.ring_file_bytes = anchor.ring_file_bytes;
    config
}

/// An image and its file's length.
type ReadImage = Result<(u64, ShardImage), Fault>;

/// The images that the anchor keeps, newest first.
pub(super) fn read_images(dir: &DataDir, anchor: &Anchor) -> Vec<(KeptImage, ReadImage)> {
    let mut kept: Vec<KeptImage> = anchor.images.iter().flatten().copied().collect();
    kept.dedup();
    let read = kept.into_iter().map(|kept| {
        let path = dir.image(anchor.journal, kept.id);
        let bytes = std::fs::read(&path).unwrap_or_default();
        let image = ShardImage::decode(&path.display().to_string(), &bytes, anchor.journal, &kept);
        (kept, image.map(|image| (bytes.len() as u64, image)))
    });
    read.collect()
}

/// Walks the ring from `point` to its end and adds the damage that it meets.
pub(super) fn read_ring(
    dir: &DataDir,
    anchor: &Anchor,
    point: JournalPoint,
    keep_frames: bool,
    damages: &mut Vec<Damage>,
) -> Result<ExaminedRing, Fault> {
    let start = ReplayStart {
        journal: anchor.journal,
        run_max: anchor.run,
        point,
        durable_end: anchor.durable_end,
        until: None,
        files_count: anchor.ring_files_count,
    };
    let mut replay = Replay::new(config_of(anchor).journal, start);
    let mut ring = ExaminedRing::default();
    while let Some(read) = replay.next_read() {
        let path = dir.ring(anchor.journal, read.slot);
        let bytes = read_zero_filled(&path, read.position, u64::from(read.length))?;
        for step in replay.supply(&bytes) {
            ring.step(dir, anchor, step, keep_frames, damages);
        }
    }
    ring.look_for_torn(dir, anchor)?;
    Ok(ring)
}

impl ExaminedRing {
    fn step(&mut self, dir: &DataDir, anchor: &Anchor, step: Step, keep: bool, damages: &mut Vec<Damage>) {
        match step {
            Step::Frame(frame) => {
                self.frames_count += 1;
                self.entries_count += frame.entries.len() as u64;
                self.bytes += u64::from(frame.header.total_bytes);
                self.note_ends(&frame.entries);
                if keep {
                    let (slot, position, header) = (frame.slot, frame.position, frame.header);
                    self.frames.push(FrameLine { slot, position, header, entries: frame.entries, whole: true });
                }
            }
            Step::Corrupt(damage) => {
                self.note_ends(&damage.entries);
                let known = if damage.entries_lost { "; what it held is not known" } else { "" };
                damages.push(Damage {
                    file: dir.ring(anchor.journal, damage.slot).display().to_string(),
                    position: damage.position,
                    what: format!("frame {} was durable and does not check{known}", damage.sequence),
                });
            }
            Step::End(end) => self.end = Some(end.point),
        }
    }

    fn note_ends(&mut self, entries: &[crate::journal::FrameEntry]) {
        for entry in entries {
            if let Change::Append(run) = entry.entry.change {
                let end = self.log_ends.entry(entry.entry.target).or_insert(run.end_offset);
                *end = run.end_offset.max(*end);
            }
        }
    }

    /// A frame that begins where the next one belongs, of a sequence that is due, was not finished.
    fn look_for_torn(&mut self, dir: &DataDir, anchor: &Anchor) -> Result<(), Fault> {
        let Some(end) = self.end else { return Ok(()) };
        let next = [(end.slot, end.position), (end.slot + 1, 0), (0, 0)];
        for (slot, position) in next {
            if slot >= anchor.ring_files_count || position >= anchor.ring_file_bytes {
                continue;
            }
            let bytes = read_zero_filled(&dir.ring(anchor.journal, slot), position, crate::units::BLOCK_BYTES)?;
            if FrameHeader::claimed_sequence(&bytes) == Some(end.sequence) {
                self.torn = Some((slot, position));
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Recovers a journal as a start does, by plain reads. `salvaging` takes what is sound where a start refuses.
pub(super) fn recover(dir: &DataDir, anchor: Anchor, salvaging: bool) -> Result<RecoveredJournal, Fault> {
    let lengths: BTreeMap<FileId, u64> = dir.segment_files()?.into_iter().collect();
    let mut recovery = Recovery::new(config_of(&anchor), anchor, lengths.clone(), machine_now());
    if salvaging {
        recovery = recovery.salvaging();
    }
    let mut tails: BTreeMap<(Slot, FileId), Vec<Tail>> = BTreeMap::new();
    while let Some(need) = recovery.need() {
        let bytes = read(dir, anchor.journal, &need)?;
        recovery.supply(&bytes)?;
        for forgotten in recovery.take_forgotten() {
            tails.remove(&forgotten);
        }
        for restored in recovery.take_restored() {
            tails
                .entry((restored.slot, restored.file))
                .or_default()
                .push(Tail { position: restored.position, bytes: restored.bytes });
        }
    }
    let (store, report) = recovery.finish();
    let records = store.export(|slot, file, range, out| {
        let from = out.len();
        out.resize(from + (range.end - range.start) as usize, 0);
        let place = out.get_mut(from..).unwrap_or_default();
        for tail in tails.get(&(slot, file)).into_iter().flatten() {
            overlay(place, range.start, &tail.bytes, tail.position);
        }
    });
    let unused_files_count = store.unused(lengths.keys().copied()).count();
    Ok(RecoveredJournal { records, report, end: store.journal().point(), unused_files_count })
}

fn read(dir: &DataDir, journal: JournalId, need: &Need) -> Result<Vec<u8>, Fault> {
    match need {
        // An image that cannot be read is judged as a damaged one.
        Need::Image { id } => Ok(std::fs::read(dir.image(journal, *id)).unwrap_or_default()),
        Need::Ring(read) => read_zero_filled(&dir.ring(journal, read.slot), read.position, u64::from(read.length)),
        Need::Segment { file, position, length } => read_stretch(&dir.segment(*file), *position, *length),
    }
}

/// A segment's bytes up to its recorded end: those of its file under those that are not yet in it.
pub(super) fn segment_bytes(dir: &DataDir, record: &PartitionRecord, segment: &SegmentImage) -> Result<Vec<u8>, Fault> {
    let length = u64::from(segment.end_position).min(crate::limits::SEGMENT_FILE_BYTES);
    let mut bytes = read_stretch(&dir.segment(FileId(segment.file)), 0, length)?;
    for tail in record.tails.iter().filter(|tail| tail.file == segment.file) {
        let end = (tail.position + tail.bytes.len() as u64).min(length);
        if bytes.len() as u64 >= tail.position && end > bytes.len() as u64 {
            bytes.resize(end as usize, 0);
        }
        overlay(&mut bytes, 0, &tail.bytes, tail.position);
    }
    Ok(bytes)
}

/// Copies the part of `bytes`, which lie from `position` on, that falls into `place`, which begins at `from`.
fn overlay(place: &mut [u8], from: u64, bytes: &[u8], position: u64) {
    let skip = from.saturating_sub(position) as usize;
    let at = position.saturating_sub(from) as usize;
    let source = bytes.get(skip..).unwrap_or_default();
    for (to, byte) in place.get_mut(at..).unwrap_or_default().iter_mut().zip(source) {
        *to = *byte;
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|error| Fault::io("read", path.display().to_string(), 0, &error))
}

/// Reads what there is of a stretch; nothing of a file that is missing.
fn read_stretch(path: &Path, position: u64, length: u64) -> Result<Vec<u8>, Fault> {
    let failed = |error| Fault::io("read", path.display().to_string(), position, &error);
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(failed)?,
    };
    let there = file.metadata().map_err(failed)?.len().saturating_sub(position);
    let mut bytes = vec![0; length.min(there) as usize];
    file.read_exact_at(&mut bytes, position).map_err(failed)?;
    Ok(bytes)
}

fn read_zero_filled(path: &Path, position: u64, length: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = read_stretch(path, position, length)?;
    bytes.resize(length as usize, 0);
    Ok(bytes)
}
