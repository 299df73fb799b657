//! Stories of one partition with its tail cache and files, in virtual time and with real batch bytes:
//! whatever is appended, drained, evicted, rolled, deleted and recovered, a reader gets exactly the batches that were
//! appended, byte for byte and without padding.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use watershed_core::batch::{self, BatchHeader, HEADER_BYTES};
use watershed_core::partition::walk::{Stretch, Trim, WalkEnd, first_at_timestamp, trim};
use watershed_core::partition::{
    Appended, Change, Extent, LogSettings, Partition, Planned, ReadLimit, ReadPlan, ScanPlan, TimestampPlan,
    TimestampType, Verdict,
};
use watershed_core::store::files::{Expected, Files, Stretch as FileStretch};
use watershed_core::tail_cache::{Piece, Source, TailCache};
use watershed_core::units::{BLOCK_BYTES, ChunkId, FileId, JournalId, Now, Slot, Stamp, TopicPartition, block_ceil};
use watershed_core::{error::Refusal, limits::REFERENCE_RUN_BYTES_MIN};

const SLOT: Slot = Slot(3);

/// A batch of `bytes` bytes with recognisable contents.
fn encode(records: i32, bytes: usize, timestamp: i64) -> Vec<u8> {
    let bytes = bytes.max(HEADER_BYTES);
    let mut batch: Vec<u8> = (0..bytes).map(|n| (n * 31 + records as usize) as u8 | 1).collect();
    batch[0..8].fill(0);
    batch[8..12].copy_from_slice(&(bytes as i32 - 12).to_be_bytes());
    batch[16] = 2;
    batch[21..23].fill(0);
    batch[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    batch[27..35].copy_from_slice(&timestamp.to_be_bytes());
    batch[35..43].copy_from_slice(&timestamp.to_be_bytes());
    batch[43..51].copy_from_slice(&(-1i64).to_be_bytes());
    batch[51..53].copy_from_slice(&(-1i16).to_be_bytes());
    batch[53..57].copy_from_slice(&(-1i32).to_be_bytes());
    batch[57..61].copy_from_slice(&records.to_be_bytes());
    batch
}

fn now(ms: i64) -> Now {
    Now { monotonic_us: ms as u64 * 1000, wall_ms: ms }
}

/// The driver's part: memory, files and a journal that is only a counter; and the naive log to compare with.
struct Rig {
    partition: Partition,
    cache: TailCache,
    files: Files,
    memory: BTreeMap<ChunkId, Vec<u8>>,
    disk: BTreeMap<FileId, Vec<u8>>,
    stamp: u64,
    time_ms: i64,
    /// Every batch that is still in the log: base offset, end offset, bytes.
    naive: Vec<(i64, i64, Vec<u8>)>,
    changes: Vec<Change>,
    disk_bytes_read: u64,
    scans: u32,
}

impl Rig {
    fn new(settings: LogSettings, cache_bytes: u64) -> Rig {
        let mut partition = Partition::new(TopicPartition::default(), Arc::new(settings));
        partition.begin_epoch(1);
        Rig {
            partition,
            cache: TailCache::new(cache_bytes),
            files: Files::new(JournalId(0), 1, Vec::new(), 2),
            memory: BTreeMap::new(),
            disk: BTreeMap::new(),
            stamp: 0,
            time_ms: 1_000_000,
            naive: Vec::new(),
            changes: vec![Change::Epoch { epoch: 1, start_offset: 0 }],
            disk_bytes_read: 0,
            scans: 0,
        }
    }

    fn now(&self) -> Now {
        now(self.time_ms)
    }

    fn next_stamp(&mut self) -> Stamp {
        self.stamp += 1;
        Stamp(self.stamp)
    }

    fn fill(&mut self, piece: Piece, bytes: &[u8]) {
        assert_eq!(piece.length as usize, bytes.len());
        self.memory.get_mut(&piece.chunk).unwrap()[piece.at as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn pad(&mut self, file: FileId) {
        if let Some(piece) = self.cache.pad(SLOT, file) {
            self.fill(piece, &vec![0; piece.length as usize]);
        }
    }

    fn free(&mut self, chunks: Vec<ChunkId>) {
        for chunk in chunks {
            self.memory.remove(&chunk).unwrap();
        }
    }

    fn append(&mut self, batch: &[u8]) -> Appended {
        let header = BatchHeader::parse(batch).unwrap();
        let now = self.now();
        assert_eq!(self.partition.check_append(now, &header), Ok(Verdict::Append));
        if self.partition.must_roll(now, &header) {
            self.roll();
        }
        let appended = self.partition.append(now, &header);
        let stamp = self.next_stamp();
        self.partition.stamped(stamp);
        let mut bytes = batch.to_vec();
        batch::assign(&mut bytes, appended.base_offset, appended.leader_epoch);
        self.store(&appended, &bytes);
        self.changes.push(Change::Append {
            header: BatchHeader::parse(&bytes).unwrap(),
            position: appended.position,
            aligned: appended.aligned,
        });
        self.naive.push((appended.base_offset, appended.end_offset, bytes));
        appended
    }

    fn roll(&mut self) {
        let file = self.files.take(SLOT, Expected::Little);
        let rolled = self.partition.roll(self.now(), file);
        self.next_stamp();
        if let Some(sealed) = rolled.sealed {
            self.pad(sealed.file);
            self.files.seal(sealed.file);
        }
        self.changes.push(Change::Roll { base_offset: rolled.base_offset, file: rolled.file });
    }

    fn store(&mut self, appended: &Appended, bytes: &[u8]) {
        if appended.padding.is_some() {
            self.pad(appended.file);
        }
        let length = bytes.len() as u32;
        let whole = appended.aligned.then(|| block_ceil(length.into()) as u32);
        let placed = self.cache.place(SLOT, appended.file, appended.position, length, whole);
        let mut rest = bytes;
        for place in placed {
            if let Some(capacity) = place.allocate_bytes {
                // Memory is never clean.
                assert!(self.memory.insert(place.piece.chunk, vec![0xaa; capacity as usize]).is_none());
            }
            let (head, tail) = rest.split_at(place.piece.length as usize);
            self.fill(place.piece, head);
            rest = tail;
        }
        assert!(rest.is_empty());
        if appended.aligned {
            self.store_run(appended, bytes);
        } else {
            self.files.placed(appended.file, appended.position..appended.end_position);
        }
    }

    fn store_run(&mut self, appended: &Appended, bytes: &[u8]) {
        let run = self.files.placed_aligned(appended.file, appended.position..appended.end_position);
        let run = run.or_else(|| self.create()).unwrap();
        let mut padded = bytes.to_vec();
        padded.resize((run.range.end - run.range.start) as usize, 0);
        self.write(appended.file, appended.position, &padded);
        self.written(run, true);
    }

    /// Creates the next file; returns what waited for it.
    fn create(&mut self) -> Option<FileStretch> {
        let (file, _) = self.files.next_creation()?;
        let mut waiting = self.files.created(file);
        assert!(waiting.len() <= 1, "a run is written at once, and drains one by one");
        waiting.pop()
    }

    fn written(&mut self, stretch: FileStretch, durable: bool) {
        if let Some(position) = self.files.written(stretch.file, &stretch.range, durable) {
            let segments = self.partition.segments();
            let next =
                segments.iter().find(|segment| segment.file == stretch.file).map(|segment| segment.next_position());
            self.drained(stretch.file, position.min(block_ceil(next.unwrap_or(0))));
        }
        self.retire(stretch.file);
    }

    fn retire(&mut self, file: FileId) {
        if self.files.retire(file).is_some() {
            self.disk.remove(&file);
        }
    }

    fn write(&mut self, file: FileId, position: u64, bytes: &[u8]) {
        let contents = self.disk.entry(file).or_default();
        let end = position as usize + bytes.len();
        if contents.len() < end {
            contents.resize(end, 0xbb);
        }
        contents[position as usize..end].copy_from_slice(bytes);
    }

    fn drained(&mut self, file: FileId, position: u64) {
        self.partition.drained(file, position);
        self.cache.drained(SLOT, file, position);
    }

    fn begin_drain(&mut self) -> Option<FileStretch> {
        self.files.next_drain(true).or_else(|| self.create())
    }

    fn end_drain(&mut self, stretch: FileStretch) {
        let FileStretch { file, range, .. } = stretch.clone();
        assert!(range.start.is_multiple_of(BLOCK_BYTES) && range.end.is_multiple_of(BLOCK_BYTES));
        match self.cache.pieces(SLOT, file, range.clone()) {
            Some(pieces) => {
                let bytes: Vec<u8> = pieces.iter().flat_map(|piece| self.slice(piece).to_vec()).collect();
                self.write(file, range.start, &bytes);
            }
            None => {
                assert!(self.partition.segments().iter().all(|segment| segment.file != file), "undrained bytes stay")
            }
        }
        self.written(stretch, false);
    }

    fn drain_all(&mut self) {
        while let Some(write) = self.begin_drain() {
            self.end_drain(write);
        }
    }

    fn evict(&mut self) {
        let chunks = self.cache.evict();
        self.free(chunks);
    }

    fn slice(&self, piece: &Piece) -> &[u8] {
        &self.memory[&piece.chunk][piece.at as usize..][..piece.length as usize]
    }

    fn durable(&mut self) {
        self.partition.durable(Stamp(self.stamp));
    }

    fn bytes_of(&mut self, extent: &Extent) -> Vec<u8> {
        let range = extent.position..extent.position + extent.length;
        let mut bytes = Vec::new();
        for source in self.cache.sources(SLOT, extent.file, range) {
            match source {
                Source::Memory(piece) => bytes.extend_from_slice(self.slice(&piece)),
                Source::Disk { position, length } => {
                    self.disk_bytes_read += length;
                    let file = &self.disk[&extent.file];
                    bytes.extend_from_slice(&file[position as usize..][..length as usize]);
                }
            }
        }
        bytes
    }

    fn scan(&mut self, plan: ScanPlan) {
        self.scans += 1;
        let bytes = self.bytes_of(&plan.extent);
        let mut scan = self.partition.index_scan(&plan);
        let slices = [&bytes[..]];
        let mut walk = Stretch::new(plan.extent.position, &slices).walk();
        scan.feed(&mut walk);
        assert_eq!(walk.ended(), Some(WalkEnd::Done));
        self.partition.index_scanned(scan);
    }

    fn plan(&mut self, offset: i64, max_bytes: u64, limit: ReadLimit) -> Result<ReadPlan, Refusal> {
        loop {
            match self.partition.plan_read(offset, max_bytes, limit)? {
                Planned::Ready(plan) => return Ok(plan),
                Planned::ScanFirst(scan) => self.scan(scan),
            }
        }
    }

    /// What a fetch from `offset` returns.
    fn read(&mut self, offset: i64, max_bytes: u64, limit: ReadLimit) -> Result<Vec<u8>, Refusal> {
        let plan = self.plan(offset, max_bytes, limit)?;
        let mut out = Vec::new();
        for extent in &plan.extents {
            let bytes = self.bytes_of(extent);
            if plan.exact {
                out.extend_from_slice(&bytes);
                continue;
            }
            // Cut anywhere: the walk must not care.
            let (left, right) = bytes.split_at(bytes.len() / 3);
            let slices = [left, right];
            let trimmed = trim(Stretch::new(extent.position, &slices), plan.trim);
            assert_eq!((trimmed.missing, trimmed.damaged), (None, None));
            for range in trimmed.ranges {
                let at = (range.start - extent.position) as usize;
                out.extend_from_slice(&bytes[at..][..(range.end - range.start) as usize]);
            }
        }
        Ok(out)
    }

    /// Reads the log from `offset` to the limit as a consumer does, and compares every batch.
    fn assert_reads(&mut self, offset: i64, max_bytes: u64, limit: ReadLimit) {
        let end = match limit {
            ReadLimit::LogEnd => self.partition.log_end(),
            _ => self.partition.high_watermark(),
        };
        let expected: Vec<Vec<u8>> = self
            .naive
            .iter()
            .filter(|(_, batch_end, _)| *batch_end > offset && *batch_end <= end)
            .map(|(.., bytes)| bytes.clone())
            .collect();
        let mut at = offset;
        let mut got = Vec::new();
        while at < end {
            let answer = self.read(at, max_bytes, limit).unwrap();
            assert!(!answer.is_empty(), "a batch at {at} below {end}");
            let slices = [&answer[..]];
            let first = BatchHeader::parse(&answer).unwrap();
            assert!(answer.len() as u64 <= max_bytes.max(first.bytes.into()), "one batch or the limit");
            at = last_end(&answer);
            got.extend_from_slice(slices[0]);
        }
        assert!(got == expected.concat(), "exactly the batches that were appended");
    }

    fn delete_below(&mut self, moved: watershed_core::partition::LogStart) {
        self.next_stamp();
        for file in &moved.dropped {
            let chunks = self.cache.drop_file(SLOT, *file);
            self.free(chunks);
            self.files.dropped(*file);
            self.retire(*file);
        }
        self.changes.push(Change::LogStart { offset: moved.log_start });
        self.naive.retain(|(_, end, _)| *end > moved.log_start);
    }
}

/// The offset after the last of the batches of an answer, which has no padding.
fn last_end(answer: &[u8]) -> i64 {
    let mut rest = answer;
    let mut end = 0;
    while let Some(header) = BatchHeader::parse(rest) {
        end = header.end_offset();
        rest = &rest[header.bytes as usize..];
    }
    assert!(rest.is_empty());
    end
}

fn small_segments() -> LogSettings {
    LogSettings { segment_bytes: 1 << 20, ..LogSettings::default() }
}

#[test]
fn readers_see_only_what_is_durable() {
    let mut rig = Rig::new(LogSettings::default(), 1 << 20);
    rig.append(&encode(5, 200, 1));
    assert_eq!(rig.partition.high_watermark(), 0);
    assert_eq!(rig.read(0, 1000, ReadLimit::HighWatermark), Ok(Vec::new()), "no error, nothing yet");
    assert_eq!(rig.read(3, 1000, ReadLimit::HighWatermark), Ok(Vec::new()));
    assert_eq!(rig.read(6, 1000, ReadLimit::HighWatermark), Err(Refusal::OffsetOutOfRange));
    assert_eq!(rig.read(-1, 1000, ReadLimit::HighWatermark), Err(Refusal::OffsetOutOfRange));
    assert!(!rig.partition.written(Stamp(9)), "written is not durable");
    assert!(!rig.partition.durable(Stamp(0)));
    rig.durable();
    assert_eq!(rig.partition.high_watermark(), 5);
    rig.assert_reads(3, 10, ReadLimit::HighWatermark);
    assert_eq!(rig.read(5, 1000, ReadLimit::HighWatermark), Ok(Vec::new()));
}

#[test]
fn a_relaxed_topic_shows_what_is_written() {
    let relaxed = LogSettings { flush_messages: None, ..LogSettings::default() };
    let mut rig = Rig::new(relaxed, 1 << 20);
    rig.append(&encode(2, 100, 1));
    rig.append(&encode(2, 100, 1));
    assert!(rig.partition.written(Stamp(2)));
    assert_eq!((rig.partition.high_watermark(), rig.partition.durable_end()), (2, 0));
    rig.assert_reads(0, 1000, ReadLimit::HighWatermark);
    assert!(!rig.partition.durable(Stamp(2)));
    assert_eq!(rig.partition.durable_end(), 2);
}

#[test]
fn large_runs_begin_on_a_block_and_so_does_what_follows() {
    let mut rig = Rig::new(LogSettings::default(), 1 << 20);
    assert_eq!(rig.append(&encode(1, 100, 1)).position, 0);
    let large = rig.append(&encode(1, 130 << 10, 1));
    assert!(large.aligned && large.position == 4096);
    assert_eq!(large.padding.map(|padding| (padding.position, padding.length)), Some((100, 3996)));
    let exactly = rig.append(&encode(1, REFERENCE_RUN_BYTES_MIN as usize, 1));
    assert_eq!((exactly.position, exactly.padding), (4096 + block_ceil(130 << 10), None));
    let small = rig.append(&encode(1, REFERENCE_RUN_BYTES_MIN as usize - 1, 1));
    assert!(!small.aligned);
    rig.durable();
    rig.assert_reads(0, 1000, ReadLimit::HighWatermark);
    rig.drain_all();
    rig.partition.shrink();
    rig.assert_reads(0, 1 << 20, ReadLimit::HighWatermark);
}

#[test]
fn a_batch_never_begins_with_fewer_than_twelve_bytes_left() {
    for (left, position) in [(12, 4084), (11, 4096), (1, 4096), (0, 4096)] {
        let mut rig = Rig::new(LogSettings::default(), 1 << 20);
        rig.append(&encode(1, 4096 - left, 1));
        assert_eq!(rig.append(&encode(2, 300, 1)).position, position);
        rig.durable();
        rig.partition.shrink();
        rig.assert_reads(0, 1 << 20, ReadLimit::HighWatermark);
    }
}

/// Zeroes are data where a batch's length covers them, and padding only where none does.
#[test]
fn c19_batches_of_zeroes_are_never_taken_for_space_that_nobody_wrote() {
    let mut rig = Rig::new(small_segments(), 64 << 10);
    for bytes in [61, 62, 4035, 4084, 4085, 4095, 4096, 4097, 8192, 12_288, 50_000, 131_072, 135_168] {
        for _ in 0..3 {
            let mut batch = encode(1, bytes, 0);
            batch[HEADER_BYTES..].fill(0);
            rig.append(&batch);
        }
    }
    rig.durable();
    rig.drain_all();
    rig.evict();
    rig.assert_reads(0, 100_000, ReadLimit::HighWatermark);
    assert!(rig.disk_bytes_read > 0);
}

#[test]
fn rolls_by_size_by_age_and_before_relative_offsets_overflow() {
    let mut rig = Rig::new(small_segments(), 1 << 20);
    for _ in 0..11 {
        rig.append(&encode(1, 100_000, 1_000_000));
    }
    assert_eq!(rig.partition.segments().count(), 2);
    let week_ms = LogSettings::default().segment_ms;
    rig.append(&encode(1, 100, 1_000_000 + week_ms));
    assert_eq!(rig.partition.segments().count(), 2, "not older than the limit");
    rig.append(&encode(1, 100, 1_000_001 + week_ms));
    assert_eq!(rig.partition.segments().count(), 3);
    rig.append(&encode(i32::MAX, 100, 1_000_001 + week_ms));
    assert_eq!(rig.partition.segments().count(), 3, "the last delta is the largest possible");
    rig.append(&encode(1, 100, 1_000_001 + week_ms));
    assert_eq!(rig.partition.segments().count(), 4);
}

#[test]
fn delete_records_moves_the_start_and_drops_whole_segments() {
    let mut rig = Rig::new(small_segments(), 1 << 20);
    for _ in 0..25 {
        rig.append(&encode(10, 100_000, 1));
    }
    rig.partition.durable(Stamp(rig.stamp - 1));
    assert_eq!(rig.partition.high_watermark(), 240);
    assert_eq!(rig.partition.delete_records(241), Err(Refusal::OffsetOutOfRange));
    assert_eq!(rig.partition.delete_records(-2), Err(Refusal::OffsetOutOfRange));
    let moved = rig.partition.delete_records(115).unwrap();
    assert_eq!((moved.log_start, moved.dropped.len()), (115, 1));
    rig.delete_below(moved);
    assert_eq!(rig.partition.delete_records(50).unwrap().log_start, 115, "never back");
    assert_eq!(rig.read(114, 1000, ReadLimit::HighWatermark), Err(Refusal::OffsetOutOfRange));
    rig.assert_reads(115, 1000, ReadLimit::HighWatermark);
    let to_the_watermark = rig.partition.delete_records(-1).unwrap();
    assert_eq!((to_the_watermark.log_start, rig.partition.log_end()), (240, 250));
}

#[test]
fn retention_by_time_takes_whole_segments_below_the_watermark() {
    let mut rig = Rig::new(small_segments(), 1 << 20);
    let week_ms = 7 * 24 * 3_600_000;
    for _ in 0..25 {
        rig.append(&encode(1, 100_000, rig.time_ms));
    }
    let old = now(rig.time_ms + week_ms + 1);
    assert_eq!(rig.partition.retention(old), None, "nothing is durable");
    rig.durable();
    assert_eq!(rig.partition.retention(now(rig.time_ms + week_ms)), None, "not older than the limit");
    assert_eq!(rig.partition.retention(old), Some(25), "the active segment too");
    let moved = rig.partition.retain_from(25);
    assert_eq!((moved.dropped.len(), rig.partition.segments().count()), (3, 0));
    rig.delete_below(moved);
    rig.append(&encode(1, 100, 1));
    rig.durable();
    rig.assert_reads(25, 1000, ReadLimit::HighWatermark);
}

#[test]
fn a_timestamp_from_the_future_does_not_pin_a_segment() {
    let mut rig = Rig::new(LogSettings::default(), 1 << 20);
    let week_ms = 7 * 24 * 3_600_000;
    rig.append(&encode(1, 100, rig.time_ms + 1000 * week_ms));
    rig.durable();
    assert_eq!(rig.partition.retention(now(rig.time_ms + week_ms)), None);
    assert_eq!(rig.partition.retention(now(rig.time_ms + week_ms + 1)), Some(1));
}

#[test]
fn retention_by_size_keeps_at_least_the_limit() {
    let settings = LogSettings { retention_bytes: Some(1_500_000), ..small_segments() };
    let mut rig = Rig::new(settings.clone(), 1 << 20);
    for _ in 0..24 {
        rig.append(&encode(1, 100_000, rig.time_ms));
    }
    rig.durable();
    assert_eq!(rig.partition.retention(rig.now()), None, "2.4 MB less one segment of 1 MB is too little");
    for _ in 0..5 {
        rig.append(&encode(1, 100_000, rig.time_ms));
    }
    rig.durable();
    assert_eq!(rig.partition.retention(rig.now()), Some(10));
    let unlimited = LogSettings { delete: false, ..settings };
    rig.partition.configure(Arc::new(unlimited));
    assert_eq!(rig.partition.retention(rig.now()), None, "cleanup.policy without delete");
}

#[test]
fn finds_the_first_batch_with_a_timestamp() {
    let mut rig = Rig::new(small_segments(), 1 << 20);
    for n in 0..60i64 {
        rig.append(&encode(2, 50_000, 1000 + 10 * (n ^ 1)));
    }
    rig.durable();
    rig.drain_all();
    rig.partition.shrink();
    for target in [0, 1000, 1005, 1010, 1299, 1585, 1590, 1591] {
        let expected = rig.naive.iter().find_map(|(base, _, bytes)| {
            let header = BatchHeader::parse(bytes).unwrap();
            (header.max_timestamp >= target).then_some(*base)
        });
        assert_eq!(
            found(&mut rig, |log, from| log.find_timestamp_from(target, from, ReadLimit::HighWatermark)),
            expected
        );
    }
    let largest = found(&mut rig, |log, _| log.find_max_timestamp(ReadLimit::HighWatermark));
    assert_eq!(largest, Some(116), "batch 58 carries 1590");
    assert!(rig.scans >= 2, "indexes were rebuilt");
}

#[test]
fn a_timestamp_below_the_log_start_is_passed_over() {
    let mut rig = Rig::new(small_segments(), 1 << 20);
    for n in 0..20 {
        rig.append(&encode(1, 100_000, if n == 3 { 500 } else { n }));
    }
    rig.append(&encode(1, 100, 400));
    rig.durable();
    let target = |rig: &mut Rig| found(rig, |log, from| log.find_timestamp_from(300, from, ReadLimit::HighWatermark));
    assert_eq!(target(&mut rig), Some(3));
    let moved = rig.partition.delete_records(5).unwrap();
    rig.delete_below(moved);
    assert_eq!(target(&mut rig), Some(20), "in a later segment");
}

fn found(rig: &mut Rig, plan: impl Fn(&Partition, i64) -> Result<TimestampPlan, Refusal>) -> Option<i64> {
    let mut from = 0;
    loop {
        match plan(&rig.partition, from).unwrap() {
            TimestampPlan::Nothing => return None,
            TimestampPlan::ScanFirst(scan) => rig.scan(scan),
            TimestampPlan::Walk { extent, timestamp, from_offset, next_from, .. } => {
                let bytes = rig.bytes_of(&extent);
                let stretch = [&bytes[..]];
                let batch = first_at_timestamp(Stretch::new(extent.position, &stretch), timestamp, from_offset);
                match batch {
                    Some(batch) => return Some(batch.header.base_offset),
                    None => from = next_from,
                }
            }
        }
    }
}

#[test]
fn a_duplicate_waits_for_the_stamp_of_the_first_try() {
    let mut rig = Rig::new(LogSettings::default(), 1 << 20);
    let mut batch = encode(3, 100, 1);
    batch[43..51].copy_from_slice(&7i64.to_be_bytes());
    batch[51..57].fill(0);
    rig.append(&batch);
    let header = BatchHeader::parse(&batch).unwrap();
    let again = Verdict::Duplicate { base_offset: 0, append_time_ms: -1, stamp: Stamp(rig.stamp) };
    assert_eq!(rig.partition.check_append(rig.now(), &header), Ok(again));
}

/// Retention takes records, never what is known of their producers.
#[test]
fn t6_a_producer_survives_the_deletion_of_its_records() {
    let mut rig = Rig::new(LogSettings::default(), 1 << 20);
    let mut batch = encode(3, 100, 1);
    batch[43..51].copy_from_slice(&7i64.to_be_bytes());
    batch[51..57].fill(0);
    rig.append(&batch);
    rig.durable();
    let moved = rig.partition.delete_records(-1).unwrap();
    assert_eq!(moved.dropped.len(), 1);
    rig.delete_below(moved);
    let header = BatchHeader::parse(&batch).unwrap();
    let gap = BatchHeader { base_sequence: 4, ..header };
    assert!(matches!(rig.partition.check_append(rig.now(), &header), Ok(Verdict::Duplicate { .. })));
    assert_eq!(rig.partition.check_append(rig.now(), &gap), Err(Refusal::OutOfOrderSequence));
    batch[53..57].copy_from_slice(&3i32.to_be_bytes());
    assert_eq!(rig.append(&batch).base_offset, 3);
    assert_recovers(&rig);
}

#[test]
fn a_replay_takes_the_append_time_from_the_batch() {
    let mut log = Partition::new(TopicPartition::default(), Arc::new(LogSettings::default()));
    let mut batch = encode(1, 100, 1);
    batch[43..51].copy_from_slice(&7i64.to_be_bytes());
    batch[51..57].fill(0);
    let (header, rest) = batch.split_at_mut(HEADER_BYTES);
    batch::assign_log_append_time(header, rest, 777);
    let header = BatchHeader::parse(&batch).unwrap();
    let append = Change::Append { header, position: 0, aligned: false };
    assert!(log.replay(now(1), append).is_err(), "no segment was opened");
    log.replay(now(1), Change::Roll { base_offset: 0, file: FileId(1) }).unwrap();
    log.replay(now(1), append).unwrap();
    assert_eq!(log.replay(now(1), append).map_err(|misfit| misfit.log_end), Err(1), "it lies below the end");
    assert!(log.replay(now(1), Change::Roll { base_offset: 5, file: FileId(2) }).is_err());
    assert!(log.replay(now(1), Change::LogStart { offset: 2 }).is_err());
    let again = Verdict::Duplicate { base_offset: 0, append_time_ms: 777, stamp: Stamp(0) };
    assert_eq!(log.check_append(now(1), &header), Ok(again));
}

#[test]
fn log_append_time_is_the_brokers() {
    let settings = LogSettings { timestamp_type: TimestampType::LogAppendTime, ..LogSettings::default() };
    let mut rig = Rig::new(settings, 1 << 20);
    let appended = rig.append(&encode(1, 100, 5));
    assert_eq!(appended.append_time_ms, rig.time_ms);
    assert_eq!(rig.partition.segments().active().unwrap().max_timestamp, rig.time_ms);
}

#[test]
fn a_closed_partition_refuses() {
    let mut rig = Rig::new(LogSettings::default(), 1 << 20);
    rig.append(&encode(1, 100, 5));
    rig.partition.close();
    let header = BatchHeader::parse(&encode(1, 100, 5)).unwrap();
    assert_eq!(rig.partition.check_append(rig.now(), &header), Err(Refusal::Damaged));
    assert_eq!(rig.read(0, 100, ReadLimit::LogEnd), Err(Refusal::Damaged));
}

#[test]
fn a_truncated_log_goes_on_in_a_new_segment() {
    let mut rig = Rig::new(LogSettings::default(), 1 << 20);
    rig.append(&encode(5, 1000, 1));
    let cut = rig.append(&encode(5, 1000, 1));
    rig.durable();
    assert!(rig.partition.truncate(5, cut.position).is_empty());
    rig.naive.pop();
    assert_eq!((rig.partition.log_end(), rig.partition.high_watermark()), (5, 5));
    let chunks = rig.cache.truncate(SLOT, cut.file, cut.position);
    rig.free(chunks);
    rig.pad(cut.file);
    let next = rig.append(&encode(1, 500, 1));
    assert_eq!((next.base_offset, next.segment_base, next.position), (5, 5, 0));
    rig.durable();
    rig.assert_reads(0, 10_000, ReadLimit::HighWatermark);
}

#[test]
fn an_idle_partition_is_small() {
    let mut rig = Rig::new(LogSettings::default(), 1 << 20);
    let all: Vec<_> = (0..1000).map(|_| rig.append(&encode(1, 100, 1))).collect();
    assert_eq!(all.len(), 1000);
    rig.durable();
    rig.partition.shrink();
    assert!(size_of::<Partition>() <= 512, "{}", size_of::<Partition>());
}

#[test]
fn a_trim_names_a_batch_that_is_cut_and_one_that_is_none() {
    let whole = encode(1, 300, 1);
    let cut = Trim { from_offset: 0, limit_offset: 10, max_bytes: 1000, first_whole: true };
    let slices = [&whole[..200]];
    assert_eq!(trim(Stretch::new(4096, &slices), cut).missing, Some(4396));
    let mut damaged = whole.clone();
    damaged[8..12].copy_from_slice(&(-5i32).to_be_bytes());
    let slices = [&damaged[..]];
    assert_eq!(trim(Stretch::new(4096, &slices), cut).damaged, Some(4096));
    let later = Trim { max_bytes: 100, first_whole: false, ..cut };
    let slices = [&whole[..]];
    assert_eq!(trim(Stretch::new(4096, &slices), later).bytes, 0, "only the first partition may exceed its limit");
}

#[derive(Clone, Debug)]
enum Step {
    Append { records: i32, bytes: usize },
    Durable,
    BeginDrain,
    EndDrain,
    Evict,
    Shrink,
    Read { at: u8, max_bytes: u64 },
    Delete { at: u8 },
    Recover,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1i32..20, prop_oneof![61usize..400, 3900usize..4200, 61usize..40_000, 131_000usize..300_000])
            .prop_map(|(records, bytes)| Step::Append { records, bytes }),
        3 => Just(Step::Durable),
        2 => Just(Step::BeginDrain),
        3 => Just(Step::EndDrain),
        1 => Just(Step::Evict),
        1 => Just(Step::Shrink),
        3 => (any::<u8>(), 1u64..200_000).prop_map(|(at, max_bytes)| Step::Read { at, max_bytes }),
        1 => any::<u8>().prop_map(|at| Step::Delete { at }),
        1 => Just(Step::Recover),
    ]
}

/// An offset between the log start and `end`.
fn between(start: i64, end: i64, at: u8) -> i64 {
    start + (end - start) * i64::from(at) / 255
}

fn take(rig: &mut Rig, step: Step, under_way: &mut Option<FileStretch>) {
    let (start, high) = (rig.partition.log_start(), rig.partition.high_watermark());
    match step {
        Step::Append { records, bytes } => {
            rig.append(&encode(records, bytes, 1));
        }
        Step::Durable => rig.durable(),
        Step::BeginDrain => *under_way = under_way.take().or_else(|| rig.begin_drain()),
        Step::EndDrain => {
            if let Some(write) = under_way.take() {
                rig.end_drain(write);
            }
        }
        Step::Evict => rig.evict(),
        Step::Shrink => rig.partition.shrink(),
        Step::Read { at, max_bytes } => {
            let offset = between(start, high, at);
            rig.assert_reads(offset, max_bytes, ReadLimit::HighWatermark);
            rig.assert_reads(offset, max_bytes, ReadLimit::LogEnd);
        }
        Step::Delete { at } => {
            let moved = rig.partition.delete_records(between(start, high, at)).unwrap();
            rig.delete_below(moved);
        }
        Step::Recover => assert_recovers(rig),
    }
}

/// Replaying every change, or the image, gives the same numbers.
fn assert_recovers(rig: &Rig) {
    let settings = Arc::new(rig.partition.settings().clone());
    let mut replayed = Partition::new(rig.partition.id(), settings.clone());
    for change in &rig.changes {
        replayed.replay(rig.now(), *change).unwrap();
    }
    let mut expected = rig.partition.to_image();
    assert_eq!(Partition::from_image(&expected, settings).to_image(), expected);
    for segment in &mut expected.segments {
        segment.drained_position = 0;
    }
    assert_eq!(replayed.to_image(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_reader_gets_every_batch_byte_for_byte(steps in proptest::collection::vec(step(), 1..120)) {
        let mut rig = Rig::new(small_segments(), 64 << 10);
        let mut under_way = None;
        for step in steps {
            take(&mut rig, step, &mut under_way);
        }
        if let Some(write) = under_way {
            rig.end_drain(write);
        }
        rig.drain_all();
        rig.evict();
        rig.durable();
        rig.partition.shrink();
        let start = rig.partition.log_start();
        rig.assert_reads(start, 50_000, ReadLimit::HighWatermark);
        prop_assert!(rig.files.is_drained());
        prop_assert!(rig.cache.bytes() <= (64 << 10) + (1 << 20), "only the last chunk may exceed the limit");
        assert_recovers(&rig);
    }
}
