//! One shard's storage on its core: the driver of a `Store` and what the services call.
//!
//! Owns the shard's files and the memory of its tails; performs the store's effects by the ring and wakes who waits for
//! them. An append is synchronous from the call to its place in the journal's order; whatever waits, waits afterwards.
//! Never acknowledges after a failed write or flush: the first one stops the driver, and `failed` says why.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::arena::{Arena, Lease};
use super::data_dir::DataDir;
use super::executor::{self, machine_now};
use super::file::Space;
use super::shard_ahead::Ahead;
use super::shard_effects::Performer;
use super::tail_memory::TailMemory;
use crate::batch::{self, BatchHeader};
use crate::error::{Fault, Refusal};
use crate::partition::{ActiveProducer, LogSettings, Partition};
use crate::store::{Appending, Placed, Store, StoreConfig};
use crate::units::{JournalId, Now, ShardId, Stamp, TopicPartition};

/// What a shard is given at start.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    pub store: StoreConfig,
    /// All of the shard's memory for bytes: receive, tails, frames, reads.
    pub arena_bytes: usize,
    /// Of that, tails that are kept for readers although they are on disk.
    pub tail_cache_bytes: u64,
    /// New records are refused when less is free on the file system.
    pub free_bytes_min: u64,
    /// How often retention looks at the logs (`log.retention.check.interval.ms`).
    pub retention_check_ms: u64,
}

/// A partition's ends, as its owner sees them now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    pub log_start: i64,
    pub last_stable: i64,
    pub high_watermark: i64,
    pub log_end: i64,
    pub leader_epoch: i32,
    pub size_bytes: u64,
}

/// Exactly one validated record batch.
pub enum Incoming<'a> {
    Copy(&'a [u8]),
    /// A block that begins with the batch, and the batch's length.
    Own(Lease, usize),
}

/// Where an append went, or went before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    /// -1 under create time.
    pub log_append_time_ms: i64,
    pub log_start: i64,
    /// Answer when this is durable.
    pub stamp: Stamp,
}

pub use super::shard_read::ReadPlan;
/// Up to where a reader may see.
pub use crate::partition::ReadLimit as Until;

/// Names a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchId(u64);

/// What the disk was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// A frame's durable write.
    Commit,
    SegmentWrite,
    SegmentFlush,
    SegmentRead,
}

/// Takes each operation that has succeeded, with its microseconds from submission to completion.
pub type DiskObserver = Rc<dyn Fn(DiskOp, u64)>;

struct Watch {
    partitions: Vec<TopicPartition>,
    bell: Rc<dyn Fn()>,
}

/// What grows with use, for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardCounters {
    pub frames_count: u64,
    pub frame_bytes: u64,
    pub segment_bytes: u64,
    pub pool_bytes: u64,
    pub image_bytes: u64,
    pub flushes_count: u64,
    pub memory_read_bytes: u64,
    pub disk_read_bytes: u64,
    pub memory_reads: u64,
    pub disk_reads: u64,
    pub checkpoints_count: u64,
}

/// What a shard holds at one moment, for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardGauges {
    /// Bytes of the journal's ring that no checkpoint has freed yet.
    pub journal_used_bytes: u64,
    pub journal_ring_bytes: u64,
    pub frames_in_flight_count: u64,
    /// Tails in memory, cached or not yet drained.
    pub tail_bytes: u64,
    /// Of those, what is not in its segment's file yet.
    pub unwritten_bytes: u64,
    /// Of the file system, when it was last looked at.
    pub free_bytes: u64,
    pub is_disk_full: bool,
    pub pool_files_count: u64,
    pub partitions_count: u64,
    /// Partitions that failed closed.
    pub damaged_count: u64,
}

pub(super) struct Inner {
    pub(super) id: ShardId,
    pub(super) arena: Arena,
    pub(super) store: RefCell<Store>,
    pub(super) memory: RefCell<TailMemory>,
    pub(super) ahead: RefCell<Ahead>,
    pub(super) performer: Performer,
    pub(super) counters: Cell<ShardCounters>,
    /// Those given last.
    settings: RefCell<Arc<LogSettings>>,
    waiters: RefCell<BTreeMap<(Stamp, u64), Waker>>,
    room: RefCell<Vec<Waker>>,
    next_id: Cell<u64>,
    watches: RefCell<BTreeMap<WatchId, Watch>>,
    watched: RefCell<HashMap<TopicPartition, Vec<WatchId>>>,
    kicked: Cell<bool>,
    driver: RefCell<Option<Waker>>,
    fault: RefCell<Option<Fault>>,
    fault_waiters: RefCell<Vec<Waker>>,
    stopped: RefCell<Vec<Waker>>,
    free_bytes: Cell<u64>,
    disk_observer: RefCell<Option<DiskObserver>>,
}

/// A handle on one shard's storage. Cheap to clone; stays on its core.
#[derive(Clone)]
pub struct Shard(pub(super) Rc<Inner>);

impl Shard {
    /// Recovers a journal, or makes a new one, and starts its driver on this executor.
    pub async fn open(dir: &DataDir, id: ShardId, config: ShardConfig) -> Result<Shard, Fault> {
        let missing = || Fault::Refused(format!("the data directory has no journal for shard {}", id.0));
        let journal = *dir.journals().get(usize::from(id.0)).ok_or_else(missing)?;
        let arena = Arena::new(config.arena_bytes)?;
        let memory = TailMemory::new(arena.clone(), config.tail_cache_bytes);
        Shard::start(dir, id, journal, config, arena, memory).await
    }

    async fn start(
        dir: &DataDir,
        id: ShardId,
        journal: JournalId,
        config: ShardConfig,
        arena: Arena,
        mut memory: TailMemory,
    ) -> Result<Shard, Fault> {
        let opened = super::shard_recovery::open(dir, journal, config.store, &arena, &mut memory).await?;
        let performer = Performer::new(dir.clone(), journal, opened.anchor_file, opened.ring_files, &arena)?;
        let shard = Shard(Rc::new(Inner {
            id,
            arena,
            store: RefCell::new(opened.store),
            memory: RefCell::new(memory),
            ahead: RefCell::new(Ahead::new(config.arena_bytes as u64)),
            performer,
            counters: Cell::default(),
            settings: RefCell::default(),
            waiters: RefCell::default(),
            room: RefCell::default(),
            next_id: Cell::new(0),
            watches: RefCell::default(),
            watched: RefCell::default(),
            kicked: Cell::new(true),
            driver: RefCell::default(),
            fault: RefCell::default(),
            fault_waiters: RefCell::default(),
            stopped: RefCell::default(),
            free_bytes: Cell::default(),
            disk_observer: RefCell::default(),
        }));
        executor::spawn(drive(shard.clone()));
        executor::spawn_background(watch_space(shard.clone(), config.free_bytes_min));
        executor::spawn_background(maintain(shard.clone(), Duration::from_millis(config.retention_check_ms)));
        shard.until_barrier().await?;
        Ok(shard)
    }

    /// This run's first frame is durable: only now anything of it may be answered.
    async fn until_barrier(&self) -> Result<(), Fault> {
        poll_fn(|context| {
            if let Some(fault) = self.fault() {
                return Poll::Ready(Err(fault));
            }
            if self.0.store.borrow().journal().barrier_durable() {
                return Poll::Ready(Ok(()));
            }
            self.0.room.borrow_mut().push(context.waker().clone());
            self.0.fault_waiters.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    pub fn id(&self) -> ShardId {
        self.0.id
    }

    pub fn arena(&self) -> &Arena {
        &self.0.arena
    }

    pub fn now(&self) -> Now {
        machine_now()
    }

    pub fn counters(&self) -> ShardCounters {
        self.0.counters.get()
    }

    /// What the shard holds now.
    pub fn gauges(&self) -> ShardGauges {
        let store = self.0.store.borrow();
        ShardGauges {
            journal_used_bytes: store.journal().ring().used_bytes(),
            journal_ring_bytes: store.journal().ring().total_bytes(),
            frames_in_flight_count: store.journal().in_flight_count() as u64,
            tail_bytes: self.tail_bytes(),
            unwritten_bytes: store.unwritten_bytes(),
            free_bytes: self.0.free_bytes.get(),
            is_disk_full: store.is_disk_full(),
            pool_files_count: store.pool_files_count() as u64,
            partitions_count: store.partitions().count() as u64,
            damaged_count: store.partitions().filter(|partition| partition.is_closed()).count() as u64,
        }
    }

    /// Calls `observe` with each operation on the disk.
    pub fn on_disk(&self, observe: DiskObserver) {
        *self.0.disk_observer.borrow_mut() = Some(observe);
    }

    /// An operation on the disk has succeeded.
    pub(super) fn observe(&self, op: DiskOp, submitted: Instant) {
        if let Some(observe) = self.0.disk_observer.borrow().as_ref() {
            let took_us = executor::now().duration_since(submitted).as_micros();
            observe(op, u64::try_from(took_us).unwrap_or(u64::MAX));
        }
    }

    /// Bytes of tails in memory, cached or not yet drained.
    pub fn tail_bytes(&self) -> u64 {
        self.0.memory.borrow().bytes()
    }

    /// The partitions that this shard owns.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.0.store.borrow().partitions().map(Partition::id).collect()
    }

    /// Takes over a partition, or its settings if it is known. Answer when the stamp is durable.
    pub fn assign(&self, key: TopicPartition, settings: LogSettings) -> Stamp {
        let settings = self.shared(settings);
        let stamp = self.0.store.borrow_mut().assign(self.now(), key, settings, 0);
        self.kick();
        stamp
    }

    /// Takes new settings; an unknown partition is left alone.
    pub fn configure(&self, key: TopicPartition, settings: LogSettings) {
        // A partition that was dropped meanwhile needs no settings.
        let _ = self.0.store.borrow_mut().configure(key, self.shared(settings));
    }

    /// The partitions of a topic come one after the other, with the same settings: they share them.
    fn shared(&self, settings: LogSettings) -> Arc<LogSettings> {
        let mut last = self.0.settings.borrow_mut();
        if **last != settings {
            *last = Arc::new(settings);
        }
        last.clone()
    }

    /// Drops a partition: unknown at once, gone for good when the stamp is durable.
    pub fn drop_partition(&self, key: TopicPartition) -> Option<Stamp> {
        let stamp = self.0.store.borrow_mut().drop_partition(self.now(), key).ok();
        self.kick();
        self.ring_bells();
        stamp
    }

    pub fn state(&self, key: TopicPartition) -> Result<LogState, Refusal> {
        let store = self.0.store.borrow();
        let partition = store.partition(key)?;
        Ok(LogState {
            log_start: partition.log_start(),
            last_stable: partition.last_stable(),
            high_watermark: partition.high_watermark(),
            log_end: partition.log_end(),
            leader_epoch: partition.leader_epoch(),
            size_bytes: partition.bytes(),
        })
    }

    /// The producers that the partition remembers, by rising id.
    pub fn producers(&self, key: TopicPartition) -> Result<Vec<ActiveProducer>, Refusal> {
        Ok(self.0.store.borrow().partition(key)?.active_producers(self.now()).collect())
    }

    /// The space of the data directory's file system.
    pub fn space(&self) -> Result<Space, Fault> {
        self.0.performer.space()
    }

    /// What an answer computed from the partition's present state waits for, a refusal too.
    pub fn last_stamp(&self, key: TopicPartition) -> Stamp {
        self.0.store.borrow().last_stamp(key).unwrap_or_default()
    }

    /// Checks a client's idea of the leader epoch (-1: none).
    pub fn check_epoch(&self, key: TopicPartition, epoch: i32) -> Result<(), Refusal> {
        self.0.store.borrow().partition(key)?.check_epoch(epoch)
    }

    /// The largest epoch not above `epoch`, and the offset where it ends.
    pub fn epoch_end(&self, key: TopicPartition, epoch: i32) -> Result<(i32, i64), Refusal> {
        let end = self.0.store.borrow().partition(key)?.epoch_end(epoch);
        Ok((end.epoch, end.end_offset))
    }

    /// Waits until a batch of any size would be admitted. Call it before a produce is put in order.
    pub async fn room(&self) {
        poll_fn(|context| {
            // A small arena never has room for the largest batch.
            let bytes = u64::from(crate::limits::BATCH_BYTES_MAX).min(self.0.arena.usage().limit_bytes as u64 / 8);
            let admits = self.0.memory.borrow_mut().admits(bytes);
            if admits && self.0.store.borrow().has_room() {
                return Poll::Ready(());
            }
            self.0.room.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether a controller's or coordinator's batch of this size would be taken now.
    pub fn admits_control(&self, bytes: u32) -> bool {
        self.0.memory.borrow_mut().admits(u64::from(bytes)) && self.0.store.borrow().admits_control(bytes)
    }

    /// Whether new records are refused for want of space on the disk.
    pub fn is_disk_full(&self) -> bool {
        self.0.store.borrow().is_disk_full()
    }

    /// Appends a batch: placed and in the journal's order when this returns.
    pub fn append(&self, key: TopicPartition, incoming: Incoming<'_>) -> Result<Appended, Refusal> {
        let length = match &incoming {
            Incoming::Copy(bytes) => bytes.len(),
            Incoming::Own(_, length) => *length,
        };
        let header = match &incoming {
            Incoming::Copy(bytes) => BatchHeader::parse(bytes),
            Incoming::Own(lease, length) => lease.get(..*length).and_then(BatchHeader::parse),
        };
        let header = header.filter(|header| header.bytes as usize == length).ok_or(Refusal::Damaged)?;
        if !self.0.memory.borrow_mut().admits(length as u64) {
            return Err(Refusal::Overloaded);
        }
        let now = self.now();
        let appending = self.0.store.borrow_mut().append(now, key, &header)?;
        let placed = match appending {
            Appending::Duplicate { base_offset, append_time_ms, log_start, stamp } => {
                return Ok(Appended { base_offset, log_append_time_ms: append_time_ms, log_start, stamp });
            }
            Appending::Placed(placed) => placed,
        };
        let checksum = self.place(&placed, incoming);
        let stamp = self.0.store.borrow_mut().placed(now, &placed, checksum);
        self.kick();
        Ok(Appended {
            base_offset: placed.base_offset,
            log_append_time_ms: placed.append_time_ms,
            log_start: placed.log_start,
            stamp,
        })
    }

    /// Sets what the leader assigns and puts the batch into memory. Returns a reference's checksum.
    fn place(&self, placed: &Placed, incoming: Incoming<'_>) -> u32 {
        let length = placed.length as usize;
        match incoming {
            Incoming::Copy(bytes) if !placed.reference => self.place_copied(placed, bytes),
            Incoming::Own(lease, _) if !placed.reference => {
                self.place_copied(placed, lease.get(..length).expect("the batch lies in its lease"))
            }
            Incoming::Own(lease, _) => self.place_owned(placed, lease),
            Incoming::Copy(bytes) => {
                let mut lease = self.0.arena.try_alloc(length).expect("the arena keeps a reserve for chunks");
                lease.get_mut(..length).expect("a lease is as long as asked").copy_from_slice(bytes);
                self.place_owned(placed, lease)
            }
        }
    }

    /// Small batches: the head is changed on the way into memory, the rest is copied as it is.
    fn place_copied(&self, placed: &Placed, bytes: &[u8]) -> u32 {
        let (head, rest) = bytes.split_first_chunk::<{ batch::HEADER_BYTES }>().expect("the header was parsed");
        let mut head = *head;
        batch::assign(&mut head, placed.base_offset, placed.leader_epoch);
        if placed.append_time_ms >= 0 {
            batch::assign_log_append_time(&mut head, rest, placed.append_time_ms);
        }
        self.0.memory.borrow_mut().put_for_frame(placed.slot, placed.file, placed.position, [&head, rest]);
        0
    }

    /// Large batches: the block that holds one becomes a part of its segment's memory.
    fn place_owned(&self, placed: &Placed, mut lease: Lease) -> u32 {
        let length = placed.length as usize;
        let whole = lease.get_mut(..length).expect("the batch lies in its lease");
        let (head, rest) = whole.split_at_mut(batch::HEADER_BYTES);
        batch::assign(head, placed.base_offset, placed.leader_epoch);
        if placed.append_time_ms >= 0 {
            batch::assign_log_append_time(head, rest, placed.append_time_ms);
        }
        let checksum = batch::whole_checksum(whole);
        self.0.memory.borrow_mut().adopt(placed.slot, placed.file, placed.position, lease, length);
        checksum
    }

    /// The reply rule: waits until everything up to the stamp is durable. After a fault it waits for ever.
    pub async fn durable(&self, stamp: Stamp) {
        let id = self.next_id();
        let _guard = Forget { shard: self, key: (stamp, id) };
        poll_fn(|context| {
            if self.0.store.borrow().durable() >= stamp {
                return Poll::Ready(());
            }
            self.0.waiters.borrow_mut().insert((stamp, id), context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Moves the log start (-1: to the high watermark).
    pub fn delete_records(&self, key: TopicPartition, offset: i64) -> Result<(i64, Stamp), Refusal> {
        let result = self.0.store.borrow_mut().delete_records(self.now(), key, offset);
        self.kick();
        result
    }

    /// Rings `bell` whenever the high watermark of one of the partitions moves, or one is dropped.
    pub fn watch(&self, partitions: &[TopicPartition], bell: Rc<dyn Fn()>) -> WatchId {
        let id = WatchId(self.next_id());
        for key in partitions {
            self.0.watched.borrow_mut().entry(*key).or_default().push(id);
        }
        self.0.watches.borrow_mut().insert(id, Watch { partitions: partitions.to_vec(), bell });
        id
    }

    pub fn unwatch(&self, id: WatchId) {
        let Some(watch) = self.0.watches.borrow_mut().remove(&id) else { return };
        let mut watched = self.0.watched.borrow_mut();
        for key in watch.partitions {
            if let Some(ids) = watched.get_mut(&key) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    watched.remove(&key);
                }
            }
        }
    }

    /// Ends with the fault that stopped the driver. Nothing is acknowledged after it: end the process.
    pub async fn failed(&self) -> Fault {
        poll_fn(|context| match self.fault() {
            Some(fault) => Poll::Ready(fault),
            None => {
                self.0.fault_waiters.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn is_running(&self) -> bool {
        self.fault().is_none() && !self.0.store.borrow().is_stopped()
    }

    fn fault(&self) -> Option<Fault> {
        self.0.fault.borrow().clone()
    }

    /// Drains everything and leaves a clean checkpoint. No append may follow.
    pub async fn close(self) -> Result<(), Fault> {
        self.0.store.borrow_mut().stop();
        self.kick();
        poll_fn(|context| {
            if let Some(fault) = self.fault() {
                return Poll::Ready(Err(fault));
            }
            if self.0.store.borrow().is_stopped() {
                return Poll::Ready(Ok(()));
            }
            self.0.stopped.borrow_mut().push(context.waker().clone());
            self.0.fault_waiters.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn next_id(&self) -> u64 {
        self.0.next_id.set(self.0.next_id.get() + 1);
        self.0.next_id.get()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut ShardCounters)) {
        let mut counters = self.0.counters.get();
        change(&mut counters);
        self.0.counters.set(counters);
    }

    /// Lets the driver look for effects in the next turn, so that what is appended in one turn goes out together.
    pub(super) fn kick(&self) {
        self.0.kicked.set(true);
        if let Some(driver) = self.0.driver.borrow_mut().take() {
            driver.wake();
        }
    }

    /// Something completed: wakes whom it concerns and lets the driver go on.
    pub(super) fn progressed(&self) {
        let durable = self.0.store.borrow().durable();
        let still = self.0.waiters.borrow_mut().split_off(&(Stamp(durable.0 + 1), 0));
        let ready = std::mem::replace(&mut *self.0.waiters.borrow_mut(), still);
        ready.into_values().for_each(Waker::wake);
        wake_all(&self.0.room);
        if self.0.store.borrow().is_stopped() {
            wake_all(&self.0.stopped);
        }
        self.ring_bells();
        self.kick();
    }

    fn ring_bells(&self) {
        let advanced = self.0.store.borrow_mut().take_advanced();
        for key in advanced {
            let ids = self.0.watched.borrow().get(&key).cloned().unwrap_or_default();
            for id in ids {
                let bell = self.0.watches.borrow().get(&id).map(|watch| watch.bell.clone());
                if let Some(bell) = bell {
                    bell();
                }
            }
        }
    }

    pub(super) fn fail(&self, fault: Fault) {
        if self.fault().is_none() {
            tracing::error!(shard = self.0.id.0, %fault, "storage failed; nothing is acknowledged any more");
            *self.0.fault.borrow_mut() = Some(fault);
        }
        wake_all(&self.0.fault_waiters);
    }

    fn look_at_space(&self, free_bytes_min: u64) {
        match self.space() {
            Ok(Space { free_bytes: free, .. }) => {
                let full = free < free_bytes_min;
                let was_full = self.0.store.borrow().is_disk_full();
                self.0.free_bytes.set(free);
                let shard = self.0.id.0;
                match (was_full, full) {
                    (false, true) => tracing::warn!(
                        shard,
                        free_bytes = free,
                        free_bytes_min,
                        "the disk is full: new records are refused until more is free; deletes and commits go on"
                    ),
                    (true, false) => {
                        tracing::info!(shard, free_bytes = free, "the disk has room again: records are taken");
                    }
                    _ => {}
                }
                self.0.store.borrow_mut().set_disk_full(full);
            }
            Err(fault) => tracing::warn!(%fault, "cannot tell the free space"),
        }
    }
}

struct Forget<'a> {
    shard: &'a Shard,
    key: (Stamp, u64),
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shard.0.waiters.borrow_mut().remove(&self.key);
    }
}

fn wake_all(wakers: &RefCell<Vec<Waker>>) {
    let waiting = std::mem::take(&mut *wakers.borrow_mut());
    waiting.into_iter().for_each(Waker::wake);
}

/// Hands out the store's effects whenever there may be some.
async fn drive(shard: Shard) {
    loop {
        poll_fn(|context| {
            if shard.0.kicked.replace(false) {
                return Poll::Ready(());
            }
            *shard.0.driver.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        if shard.fault().is_some() {
            return;
        }
        loop {
            let effect = shard.0.store.borrow_mut().next_effect();
            let Some(effect) = effect else { break };
            shard.perform(effect);
            executor::yield_if_needed().await;
        }
    }
}

/// Looks at the free space once a second, and for readers that did not come back.
async fn watch_space(shard: Shard, free_bytes_min: u64) {
    while shard.is_running() {
        shard.look_at_space(free_bytes_min);
        shard.ahead_expire();
        shard.kick();
        executor::sleep(Duration::from_secs(1)).await;
    }
}

/// Retention and forgotten producers, in slices.
async fn maintain(shard: Shard, every: Duration) {
    loop {
        executor::sleep(every).await;
        if !shard.is_running() {
            return;
        }
        while !shard.0.store.borrow_mut().tick(machine_now()) {
            shard.kick();
            executor::yield_now().await;
        }
        shard.kick();
        shard.ring_bells();
    }
}
