//! One history: clients that produce, retry, delete and read; crashes; and the checks after every step.

#[cfg(test)]
mod stories;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Bug;
use super::faults::{Counts, Mode};
use super::model::{Model, Sent};
use super::random::Random;
use super::record::Value;
use super::world::World;
use crate::batch::{self, BatchHeader};
use crate::checksum::crc32c;
use crate::error::Refusal;
use crate::journal::JournalConfig;
use crate::limits::REFERENCE_RUN_BYTES_MIN;
use crate::partition::walk::{Stretch, Trim, WalkEnd, trim};
use crate::partition::{Extent, LogSettings, Planned, ReadLimit, ScanPlan};
use crate::store::recovery::Report;
use crate::store::{Appending, StoreConfig};
use crate::units::{Now, Stamp, TopicId, TopicPartition};

const PARTITIONS_COUNT: u64 = 5;
const LIVES_COUNT: u64 = 4;
const STEPS_MAX: u64 = 200;
/// With the last answered batch, which may be sent again, as many as the engine remembers.
const PIPELINE_MAX: usize = 4;
const STEPS_KEPT: usize = 25;
/// A client that got no answer for so long gives up and begins anew; less than any producer expires after.
const DELIVERY_MS: i64 = 10 * 60_000;

/// What a history amounted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Of every step in order: the same for the same seed.
    pub hash: u64,
    pub appends_count: u64,
    pub duplicates_count: u64,
    pub crashes_count: u64,
    pub images_count: u64,
    pub reads_count: u64,
    pub clean_stops_count: u64,
    /// Idle producers that went on after the engine may have forgotten them.
    pub fresh_starts_count: u64,
    /// Partitions that failed closed over a flipped bit, and were dropped.
    pub closed_count: u64,
    pub faults: Counts,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    pub seed: u64,
    pub what: String,
    pub last_steps: Vec<String>,
}

/// An idempotent client of one incarnation.
#[derive(Debug)]
struct Producer {
    id: i64,
    next_sequence: i32,
    /// Sent and not answered, oldest first; the stamp to wait for if it was placed in this life.
    open: VecDeque<(Value, Option<(i64, Stamp)>)>,
    answered: Option<Value>,
    /// When it sent last.
    sent_ms: i64,
}

struct History {
    world: World,
    model: Model,
    config: StoreConfig,
    producers: BTreeMap<TopicPartition, Producer>,
    next_number: u64,
    /// Inline runs as large as they may be, and checkpoints only when the ring asks for them.
    fills_ring: bool,
    next_epoch: i32,
    next_producer: i64,
    outline: Outline,
    steps: VecDeque<String>,
    /// What flipped bits may have damaged.
    suspects: BTreeSet<TopicPartition>,
}

/// Plays the history of a seed.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<Outline, Violation> {
    let mut history = History::new(seed, bug, Mode::of(seed));
    for _ in 0..LIVES_COUNT {
        if let Err(what) = history.live().and_then(|()| history.restart()) {
            return Err(Violation { seed, what, last_steps: history.steps.into() });
        }
    }
    history.outline.faults = history.world.faults;
    Ok(history.outline)
}

impl History {
    fn new(seed: u64, bug: Option<Bug>, mode: Mode) -> History {
        let small = StoreConfig::small();
        let journal = JournalConfig { ring_files_max: 2, ..small.journal };
        let fills_ring = seed % 4 == 3;
        let checkpoint_bytes = if fills_ring { 64 << 20 } else { 128 << 10 };
        let config = StoreConfig { bug, journal, checkpoint_bytes, ..small };
        let now = Now { monotonic_us: 1_000_000, wall_ms: 1_700_000_000_000 };
        History {
            world: World::create(config, Random::new(seed), now, mode),
            model: Model::default(),
            config,
            producers: BTreeMap::new(),
            next_number: 0,
            fills_ring,
            next_epoch: 0,
            next_producer: 100,
            outline: Outline::default(),
            steps: VecDeque::new(),
            suspects: BTreeSet::new(),
        }
    }

    fn live(&mut self) -> Result<(), String> {
        let short = self.world.random.chance(20);
        let steps_count = 2 + self.world.random.below(if short { 20 } else { STEPS_MAX });
        let slack = 20 + self.world.random.below(70);
        for _ in 0..steps_count {
            self.world.now.monotonic_us += 1_000;
            self.world.now.wall_ms += 1;
            self.look_at_the_disk();
            self.step()?;
            self.world.pump()?;
            while self.world.random.chance(slack) && self.world.under_way_count() > 0 && !self.world.failed {
                self.world.complete_one();
                self.world.pump()?;
            }
            if self.world.failed {
                return self.end_by_error();
            }
            self.observe()?;
        }
        if self.world.random.chance(25) {
            self.stop()?;
        }
        Ok(())
    }

    /// A write or a flush has failed: what else is under way may still complete, but nothing that waits for it.
    fn end_by_error(&mut self) -> Result<(), String> {
        self.note("an error ends the process".to_owned());
        for _ in 0..self.world.random.below(20) {
            self.world.complete_one();
        }
        self.observe()
    }

    fn note(&mut self, step: String) {
        let sum = u64::from(crc32c(step.as_bytes()));
        self.outline.hash = (self.outline.hash ^ sum).wrapping_mul(0x0100_0000_01b3);
        if self.steps.len() == STEPS_KEPT {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    fn step(&mut self) -> Result<(), String> {
        let key = self.any_key();
        match self.world.random.below(100) {
            0..70 => self.produce_some(key),
            70..74 => self.delete(key),
            74..78 => self.tick(),
            78..81 => self.drop_partition(key),
            81..83 => self.toggle_full(),
            83..85 => self.jump(),
            85..90 => self.read(key, ReadLimit::HighWatermark),
            _ => Ok(()),
        }
    }

    fn any_key(&mut self) -> TopicPartition {
        let partition = self.world.random.below(PARTITIONS_COUNT) as i32;
        TopicPartition { topic: TopicId([7; 16]), partition }
    }

    /// One batch, or now and then several to any partition: what is sent in one turn goes into one frame.
    fn produce_some(&mut self, key: TopicPartition) -> Result<(), String> {
        self.produce(key)?;
        let more = if self.world.random.chance(10) { 1 + self.world.random.below(6) } else { 0 };
        for _ in 0..more {
            let other = self.any_key();
            self.produce(other)?;
        }
        Ok(())
    }

    fn produce(&mut self, key: TopicPartition) -> Result<(), String> {
        if self.world.store.partition(key).is_err() {
            self.create(key);
            return Ok(());
        }
        let value = self.next_value(key);
        self.send(key, value)
    }

    fn send(&mut self, key: TopicPartition, value: Value) -> Result<(), String> {
        let (bytes, header) = value.batch();
        if !self.world.store.has_room() {
            return Ok(());
        }
        match self.world.store.append(self.world.now, key, &header) {
            Ok(Appending::Placed(placed)) => self.place(key, value, bytes, placed),
            Ok(Appending::Duplicate { base_offset, stamp, .. }) => self.duplicate(key, value, base_offset, stamp),
            Err(Refusal::DiskFull | Refusal::Overloaded) => Ok(()),
            Err(refusal) => Err(format!("{key}: value {} is refused: {refusal:?}", value.number)),
        }
    }

    /// The oldest batch that is to be sent again, or a new one.
    fn next_value(&mut self, key: TopicPartition) -> Value {
        let now_ms = self.world.now.wall_ms;
        self.give_up(key, now_ms);
        let id = self.next_producer;
        let producer = self.producers.entry(key).or_insert_with(|| {
            self.next_producer += 1;
            Producer { id, next_sequence: 0, open: VecDeque::new(), answered: None, sent_ms: now_ms }
        });
        producer.sent_ms = now_ms;
        if let Some((value, _)) = producer.open.iter().find(|(_, stamp)| stamp.is_none()) {
            return *value;
        }
        let (producer_id, sequence) = (producer.id, producer.next_sequence);
        let again = self.world.random.chance(5);
        if let Some((value, _)) = producer.open.back().filter(|_| again || producer.open.len() >= PIPELINE_MAX) {
            return *value;
        }
        let bytes = self.any_size();
        self.next_number += 1;
        let incarnation = self.model.current(key).map_or(0, |incarnation| incarnation.epoch);
        let timestamp = self.world.now.wall_ms;
        Value { incarnation, number: self.next_number, bytes: bytes as u32, timestamp, producer_id, sequence }
    }

    /// Runs of all kinds: small ones, those just below and above the limit from which they are written once, large ones.
    fn any_size(&mut self) -> u64 {
        let (kib, limit) = (1 << 10, u64::from(REFERENCE_RUN_BYTES_MIN));
        let shape = if self.fills_ring { 80 + self.world.random.below(13) } else { self.world.random.below(100) };
        match shape {
            0..65 => 80 + self.world.random.below(3 * kib),
            65..80 => 10 * kib + self.world.random.below(limit - 10 * kib),
            80..92 => limit - 1 - self.world.random.below(limit / 4),
            92..95 => limit + self.world.random.below(8 * kib),
            _ => limit + self.world.random.below(160 * kib),
        }
    }

    /// A client does not send again what it sent long ago: with batches open it begins anew, without it just goes on.
    fn give_up(&mut self, key: TopicPartition, now_ms: i64) {
        let Some(producer) = self.producers.get_mut(&key) else { return };
        if now_ms - producer.sent_ms < DELIVERY_MS {
            return;
        }
        producer.answered = None;
        match producer.open.is_empty() {
            true => self.outline.fresh_starts_count += 1,
            false => drop(self.producers.remove(&key)),
        }
    }

    fn place(
        &mut self,
        key: TopicPartition,
        value: Value,
        mut bytes: Vec<u8>,
        placed: crate::store::Placed,
    ) -> Result<(), String> {
        batch::assign(&mut bytes, placed.base_offset, placed.leader_epoch);
        let checksum = crc32c(&bytes);
        self.world.place(&placed, &bytes);
        let stamp = self.world.store.placed(self.world.now, &placed, checksum);
        self.note(format!("{key}: place {} ({} bytes) at {} {stamp:?}", value.number, value.bytes, placed.base_offset));
        self.outline.appends_count += 1;
        self.answer(key, value, placed.base_offset, stamp);
        let incarnation = self.model.current(key).ok_or("an append to a partition that is gone")?;
        let twice = incarnation.sent.values().any(|sent| sent.number == value.number);
        let before = incarnation.sent.insert(placed.base_offset, Sent { number: value.number, checksum, stamp });
        match before {
            None if !twice => Ok(()),
            None => Err(format!("{key}: value {} is appended twice", value.number)),
            Some(before) => Err(format!("{key}: offset {} was given to {} too", placed.base_offset, before.number)),
        }
    }

    fn duplicate(&mut self, key: TopicPartition, value: Value, base: i64, stamp: Stamp) -> Result<(), String> {
        self.note(format!("{key}: {} is a duplicate of {base}, {stamp:?}", value.number));
        self.outline.duplicates_count += 1;
        self.answer(key, value, base, stamp);
        let incarnation = self.model.current(key).ok_or("a duplicate in a partition that is gone")?;
        match incarnation.sent.get(&base) {
            Some(sent) if sent.number == value.number => Ok(()),
            sent => Err(format!("{key}: {} is answered as a duplicate at {base}, where {sent:?} is", value.number)),
        }
    }

    fn answer(&mut self, key: TopicPartition, value: Value, base: i64, stamp: Stamp) {
        let Some(producer) = self.producers.get_mut(&key) else { return };
        match producer.open.iter_mut().find(|(open, _)| open.number == value.number) {
            Some((_, answer)) => *answer = Some((base, stamp)),
            None => {
                producer.next_sequence += 1;
                producer.open.push_back((value, Some((base, stamp))));
            }
        }
    }

    fn settings(&mut self) -> Arc<LogSettings> {
        let random = &mut self.world.random;
        Arc::new(LogSettings {
            segment_bytes: (64 << 10) + random.below(1 << 20),
            retention_ms: random.chance(50).then(|| 60_000 + random.below(600_000) as i64),
            producer_expiration_ms: DELIVERY_MS + random.below(30 * 60_000) as i64,
            retention_bytes: random.chance(50).then(|| (256 << 10) + random.below(2 << 20)),
            ..LogSettings::default()
        })
    }

    fn create(&mut self, key: TopicPartition) {
        self.next_epoch += 1;
        let (epoch, settings) = (self.next_epoch, self.settings());
        let stamp = self.world.store.assign(self.world.now, key, settings, epoch);
        self.note(format!("{key}: create as {epoch}, {stamp:?}"));
        self.model.created(key, epoch, stamp);
        self.producers.remove(&key);
    }

    fn drop_partition(&mut self, key: TopicPartition) -> Result<(), String> {
        if let Ok(stamp) = self.world.store.drop_partition(self.world.now, key) {
            self.note(format!("{key}: drop, {stamp:?}"));
            if let Some(incarnation) = self.model.current(key) {
                incarnation.dropped = Some(stamp);
            }
            self.producers.remove(&key);
        }
        Ok(())
    }

    fn delete(&mut self, key: TopicPartition) -> Result<(), String> {
        let Ok(partition) = self.world.store.partition(key) else { return Ok(()) };
        let (low, high) = (partition.log_start(), partition.high_watermark());
        let offset = low + self.world.random.below((high - low + 1) as u64) as i64;
        let (start, stamp) = self
            .world
            .store
            .delete_records(self.world.now, key, offset)
            .map_err(|refusal| format!("{key}: a delete up to {offset} is refused: {refusal:?}"))?;
        self.note(format!("{key}: delete below {start}, {stamp:?}"));
        if start > low
            && let Some(incarnation) = self.model.current(key)
        {
            incarnation.starts.push((start, stamp));
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), String> {
        self.note("tick".to_owned());
        self.world.store.tick(self.world.now);
        let moved: Vec<_> =
            self.world.store.partitions().map(|partition| (partition.id(), partition.log_start())).collect();
        for (key, start) in moved {
            let stamp = self.world.store.last_stamp(key).unwrap_or_default();
            if let Some(incarnation) = self.model.current(key)
                && incarnation.starts.iter().all(|(offset, _)| *offset < start)
            {
                incarnation.starts.push((start, stamp));
            }
        }
        Ok(())
    }

    fn jump(&mut self) -> Result<(), String> {
        let minutes = 1 + self.world.random.below(50);
        self.note(format!("{minutes} minutes pass"));
        self.world.now.monotonic_us += minutes * 60_000_000;
        self.world.now.wall_ms += minutes as i64 * 60_000;
        Ok(())
    }

    fn toggle_full(&mut self) -> Result<(), String> {
        self.world.full = !self.world.full && self.world.random.chance(50);
        self.note(format!("the disk is full: {}", self.world.full));
        Ok(())
    }

    /// What a driver does from time to time.
    fn look_at_the_disk(&mut self) {
        if !self.world.full && self.world.store.is_disk_full() {
            self.world.store.set_disk_full(false);
        }
    }

    /// What is true after every step.
    fn observe(&mut self) -> Result<(), String> {
        let durable = self.world.store.durable();
        for producer in self.producers.values_mut() {
            let answered =
                |(_, answer): &(Value, Option<(i64, Stamp)>)| answer.is_some_and(|(_, stamp)| stamp <= durable);
            while producer.open.front().is_some_and(answered) {
                producer.answered = producer.open.pop_front().map(|(value, _)| value);
            }
        }
        for partition in self.world.store.partitions() {
            self.model.observe(partition, durable)?;
        }
        self.world.check_files()
    }

    /// Reads a whole log as a consumer does and compares every batch.
    fn read(&mut self, key: TopicPartition, limit: ReadLimit) -> Result<(), String> {
        let Ok(partition) = self.world.store.partition(key) else { return Ok(()) };
        let end = match limit {
            ReadLimit::LogEnd => partition.log_end(),
            _ => partition.high_watermark(),
        };
        let mut at = partition.log_start();
        self.note(format!("{key}: read {at} to {end}"));
        self.outline.reads_count += 1;
        while at < end {
            let Some(answer) = self.fetch(key, at, limit)? else { return Ok(()) };
            let mut rest = answer.as_slice();
            if rest.is_empty() {
                return Err(format!("{key}: nothing at {at} below {end}"));
            }
            while let Some(header) = BatchHeader::parse(rest) {
                if header.base_offset != at {
                    return Err(format!("{key}: {} comes where {at} is due", header.base_offset));
                }
                let (batch, after) =
                    rest.split_at_checked(header.bytes as usize).ok_or(format!("{key}: a cut batch"))?;
                self.model.check(key, at, crc32c(batch))?;
                at = header.end_offset();
                rest = after;
            }
        }
        Ok(())
    }

    /// Batches from `offset` on; `None` if the disk failed or the partition was found to be damaged.
    fn fetch(&mut self, key: TopicPartition, offset: i64, limit: ReadLimit) -> Result<Option<Vec<u8>>, String> {
        let max_bytes = 1 + self.world.random.below(400 << 10);
        loop {
            let partition = self.world.store.partition(key).map_err(|refusal| format!("{key}: {refusal:?}"))?;
            let planned = partition.plan_read(offset, max_bytes, limit);
            match planned.map_err(|refusal| format!("{key}: a read at {offset} is refused: {refusal:?}"))? {
                Planned::ScanFirst(scan) => {
                    if !self.scan(key, &scan)? {
                        return Ok(None);
                    }
                }
                Planned::Ready(plan) => {
                    let mut answer = Vec::new();
                    let mut due = offset;
                    for extent in &plan.extents {
                        let trim = (!plan.exact).then_some(plan.trim);
                        match self.batches(key, extent, trim, due)? {
                            Some((bytes, next)) => {
                                answer.extend(bytes);
                                due = next;
                            }
                            None => return Ok(None),
                        }
                    }
                    return Ok(Some(answer));
                }
            }
        }
    }

    /// The batches of an extent, checked as the real driver does, and the offset after the last.
    fn batches(
        &mut self,
        key: TopicPartition,
        extent: &Extent,
        cut: Option<Trim>,
        due: i64,
    ) -> Result<Option<(Vec<u8>, i64)>, String> {
        let Some((bytes, from_disk)) = self.world.read(key, extent) else { return Ok(None) };
        let everything = extent.position..extent.position + extent.length;
        let mut whole: Vec<_> = std::iter::once(everything).collect();
        if let Some(cut) = cut {
            let trimmed = trim(Stretch::new(extent.position, &[&bytes]), cut);
            if trimmed.ranges.is_empty() && trimmed.damaged.is_some() {
                return self.bury(key, "no batch stands where one should").map(|()| None);
            }
            if let Some(end) = trimmed.missing {
                let length = end - extent.position;
                return match length > extent.length {
                    true => self.batches(key, &Extent { length, ..*extent }, Some(cut), due),
                    false => Err(format!("{key}: a read that never has enough")),
                };
            }
            whole = trimmed.ranges;
        }
        let mut answer = Vec::new();
        let mut next = due;
        for range in whole {
            let (from, to) = (range.start - extent.position, range.end - extent.position);
            let part = bytes.get(from as usize..to as usize).unwrap_or_default();
            match self.checked(key, range.start, part, next) {
                Some(end) => next = end,
                None if from_disk => return self.bury(key, "a batch does not check").map(|()| None),
                None => return Err(format!("{key}: memory holds what does not check")),
            }
            answer.extend_from_slice(part);
        }
        Ok(Some((answer, next)))
    }

    fn checked(&self, key: TopicPartition, position: u64, bytes: &[u8], due: i64) -> Option<i64> {
        let stretch = [bytes];
        let stretch = Stretch::new(position, &stretch);
        let sums = stretch.walk().all(|batch| {
            let rest = bytes.get((batch.position - position) as usize..).unwrap_or_default();
            batch::checksum_fits(rest, &batch.header)
        });
        let partition = self.world.store.partition(key).ok()?;
        sums.then(|| partition.check_read(stretch, Some(due)).ok().flatten()).flatten()
    }

    /// Rebuilds an index; false if the disk failed or the partition was found to be damaged.
    fn scan(&mut self, key: TopicPartition, plan: &ScanPlan) -> Result<bool, String> {
        let extent = plan.extent;
        let Some((bytes, _)) = self.world.read(key, &extent) else { return Ok(false) };
        let Ok(partition) = self.world.store.partition_mut(key) else { return Ok(false) };
        let mut scan = partition.index_scan(plan);
        let stretch = [bytes.as_slice()];
        let mut walk = Stretch::new(extent.position, &stretch).walk();
        scan.feed(&mut walk);
        if walk.ended() != Some(WalkEnd::Done) {
            return self.bury(key, "an index cannot be rebuilt").map(|()| false);
        }
        partition.index_scanned(scan);
        Ok(true)
    }

    /// Damage was found: right only if a bit was flipped there. The partition refuses everything until it is dropped.
    fn bury(&mut self, key: TopicPartition, why: &str) -> Result<(), String> {
        if !self.suspects.contains(&key) {
            return Err(format!("{key} fails closed although nothing was damaged: {why}"));
        }
        self.note(format!("{key} is damaged: {why}"));
        self.outline.closed_count += 1;
        if let Ok(partition) = self.world.store.partition_mut(key) {
            partition.close();
            let (start, limit) = (partition.log_start(), ReadLimit::LogEnd);
            if partition.plan_read(start, 1, limit) != Err(Refusal::Damaged) {
                return Err(format!("{key} is damaged and read"));
            }
        }
        self.drop_partition(key)
    }

    /// A clean stop: everything completes, and nothing is left to replay.
    fn stop(&mut self) -> Result<(), String> {
        self.note("stop".to_owned());
        self.world.full = false;
        self.world.store.stop();
        self.world.pump()?;
        while !self.world.store.is_stopped() && !self.world.failed {
            self.look_at_the_disk();
            self.world.pump()?;
            if self.world.under_way_count() == 0 {
                return Err("a clean stop waits for nothing".to_owned());
            }
            self.world.complete_one();
            self.world.pump()?;
            self.observe()?;
        }
        if self.world.failed {
            return self.end_by_error();
        }
        self.outline.clean_stops_count += 1;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        let durable = self.world.store.durable();
        self.outline.images_count += u64::from(self.world.store.anchor().images.iter().flatten().count() > 0);
        self.note(format!("crash, durable {durable:?}"));
        self.world.full = false;
        let (suspects, report) = self.world.restart(self.config)?;
        self.suspects.extend(suspects);
        self.outline.crashes_count += 1;
        self.look_at(&report)?;
        for partition in 0..PARTITIONS_COUNT as i32 {
            let key = TopicPartition { topic: TopicId([7; 16]), partition };
            match self.world.store.partition(key) {
                Ok(partition) if partition.is_closed() => self.bury(key, "recovery closed it")?,
                Ok(partition) => self.model.recovered(partition, durable)?,
                Err(_) => self.model.absent(key, durable)?,
            }
            self.resume(key);
            self.read(key, ReadLimit::LogEnd)?;
        }
        Ok(())
    }

    /// Recovery closes nothing that was not hit.
    fn look_at(&mut self, report: &Report) -> Result<(), String> {
        self.note(format!("image {:?}, {} frames", report.image, report.frames_count));
        match report.damaged.iter().find(|(key, _)| !self.suspects.contains(key)) {
            Some((key, why)) => Err(format!("{key} failed closed although nothing was damaged: {why}")),
            None => Ok(()),
        }
    }

    /// The catalog speaks again; clients send again what was not answered.
    fn resume(&mut self, key: TopicPartition) {
        let settings = self.settings();
        let epoch = self.world.store.partition(key).map(|partition| partition.leader_epoch());
        if epoch.is_ok_and(|epoch| epoch >= 0) {
            self.world.store.configure(key, settings).unwrap_or_default();
        } else if epoch.is_ok() {
            self.create(key);
        }
        let current = self.model.current(key).map(|incarnation| incarnation.epoch);
        let Some(producer) = self.producers.get_mut(&key) else { return };
        if producer.open.iter().any(|(value, _)| Some(value.incarnation) != current) {
            self.producers.remove(&key);
            return;
        }
        producer.open.iter_mut().for_each(|(_, answer)| *answer = None);
        // The answer may have been lost on its way.
        if let Some(value) = producer.answered.take().filter(|value| Some(value.incarnation) == current)
            && self.world.random.chance(50)
        {
            producer.open.push_front((value, None));
        }
    }
}
