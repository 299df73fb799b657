//! One shard: its store, the memory and the files that the store speaks of, and what both planes ask of it.
//!
//! Owns the way of the store's effects to memory and files. Every call that changes the store ends in [`Shard::settle`].
//! Invariants: a chunk that the store knows has its parcel; a file is removed when its shuffle is gone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use watershed_core::error::Fault;
use watershed_core::io::arena::{Arena, ArenaUsage, Lease, Parcel, Slice};
use watershed_core::io::bell::{Bell, Promise};
use watershed_core::io::executor::{machine_now, now, sleep, spawn};
use watershed_core::io::file::{self, File, OpenHow};
use watershed_core::units::{BLOCK_BYTES, ChunkId, ShardId};

use super::permits::Permits;
use crate::coordinator::ServerStatus;
use crate::metrics::Waits;
use crate::store::{Answer, ImageOf, Order, Parked, Refusal, ShuffleId, Store, StoreConfig, Usage};
use crate::wire::bitmap::BlockIds;

/// How long a task sleeps before it looks for memory again. Only whoever is short of it waits like this.
const MEMORY_WAIT: Duration = Duration::from_millis(1);

/// What one read at a time may take beyond its share: a client asks for 14 MiB at once, which may lie in very many pieces.
const READ_EXCESS_BYTES: usize = 64 << 20;

/// What a shard is started with.
#[derive(Clone, Debug)]
pub(crate) struct ShardConfig {
    /// Its files lie here; nothing else does.
    pub(crate) directory: PathBuf,
    pub(crate) image_of: ImageOf,
    pub(crate) store: StoreConfig,
    /// For what is on its way to disk and what connections receive into.
    pub(crate) work_bytes: usize,
    /// For what is read from disk.
    pub(crate) read_bytes: usize,
}

pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) store: RefCell<Store>,
    /// Blocks lie here.
    blocks: Arena,
    work: Arena,
    pub(crate) reads: Arena,
    /// One for each 4 KiB of what is promised of that.
    pub(crate) read_permits: Permits,
    parcels: RefCell<BTreeMap<ChunkId, Parcel>>,
    files: RefCell<BTreeMap<ShuffleId, File>>,
    directory: PathBuf,
    waiting: RefCell<BTreeMap<Parked, Rc<Promise<Answer>>>>,
    /// Tasks that wait for memory although nothing is promised to anybody.
    starving: Cell<usize>,
    /// Rings when memory was taken or given back.
    pub(crate) changed: Bell,
    /// The disk failed: new work goes elsewhere.
    pub(crate) is_ailing: Cell<bool>,
    /// An operator wants it gone: it takes no new shuffles.
    pub(crate) is_leaving: Cell<bool>,
    pub(crate) stopping: Cell<bool>,
    pub(crate) figures: Figures,
}

/// What a shard counts.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) received_bytes: Cell<u64>,
    pub(crate) received_blocks: Cell<u64>,
    pub(crate) refused_blocks: Cell<u64>,
    pub(crate) duplicate_blocks: Cell<u64>,
    pub(crate) runs: Cell<u64>,
    pub(crate) failed_runs: Cell<u64>,
    pub(crate) written_bytes: Cell<u64>,
    pub(crate) read_bytes: Cell<u64>,
    pub(crate) sent_bytes: Cell<u64>,
    pub(crate) connections: Cell<u64>,
    pub(crate) connections_ended: Cell<u64>,
    pub(crate) ticket_waits: RefCell<Waits>,
}

pub(crate) fn count(figure: &Cell<u64>, by: u64) {
    figure.set(figure.get() + by);
}

impl Shard {
    pub(crate) fn new(id: ShardId, config: &ShardConfig, store: Store) -> Result<Rc<Shard>, Fault> {
        // Chunks are whole powers of two: what rounding takes is allowed beside the capacity.
        let blocks = Arena::new(usize::try_from(config.store.capacity_bytes).unwrap_or(usize::MAX))?;
        Ok(Rc::new(Shard {
            id,
            store: RefCell::new(store),
            blocks,
            work: Arena::new(config.work_bytes)?,
            reads: Arena::new(config.read_bytes + READ_EXCESS_BYTES)?,
            read_permits: Permits::new(config.read_bytes / BLOCK_BYTES as usize),
            parcels: RefCell::default(),
            files: RefCell::default(),
            directory: config.directory.clone(),
            waiting: RefCell::default(),
            starving: Cell::new(0),
            changed: Bell::default(),
            is_ailing: Cell::new(false),
            is_leaving: Cell::new(false),
            stopping: Cell::new(false),
            figures: Figures::default(),
        }))
    }

    pub(crate) fn is_starving(&self) -> bool {
        self.starving.get() > 0
    }

    /// Memory as it is counted, and whether the shard can take more.
    pub(crate) fn state(&self) -> (Usage, bool) {
        (self.store.borrow().usage(), !self.is_ailing.get())
    }

    /// Memory for blocks, for work and for reads.
    pub(crate) fn arenas(&self) -> [ArenaUsage; 3] {
        [&self.blocks, &self.work, &self.reads].map(Arena::usage)
    }

    /// What the shard says of itself as a server. One that leaves has gone when nobody is registered.
    pub(crate) fn status(&self) -> ServerStatus {
        match (self.is_leaving.get(), self.store.borrow().is_empty()) {
            (false, _) => ServerStatus::Active,
            (true, false) => ServerStatus::Decommissioning,
            (true, true) => ServerStatus::Decommissioned,
        }
    }

    // Who is registered.

    pub(crate) fn register(&self, application: &str, shuffle: i32, order: Order) {
        self.store.borrow_mut().register(application, shuffle, order, machine_now());
    }

    pub(crate) fn unregister(self: &Rc<Self>, application: &str, shuffle: Option<i32>) {
        match shuffle {
            Some(shuffle) => self.store.borrow_mut().unregister(application, shuffle),
            None => self.store.borrow_mut().unregister_application(application, machine_now()),
        }
        self.settle();
    }

    /// A sign of life.
    pub(crate) fn heartbeat(&self, application: &str) {
        self.store.borrow_mut().heartbeat(application, machine_now());
    }

    pub(crate) fn find(&self, application: &str, shuffle: i32) -> Result<ShuffleId, Refusal> {
        self.store.borrow_mut().find(application, shuffle, machine_now())
    }

    /// Memory for `bytes` to come: a ticket, or `TooLate` after a wait.
    pub(crate) async fn require(
        self: &Rc<Self>,
        application: &str,
        shuffle: i32,
        bytes: u64,
    ) -> Result<Answer, Refusal> {
        let parked = self.store.borrow_mut().require(application, shuffle, bytes, machine_now())?;
        let promise = Rc::<Promise<Answer>>::default();
        self.waiting.borrow_mut().insert(parked, Rc::clone(&promise));
        self.settle();
        let asked = now();
        let answer = promise.kept().await;
        self.figures.ticket_waits.borrow_mut().observe(now() - asked);
        Ok(answer)
    }

    pub(crate) fn report(&self, application: &str, shuffle: i32, blocks: &[(i32, Vec<i64>)]) -> Result<(), Refusal> {
        let id = self.find(application, shuffle)?;
        let mut store = self.store.borrow_mut();
        blocks.iter().try_for_each(|(partition, blocks)| store.report(id, *partition, blocks))
    }

    pub(crate) fn reported(&self, application: &str, shuffle: i32, partitions: &[i32]) -> Result<BlockIds, Refusal> {
        let id = self.find(application, shuffle)?;
        self.store.borrow().reported(id, partitions)
    }

    // Effects.

    /// Does what the store wants done.
    pub(crate) fn settle(self: &Rc<Self>) {
        let effects = self.store.borrow_mut().take_effects();
        {
            let mut parcels = self.parcels.borrow_mut();
            for chunk in &effects.freed {
                parcels.remove(chunk);
            }
        }
        for shuffle in effects.dropped {
            self.remove_file(shuffle);
        }
        for (parked, answer) in effects.answers {
            if let Some(promise) = self.waiting.borrow_mut().remove(&parked) {
                promise.keep(answer);
            }
        }
        self.changed.ring();
    }

    fn remove_file(self: &Rc<Self>, shuffle: ShuffleId) {
        if self.files.borrow_mut().remove(&shuffle).is_none() {
            return;
        }
        let path = self.path(shuffle);
        drop(spawn(async move {
            if let Err(fault) = file::unlink(&path).await {
                tracing::warn!(%fault, "the file of a shuffle that is gone was not removed");
            }
        }));
    }

    /// What time brings.
    pub(crate) fn tick(self: &Rc<Self>) {
        let gone = self.store.borrow_mut().tick(machine_now());
        for application in gone {
            tracing::info!(application, shard = self.id.0, "no sign of life: forgotten");
        }
        self.settle();
    }

    // Memory.

    /// Memory for what is received or on its way to disk.
    pub(crate) async fn work_memory(&self, bytes: usize) -> Lease {
        memory_of(&self.work, bytes).await
    }

    /// The same, if there is some now.
    pub(crate) fn work_memory_now(&self, bytes: usize) -> Option<Lease> {
        self.work.try_alloc(bytes)
    }

    /// A place for a block of `length`: its position, and the memory to fill. Waits while there is none.
    pub(crate) async fn place(self: &Rc<Self>, shuffle: ShuffleId, length: u32) -> Result<(u64, Vec<Lease>), Refusal> {
        loop {
            let missing = self.store.borrow().missing(shuffle, length)?;
            let Some(bytes) = missing else { break };
            let lease = self.chunk_memory(shuffle, bytes).await?;
            let chunk = self.store.borrow_mut().extend(shuffle, lease.len() as u64)?;
            self.parcels.borrow_mut().insert(chunk, lease.into_parcel());
        }
        let position = self.store.borrow_mut().place(shuffle, length)?;
        let parts = self.store.borrow().parts(shuffle, position, length);
        let mut parcels = self.parcels.borrow_mut();
        let leases = parts.into_iter().map(|part| {
            let parcel = parcels.get_mut(&part.chunk).expect("a chunk of the store has its parcel");
            assert_eq!(parcel.given(), part.range.start, "parts are given in the order of their places");
            parcel.give(part.range.len())
        });
        Ok((position, leases.collect()))
    }

    async fn chunk_memory(&self, shuffle: ShuffleId, bytes: u64) -> Result<Lease, Refusal> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if let Some(lease) = self.blocks.try_alloc(bytes) {
            return Ok(lease);
        }
        let _starving = Starving::new(self);
        loop {
            self.changed.ring();
            sleep(MEMORY_WAIT).await;
            // Whose shuffle is gone waits for nothing.
            self.store.borrow().missing(shuffle, 0)?;
            if let Some(lease) = self.blocks.try_alloc(bytes) {
                return Ok(lease);
            }
        }
    }

    /// The bytes of a block in memory.
    pub(crate) fn bytes_of(&self, shuffle: ShuffleId, position: u64, length: u32) -> Vec<Slice> {
        let parts = self.store.borrow().parts(shuffle, position, length);
        let parcels = self.parcels.borrow();
        let slice = |part: crate::store::Part| parcels.get(&part.chunk).map(|parcel| parcel.slice(part.range));
        parts.into_iter().filter_map(slice).collect()
    }

    // Files.

    /// The shuffle's file, if anything was written.
    pub(crate) fn file(&self, shuffle: ShuffleId) -> Option<File> {
        self.files.borrow().get(&shuffle).cloned()
    }

    /// Opens the files that an earlier run left.
    pub(crate) async fn open_files(&self) -> Result<(), Fault> {
        let left: Vec<ShuffleId> = self.store.borrow().files().map(|(shuffle, _)| shuffle).collect();
        for shuffle in left {
            let how = OpenHow { direct: true, ..OpenHow::default() };
            let file = File::open(self.path(shuffle), how).await?;
            self.files.borrow_mut().insert(shuffle, file);
        }
        Ok(())
    }

    pub(crate) async fn file_to_write(&self, shuffle: ShuffleId) -> Result<File, Fault> {
        if let Some(file) = self.file(shuffle) {
            return Ok(file);
        }
        let how = OpenHow { create: true, truncate: true, direct: true, ..OpenHow::default() };
        let file = File::open(self.path(shuffle), how).await?;
        self.files.borrow_mut().insert(shuffle, file.clone());
        Ok(file)
    }

    fn path(&self, shuffle: ShuffleId) -> PathBuf {
        self.directory.join(file_name(shuffle))
    }
}

/// Waits until there is some.
pub(crate) async fn memory_of(arena: &Arena, bytes: usize) -> Lease {
    loop {
        match arena.try_alloc(bytes) {
            Some(lease) => return lease,
            None => sleep(MEMORY_WAIT).await,
        }
    }
}

/// The name of a shuffle's file.
pub(crate) fn file_name(shuffle: ShuffleId) -> String {
    format!("{:016x}.blocks", shuffle.0)
}

/// Counts a task that waits for memory, as long as it does.
struct Starving<'a>(&'a Shard);

impl<'a> Starving<'a> {
    fn new(shard: &'a Shard) -> Starving<'a> {
        shard.starving.set(shard.starving.get() + 1);
        Starving(shard)
    }
}

impl Drop for Starving<'_> {
    fn drop(&mut self) {
        self.0.starving.set(self.0.starving.get() - 1);
    }
}
