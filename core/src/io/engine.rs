//! The engine as a library: a data directory with its shards inside any program, used from ordinary threads.
//!
//! Owns the directory's lock, the shards' threads and the table of owners. Never installs a signal handler, never ends the
//! process and keeps nothing global: two engines over two directories are strangers. A fault ends this engine's shards; it
//! is told by [`Engine::failure`], and every call that waits is answered by an error.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::data_dir::{DataDir, Identity};
use super::host::Host;
use super::lock;
use super::log::{Log, LogCalls, LogSender, log_calls};
use super::mesh::Mesh;
use super::probe::probe;
use super::reshard::reshard;
use super::shard::{Incoming, Shard, ShardConfig};
use super::shards::{Failure, Placement, ShardsConfig, start_shards};
use super::supervisor::{Outcome, Supervisor};
use crate::error::Fault;
use crate::partition::LogSettings;
use crate::store::StoreConfig;
use crate::units::{ShardId, TopicId, TopicPartition};

/// What an engine is opened with.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Threads, each with a journal of its own.
    pub shards: u16,
    pub placement: Placement,
    pub host: Host,
    /// For all shards together, at least 32 MiB for each.
    pub memory_bytes: u64,
    /// New records are refused when less is free on the file system.
    pub free_bytes_min: u64,
    /// How often retention looks at the logs.
    pub retention_check_ms: u64,
    /// Written into a new directory, and asked of an old one.
    pub node_id: i32,
}

impl Default for EngineConfig {
    /// One shard that is not pinned, with 256 MiB.
    fn default() -> EngineConfig {
        EngineConfig {
            shards: 1,
            placement: Placement::Unbound,
            host: Host::Ring,
            memory_bytes: 256 << 20,
            free_bytes_min: 256 << 20,
            retention_check_ms: 300_000,
            node_id: 1,
        }
    }
}

const SHARD_BYTES_MIN: u64 = 32 << 20;

impl EngineConfig {
    fn shard(&self) -> Result<ShardConfig, Fault> {
        let bytes = self.memory_bytes / u64::from(self.shards.max(1));
        if self.shards == 0 || bytes < SHARD_BYTES_MIN {
            return Err(Fault::Refused("an engine needs a shard, and 32 MiB of memory for each".to_owned()));
        }
        let store = StoreConfig::default();
        Ok(ShardConfig {
            store: StoreConfig { unwritten_bytes_max: store.unwritten_bytes_max.min(bytes / 4), ..store },
            arena_bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            tail_cache_bytes: bytes / 4,
            free_bytes_min: self.free_bytes_min,
            retention_check_ms: self.retention_check_ms,
        })
    }
}

/// An open data directory. Dropping it drains and closes it.
pub struct Engine {
    shards: Vec<LogSender>,
    owners: Mutex<crate::owners::Owners>,
    supervisor: Supervisor,
    _lock: File,
}

impl Engine {
    /// Recovers the directory, or makes a new one of an empty or missing path, and starts its shards.
    pub fn open(path: &Path, config: EngineConfig) -> Result<Engine, Fault> {
        let shard_config = config.shard()?;
        let directory_lock = lock_directory(path)?;
        probe(path).map_err(|failure| Fault::Refused(failure.to_string()))?;
        let dir = DataDir::open(path, config.shards, identity(config.node_id)?)?;
        let dir = reshard(dir, config.shards, shard_config)?;
        let (shards, calls): (Vec<_>, Vec<_>) = (0..config.shards).map(|_| log_calls()).unzip();
        let calls = Arc::new(Mutex::new(calls.into_iter().map(Some).collect::<Vec<_>>()));
        let running = ShardsConfig { host: config.host, ..ShardsConfig::from(&config.placement) };
        let started = start_shards(Mesh::<()>::new(config.shards, 1)?, running, move |endpoint| {
            let id = endpoint.shard();
            let calls = lock(&calls).get_mut(usize::from(id.0)).and_then(Option::take);
            run(dir.clone(), id, shard_config, calls.expect("every shard has its calls"))
        })?;
        let mut supervisor = Supervisor::over(started)?;
        match held(&shards) {
            Some(held) => {
                let owners = crate::owners::Owners::build(config.shards, held);
                let owners = owners.map_err(|conflict| Fault::Refused(conflict.to_string()))?;
                Ok(Engine { shards, owners: Mutex::new(owners), supervisor, _lock: directory_lock })
            }
            None => Err(fault_of(supervisor.join())),
        }
    }

    /// Opens the partition's log, or creates it; `name` is what errors call the topic. `settings` hold from now on.
    pub fn log(&self, at: TopicPartition, name: &str, settings: LogSettings) -> Result<Log, Failure> {
        let mut owners = lock(&self.owners);
        let shard = self.shard(owners.assign(at));
        match shard.assign(at, settings) {
            Some(()) => Ok(shard.log(at, name)),
            None => Err(self.failure().unwrap_or_else(closed)),
        }
    }

    /// The logs that there are.
    pub fn logs(&self) -> Vec<TopicPartition> {
        lock(&self.owners).iter().map(|(at, _)| at).collect()
    }

    /// Drops a log for good. Whether there was one.
    pub fn drop_log(&self, at: TopicPartition) -> Result<bool, Failure> {
        let mut owners = lock(&self.owners);
        let Some(owner) = owners.owner(at) else { return Ok(false) };
        let dropped = self.shard(owner).drop_log(at).ok_or_else(|| self.failure().unwrap_or_else(closed))?;
        owners.remove(at);
        Ok(dropped)
    }

    /// What ended the shards although nobody closed the engine. Nothing is acknowledged after it.
    pub fn failure(&self) -> Option<Failure> {
        self.supervisor.outcome().and_then(Result::err)
    }

    /// Calls `tell` once with how the engine ended, from a thread of its own.
    pub fn on_end(&self, tell: impl FnOnce(&Outcome) + Send + 'static) {
        self.supervisor.subscribe(tell);
    }

    /// Answers what is under way, drains, and leaves a clean checkpoint.
    pub fn close(mut self) -> Outcome {
        self.end()
    }

    fn end(&mut self) -> Outcome {
        self.shards.iter().for_each(LogSender::stop);
        self.supervisor.join()
    }

    fn shard(&self, id: ShardId) -> &LogSender {
        self.shards.get(usize::from(id.0)).expect("owners are shards of this engine")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(failure) = self.end() {
            tracing::error!(%failure, "the engine has failed");
        }
    }
}

async fn run(dir: DataDir, id: ShardId, config: ShardConfig, calls: LogCalls) -> Result<(), Fault> {
    let shard = Shard::open(&dir, id, config).await?;
    let (failing, serving) = (shard.clone(), shard.clone());
    let mut failed = std::pin::pin!(failing.failed());
    let mut served = std::pin::pin!(async move {
        let logs = serving.clone();
        calls.serve(serving.clone(), move |at, batch| logs.append(at, Incoming::Copy(batch))).await;
        serving.close().await
    });
    std::future::poll_fn(|context| match failed.as_mut().poll(context) {
        std::task::Poll::Ready(fault) => std::task::Poll::Ready(Err(fault)),
        std::task::Poll::Pending => served.as_mut().poll(context),
    })
    .await
}

/// What every shard's journals hold; `None` if one did not start.
fn held(shards: &[LogSender]) -> Option<Vec<(ShardId, TopicPartition)>> {
    let mut held = Vec::new();
    for (id, shard) in (0..).map(ShardId).zip(shards) {
        held.extend(shard.held()?.into_iter().map(|at| (id, at)));
    }
    Some(held)
}

/// As the broker does it: a flock on the directory itself, which the kernel drops with the process.
fn lock_directory(path: &Path) -> Result<File, Fault> {
    let opened = std::fs::create_dir_all(path).and_then(|()| File::open(path));
    let directory = opened.map_err(|error| Fault::io("open", path.display().to_string(), 0, &error))?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(error) => Err(Fault::Refused(format!("{} is in use: {error}", path.display()))),
    }
}

fn identity(node_id: i32) -> Result<Identity, Fault> {
    let source = PathBuf::from("/dev/urandom");
    let random = || -> std::io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        std::io::Read::read_exact(&mut File::open(&source)?, &mut bytes)?;
        Ok(bytes)
    };
    let fails = |error| Fault::io("read", source.display().to_string(), 0, &error);
    let (directory_id, cluster_id) = (random().map_err(fails)?, random().map_err(fails)?);
    Ok(Identity { directory_id, cluster_id: TopicId(cluster_id).to_string(), node_id })
}

fn fault_of(outcome: Outcome) -> Fault {
    match outcome {
        Err(Failure::Fault(fault)) => fault,
        Err(failure) => Fault::Refused(failure.to_string()),
        Ok(()) => Fault::Refused("the shards ended before they served".to_owned()),
    }
}

fn closed() -> Failure {
    Failure::Fault(Fault::Refused("the engine was closed".to_owned()))
}
