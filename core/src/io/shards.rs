//! The threads of a process's shards: one executor each, pinned or not, and their common end.
//!
//! A shard that panics or cannot start ends them all: whoever joins gets it at once, and the others are halted where they
//! wait. Never ends the process: that is its caller's decision.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use super::executor::ExecutorConfig;
use super::host::Host;
use super::mesh::{Endpoint, Mesh};
use super::notify::{ThreadReceiver, ThreadSender, thread_channel};
use super::ring::RingSetup;
use super::stats::TurnStats;
use crate::error::Fault;
use crate::units::ShardId;

/// Where shards run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Wherever the scheduler puts them; never spins.
    Unbound,
    /// Shard n on the n-th of these CPUs. After a completion it looks for work for `spin` before it sleeps.
    Pinned { cpus: Vec<usize>, spin: Duration },
}

impl Placement {
    /// The first `shards` CPUs that this process may use; unbound if there are fewer.
    pub fn own_cpus(shards: u16, spin: Duration) -> Placement {
        let cpus: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        match cpus.get(..usize::from(shards)) {
            Some(cpus) => Placement::Pinned { cpus: cpus.to_vec(), spin },
            None => Placement::Unbound,
        }
    }
}

/// Where and how shards run. A placement alone means our own host and the best ring that the kernel has.
#[derive(Clone, Debug)]
pub struct ShardsConfig {
    pub placement: Placement,
    pub host: Host,
    /// See `ExecutorConfig::ring_setup`.
    pub ring_setup: RingSetup,
}

impl From<&Placement> for ShardsConfig {
    fn from(placement: &Placement) -> ShardsConfig {
        ShardsConfig { placement: placement.clone(), host: Host::Ring, ring_setup: RingSetup::BEST }
    }
}

impl ShardsConfig {
    fn executor(&self, shard: ShardId) -> Result<ExecutorConfig, Fault> {
        let mut config = ExecutorConfig { ring_setup: self.ring_setup, ..ExecutorConfig::default() };
        if let Placement::Pinned { cpus, spin } = &self.placement {
            let cpu = cpus.get(usize::from(shard.0));
            let missing = || Fault::Refused(format!("no CPU is given for shard {}", shard.0));
            config.cpu = Some(*cpu.ok_or_else(missing)?);
            config.spin = *spin;
        }
        Ok(config)
    }
}

/// Shards that run. Dropping it halts them.
pub struct Shards {
    threads: Vec<JoinHandle<()>>,
    /// Nothing is ever sent: a shard is halted when its sender is gone.
    halts: Vec<ThreadSender<()>>,
    ends: mpsc::Receiver<End>,
    stats: Vec<Arc<TurnStats>>,
}

enum End {
    Done,
    Failed(Fault),
    Panicked(Box<dyn Any + Send>),
}

/// What ended a shard that was not told to end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A bug.
    #[error("a shard panicked: {0}")]
    Panicked(String),
}

/// Starts one thread per endpoint of `mesh`, each running the future that `make` returns on its own thread.
pub fn start_shards<T, M, F>(mesh: Mesh<T>, config: impl Into<ShardsConfig>, make: M) -> Result<Shards, Fault>
where
    T: Send + 'static,
    M: Fn(Endpoint<T>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), Fault>> + 'static,
{
    let shards_config = config.into();
    let host = shards_config.host;
    let (tell, ends) = mpsc::channel();
    let mut shards = Shards { threads: Vec::new(), halts: Vec::new(), ends, stats: Vec::new() };
    for endpoint in mesh.into_endpoints() {
        let mut config = shards_config.executor(endpoint.shard())?;
        config.doorbell = Some(endpoint.doorbell().clone());
        shards.stats.push(config.stats.clone());
        let (make, tell) = (make.clone(), tell.clone());
        let name = format!("shard-{}", endpoint.shard().0);
        let (halt, halted) = thread_channel();
        shards.halts.push(halt);
        let body = move || {
            let ran = catch_unwind(AssertUnwindSafe(|| host.run(config, move || or_halted(make(endpoint), halted))));
            let end = match ran {
                Ok(Ok(Ok(()))) => End::Done,
                Ok(Ok(Err(fault)) | Err(fault)) => End::Failed(fault),
                Err(panic) => End::Panicked(panic),
            };
            // Nobody listens any more if another shard failed first.
            let _ = tell.send(end);
        };
        let thread = std::thread::Builder::new().name(name).spawn(body);
        shards.threads.push(thread.map_err(|error| Fault::io("start", "thread", 0, &error))?);
    }
    Ok(shards)
}

/// The body's end, or a good one when the shard is halted; whatever it waits for is then dropped.
async fn or_halted(body: impl Future<Output = Result<(), Fault>>, halted: ThreadReceiver<()>) -> Result<(), Fault> {
    let (mut body, mut halted) = (pin!(body), pin!(halted.recv()));
    poll_fn(|context| match body.as_mut().poll(context) {
        Poll::Ready(end) => Poll::Ready(end),
        Poll::Pending => halted.as_mut().poll(context).map(|_| Ok(())),
    })
    .await
}

impl Shards {
    /// Counters of each shard's executor.
    pub fn stats(&self) -> &[Arc<TurnStats>] {
        &self.stats
    }

    /// Waits until all shards have ended. Returns the first fault and passes on the first panic at once, without
    /// waiting for the others, which are halted.
    pub fn join(self) -> Result<(), Fault> {
        for _ in &self.threads {
            match self.ends.recv().expect("every shard reports its end") {
                End::Done => {}
                End::Failed(fault) => return Err(fault),
                End::Panicked(panic) => resume_unwind(panic),
            }
        }
        for thread in self.threads {
            thread.join().expect("a shard's panic was caught");
        }
        Ok(())
    }

    /// Waits until all threads have ended. The first failure is told at once; the others are then halted and waited for.
    pub(super) fn supervise(mut self, failed: impl FnOnce(Failure)) {
        let mut failed = Some(failed);
        for _ in &self.threads {
            let failure = match self.ends.recv().expect("every shard reports its end") {
                End::Done => continue,
                End::Failed(fault) => Failure::Fault(fault),
                End::Panicked(panic) => Failure::Panicked(words_of(panic.as_ref())),
            };
            self.halts.clear();
            if let Some(failed) = failed.take() {
                failed(failure);
            }
        }
        for thread in self.threads {
            thread.join().expect("a shard's panic was caught");
        }
    }
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}
