//! The broker as a library: start it in any program, use it by Kafka's protocol or by its logs, stop it.
//!
//! Owns the locks, the admin thread and the shards of one broker. Never installs a signal handler, never logs to anywhere
//! but `tracing`, never prints and never ends the process; brokers of one process share nothing but its descriptors.
//! The command line is a thin user of this.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use watershed_core::error::Fault;
use watershed_core::io::log::Log;
pub use watershed_core::io::shards::Failure;
pub use watershed_core::io::supervisor::Outcome;
use watershed_daemon::admin::Admin;
use watershed_daemon::cpu_lock::{CpuLockError, CpuLocks};
use watershed_daemon::directory_lock::{DirectoryLock, DirectoryLockError};

use crate::SERVICE;
use crate::admin::{self, AdminState};
use crate::lifecycle::{Hooks, Readiness, Serving, Shutdown};
use crate::server::{self, Running};
use crate::settings::{Asked, Key, Machine, Settings, SettingsError, resolve};

pub use crate::server::LogRefusal;

const STARTING: &str = "starting";

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Cpu(#[from] CpuLockError),
    #[error(transparent)]
    Directory(#[from] DirectoryLockError),
    #[error("admin HTTP ({at}): {cause}")]
    Admin { at: String, cause: io::Error },
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<Fault> for StartError {
    fn from(fault: Fault) -> StartError {
        StartError::Failed(Failure::Fault(fault))
    }
}

/// A broker that serves. Dropping it stops it.
pub struct Broker {
    // Fields are dropped in this order: whoever finds the locks free finds the shards gone.
    running: Running,
    admin: Option<Admin>,
    serving: Serving,
    shutdown: Shutdown,
    _directory: DirectoryLock,
    _cpus: Option<CpuLocks>,
}

impl Broker {
    /// What to start, with defaults for a broker inside a program: a free loopback port, no admin HTTP, one shard that is
    /// not pinned.
    pub fn builder(data_dir: &Path) -> BrokerBuilder {
        let flags = [
            (Key::DataDir, data_dir.display().to_string()),
            (Key::Listen, "127.0.0.1:0".to_owned()),
            (Key::Admin, "none".to_owned()),
            (Key::Cores, "unbound:1".to_owned()),
        ];
        BrokerBuilder { asked: Asked { flags: flags.into(), ..Asked::default() } }
    }

    /// Recovers the data directory and serves; returns when connections are accepted.
    pub fn start(settings: Settings) -> Result<Broker, StartError> {
        Broker::start_until(settings, Shutdown::default())
    }

    /// The same, to be stopped by whoever holds a clone of `shutdown`: also before the start is over.
    pub fn start_until(settings: Settings, shutdown: Shutdown) -> Result<Broker, StartError> {
        // Nothing is written before the data directory is locked and known to be ours, and `/live` answers while the
        // journal is still replayed.
        let cpus = CpuLocks::of(&settings.cores, &Machine::probe().allowed_cpus)?;
        let directory = DirectoryLock::acquire(&SERVICE, &settings.data_dir)?;
        if let Some(previous) = &directory.previous {
            tracing::debug!(pid = previous.pid, boot_id = previous.boot_id, "data directory was last used by");
        }
        let readiness = Readiness::starting(STARTING);
        let state = AdminState::new(readiness.clone(), shutdown.clone());
        let admin = start_admin(&settings, state.clone())?;
        let (ready, serves) = mpsc::channel();
        let hooks = Hooks {
            shutdown: shutdown.clone(),
            readiness: readiness.clone(),
            set_scrape: Box::new(move |scrape| state.set_scrape(scrape)),
            ready: Box::new(move |serving| {
                // Whoever starts a broker waits for this or for the end of its shards.
                let _ = ready.send(serving);
            }),
        };
        let mut running = server::start(settings, hooks)?;
        let serving = match serves.recv() {
            Ok(serving) => serving,
            Err(_) => return Err(ended_early(running.supervisor.join())),
        };
        readiness.clear(STARTING);
        Ok(Broker { running, admin, serving, shutdown, _directory: directory, _cpus: cpus })
    }

    /// Where Kafka clients connect to: the port that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.serving.listen
    }

    /// Where admin HTTP was bound, if it is on.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// What the start found.
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// A topic's partition for this program itself, beside any Kafka client. A missing topic is created if the broker
    /// creates topics that clients ask for (`auto.create.topics.enable`).
    ///
    /// An append is held against `max.message.bytes`, and counted by the metrics of what is produced. It is no request of a
    /// client: it passes quotas, the bounds of timestamps and `compression.type` (the batch stays as it is, so that it can be
    /// read in place), and is in no metric or log of requests.
    pub fn log(&self, topic: &str, partition: i32) -> Result<Log, LogRefusal> {
        self.running.log(topic, partition)
    }

    /// A request to stop that may be kept and used by any thread; then [`Broker::wait`] returns.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Whether every shard answers within `at_most`, which it does once per turn. Blocks this thread.
    pub fn pulse(&self, at_most: Duration) -> bool {
        self.running.pulse(at_most)
    }

    /// A way to ask for the pulse from another thread.
    pub fn pulse_handle(&self) -> impl Fn(Duration) -> bool + Send + 'static {
        self.running.pulse_handle()
    }

    /// What ended the broker although nobody stopped it. Nothing was acknowledged after it.
    pub fn failure(&self) -> Option<Failure> {
        self.running.supervisor.outcome().and_then(Result::err)
    }

    /// Calls `tell` once with how the broker ended, on a thread of its own.
    pub fn on_end(&self, tell: impl FnOnce(&Outcome) + Send + 'static) {
        self.running.supervisor.subscribe(tell);
    }

    /// Blocks this thread until the broker was stopped or has failed. After a failure its threads may still be on their
    /// way out; a drop waits for them.
    pub fn wait(&self) -> Outcome {
        self.running.supervisor.wait()
    }

    /// Drains: gives clients what they are owed, leaves a clean checkpoint, and waits for every thread.
    pub fn stop(mut self) -> Outcome {
        self.shutdown.request("stop");
        self.running.supervisor.join()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shutdown.request("dropped");
        if let Err(failure) = self.running.supervisor.join() {
            tracing::error!(%failure, "the broker has failed");
        }
    }
}

fn start_admin(settings: &Settings, state: AdminState) -> Result<Option<Admin>, StartError> {
    let Some(at) = settings.admin else {
        return Ok(None);
    };
    let started = admin::start(at, state);
    started.map(Some).map_err(|cause| StartError::Admin { at: at.to_string(), cause })
}

/// The shards are gone and nobody served.
fn ended_early(outcome: Outcome) -> StartError {
    match outcome {
        Err(failure) => StartError::Failed(failure),
        Ok(()) => Fault::Refused("the shards ended before they served".to_owned()).into(),
    }
}

/// Collects settings by the names of the command line and of Kafka.
#[derive(Clone, Debug)]
pub struct BrokerBuilder {
    asked: Asked,
}

impl BrokerBuilder {
    /// One of our own settings, in the form that its flag takes.
    pub fn set(mut self, key: Key, value: impl ToString) -> BrokerBuilder {
        self.asked.flags.push((key, value.to_string()));
        self
    }

    /// One of Kafka's broker properties (`num.partitions`).
    pub fn property(mut self, name: &str, value: impl ToString) -> BrokerBuilder {
        self.asked.set.push(format!("{name}={}", value.to_string()));
        self
    }

    /// The settings, or every mistake in them.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        resolve(&self.asked, &Machine::probe())
    }

    /// Starts it.
    pub fn start(&self) -> Result<Broker, StartError> {
        Broker::start(self.settings()?)
    }
}
