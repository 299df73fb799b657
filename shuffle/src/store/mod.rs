//! One shard's part of all shuffles as one machine: who is registered, which blocks there are, what memory is promised
//! and used, what is to be written next. It moves numbers; its driver moves bytes.
//!
//! Never sees a socket, a file or a clock. Invariants: a block that was acknowledged is in memory or on disk until its
//! shuffle is dropped; what memory is used and promised is counted exactly, and nothing is left when an application has
//! left; a block is seen in memory until the index has it.

mod block;
mod flush;
mod image;
mod partition;
mod shuffle;
mod stream;
mod tickets;

use std::collections::BTreeMap;

use watershed_core::units::{ChunkId, Now};

use crate::wire::bitmap::BlockIds;
use flush::RunUnderWay;
use shuffle::Shuffle;
use tickets::Tickets;

pub use block::{BLOCK_BYTES_MAX, BlockHead};
pub use flush::{Run, RunId};
pub use image::{IMAGE_HEADER_BYTES, IMAGE_MAGIC, ImageError, ImageOf};
pub use partition::{Extent, IndexEntry};
pub use shuffle::Order;
pub use stream::Part;
pub use tickets::{Answer, Parked, TicketsConfig};

/// What a block costs beside its bytes: its entry, its share of two bitmaps and of what grows.
const ENTRY_BYTES: u64 = 40;

/// A shuffle of an application, as long as it is registered. Never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShuffleId(pub u64);

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the application or its shuffle is not registered here")]
    NotRegistered,
    #[error("the ticket is unknown, used or expired")]
    NoTicket,
    #[error("a block is longer than any block may be")]
    BlockTooLong,
    #[error("the server stops")]
    Stopping,
    #[error("no such bytes are on disk")]
    NoSuchBytes,
}

#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// For blocks, their index and what is promised.
    pub capacity_bytes: u64,
    /// From this share of the capacity on, memory is written to disk.
    pub flush_above_percent: u64,
    /// How long an application lives without a sign.
    pub silent_us_max: u64,
    pub tickets: TicketsConfig,
}

impl StoreConfig {
    pub fn new(capacity_bytes: u64) -> StoreConfig {
        StoreConfig {
            capacity_bytes,
            flush_above_percent: 60,
            silent_us_max: 120_000_000,
            tickets: TicketsConfig::default(),
        }
    }

    fn share(&self, percent: u64) -> u64 {
        self.capacity_bytes / 100 * percent
    }
}

/// What the driver does after a call.
#[derive(Debug, Default)]
pub struct Effects {
    /// Memory to give back.
    pub freed: Vec<ChunkId>,
    /// Files to remove.
    pub dropped: Vec<ShuffleId>,
    pub answers: Vec<(Parked, Answer)>,
}

/// A frame of blocks that is arriving.
#[derive(Debug)]
#[must_use = "memory is promised to it until `end_send`"]
pub struct Send {
    pub shuffle: ShuffleId,
    promised_bytes: u64,
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    New,
    /// It was there already.
    Again,
}

/// Bytes of memory, as the store counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub capacity_bytes: u64,
    pub chunk_bytes: u64,
    pub index_bytes: u64,
    /// By tickets, and to frames that are arriving.
    pub promised_bytes: u64,
    pub parked_count: usize,
}

impl Usage {
    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.chunk_bytes + self.index_bytes + self.promised_bytes)
    }
}

/// What an application has here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    pub application: String,
    pub shuffle_count: usize,
    /// Of the chunks in which its blocks lie.
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub block_count: u64,
    /// Since its last sign of life.
    pub silent_us: u64,
}

#[derive(Debug, Default)]
struct Application {
    shuffles: BTreeMap<i32, ShuffleId>,
    seen_us: u64,
}

/// One shard's shuffles.
#[derive(Debug)]
pub struct Store {
    config: StoreConfig,
    applications: BTreeMap<String, Application>,
    shuffles: BTreeMap<ShuffleId, Shuffle>,
    tickets: Tickets,
    arriving_bytes: u64,
    arriving_count: u64,
    chunk_bytes: u64,
    block_count: u64,
    run: Option<RunUnderWay>,
    next_shuffle: u64,
    next_chunk: u32,
    next_run: u64,
    effects: Effects,
}

impl Store {
    pub fn new(config: StoreConfig) -> Store {
        Store {
            config,
            applications: BTreeMap::new(),
            shuffles: BTreeMap::new(),
            tickets: Tickets::new(config.tickets),
            arriving_bytes: 0,
            arriving_count: 0,
            chunk_bytes: 0,
            block_count: 0,
            run: None,
            next_shuffle: 0,
            next_chunk: 0,
            next_run: 0,
            effects: Effects::default(),
        }
    }

    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    pub fn usage(&self) -> Usage {
        Usage {
            capacity_bytes: self.config.capacity_bytes,
            chunk_bytes: self.chunk_bytes,
            index_bytes: self.block_count * ENTRY_BYTES,
            promised_bytes: self.tickets.promised_bytes() + self.arriving_bytes,
            parked_count: self.tickets.parked_count(),
        }
    }

    // Who is registered.

    /// Registers a shuffle, or more partitions of it.
    pub fn register(&mut self, application: &str, shuffle: i32, order: Order, now: Now) {
        let entry = self.applications.entry(application.to_owned()).or_default();
        entry.seen_us = now.monotonic_us;
        let next = &mut self.next_shuffle;
        let id = *entry.shuffles.entry(shuffle).or_insert_with(|| {
            *next += 1;
            ShuffleId(*next)
        });
        self.shuffles.entry(id).or_insert_with(|| Shuffle::new(order));
    }

    /// A sign of life.
    pub fn heartbeat(&mut self, application: &str, now: Now) {
        if let Some(application) = self.applications.get_mut(application) {
            application.seen_us = now.monotonic_us;
        }
    }

    /// Forgets a shuffle and all that it holds.
    pub fn unregister(&mut self, application: &str, shuffle: i32) {
        let found = self.applications.get_mut(application).and_then(|entry| entry.shuffles.remove(&shuffle));
        if let Some(id) = found {
            self.drop_shuffle(id);
        }
    }

    /// Forgets an application and all that it holds.
    pub fn unregister_application(&mut self, application: &str, now: Now) {
        if let Some(gone) = self.applications.remove(application) {
            gone.shuffles.into_values().for_each(|id| self.drop_shuffle(id));
        }
        let answers = self.tickets.forget(application);
        self.effects.answers.extend(answers);
        self.settle(now);
    }

    fn drop_shuffle(&mut self, id: ShuffleId) {
        let Some(shuffle) = self.shuffles.remove(&id) else { return };
        self.chunk_bytes -= shuffle.chunk_bytes();
        self.block_count -= shuffle.block_count();
        self.effects.freed.extend(shuffle.chunks());
        self.effects.dropped.push(id);
        if self.run.as_ref().is_some_and(|run| run.shuffle == id) {
            self.run = None;
        }
    }

    /// What time alone brings: applications that were silent too long, tickets that nobody used, requests that waited too long.
    /// Gives the names of the applications that it forgot.
    pub fn tick(&mut self, now: Now) -> Vec<String> {
        let silent = |entry: &Application| entry.seen_us + self.config.silent_us_max <= now.monotonic_us;
        let gone: Vec<String> =
            self.applications.iter().filter(|(_, entry)| silent(entry)).map(|(name, _)| name.clone()).collect();
        gone.iter().for_each(|name| self.unregister_application(name, now));
        self.tickets.expire(now);
        self.settle(now);
        gone
    }

    /// The shuffle, if it is registered; asking is a sign of life.
    pub fn find(&mut self, application: &str, shuffle: i32, now: Now) -> Result<ShuffleId, Refusal> {
        let entry = self.applications.get_mut(application).ok_or(Refusal::NotRegistered)?;
        entry.seen_us = now.monotonic_us;
        entry.shuffles.get(&shuffle).copied().ok_or(Refusal::NotRegistered)
    }

    // Memory for what will come.

    /// Asks for memory to send `bytes` to these partitions. The answer is among the effects, at once or later.
    pub fn require(&mut self, application: &str, shuffle: i32, bytes: u64, now: Now) -> Result<Parked, Refusal> {
        self.find(application, shuffle, now)?;
        // More could never be promised: what comes beyond waits for memory as it arrives.
        let bytes = bytes.min(self.config.capacity_bytes / 4);
        let parked = self.tickets.park(application, bytes, now);
        self.settle(now);
        Ok(parked)
    }

    fn settle(&mut self, now: Now) {
        let free_bytes = self.usage().free_bytes();
        let answers = self.tickets.settle(free_bytes, now);
        self.effects.answers.extend(answers);
    }

    /// Begins to receive a frame of blocks; uses its ticket up.
    pub fn begin_send(&mut self, application: &str, shuffle: i32, ticket: i64, now: Now) -> Result<Send, Refusal> {
        let shuffle = self.find(application, shuffle, now)?;
        let promised_bytes = self.tickets.redeem(application, ticket).ok_or(Refusal::NoTicket)?;
        self.arriving_bytes += promised_bytes;
        self.arriving_count += 1;
        Ok(Send { shuffle, promised_bytes })
    }

    /// The frame has arrived, or will not.
    pub fn end_send(&mut self, send: Send, now: Now) {
        self.arriving_bytes -= send.promised_bytes;
        self.arriving_count -= 1;
        self.settle(now);
    }

    /// Whether a frame is arriving.
    pub fn is_receiving(&self) -> bool {
        self.arriving_count > 0
    }

    /// The size of a chunk to `extend` the shuffle with before a block of `bytes` can be placed; `None` if it can.
    pub fn missing(&self, shuffle: ShuffleId, bytes: u32) -> Result<Option<u64>, Refusal> {
        if bytes > BLOCK_BYTES_MAX {
            return Err(Refusal::BlockTooLong);
        }
        Ok(self.shuffles.get(&shuffle).ok_or(Refusal::NotRegistered)?.stream.missing(u64::from(bytes)))
    }

    /// Memory of `bytes` for the shuffle.
    pub fn extend(&mut self, shuffle: ShuffleId, bytes: u64) -> Result<ChunkId, Refusal> {
        let target = self.shuffles.get_mut(&shuffle).ok_or(Refusal::NotRegistered)?;
        let id = ChunkId(self.next_chunk);
        self.next_chunk = self.next_chunk.wrapping_add(1);
        target.stream.extend(id, bytes);
        self.chunk_bytes += bytes;
        Ok(id)
    }

    /// A place for a block of `bytes` that is arriving; there is room. It is readable after `keep`.
    pub fn place(&mut self, shuffle: ShuffleId, bytes: u32) -> Result<u64, Refusal> {
        let target = self.shuffles.get_mut(&shuffle).ok_or(Refusal::NotRegistered)?;
        Ok(target.stream.place(u64::from(bytes)))
    }

    /// Where bytes of the shuffle's stream lie.
    pub fn parts(&self, shuffle: ShuffleId, position: u64, bytes: u32) -> Vec<Part> {
        let found = self.shuffles.get(&shuffle);
        found.map(|found| found.stream.parts(position, u64::from(bytes)).collect()).unwrap_or_default()
    }

    /// The bytes of a placed block are there and sound.
    pub fn keep(
        &mut self,
        shuffle: ShuffleId,
        partition: i32,
        head: &BlockHead,
        position: u64,
    ) -> Result<Kept, Refusal> {
        let target = self.shuffles.get_mut(&shuffle).ok_or(Refusal::NotRegistered)?;
        let kept = target.keep(partition, head, position);
        match kept {
            Kept::New => self.block_count += 1,
            Kept::Again => self.abandon(shuffle, position, head.length),
        }
        Ok(kept)
    }

    /// What was placed did not arrive whole, or not sound.
    pub fn abandon(&mut self, shuffle: ShuffleId, position: u64, bytes: u32) {
        if let Some(target) = self.shuffles.get_mut(&shuffle) {
            let before = target.chunk_bytes();
            target.stream.release(position, u64::from(bytes), &mut self.effects.freed);
            self.chunk_bytes -= before - target.chunk_bytes();
        }
    }

    // What readers ask.

    /// A task says which blocks it has sent.
    pub fn report(&mut self, shuffle: ShuffleId, partition: i32, blocks: &[i64]) -> Result<(), Refusal> {
        let target = self.shuffles.get_mut(&shuffle).ok_or(Refusal::NotRegistered)?;
        target.report(partition, blocks);
        Ok(())
    }

    /// What tasks have said of these partitions.
    pub fn reported(&self, shuffle: ShuffleId, partitions: &[i32]) -> Result<BlockIds, Refusal> {
        let source = self.shuffles.get(&shuffle).ok_or(Refusal::NotRegistered)?;
        let mut all = BlockIds::default();
        partitions.iter().filter_map(|number| source.partition(*number)).for_each(|one| all.union(one.reported()));
        Ok(all)
    }

    /// Blocks in memory behind `last` (-1: from the first), with their positions, until they are `bytes_max` or more.
    pub fn in_memory(
        &self,
        shuffle: ShuffleId,
        partition: i32,
        last: i64,
        bytes_max: u64,
        attempts: Option<&BlockIds>,
    ) -> Result<Vec<(BlockHead, u64)>, Refusal> {
        let source = self.shuffles.get(&shuffle).ok_or(Refusal::NotRegistered)?;
        let partition = source.partition(partition);
        Ok(partition.map(|found| found.in_memory(last, bytes_max, attempts)).unwrap_or_default())
    }

    /// What a partition has on disk, in the order of its virtual offsets, and how many bytes that is.
    pub fn index(&self, shuffle: ShuffleId, partition: i32) -> Result<(Vec<IndexEntry>, u64), Refusal> {
        let source = self.shuffles.get(&shuffle).ok_or(Refusal::NotRegistered)?;
        let found = source.partition(partition);
        Ok(found.map(|found| (found.index().collect(), found.disk_bytes())).unwrap_or_default())
    }

    /// Where bytes at virtual offsets lie in the shuffle's file.
    pub fn extents(
        &self,
        shuffle: ShuffleId,
        partition: i32,
        offset: u64,
        length: u64,
    ) -> Result<Vec<Extent>, Refusal> {
        let source = self.shuffles.get(&shuffle).ok_or(Refusal::NotRegistered)?;
        let found = source.partition(partition).and_then(|found| found.extents(offset, length));
        found.ok_or(Refusal::NoSuchBytes)
    }

    /// What each application has.
    pub fn holdings(&self, now: Now) -> Vec<Holding> {
        let one = |(name, entry): (&String, &Application)| {
            let shuffles = || entry.shuffles.values().filter_map(|id| self.shuffles.get(id));
            Holding {
                application: name.clone(),
                shuffle_count: entry.shuffles.len(),
                memory_bytes: shuffles().map(Shuffle::chunk_bytes).sum(),
                disk_bytes: shuffles().map(Shuffle::disk_bytes).sum(),
                block_count: shuffles().map(Shuffle::block_count).sum(),
                silent_us: now.monotonic_us.saturating_sub(entry.seen_us),
            }
        };
        self.applications.iter().map(one).collect()
    }

    /// Whether anybody is registered.
    pub fn is_empty(&self) -> bool {
        self.applications.is_empty()
    }

    /// Blocks of all shuffles.
    pub fn block_count(&self) -> u64 {
        self.block_count
    }
}
