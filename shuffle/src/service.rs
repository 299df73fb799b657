//! The shuffle service as a library: start it in any program, stop it.
//!
//! Owns the shards' threads, the control thread and the ports. Never installs a signal handler, never prints and never ends
//! the process.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use watershed_core::error::Fault;
use watershed_core::io::mesh::{Endpoint, Mesh};
use watershed_core::io::notify::{ThreadReceiver, thread_channel};
use watershed_core::io::probe::probe;
use watershed_core::io::shards::{Placement, start_shards};
use watershed_core::io::supervisor::{Outcome, Supervisor};
use watershed_core::units::ShardId;
use watershed_daemon::admin::Admin;
use watershed_daemon::cpu_lock::{CpuLockError, CpuLocks};
use watershed_daemon::directory_lock::{DirectoryLock, DirectoryLockError};
use watershed_daemon::exit::{Exit, Failure};
use watershed_daemon::lifecycle::{Readiness, Shutdown};
use watershed_daemon::scrape::{Scrape, Scraper};
use watershed_daemon::settings::{Cores, Machine};

use crate::SERVICE;
use crate::admin;
use crate::grpc::{self, ControlThread, Job, Port, ServerPorts, ShardHandle};
use crate::metrics::ShardMetrics;
use crate::server::{self, STAGING_BYTES, ShardConfig};
use crate::settings::Settings;
use crate::store::{ImageOf, StoreConfig};

/// The least memory of a shard.
pub const SHARD_BYTES_MIN: u64 = 48 << 20;
/// A client reads 14 MiB at once, and the block that reaches beyond.
const READ_BYTES_MIN: u64 = 20 << 20;
const READ_BYTES_MAX: u64 = 256 << 20;
/// For what connections receive into.
const WINDOWS_BYTES_MIN: u64 = 12 << 20;
const WINDOWS_BYTES_MAX: u64 = 64 << 20;
/// How long a pinned shard looks for work before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
/// Why a service that starts is not ready.
const STARTING: &str = "starting";
/// Of the data directory.
const FORMAT_VERSION: u32 = 1;

fn port(settings: &Settings, above: u16) -> Result<SocketAddr, Fault> {
    let listen = settings.listen;
    let port = match listen.port() {
        0 => 0,
        first => first
            .checked_add(above)
            .ok_or_else(|| Fault::Refused(format!("the ports of all shards do not fit above {listen}")))?,
    };
    Ok(SocketAddr::new(listen.ip(), port))
}

fn shard_config(settings: &Settings, shard_count: u16, id: ShardId) -> ShardConfig {
    let bytes = settings.memory_bytes / u64::from(shard_count);
    let read_bytes = (bytes / 8).clamp(READ_BYTES_MIN, READ_BYTES_MAX);
    let work_bytes = STAGING_BYTES as u64 + (bytes / 32).clamp(WINDOWS_BYTES_MIN, WINDOWS_BYTES_MAX);
    ShardConfig {
        directory: shard_directory(&settings.data_dir, id),
        image_of: ImageOf { shard: id.0, shard_count },
        store: StoreConfig::new(bytes.saturating_sub(read_bytes + work_bytes)),
        work_bytes: work_bytes as usize,
        read_bytes: read_bytes as usize,
    }
}

fn shard_directory(data_dir: &Path, id: ShardId) -> PathBuf {
    data_dir.join(format!("shard-{}", id.0))
}

/// A service that runs. Dropping it stops it.
pub struct Shuffle {
    // Dropped first: no call reaches shards that end.
    control: Option<ControlThread>,
    supervisor: Supervisor,
    shards: Arc<Mutex<Vec<ShardHandle>>>,
    ports: Vec<ServerPorts>,
    listen: SocketAddr,
    shutdown: Shutdown,
    admin: Option<Admin>,
    _directory: DirectoryLock,
    _cpus: Option<CpuLocks>,
}

impl Shuffle {
    /// Serves when it returns; stops when `shutdown` is requested, by whoever holds a clone.
    pub fn start_until(settings: &Settings, shutdown: Shutdown) -> Result<Shuffle, StartError> {
        let cpus = CpuLocks::of(&settings.cores, &Machine::probe().allowed_cpus)?;
        let directory = DirectoryLock::acquire(&SERVICE, &settings.data_dir)?;
        prepare(settings)?;
        probe(&settings.data_dir).map_err(|failure| Fault::Refused(failure.to_string()))?;
        let count = shard_count(settings)?;
        let readiness = Readiness::starting(STARTING);
        let scraper = Scraper::default();
        let admin = start_admin(settings, &readiness, &shutdown, &scraper)?;
        let listeners = bind_grpc(settings, count)?;
        let (jobs, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| thread_channel::<Job>()).unzip();
        let (bound, bindings) = mpsc::channel();
        let inboxes = Mutex::new(inboxes.into_iter().map(Some).collect());
        let plan = Arc::new(Plan { settings: settings.clone(), shard_count: count, inboxes, bound });
        let running = Arc::clone(&plan);
        let placement = placement(settings);
        let shards =
            start_shards(Mesh::<()>::new(count, 1)?, &placement, move |endpoint| run(endpoint, Arc::clone(&running)))?;
        let mut supervisor = Supervisor::over(shards)?;
        let Some(netty) = netty_ports(&bindings, count) else {
            return Err(ended_early(supervisor.join()).into());
        };
        let shards: Vec<ShardHandle> = jobs.into_iter().map(ShardHandle::new).collect();
        let (control, ports) = serve(settings, listeners, &netty, &shards, &readiness)?;
        let listen = SocketAddr::new(settings.listen.ip(), ports.first().map_or(0, |first| first.grpc));
        let shards = Arc::new(Mutex::new(shards));
        scraper.set(scrape_of(&shards));
        let ending = Arc::clone(&shards);
        // Shards end when nobody can give them work.
        let stop_control = control.stopper();
        shutdown.subscribe(move || {
            stop_control();
            lock(&ending).clear();
        });
        let control = Some(control);
        readiness.clear(STARTING);
        Ok(Shuffle { control, supervisor, shards, ports, listen, shutdown, admin, _directory: directory, _cpus: cpus })
    }

    /// The coordinator's address, with the port that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Where admin HTTP was bound, if it is on.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// gRPC and Netty port of each shard.
    pub fn ports(&self) -> Vec<(u16, u16)> {
        self.ports.iter().map(|ports| (ports.grpc, ports.netty)).collect()
    }

    /// A way to ask from another thread whether every shard answers within a time.
    pub fn pulse_handle(&self) -> impl Fn(Duration) -> bool + Send + 'static {
        let shards = Arc::clone(&self.shards);
        move |at_most| lock(&shards).iter().all(|shard| shard.pulse(at_most))
    }

    /// Blocks this thread until the service was stopped or has failed.
    pub fn wait(&self) -> Outcome {
        self.supervisor.wait()
    }

    /// Ends it and waits for every thread.
    pub fn stop(mut self) -> Outcome {
        self.end()
    }

    fn end(&mut self) -> Outcome {
        self.shutdown.request("stop");
        self.control = None;
        self.supervisor.join()
    }
}

impl Drop for Shuffle {
    fn drop(&mut self) {
        if let Err(failure) = self.end() {
            tracing::error!(%failure, "the shuffle service has failed");
        }
    }
}

fn start_admin(
    settings: &Settings,
    readiness: &Readiness,
    shutdown: &Shutdown,
    scraper: &Scraper<ShardMetrics>,
) -> Result<Option<Admin>, Fault> {
    let start = |address: SocketAddr| {
        let started = admin::start(address, readiness.clone(), shutdown.clone(), scraper.clone());
        started.map_err(|error| Fault::io("listen on", address.to_string(), 0, &error))
    };
    settings.admin.map(start).transpose()
}

/// Asks the shards that run; keeps none of them from ending.
fn scrape_of(shards: &Arc<Mutex<Vec<ShardHandle>>>) -> Scrape<ShardMetrics> {
    let shards = Arc::clone(shards);
    let ask = |shard: &ShardHandle| shard.ask(|shard| Box::new(server::scrape(shard)));
    Box::new(move || lock(&shards).iter().map(ask).collect())
}

/// The control thread over shards that run, and where each is reached.
fn serve(
    settings: &Settings,
    listeners: Vec<TcpListener>,
    netty: &[u16],
    shards: &[ShardHandle],
    readiness: &Readiness,
) -> Result<(ControlThread, Vec<ServerPorts>), Fault> {
    let fault = |error: io::Error| Fault::io("listen on", settings.listen.to_string(), 0, &error);
    let addresses: io::Result<Vec<SocketAddr>> = listeners.iter().map(TcpListener::local_addr).collect();
    let addresses = addresses.map_err(fault)?;
    let ip = settings.advertised();
    let of = |(grpc, netty): (&SocketAddr, &u16)| ServerPorts { ip: ip.clone(), grpc: grpc.port(), netty: *netty };
    let ports: Vec<ServerPorts> = addresses.iter().zip(netty).map(of).collect();
    let served = listeners.into_iter().zip(shards.iter().cloned()).zip(ports.iter().cloned());
    let served = served.map(|((listener, shard), told)| Port { listener, shard, told }).collect();
    let control = ControlThread::start(served, readiness.clone()).map_err(fault)?;
    Ok((control, ports))
}

fn shard_count(settings: &Settings) -> Result<u16, Fault> {
    u16::try_from(settings.cores.shards()).map_err(|_| Fault::Refused("too many shards".to_owned()))
}

fn placement(settings: &Settings) -> Placement {
    match &settings.cores {
        Cores::Pinned(cpus) => Placement::Pinned { cpus: cpus.clone(), spin: SPIN },
        Cores::Unbound(_) => Placement::Unbound,
    }
}

/// What shards begin with.
struct Plan {
    settings: Settings,
    shard_count: u16,
    inboxes: Mutex<Vec<Option<ThreadReceiver<Job>>>>,
    bound: mpsc::Sender<(ShardId, u16)>,
}

async fn run(endpoint: Endpoint<()>, plan: Arc<Plan>) -> Result<(), Fault> {
    let id = endpoint.shard();
    let inbox = lock(&plan.inboxes).get_mut(usize::from(id.0)).and_then(Option::take);
    let inbox = inbox.expect("every shard has its inbox");
    let address = port(&plan.settings, 2 * id.0 + 1)?;
    let bound = plan.bound.clone();
    let told = move |port| {
        // Whoever starts a service waits for this or for the end of its shards.
        let _ = bound.send((id, port));
    };
    let config = shard_config(&plan.settings, plan.shard_count, id);
    server::run(id, config, address, inbox, told).await
}

fn netty_ports(bindings: &mpsc::Receiver<(ShardId, u16)>, shards: u16) -> Option<Vec<u16>> {
    const BIND_TIME_MAX: Duration = Duration::from_secs(60);
    let mut ports = vec![0; usize::from(shards)];
    for _ in 0..shards {
        let (shard, port) = bindings.recv_timeout(BIND_TIME_MAX).ok()?;
        *ports.get_mut(usize::from(shard.0))? = port;
    }
    Some(ports)
}

fn ended_early(outcome: Outcome) -> Fault {
    let words = match outcome {
        Err(failure) => failure.to_string(),
        Ok(()) => "the shards ended before they served".to_owned(),
    };
    Fault::Refused(words)
}

fn bind_grpc(settings: &Settings, count: u16) -> Result<Vec<TcpListener>, Fault> {
    let bind = |shard: u16| {
        let address = port(settings, 2 * shard)?;
        grpc::bind(address).map_err(|error| Fault::io("listen on", address.to_string(), 0, &error))
    };
    (0..count).map(bind).collect()
}

/// The directory as this version writes it. What shards beyond today's left is removed: nobody could read it.
fn prepare(settings: &Settings) -> Result<(), Fault> {
    let directory = &settings.data_dir;
    let fault = |operation, path: &Path, error: &io::Error| Fault::io(operation, path.display().to_string(), 0, error);
    let format = directory.join("format");
    match fs::read_to_string(&format) {
        Ok(text) if text.trim() == FORMAT_VERSION.to_string() => {}
        Ok(text) => {
            let file = format.display().to_string();
            return Err(Fault::Version { file, found: text.trim().parse().unwrap_or(0), known: FORMAT_VERSION });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::write(&format, format!("{FORMAT_VERSION}\n")).map_err(|error| fault("write", &format, &error))?;
        }
        Err(error) => return Err(fault("read", &format, &error)),
    }
    for shard in shard_count(settings)?..=u16::MAX {
        let path = shard_directory(directory, ShardId(shard));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            removed => removed.map_err(|error| fault("remove", &path, &error))?,
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Cpu(#[from] CpuLockError),
    #[error(transparent)]
    Directory(#[from] DirectoryLockError),
    #[error(transparent)]
    Failed(#[from] Fault),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        match error {
            StartError::Cpu(error) => error.into(),
            StartError::Directory(error) => error.into(),
            // A port in use is the machine's refusal, no failed write.
            StartError::Failed(Fault::Io { operation: "listen on", .. }) => Failure::new(Exit::Environment, error),
            StartError::Failed(fault) => fault.into(),
        }
    }
}
