//! Recovery: from an anchor, an image and the journal's ring to a running store.
//!
//! Two walks over the ring. The first finds its end: references in frames that nothing proves durable are read and checked,
//! and the first that does not check is where the journal is cut. The second applies every change behind the image. Bytes
//! that are not in their files go back to memory in the order of their positions. Never: a write (the first one of the new
//! run is its anchor, an effect of the store), a partition opened over bytes that are missing.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::checkpointing::{Checkpointing, anchor_effect};
use super::files::Files;
use super::findings::Findings;
use super::{Op, Store, StoreConfig, Tenant};
use crate::batch::BatchHeader;
use crate::checkpoint::{PartitionRecord, ShardImage};
use crate::checksum::crc32c;
use crate::error::Fault;
use crate::journal::frame::{FrameEntry, Payload};
use crate::journal::replay::{Damage, Replay, ReplayStart, RingRead, Step};
use crate::journal::{Append, Change, Journal, JournalPoint, Place};
use crate::partition::{self, ClockGuard, LogSettings, Partition};
use crate::superblock::{Anchor, KeptImage};
use crate::units::{BLOCK_BYTES, FileId, JournalId, Now, Slot, Stamp, TopicPartition};

/// What recovery wants to read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A whole image; supply no bytes if it cannot be read.
    Image {
        id: u64,
    },
    Ring(RingRead),
    /// A stretch of a segment's file; supply what there is.
    Segment {
        file: FileId,
        position: u64,
        length: u64,
    },
}

/// Bytes to put back into memory at their place. Places of one file come in rising order and may overlap what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub slot: Slot,
    pub file: FileId,
    pub position: u64,
    pub bytes: Vec<u8>,
}

/// What recovery found out, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub image: Option<u64>,
    pub frames_count: u64,
    pub frame_bytes: u64,
    pub entries_count: u64,
    pub was_clean: bool,
    /// Partitions that failed closed, and why.
    pub damaged: Vec<(TopicPartition, String)>,
    /// Images that could not be used.
    pub images_refused: Vec<String>,
}

enum Phase {
    Images(VecDeque<KeptImage>),
    /// Finds the end.
    Scan(Box<Replay>),
    /// Checks references that nothing proves durable.
    Verify,
    Apply(Box<Replay>),
    Done,
}

/// The recovery of one journal.
pub struct Recovery {
    config: StoreConfig,
    anchor: Anchor,
    /// Lengths of the segment files that exist.
    lengths: BTreeMap<FileId, u64>,
    phase: Phase,
    point: JournalPoint,
    end: JournalPoint,
    slots: Vec<Option<Recovered>>,
    keys: BTreeMap<TopicPartition, Slot>,
    files: Files,
    work: VecDeque<(FrameEntry, Vec<u8>)>,
    /// A reference of version 1 whose header is being read.
    waiting: Option<(FrameEntry, Append)>,
    findings: Findings,
    /// Files that are too short for what the image says: damage, unless the journal drops them.
    short: Vec<(TopicPartition, FileId, String)>,
    restored: Vec<Restored>,
    /// Files that hold nothing of these slots any more; either may come back with other bytes.
    forgotten: Vec<(Slot, FileId)>,
    /// First blocks of an image's open stretches, in the order of their segments, until what follows them comes.
    tails: BTreeMap<Slot, VecDeque<Restored>>,
    now: Now,
    /// Where the first walk ended: the sequence of the next frame.
    scanned_to: Option<u64>,
    /// Until the catalog speaks.
    settings: Arc<LogSettings>,
    report: Report,
    /// A later run than the anchor's may have written: the chain decides.
    anchor_in_doubt: bool,
    /// The highest run of the frames that were replayed.
    run_seen: u64,
    /// Goes on with what is sound where a start refuses.
    salvaging: bool,
}

struct Recovered {
    partition: Partition,
    applied: Stamp,
    /// From where on bytes of a file belong into memory although the image's state holds them.
    open: Vec<(FileId, Range<u64>)>,
}

impl Recovery {
    /// `lengths` are the segment files that exist.
    pub fn new(config: StoreConfig, anchor: Anchor, lengths: BTreeMap<FileId, u64>, now: Now) -> Recovery {
        let images = anchor.images.iter().flatten().copied().collect();
        let mut recovery = Recovery {
            config,
            anchor,
            lengths,
            phase: Phase::Images(images),
            point: JournalPoint::START,
            end: JournalPoint::START,
            slots: Vec::new(),
            keys: BTreeMap::new(),
            files: Files::new(anchor.journal, 0, Vec::new(), config.pool_files_max),
            work: VecDeque::new(),
            waiting: None,
            findings: Findings::default(),
            short: Vec::new(),
            restored: Vec::new(),
            forgotten: Vec::new(),
            tails: BTreeMap::new(),
            now,
            scanned_to: None,
            settings: Arc::default(),
            report: Report { was_clean: anchor.clean, ..Report::default() },
            anchor_in_doubt: false,
            run_seen: 0,
            salvaging: false,
        };
        if anchor.images.iter().flatten().count() == 0 {
            recovery.begin_scan(None);
        }
        recovery
    }

    /// Takes what is sound instead of refusing: without a readable image the ring alone, and nothing behind a frame that
    /// cannot be read.
    pub fn salvaging(self) -> Recovery {
        Recovery { salvaging: true, ..self }
    }

    /// One of the anchor's slots does not check: torn at a crash, or the newest, lost. What it may have said is taken from the
    /// journal itself.
    pub fn doubting_anchor(self) -> Recovery {
        let mut recovery = Recovery { anchor_in_doubt: true, ..self };
        if matches!(recovery.phase, Phase::Scan(_)) {
            // Without an image the walk was planned already, over the frames of the known runs only.
            recovery.begin_scan(None);
        }
        recovery
    }

    /// What to read next; `None` when recovery is over.
    pub fn need(&self) -> Option<Need> {
        if let Some((_, run)) = &self.waiting {
            let length = u64::from(run.length).min(BLOCK_BYTES);
            return segment_need(run, length);
        }
        match &self.phase {
            Phase::Images(images) => images.front().map(|kept| Need::Image { id: kept.id }),
            Phase::Scan(replay) | Phase::Apply(replay) => replay.next_read().map(Need::Ring),
            Phase::Verify => self.findings.next().and_then(|run| segment_need(run, u64::from(run.length))),
            Phase::Done => None,
        }
    }

    /// Takes the bytes of what was needed; none if it could not be read.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if let Some((entry, run)) = self.waiting.take() {
            self.apply_unnamed(&entry, &run, bytes);
            return self.apply_work();
        }
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Images(images) => self.take_image(images, bytes),
            Phase::Scan(replay) => self.scan(replay, bytes),
            Phase::Verify => {
                self.verify(bytes);
                Ok(())
            }
            Phase::Apply(replay) => self.apply(replay, bytes),
            Phase::Done => Ok(()),
        }
    }

    /// What to forget of the bytes that were put back before, ahead of taking more of them.
    pub fn take_forgotten(&mut self) -> Vec<(Slot, FileId)> {
        std::mem::take(&mut self.forgotten)
    }

    /// Bytes to put back into memory now, before the next `supply`.
    pub fn take_restored(&mut self) -> Vec<Restored> {
        if matches!(self.phase, Phase::Done) && self.waiting.is_none() {
            self.restored.extend(std::mem::take(&mut self.tails).into_values().flatten());
        }
        std::mem::take(&mut self.restored)
    }

    fn take_image(&mut self, mut images: VecDeque<KeptImage>, bytes: &[u8]) -> Result<(), Fault> {
        let Some(kept) = images.pop_front() else { return Ok(()) };
        let name = format!("image {} of journal {}", kept.id, self.anchor.journal.0);
        match ShardImage::decode(&name, bytes, self.anchor.journal, &kept) {
            Ok(image) => {
                self.report.image = Some(kept.id);
                self.load(image);
                self.begin_scan(Some(kept));
                Ok(())
            }
            Err(fault @ Fault::Version { .. }) => Err(fault),
            Err(fault) if images.is_empty() && !self.ring_is_whole() && !self.salvaging => Err(fault),
            Err(fault) => {
                self.report.images_refused.push(fault.to_string());
                self.anchor = self.anchor.without_image(kept.id);
                match images.is_empty() {
                    true => self.begin_scan(None),
                    false => self.phase = Phase::Images(images),
                }
                Ok(())
            }
        }
    }

    /// Whether the ring still begins with the journal's first frame: then no image is needed.
    fn ring_is_whole(&self) -> bool {
        self.anchor.needed_point() == JournalPoint::START
    }

    fn load(&mut self, image: ShardImage) {
        let free = image.shard.free_files.iter().map(|free| FileId(free.file));
        let pool = free.filter(|file| self.lengths.contains_key(file)).collect();
        self.files = Files::new(self.anchor.journal, image.shard.next_file_counter, pool, self.config.pool_files_max);
        for record in image.partitions {
            self.load_partition(record);
        }
    }

    fn load_partition(&mut self, record: PartitionRecord) {
        let partition = Partition::from_image(&record.image, self.settings.clone());
        let key = partition.id();
        let open: Vec<_> = record.open.iter().map(|open| (FileId(open.file), open.start..open.end)).collect();
        let slot = Slot(self.slots.len() as u32);
        for segment in partition.segments().iter() {
            let length = self.lengths.get(&segment.file).copied();
            self.files.restore(slot, segment.file, segment.sealed, length.is_some());
            let first_open = open.iter().find(|(file, _)| *file == segment.file).map(|(_, range)| range.start);
            let on_disk = first_open.unwrap_or(segment.end_position());
            let found = length.unwrap_or(0);
            if on_disk > found {
                let why = format!("segment file {:016x} has {found} bytes, its log needs {on_disk}", segment.file.0);
                self.short.push((key, segment.file, why));
            }
        }
        for (file, range) in &open {
            self.files.placed(*file, range.clone());
        }
        self.insert(Recovered { partition, applied: Stamp(record.applied_stamp), open });
        for tail in record.tails {
            let tail = Restored { slot, file: FileId(tail.file), position: tail.position, bytes: tail.bytes };
            self.tails.entry(slot).or_default().push_back(tail);
        }
        if record.closed {
            self.close(key, "it had failed closed before".to_owned());
        }
    }

    fn insert(&mut self, recovered: Recovered) -> Slot {
        let slot = Slot(self.slots.len() as u32);
        self.keys.insert(recovered.partition.id(), slot);
        self.slots.push(Some(recovered));
        slot
    }

    fn close(&mut self, key: TopicPartition, why: String) {
        if let Some(recovered) = self.recovered(key) {
            recovered.partition.close();
        }
        self.report.damaged.push((key, why));
    }

    fn recovered(&mut self, key: TopicPartition) -> Option<&mut Recovered> {
        let slot = self.keys.get(&key)?;
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    fn begin_scan(&mut self, image: Option<KeptImage>) {
        self.point = image.map_or(JournalPoint::START, |kept| kept.point);
        let replay = Replay::new(self.config.journal, self.replay_start(None));
        self.phase = Phase::Scan(Box::new(replay));
    }

    fn replay_start(&self, until: Option<u64>) -> ReplayStart {
        ReplayStart {
            journal: self.anchor.journal,
            run_max: if self.anchor_in_doubt { u64::MAX } else { self.anchor.run },
            point: self.point,
            durable_end: self.anchor.durable_end,
            until,
            files_count: self.anchor.ring_files_count,
        }
    }

    fn scan(&mut self, mut replay: Box<Replay>, bytes: &[u8]) -> Result<(), Fault> {
        for step in replay.supply(bytes) {
            match step {
                Step::Frame(frame) => self.findings.frame(frame.header.sequence, &frame.entries),
                Step::Corrupt(damage) if self.salvaging && damage.entries_lost => {
                    self.findings.ends_at(damage.sequence);
                    self.phase = Phase::Verify;
                    self.verify_done();
                    return Ok(());
                }
                Step::Corrupt(damage) => {
                    self.refuse_unknown(&damage)?;
                    self.findings.frame(damage.sequence, &damage.entries);
                }
                Step::End(end) => {
                    self.scanned_to = Some(end.point.sequence);
                    self.findings.proven(end.durable_end);
                    self.phase = Phase::Verify;
                    self.verify_done();
                    return Ok(());
                }
            }
        }
        self.phase = Phase::Scan(replay);
        Ok(())
    }

    /// Damage that may concern any partition stops the start: nothing is opened over it.
    fn refuse_unknown(&self, damage: &Damage) -> Result<(), Fault> {
        if !damage.entries_lost {
            return Ok(());
        }
        Err(Fault::Corrupt {
            file: format!("ring file {} of journal {}", damage.slot, self.anchor.journal.0),
            position: damage.position,
            what: "a frame that was durable does not check, and what it held is not known; use salvage",
        })
    }

    fn verify(&mut self, bytes: &[u8]) {
        let Some(run) = self.findings.next() else { return };
        let Place::Segment { checksum, .. } = run.place else { return };
        let fits = bytes.get(..run.length as usize).is_some_and(|bytes| crc32c(bytes) == checksum);
        self.findings.checked(fits);
        self.phase = Phase::Verify;
        self.verify_done();
    }

    fn verify_done(&mut self) {
        if self.findings.next().is_none() {
            self.begin_apply(self.findings.cut());
        }
    }

    fn begin_apply(&mut self, cut: Option<u64>) {
        // The second walk need not look for the end once more.
        let until = cut.or(self.scanned_to);
        let replay = Replay::new(self.config.journal, self.replay_start(until));
        self.phase = Phase::Apply(Box::new(replay));
        self.skip_empty_apply();
    }

    /// A replay that is cut before its first frame asks for no read.
    fn skip_empty_apply(&mut self) {
        if matches!(&self.phase, Phase::Apply(replay) if replay.next_read().is_none()) {
            self.end = self.point;
            self.phase = Phase::Done;
        }
    }

    fn apply(&mut self, mut replay: Box<Replay>, bytes: &[u8]) -> Result<(), Fault> {
        let mut over = false;
        for step in replay.supply(bytes) {
            match step {
                Step::Frame(frame) => {
                    self.report.frames_count += 1;
                    self.report.frame_bytes += u64::from(frame.header.total_bytes);
                    self.run_seen = self.run_seen.max(frame.header.run);
                    self.queue(frame.entries, bytes);
                }
                Step::Corrupt(damage) => {
                    self.refuse_unknown(&damage)?;
                    self.queue(damage.entries, bytes);
                }
                Step::End(end) => {
                    self.end = end.point;
                    over = true;
                }
            }
        }
        if !over {
            self.phase = Phase::Apply(replay);
        }
        self.apply_work()
    }

    fn queue(&mut self, entries: Vec<FrameEntry>, bytes: &[u8]) {
        for entry in entries {
            let payload = match &entry.payload {
                Payload::Inline(range) => bytes.get(range.clone()).unwrap_or_default().to_vec(),
                _ => Vec::new(),
            };
            self.work.push_back((entry, payload));
        }
    }

    fn apply_work(&mut self) -> Result<(), Fault> {
        while let Some((entry, payload)) = self.work.pop_front() {
            self.report.entries_count += 1;
            if self.findings.is_dropped(entry.entry.target, entry.stamp) {
                continue;
            }
            if matches!(entry.payload, Payload::Damaged) {
                self.fill_gap(&entry);
                self.close(entry.entry.target, "a journal frame that held its records is damaged".to_owned());
                continue;
            }
            match entry.entry.change {
                Change::Append(run) if run.place == Place::Inline => self.apply_inline(&entry, &run, payload),
                Change::Append(_) if !self.wants(&entry) => {}
                Change::Append(run) if matches!(run.place, Place::Segment { origin: None, .. }) => {
                    self.waiting = Some((entry, run));
                    return Ok(());
                }
                Change::Append(run) => self.apply_reference(&entry, &run, run.header()),
                change => self.apply_change(&entry, change),
            }
        }
        Ok(())
    }

    /// Zeroes stand for a damaged run that an image holds as not yet in its file: what lies around it is sound, and is drained.
    fn fill_gap(&mut self, entry: &FrameEntry) {
        let held = self.recovered(entry.entry.target).is_some_and(|recovered| entry.stamp <= recovered.applied);
        if let (true, Change::Append(run)) = (held, entry.entry.change) {
            self.apply_inline(entry, &run, vec![0; run.length as usize]);
        }
    }

    /// Whether the change is not yet in the partition's state.
    fn wants(&mut self, entry: &FrameEntry) -> bool {
        self.recovered(entry.entry.target)
            .is_some_and(|recovered| entry.stamp > recovered.applied && !recovered.partition.is_closed())
    }

    fn apply_inline(&mut self, entry: &FrameEntry, run: &Append, bytes: Vec<u8>) {
        let key = entry.entry.target;
        let (Some(slot), Some(recovered)) = (self.keys.get(&key).copied(), self.recovered(key)) else { return };
        let position = u64::from(run.position);
        let range = position..position + u64::from(run.length);
        let segment = recovered.partition.segments().by_base(run.segment_base);
        let Some(file) = segment.map(|segment| segment.file) else { return };
        if entry.stamp <= recovered.applied {
            let overlaps = |(open_file, open): &&(FileId, Range<u64>)| {
                *open_file == file && open.start < range.end && range.start < open.end
            };
            // What lies before the open stretch is in the file already.
            if let Some(open_at) = recovered.open.iter().find(overlaps).map(|(_, open)| open.start) {
                let skip = open_at.saturating_sub(position) as usize;
                let bytes = bytes.get(skip..).unwrap_or_default().to_vec();
                self.put_back(Restored { slot, file, position: position.max(open_at), bytes });
            }
            return;
        }
        if recovered.partition.is_closed() {
            return;
        }
        if let Some(header) = BatchHeader::parse(&bytes) {
            self.replay(entry, partition::Change::Append { header, position, aligned: false });
            self.files.placed(file, range);
            self.put_back(Restored { slot, file, position, bytes });
        } else {
            self.close(key, "a journaled run is no record batch".to_owned());
        }
    }

    /// Hands bytes out behind the tails of the same and of earlier segments.
    fn put_back(&mut self, restored: Restored) {
        let waits = self.tails.get(&restored.slot).is_some_and(|tails| !tails.is_empty());
        let order = if waits { self.file_order(restored.slot) } else { Vec::new() };
        let at = |file: FileId| order.iter().position(|other| *other == file);
        if let Some(tails) = self.tails.get_mut(&restored.slot) {
            while tails.front().is_some_and(|tail| at(tail.file) <= at(restored.file)) {
                self.restored.extend(tails.pop_front());
            }
        }
        self.restored.push(restored);
    }

    fn file_order(&self, slot: Slot) -> Vec<FileId> {
        let recovered = self.slots.get(slot.0 as usize).and_then(Option::as_ref);
        recovered
            .map(|recovered| recovered.partition.segments().iter().map(|segment| segment.file).collect())
            .unwrap_or_default()
    }

    /// A reference of version 1 tells its origin only in the batch, which may be deleted.
    fn apply_unnamed(&mut self, entry: &FrameEntry, run: &Append, head: &[u8]) {
        let header = BatchHeader::parse(head).filter(|header| {
            header.bytes == run.length && header.base_offset == run.base_offset && header.end_offset() == run.end_offset
        });
        self.apply_reference(entry, run, header.unwrap_or_else(|| run.header()));
    }

    fn apply_reference(&mut self, entry: &FrameEntry, run: &Append, header: BatchHeader) {
        let key = entry.entry.target;
        let Place::Segment { file, .. } = run.place else { return };
        let range = u64::from(run.position)..u64::from(run.position) + u64::from(run.length);
        let on_disk = self.lengths.get(&file).is_some_and(|length| *length >= range.end);
        if !on_disk && !self.findings.is_ended(key, entry.stamp, run.end_offset) {
            let why = format!("segment file {:016x} does not hold its run at {}", file.0, run.position);
            return self.close(key, why);
        }
        self.replay(entry, partition::Change::Append { header, position: range.start, aligned: true });
        self.files.restore_reference(file, range);
    }

    fn apply_change(&mut self, entry: &FrameEntry, change: Change) {
        let key = entry.entry.target;
        match change {
            Change::Assign { .. } => {
                if !self.keys.contains_key(&key) {
                    let partition = Partition::new(key, self.settings.clone());
                    self.insert(Recovered { partition, applied: Stamp(0), open: Vec::new() });
                }
            }
            Change::Drop => self.apply_drop(entry),
            Change::Roll { base_offset, file } => {
                if self.wants(entry) {
                    self.apply_roll(entry, base_offset, file);
                }
            }
            Change::LogStart { offset } => self.apply_if_new(entry, partition::Change::LogStart { offset }),
            Change::Epoch { epoch, start_offset } => {
                self.apply_if_new(entry, partition::Change::Epoch { epoch, start_offset });
            }
            Change::ProducerExpire { producer_id } => {
                self.apply_if_new(entry, partition::Change::ProducerExpire { producer_id });
            }
            Change::Truncate { .. } => {
                self.close(key, "the journal holds a truncation, which this version does not write".to_owned());
            }
            Change::Append(_) => {}
        }
    }

    fn apply_if_new(&mut self, entry: &FrameEntry, change: partition::Change) {
        if self.wants(entry) {
            self.replay(entry, change);
        }
    }

    fn apply_drop(&mut self, entry: &FrameEntry) {
        let key = entry.entry.target;
        let fresh = self.recovered(key).is_some_and(|recovered| entry.stamp > recovered.applied);
        let Some(slot) = self.keys.get(&key).copied().filter(|_| fresh) else { return };
        self.keys.remove(&key);
        let Some(recovered) = self.slots.get_mut(slot.0 as usize).and_then(Option::take) else { return };
        let files: Vec<_> = recovered.partition.segments().iter().map(|segment| segment.file).collect();
        self.forget(slot, &files);
        self.report.damaged.retain(|(damaged, _)| *damaged != key);
    }

    fn apply_roll(&mut self, entry: &FrameEntry, base_offset: i64, file: FileId) {
        let active = self.recovered(entry.entry.target).and_then(|recovered| recovered.partition.segments().active());
        if let Some(sealed) = active.map(|segment| segment.file) {
            self.files.seal(sealed);
        }
        let exists = self.lengths.contains_key(&file);
        let Some(slot) = self.keys.get(&entry.entry.target).copied() else { return };
        self.files.restore(slot, file, false, exists);
        self.replay(entry, partition::Change::Roll { base_offset, file });
    }

    fn replay(&mut self, entry: &FrameEntry, change: partition::Change) {
        let (key, now) = (entry.entry.target, self.now);
        let Some(slot) = self.keys.get(&key).copied() else { return };
        let Some(recovered) = self.recovered(key) else { return };
        if recovered.partition.is_closed() {
            return;
        }
        match recovered.partition.replay(now, change) {
            Ok(files) => self.forget(slot, &files),
            Err(misfit) => self.close(key, format!("{:?} does not follow log end {}", misfit.change, misfit.log_end)),
        }
    }

    fn forget(&mut self, slot: Slot, files: &[FileId]) {
        for file in files {
            self.files.forget(slot, *file);
            self.forgotten.push((slot, *file));
            self.restored.retain(|restored| restored.slot != slot || restored.file != *file);
            if let Some(tails) = self.tails.get_mut(&slot) {
                tails.retain(|tail| tail.file != *file);
            }
        }
    }

    fn close_short(&mut self) {
        for (key, file, why) in std::mem::take(&mut self.short) {
            let partition = self.recovered(key).map(|recovered| &recovered.partition);
            if partition.is_some_and(|partition| partition.segments().iter().any(|segment| segment.file == file)) {
                self.close(key, why);
            }
        }
    }

    /// The running store. Its first effect makes the new run durable; the barrier frame follows only then.
    pub fn finish(mut self) -> (Store, Report) {
        assert!(matches!(self.phase, Phase::Done) && self.work.is_empty(), "recovery is over");
        self.close_short();
        let anchor = Anchor { run: self.anchor.run.max(self.run_seen), ..self.anchor }.next_run();
        let tail = anchor.needed_point().ring_point();
        let journal =
            Journal::resume(self.config.journal, anchor.journal, anchor.run, self.end, tail, anchor.ring_files_count);
        let mut store = Store::new(self.config, journal, self.files, anchor);
        for (index, recovered) in self.slots.into_iter().enumerate() {
            let slot = Slot(index as u32);
            match recovered {
                Some(recovered) => store.restore(slot, recovered.partition),
                None => store.free_slots.push(slot),
            }
        }
        (store, self.report)
    }
}

fn segment_need(run: &Append, length: u64) -> Option<Need> {
    let Place::Segment { file, .. } = run.place else { return None };
    Some(Need::Segment { file, position: u64::from(run.position), length })
}

impl Store {
    /// The store of a new journal.
    pub fn create(config: StoreConfig, journal: JournalId, directory_id: [u8; 16]) -> (Store, Anchor) {
        let anchor = Anchor::new(journal, directory_id, config.journal.ring_file_bytes, 1).next_run();
        let files = Files::new(journal, 0, Vec::new(), config.pool_files_max);
        let ring = Journal::create(config.journal, journal, anchor.run, anchor.ring_files_count);
        (Store::new(config, ring, files, anchor), anchor)
    }

    fn new(config: StoreConfig, journal: Journal, files: Files, anchor: Anchor) -> Store {
        let mut store = Store {
            config,
            journal,
            keys: BTreeMap::new(),
            tenants: Vec::new(),
            free_slots: Vec::new(),
            files,
            clock: ClockGuard::default(),
            unacknowledged: VecDeque::new(),
            leaving: VecDeque::new(),
            inline_files: BTreeMap::new(),
            held: VecDeque::new(),
            references: BTreeMap::new(),
            effects: VecDeque::new(),
            ops: BTreeMap::new(),
            next_op: 0,
            drains_in_flight: 0,
            creating_pool_file: false,
            run_is_durable: false,
            disk_full: false,
            advanced: Vec::new(),
            checkpointing: Checkpointing::new(anchor),
            maintenance_at: None,
        };
        let op = store.begin(Op::Run);
        store.effects.push_back(anchor_effect(op, &anchor));
        store
    }

    /// Of the segment files that exist, those of this journal that no segment uses and the pool does not hold: left behind
    /// by an unfinished removal or creation.
    pub fn unused<'a>(&'a self, existing: impl Iterator<Item = FileId> + 'a) -> impl Iterator<Item = FileId> + 'a {
        let own = |file: &FileId| (file.0 >> 32) as u32 == self.journal.id().0;
        existing.filter(own).filter(|file| !self.files.is_used(*file) && !self.files.pool().contains(file))
    }

    fn restore(&mut self, slot: Slot, partition: Partition) {
        let key = partition.id();
        if self.tenants.len() <= slot.0 as usize {
            self.tenants.resize_with(slot.0 as usize + 1, || None);
        }
        if let Some(place) = self.tenants.get_mut(slot.0 as usize) {
            *place = Some(Box::new(Tenant { partition, configured: false, last_stamp: Stamp(0) }));
        }
        self.keys.insert(key, slot);
    }
}
