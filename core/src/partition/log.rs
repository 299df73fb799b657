//! One partition's log on its owner: offsets, places, watermarks, producers. Numbers only; bytes stay with the driver.
//!
//! Order of calls for a produce, without an await between: `check_append`, `must_roll` (then `roll` with a file from the
//! pool), `append`, and `stamped` for each journal entry that this caused. `written` and `durable` follow as the journal
//! reports them. A change becomes visible to readers with the high watermark, never before.
//! Invariants: `log_start <= last_stable <= high_watermark <= log_end`; see `watermarks` and `segments` for theirs.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::BatchHeader;
use crate::error::Refusal;
use crate::partition::epochs::{EpochEnd, Epochs};
use crate::partition::image::PartitionImage;
use crate::partition::producers::{ActiveProducer, Producers, UNSTAMPED, Verdict};
use crate::partition::segments::{Placement, Segment, Segments};
use crate::partition::settings::{LogSettings, TimestampType};
use crate::partition::watermarks::{Follower, Watermarks};
use crate::units::{FileId, Now, Stamp, TopicId, TopicPartition, block_ceil};

/// Recent batches whose exact boundaries are remembered.
const RECENT_MAX: usize = 32;

/// What an append decided. The driver sets `base_offset` and `leader_epoch` in the batch, zeroes `padding`, and copies
/// or writes the batch at `position` of `file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    pub end_offset: i64,
    pub leader_epoch: i32,
    pub file: FileId,
    pub segment_base: i64,
    pub position: u64,
    pub end_position: u64,
    /// Written straight into the segment, zero-padded to whole blocks; the frame holds only its place.
    pub aligned: bool,
    /// Zeroes between the last batch and this one.
    pub padding: Option<Padding>,
    /// The log append time to set in the batch; -1 under create time.
    pub append_time_ms: i64,
}

/// Bytes of a segment that hold zeroes, up to a block boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Padding {
    pub position: u64,
    pub length: u64,
}

/// A roll: journal it before the append that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolled {
    pub base_offset: i64,
    pub file: FileId,
    /// The segment that it sealed.
    pub sealed: Option<Sealed>,
}

/// A sealed segment's end. Its last block is padded and may then be drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub file: FileId,
    pub base_offset: i64,
    pub end_offset: i64,
    pub end_position: u64,
    pub padding: Option<Padding>,
}

/// A moved log start: journal it; `dropped` files go to the pool once that entry is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStart {
    pub log_start: i64,
    pub dropped: Vec<FileId>,
}

/// A batch whose boundaries are known exactly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) base_offset: i64,
    pub(super) end_offset: i64,
    pub(super) position: u32,
    pub(super) bytes: u32,
}

/// A batch that is not yet durable.
#[derive(Clone, Copy, Debug)]
struct Pending {
    stamp: Stamp,
    base_offset: i64,
    end_offset: i64,
    position: u64,
    producer_id: i64,
}

/// One log.
#[derive(Clone, Debug)]
pub struct Partition {
    id: TopicPartition,
    pub(super) settings: Arc<LogSettings>,
    pub(super) log_start: i64,
    pub(super) marks: Watermarks,
    pub(super) epochs: Epochs,
    pub(super) segments: Segments,
    pub(super) producers: Producers,
    pending: VecDeque<Pending>,
    pub(super) recent: VecDeque<Run>,
    closed: bool,
}

impl Partition {
    /// An empty log. It has no segment until the first append rolls one.
    pub fn new(id: TopicPartition, settings: Arc<LogSettings>) -> Partition {
        Partition {
            id,
            settings,
            log_start: 0,
            marks: Watermarks::recovered(0),
            epochs: Epochs::default(),
            segments: Segments::default(),
            producers: Producers::default(),
            pending: VecDeque::new(),
            recent: VecDeque::new(),
            closed: false,
        }
    }

    pub fn id(&self) -> TopicPartition {
        self.id
    }

    pub fn settings(&self) -> &LogSettings {
        &self.settings
    }

    /// Takes new settings; they hold from the next call on.
    pub fn configure(&mut self, settings: Arc<LogSettings>) {
        self.settings = settings;
        let flush_mode = self.settings.is_flush_mode();
        self.marks.durable(self.marks.durable_end(), flush_mode);
    }

    pub fn log_start(&self) -> i64 {
        self.log_start
    }

    pub fn log_end(&self) -> i64 {
        self.marks.log_end()
    }

    pub fn durable_end(&self) -> i64 {
        self.marks.durable_end()
    }

    pub fn high_watermark(&self) -> i64 {
        self.marks.high_watermark()
    }

    pub fn last_stable(&self) -> i64 {
        self.marks.last_stable()
    }

    pub fn leader_epoch(&self) -> i32 {
        self.epochs.latest()
    }

    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    pub fn producers_count(&self) -> usize {
        self.producers.count()
    }

    /// The producers that are remembered, by rising id.
    pub fn active_producers(&self, now: Now) -> impl Iterator<Item = ActiveProducer> + '_ {
        self.producers.active(now.wall_ms, self.settings.producer_expiration_ms)
    }

    /// Bytes of the log's segments.
    pub fn bytes(&self) -> u64 {
        self.segments.bytes()
    }

    /// Fails closed after damage: reads and appends are refused until the partition is dropped.
    pub fn close(&mut self) {
        self.closed = true;
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Judges a batch before it is placed; changes nothing.
    pub fn check_append(&self, now: Now, header: &BatchHeader) -> Result<Verdict, Refusal> {
        self.check_open()?;
        let expiration_ms = self.settings.producer_expiration_ms;
        self.producers.check(now.wall_ms, expiration_ms, header)
    }

    /// Whether `roll` must come before `append` of this batch.
    pub fn must_roll(&self, now: Now, header: &BatchHeader) -> bool {
        let header = self.assigned(now, header);
        self.segments.must_roll(now, &self.settings, &header, header.base_offset)
    }

    /// Seals the active segment, if any, and opens one at the log end in `file`.
    pub fn roll(&mut self, now: Now, file: FileId) -> Rolled {
        let sealed = self.segments.active().map(Sealed::of);
        self.segments.seal();
        let base_offset = self.log_end();
        self.segments.open(base_offset, file, now.wall_ms, &self.settings);
        Rolled { base_offset, file, sealed }
    }

    /// Appends a batch that `check_append` let pass, after a roll if `must_roll` asked for one. `header.base_offset` is
    /// ignored.
    pub fn append(&mut self, now: Now, header: &BatchHeader) -> Appended {
        let header = self.assigned(now, header);
        let active = self.segments.active().expect("roll comes before append");
        let at = active.place(&self.settings, header.bytes);
        let appended = Appended {
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
            leader_epoch: self.epochs.latest().max(0),
            file: active.file,
            segment_base: active.base_offset,
            position: at.position,
            end_position: at.position + u64::from(header.bytes),
            aligned: at.aligned,
            padding: Padding::between(active.next_position(), at.position),
            append_time_ms: self.append_time_ms(now),
        };
        self.push(now, &header, at, appended.append_time_ms);
        self.pending.push_back(Pending {
            stamp: UNSTAMPED,
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
            position: at.position,
            producer_id: header.producer_id,
        });
        appended
    }

    /// Sets the journal stamp of the last append.
    pub fn stamped(&mut self, stamp: Stamp) {
        if let Some(last) = self.pending.back_mut() {
            last.stamp = stamp;
            self.producers.stamped(last.producer_id, stamp);
        }
    }

    /// Everything up to `stamp` is written; returns whether the high watermark moved.
    pub fn written(&mut self, stamp: Stamp) -> bool {
        let count = self.pending.partition_point(|entry| entry.stamp <= stamp);
        let Some(last) = count.checked_sub(1).and_then(|at| self.pending.get(at)) else {
            return false;
        };
        self.marks.written(last.end_offset, self.settings.is_flush_mode())
    }

    /// Everything up to `stamp` is durable; returns whether the high watermark moved.
    pub fn durable(&mut self, stamp: Stamp) -> bool {
        let count = self.pending.partition_point(|entry| entry.stamp <= stamp);
        let Some(last) = self.pending.drain(..count).next_back() else {
            return false;
        };
        self.marks.durable(last.end_offset, self.settings.is_flush_mode())
    }

    /// Whether something was appended that is not yet durable.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Replaces the in-sync replicas but this one.
    pub fn set_followers(&mut self, followers: Vec<Follower>) {
        self.marks.set_followers(followers);
    }

    /// Notes a follower's fetch; returns whether the high watermark moved.
    pub fn follower_fetched(&mut self, broker: i32, end_offset: i64) -> bool {
        self.marks.fetched(broker, end_offset, self.settings.is_flush_mode())
    }

    /// Begins a leader epoch at the log end. Returns its start if it is new: journal it before serving.
    pub fn begin_epoch(&mut self, epoch: i32) -> Option<i64> {
        let start = self.log_end();
        self.epochs.assign(epoch, start).then_some(start)
    }

    /// Checks a client's idea of the leader epoch (-1: none).
    pub fn check_epoch(&self, client_epoch: i32) -> Result<(), Refusal> {
        self.epochs.check(client_epoch)
    }

    /// OffsetForLeaderEpoch: the end of the largest epoch not above `epoch`.
    pub fn epoch_end(&self, epoch: i32) -> EpochEnd {
        self.epochs.end_for(epoch, self.log_end())
    }

    /// Cuts the log at a batch boundary: `end_offset`, which lies at `end_position` of the segment that holds it. The next
    /// append rolls. Returns the files that are no longer needed, for the pool once the Truncate entry is durable.
    pub fn truncate(&mut self, end_offset: i64, end_position: u64) -> Vec<FileId> {
        if end_offset >= self.log_end() {
            return Vec::new();
        }
        self.marks.truncate(end_offset);
        self.epochs.truncate_back(end_offset);
        self.producers.truncate(end_offset);
        self.pending.retain(|entry| entry.end_offset <= end_offset);
        self.recent.retain(|run| run.end_offset <= end_offset);
        self.log_start = self.log_start.min(end_offset);
        self.segments.truncate(end_offset, end_position)
    }

    /// Bytes of `file` below `position` are in the segment's file.
    pub fn drained(&mut self, file: FileId, position: u64) {
        self.segments.drained(file, position);
    }

    /// Producers to expire: journal a ProducerExpire for each, then call `expire_producer`.
    pub fn expired_producers(&self, now: Now) -> Vec<i64> {
        let expiration_ms = self.settings.producer_expiration_ms;
        self.producers.expired(now.wall_ms, expiration_ms).collect()
    }

    pub fn expire_producer(&mut self, producer_id: i64) {
        self.producers.expire(producer_id);
    }

    /// Gives back the memory of a partition that nobody uses for now.
    pub fn shrink(&mut self) {
        self.recent = VecDeque::new();
        self.pending.shrink_to_fit();
        self.segments.forget_indexes();
    }

    /// Every number that must survive. Taken when nothing is pending, or together with the stamp it was taken at.
    pub fn to_image(&self) -> PartitionImage {
        PartitionImage {
            topic: self.id.topic.0,
            partition: self.id.partition,
            log_start: self.log_start,
            log_end: self.log_end(),
            epochs: self.epochs.starts().to_vec(),
            segments: self.segments.to_image(),
            producers: self.producers.to_image(),
        }
    }

    /// Restores a partition; everything in an image counts as durable.
    pub fn from_image(image: &PartitionImage, settings: Arc<LogSettings>) -> Partition {
        let id = TopicPartition { topic: TopicId(image.topic), partition: image.partition };
        Partition {
            log_start: image.log_start,
            marks: Watermarks::recovered(image.log_end),
            epochs: Epochs::from_starts(image.epochs.clone()),
            segments: Segments::from_image(&image.segments),
            producers: Producers::from_image(&image.producers),
            ..Partition::new(id, settings)
        }
    }

    pub(super) fn check_open(&self) -> Result<(), Refusal> {
        if self.closed { Err(Refusal::Damaged) } else { Ok(()) }
    }

    /// Moves the log start up to `offset` and drops the segments below it.
    pub(super) fn start_at(&mut self, offset: i64) -> LogStart {
        self.log_start = self.log_start.max(offset);
        self.epochs.truncate_front(self.log_start);
        let dropped = self.segments.drop_below(self.log_start);
        if let Some(first) = self.segments.iter().next().map(|first| first.base_offset) {
            self.recent.retain(|run| run.base_offset >= first);
        } else {
            self.recent.clear();
        }
        LogStart { log_start: self.log_start, dropped }
    }

    /// The position up to which `segment` may be read when only offsets below `limit` may be seen.
    pub(super) fn end_position_at(&self, segment: &Segment, limit: i64) -> u64 {
        if limit >= segment.end_offset {
            return segment.end_position();
        }
        let hidden = self.pending.partition_point(|entry| entry.base_offset < limit);
        match self.pending.get(hidden) {
            Some(entry) if entry.base_offset >= segment.base_offset => entry.position,
            _ => segment.end_position(),
        }
    }

    /// Takes a batch with its final offsets at its final place.
    pub(super) fn push(&mut self, now: Now, header: &BatchHeader, at: Placement, append_time_ms: i64) {
        let active = self.segments.active_mut().expect("an active segment");
        active.push(now.wall_ms, at, header);
        self.producers.appended(now.wall_ms, header, append_time_ms);
        self.marks.appended(header.end_offset());
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Run {
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
            position: u32::try_from(at.position).expect("inside a segment file"),
            bytes: header.bytes,
        });
    }

    fn assigned(&self, now: Now, header: &BatchHeader) -> BatchHeader {
        let mut header = *header;
        header.base_offset = self.log_end();
        if self.settings.timestamp_type == TimestampType::LogAppendTime {
            header.max_timestamp = now.wall_ms;
        }
        header
    }

    fn append_time_ms(&self, now: Now) -> i64 {
        match self.settings.timestamp_type {
            TimestampType::CreateTime => -1,
            TimestampType::LogAppendTime => now.wall_ms,
        }
    }
}

impl Padding {
    /// What to zero between `end` and `next`: at most the rest of a block. An aligned run brings its own zeroes.
    fn between(end: u64, next: u64) -> Option<Padding> {
        (end < next).then_some(Padding { position: end, length: next - end })
    }
}

impl Sealed {
    fn of(segment: &Segment) -> Sealed {
        Sealed {
            file: segment.file,
            base_offset: segment.base_offset,
            end_offset: segment.end_offset,
            end_position: segment.end_position(),
            padding: Padding::between(segment.next_position(), block_ceil(segment.next_position())),
        }
    }
}
