//! Salvage: a new data directory with what is sound in a damaged one.
//!
//! Each partition keeps the longest sound prefix of its log from the log start on, at its offsets; its bytes go to segment
//! files of the new directory, its state to an image of a new journal with the old one's number. The superblock is written
//! last: until then the new directory is none. Never writes to the old directory.

use std::path::Path;

use super::arena::Arena;
use super::data_dir::{DataDir, Identity};
use super::examine::{Damage, key_of, read_images, read_ring, recover, segment_bytes};
use super::executor::{self, ExecutorConfig};
use super::reshard::make_journal;
use super::segment_walk::SegmentWalk;
use crate::checkpoint::{ImageHeader, PartitionRecord};
use crate::error::Fault;
use crate::journal::FIRST_SEQUENCE;
use crate::partition::image::{PartitionImage, SegmentImage};
use crate::partition::{LogSettings, Partition};
use crate::paths;
use crate::store::StoreConfig;
use crate::superblock::{self, Anchor, KeptImage, SLOT_BYTES, Superblock};
use crate::units::{FileId, JournalId, TopicPartition, block_ceil};

/// Above every run: which one was the last is not known when an anchor is lost.
const ANY_RUN: u64 = u64::MAX / 2;

/// What a salvage did.
#[derive(Clone, Debug, Default)]
pub struct Salvaged {
    pub partitions: Vec<SalvagedPartition>,
    /// What could not be used, and where.
    pub damages: Vec<Damage>,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// One partition's offsets; ends are exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalvagedPartition {
    pub key: TopicPartition,
    pub kept_from: i64,
    pub kept_end: i64,
    /// Records from `kept_end` to here are known to be lost.
    pub lost_end: i64,
}

/// Copies what is sound in `from` to `to`, which must be missing or empty. `identity` stands in where the superblock is
/// lost. The caller has locked `from`.
pub fn salvage(from: &Path, to: &Path, identity: Identity) -> Result<Salvaged, Fault> {
    check_empty(to)?;
    let mut salvaged = Salvaged::default();
    let old = salvaged.open(from, identity)?;
    let mut new = DataDir::lay_out(to, old.superblock().clone())?;
    let mut journals = Vec::new();
    for journal in old.journals() {
        journals.push((*journal, salvaged.journal(&old, &new, *journal)?));
    }
    let made = new.clone();
    executor::run(ExecutorConfig::default(), move || async move { make_journals(&made, journals).await })??;
    new.publish()?;
    Ok(salvaged)
}

async fn make_journals(dir: &DataDir, journals: Vec<(JournalId, Vec<PartitionRecord>)>) -> Result<(), Fault> {
    let arena = Arena::new(64 << 20)?;
    for (journal, records) in journals {
        make_journal(dir, journal, &records, StoreConfig::default(), &arena).await?;
    }
    for path in [dir.images(), dir.segments()] {
        let synced = std::fs::File::open(&path).and_then(|opened| opened.sync_all());
        synced.map_err(|error| Fault::io("sync", path.display().to_string(), 0, &error))?;
    }
    Ok(())
}

fn check_empty(to: &Path) -> Result<(), Fault> {
    match std::fs::read_dir(to).map(|mut entries| entries.next()) {
        Ok(None) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(Some(_)) => Err(Fault::Refused(format!("{} is not empty: name a new directory", to.display()))),
        Err(error) => Err(Fault::io("read", to.display().to_string(), 0, &error)),
    }
}

impl Salvaged {
    fn open(&mut self, path: &Path, identity: Identity) -> Result<DataDir, Fault> {
        let lost = match DataDir::inspect(path) {
            Ok(dir) => return Ok(dir),
            Err(version @ Fault::Version { .. }) => return Err(version),
            Err(fault) => fault,
        };
        let file = path.join(paths::SUPERBLOCK);
        let journals = journals_of(path);
        let id = journals.iter().find_map(|journal| anchored_directory(&path.join(paths::anchor(*journal))));
        // Without a superblock and without an anchor it is not ours.
        let Some(directory_id) = id else { return Err(lost) };
        self.damage(&file, 0, lost);
        let written = std::fs::read(&file).ok().and_then(|bytes| Superblock::decode_unchecked(&bytes));
        let unchecked = written.is_some();
        let block = written.unwrap_or(Superblock {
            generation: 0,
            directory_id,
            cluster_id: identity.cluster_id,
            node_id: identity.node_id,
            layout_generation: 1,
            journals: Vec::new(),
            clean: false,
        });
        let source = if unchecked { "the damaged superblock" } else { "the command line" };
        self.notes.push(format!("cluster {} and node {} are from {source}", block.cluster_id, block.node_id));
        Ok(DataDir::assumed(path, Superblock { directory_id, journals, ..block }))
    }

    fn damage(&mut self, file: &Path, position: u64, fault: Fault) {
        let damage = match fault {
            Fault::Corrupt { file, position, what } => Damage { file, position, what: what.to_owned() },
            other => Damage { file: file.display().to_string(), position, what: other.to_string() },
        };
        self.damages.push(damage);
    }

    /// The partitions of a journal, with their sound bytes copied.
    fn journal(&mut self, old: &DataDir, new: &DataDir, journal: JournalId) -> Result<Vec<PartitionRecord>, Fault> {
        let Some(anchor) = self.anchor(old, journal)? else { return Ok(Vec::new()) };
        let recovered = recover(old, anchor, true)?;
        for (kept, read) in read_images(old, &anchor) {
            if let Err(fault) = read {
                self.damage(&old.image(journal, kept.id), 0, fault);
            }
        }
        let before = self.damages.len();
        let mut ends = read_ring(old, &anchor, anchor.needed_point(), false, &mut self.damages)?.log_ends;
        if self.damages.len() == before {
            // What the ring holds beyond the journal's end was never durable.
            ends.clear();
        }
        let mut kept = Vec::new();
        for record in recovered.records {
            let end = ends.remove(&key_of(&record)).unwrap_or(0);
            kept.push(self.partition(old, new, record, end)?);
        }
        let unknown =
            ends.into_iter().map(|(key, lost_end)| SalvagedPartition { key, kept_from: 0, kept_end: 0, lost_end });
        self.partitions.extend(unknown);
        Ok(kept)
    }

    /// The journal's anchor, or one that takes all that can be found. `None`: the journal was never started.
    fn anchor(&mut self, dir: &DataDir, journal: JournalId) -> Result<Option<Anchor>, Fault> {
        let path = dir.anchor(journal);
        let bytes = std::fs::read(&path).unwrap_or_default();
        match Anchor::decode(&path.display().to_string(), &bytes, dir.directory_id(), journal) {
            Ok(anchor) => {
                let Some(slot) = superblock::damaged_slots(&bytes).next() else { return Ok(Some(anchor)) };
                let what = "a slot of an anchor does not check";
                let (file, position) = (path.display().to_string(), (slot * SLOT_BYTES) as u64);
                self.damages.push(Damage { file, position, what: what.to_owned() });
                Ok(Some(Anchor { run: ANY_RUN, ..anchor }))
            }
            Err(version @ Fault::Version { .. }) => Err(version),
            Err(fault) => {
                let anchor = found_anchor(dir, journal);
                if anchor.is_some() {
                    self.damage(&path, 0, fault);
                }
                Ok(anchor)
            }
        }
    }

    fn partition(
        &mut self,
        old: &DataDir,
        new: &DataDir,
        record: PartitionRecord,
        known_end: i64,
    ) -> Result<PartitionRecord, Fault> {
        let image = self.sound_prefix(old, new, &record)?;
        self.partitions.push(SalvagedPartition {
            key: key_of(&record),
            kept_from: image.log_start,
            kept_end: image.log_end,
            lost_end: record.image.log_end.max(known_end).max(image.log_end),
        });
        Ok(PartitionRecord { applied_stamp: 0, image, closed: false, open: Vec::new(), tails: Vec::new() })
    }

    /// Copies segments up to the first damage; the partition's state up to there.
    fn sound_prefix(
        &mut self,
        old: &DataDir,
        new: &DataDir,
        record: &PartitionRecord,
    ) -> Result<PartitionImage, Fault> {
        let image = &record.image;
        let mut segments = Vec::new();
        for segment in &image.segments {
            let bytes = segment_bytes(old, record, segment)?;
            let walk = SegmentWalk::of(&bytes, segment, image.log_start);
            if walk.sound_offset > segment.base_offset.max(image.log_start) {
                write_segment(new, FileId(segment.file), &bytes, walk.sound_position)?;
                segments.push(sealed(segment, &walk));
            }
            if let Some((position, what)) = walk.damage {
                let (file, what) = (old.segment(FileId(segment.file)).display().to_string(), what.to_owned());
                self.damages.push(Damage { file, position, what });
                let end = walk.sound_offset.max(image.log_start);
                return Ok(PartitionImage { segments, ..ended_at(image, end, walk.sound_position) });
            }
        }
        Ok(PartitionImage { segments, ..image.clone() })
    }
}

/// The state of the log if it had ended here: epochs and producers know no later record.
fn ended_at(image: &PartitionImage, end_offset: i64, end_position: u64) -> PartitionImage {
    let mut partition = Partition::from_image(image, std::sync::Arc::new(LogSettings::default()));
    partition.truncate(end_offset, end_position);
    partition.to_image()
}

/// The segment up to its sound end. It takes no more: what follows begins a new one.
fn sealed(segment: &SegmentImage, walk: &SegmentWalk) -> SegmentImage {
    let end_position = walk.sound_position as u32;
    let next_position = block_ceil(walk.sound_position) as u32;
    SegmentImage {
        end_offset: walk.sound_offset,
        end_position,
        next_position,
        drained_position: next_position,
        batch_bytes_max: walk.batch_bytes_max,
        max_timestamp: walk.max_timestamp,
        max_timestamp_offset: walk.max_timestamp_offset,
        sealed: true,
        ..segment.clone()
    }
}

fn write_segment(dir: &DataDir, file: FileId, bytes: &[u8], end: u64) -> Result<(), Fault> {
    let path = dir.segment(file);
    let mut whole = bytes.get(..end as usize).unwrap_or_default().to_vec();
    whole.resize(block_ceil(end) as usize, 0);
    let write = || {
        std::fs::write(&path, &whole)?;
        std::fs::File::open(&path)?.sync_all()
    };
    write().map_err(|error| Fault::io("write", path.display().to_string(), 0, &error))
}

/// The journals that have a directory, in their order.
fn journals_of(path: &Path) -> Vec<JournalId> {
    let entries = std::fs::read_dir(path.join(paths::JOURNALS)).into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| u32::from_str_radix(&entry.file_name().to_string_lossy(), 16).ok());
    let mut journals: Vec<_> = ids.map(JournalId).collect();
    journals.sort();
    journals
}

/// The directory that a sound slot of an anchor belongs to.
fn anchored_directory(path: &Path) -> Option<[u8; 16]> {
    let bytes = std::fs::read(path).ok()?;
    superblock::directory_of(&bytes)
}

/// An anchor over the ring and images that are there, when the journal's own is lost.
fn found_anchor(dir: &DataDir, journal: JournalId) -> Option<Anchor> {
    let ring_file_bytes = std::fs::metadata(dir.ring(journal, 0)).ok()?.len();
    let ring_files_count = (0..).take_while(|slot| dir.ring(journal, *slot).exists()).count() as u32;
    let prefix = format!("{:08x}-", journal.0);
    let entries = std::fs::read_dir(dir.images()).into_iter().flatten().flatten();
    let mut images: Vec<KeptImage> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .filter_map(|entry| {
            let bytes = std::fs::read(entry.path()).ok()?;
            let header = ImageHeader::decode("image", &bytes).ok()?;
            let finished = entry.path() == dir.image(journal, header.id);
            finished.then_some(KeptImage { id: header.id, point: header.point })
        })
        .collect();
    images.sort_by_key(|kept| std::cmp::Reverse(kept.id));
    let mut images = images.into_iter();
    Some(Anchor {
        run: ANY_RUN,
        durable_end: FIRST_SEQUENCE,
        images: [images.next(), images.next()],
        ..Anchor::new(journal, dir.directory_id(), ring_file_bytes, ring_files_count)
    })
}
