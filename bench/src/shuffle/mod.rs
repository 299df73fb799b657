//! `shuffle`: an emulation of Uniffle's Spark client over both of its planes, against any server, beside the floor.
//!
//! It asks, sends and reads in the order and sizes of the client, one request under way on each connection, and holds every
//! byte against what was sent: a wrong, missing or foreign block ends the run. It has no Spark's heartbeats: a job is
//! shorter than an application's expiry, and every call is a sign of life.

mod job;
mod netty;
mod plane;
mod reduce;
mod report;
mod rows;
mod server;
mod session;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::Args;

use crate::load::pin;
use crate::place::Place;
use crate::process::Usage;
use job::{Job, Shape};
use plane::Transport;
use report::{Measured, Report, ServerUsage};
use session::{Fetched, Manner, Pushed, Session};

#[derive(Args, Clone)]
pub(crate) struct ShuffleArgs {
    /// Which rows; without one, a job of the shape that the other options give
    names: Vec<rows::Name>,
    /// A server that runs already: its coordinator's address [default: one of our own, on an empty directory]
    #[arg(long)]
    server: Option<SocketAddr>,
    /// The process of that server, for its CPU time, writes and memory
    #[arg(long, requires = "server")]
    pid: Option<u32>,
    /// The service's program, if it does not lie beside this one
    #[arg(long)]
    program: Option<PathBuf>,
    /// The memory budget of our own server, as its own flag takes it
    #[arg(long)]
    memory: Option<String>,
    #[arg(long, value_enum, default_value = "netty")]
    transport: Transport,
    #[arg(long, default_value_t = 20)]
    maps: u32,
    #[arg(long, default_value_t = 200)]
    reduces: u32,
    /// Bytes of a block: a number, or a range like 16384-65536
    #[arg(long, default_value = "16384-65536", value_parser = parse_range)]
    block_bytes: RangeInclusive<u32>,
    /// What the maps write together, about; at least a block for every map and reduce
    #[arg(long, default_value_t = 1024)]
    total_mib: u64,
    /// Bytes of blocks in a request; Spark's client has up to 16 MB
    #[arg(long, default_value_t = 1 << 20)]
    request_bytes: usize,
    /// Clients, each with a request under way
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Seconds in which the floor is measured
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[command(flatten)]
    place: Place,
    /// JSON objects instead of text
    #[arg(long)]
    json: bool,
}

fn parse_range(text: &str) -> Result<RangeInclusive<u32>, String> {
    let number = |text: &str| text.parse::<u32>().map_err(|error| format!("'{text}': {error}"));
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    Ok(number(least)?..=number(most)?)
}

impl ShuffleArgs {
    fn shape(&self) -> Shape {
        let total_bytes = self.total_mib << 20;
        Shape { maps: self.maps, reduces: self.reduces, block_bytes: self.block_bytes.clone(), total_bytes }
    }

    fn manner(&self) -> Manner {
        Manner { transport: self.transport, connections: self.connections, request_bytes: self.request_bytes }
    }
}

/// One job, or two applications side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// All is pushed, then all is read.
    Whole,
    /// Two applications of half the size: the second pushes while the first reads.
    Overlapping,
}

/// A server, and how its process is watched.
struct Target {
    coordinator: SocketAddr,
    pid: Option<u32>,
    client_cpu: Option<usize>,
}

pub(crate) fn run(args: &ShuffleArgs) -> Result<()> {
    if args.names.is_empty() {
        let report = on_server(args, |target| job(target, "shuffle", &args.shape(), args.manner(), Course::Whole))?;
        return report.print(args.json);
    }
    args.names.iter().try_for_each(|&name| rows::run(args, name))
}

/// Runs `work` on the server that the arguments name, or on one of our own.
fn on_server(args: &ShuffleArgs, work: impl FnOnce(&Target) -> Result<Report>) -> Result<Report> {
    let client_cpu = Some(args.place.client_cpu);
    if let Some(coordinator) = args.server {
        return work(&Target { coordinator, pid: args.pid, client_cpu });
    }
    let server = server::start(args.program.as_deref(), &args.place, args.memory.as_deref())?;
    let report = work(&Target { coordinator: server.address, pid: Some(server.pid()), client_cpu })?;
    server.stop()?;
    Ok(report)
}

/// Pushes and reads on a thread of its own, pinned to the generator's core.
fn job(target: &Target, row: &str, shape: &Shape, manner: Manner, course: Course) -> Result<Report> {
    let halves = if course == Course::Overlapping { 2 } else { 1 };
    let job = Job::new(&Shape { total_bytes: shape.total_bytes / halves, ..shape.clone() })?;
    let (bytes, block_count) = (job.bytes() * halves, job.block_count() * halves);
    let body = || {
        pin(target.client_cpu)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(course.run(target, Arc::new(job), manner))
    };
    let (began, before) = (Instant::now(), Usage::of(std::process::id())?);
    let ended = std::thread::scope(|scope| scope.spawn(body).join());
    let outcome = ended.map_err(|_| anyhow!("the generator panicked"))??;
    let (generator, elapsed) = (Usage::of(std::process::id())?.since(before).cpu, began.elapsed());
    let Outcome { pushed, fetched, server } = outcome;
    let connections = manner.connections;
    Ok(Report::new(row, &Measured { bytes, block_count, connections, pushed, fetched, server, generator, elapsed }))
}

struct Outcome {
    pushed: Pushed,
    fetched: Fetched,
    server: Option<ServerUsage>,
}

impl Course {
    async fn run(self, target: &Target, job: Arc<Job>, manner: Manner) -> Result<Outcome> {
        let usage = || target.pid.map(Usage::of).transpose();
        let open = || async {
            let application = application();
            Session::open(target.coordinator, &application, Arc::clone(&job), manner).await
        };
        let first = open().await?;
        let start = usage()?;
        let mut pushed = first.push().await?;
        let middle = usage()?;
        let mut fetched = Fetched::default();
        if self == Course::Overlapping {
            let second = open().await?;
            let (read, more) = tokio::try_join!(first.read(), second.push())?;
            fetched += &read;
            pushed += &more;
            fetched += &second.read().await?;
            second.close().await?;
        } else {
            fetched += &first.read().await?;
        }
        let end = usage()?;
        first.close().await?;
        let server = match (target.pid, start, middle, end) {
            (Some(pid), Some(start), Some(middle), Some(end)) => Some(ServerUsage {
                pushing: middle.since(start),
                reading: end.since(middle),
                peak_resident_bytes: Usage::peak_resident_bytes(pid)?,
            }),
            _ => None,
        };
        Ok(Outcome { pushed, fetched, server })
    }
}

/// An application's id that no other run has.
fn application() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use watershed_daemon::lifecycle::Shutdown;
    use watershed_daemon::settings::Machine;
    use watershed_shuffle::service::Shuffle;
    use watershed_shuffle::settings::{Asked, resolve};

    use super::*;

    /// A job on a service in this process, whose memory is far too small for it or ample.
    fn pushed_and_read(transport: Transport, memory: &str, course: Course) -> serde_json::Value {
        let name = format!("bench-story-{}-{}", std::process::id(), application());
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target").join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let data_dir = format!("data_dir={}", directory.display());
        let memory = format!("memory={memory}");
        let set = [&data_dir, "listen=127.0.0.1:0", "admin=none", "cores=unbound:2", &memory];
        let set = set.map(str::to_owned).to_vec();
        let settings = resolve(&Asked { set, ..Asked::default() }, &Machine::probe()).unwrap();
        let service = Shuffle::start_until(&settings, Shutdown::default()).unwrap();
        let shape = Shape { maps: 6, reduces: 7, block_bytes: 20_000..=60_000, total_bytes: 150 << 20 };
        let target = Target { coordinator: service.local_addr(), pid: Some(std::process::id()), client_cpu: None };
        let manner = Manner { transport, connections: 3, request_bytes: 1 << 20 };
        let report = job(&target, "story", &shape, manner, course);
        service.stop().unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        serde_json::to_value(report.unwrap()).unwrap()
    }

    #[test]
    fn a_job_over_netty_comes_back_from_memory_and_from_disk() {
        let report = pushed_and_read(Transport::Netty, "160MiB", Course::Whole);
        let bytes = |name: &str| report[name].as_u64().unwrap();
        assert!(bytes("disk_bytes") > 0, "{report}");
        assert!(bytes("disk_bytes") + bytes("memory_bytes") >= bytes("bytes"), "{report}");
        assert_eq!(bytes("refused_ticket_count"), 0, "{report}");
    }

    #[test]
    fn a_job_over_grpc_comes_back_from_memory_and_from_disk() {
        let report = pushed_and_read(Transport::Grpc, "160MiB", Course::Whole);
        assert!(report["disk_bytes"].as_u64().unwrap() > 0, "{report}");
        assert_eq!(report["refused_ticket_count"], 0, "{report}");
    }

    #[test]
    fn two_applications_side_by_side_come_back_from_memory() {
        let report = pushed_and_read(Transport::Netty, "1GiB", Course::Overlapping);
        assert_eq!((&report["disk_bytes"], &report["memory_bytes"]), (&0.into(), &report["bytes"]), "{report}");
    }

    #[test]
    fn ranges_are_a_number_or_two() {
        assert_eq!(parse_range("800"), Ok(800..=800));
        assert_eq!(parse_range("1-20"), Ok(1..=20));
        assert!(parse_range("1-x").is_err());
    }
}
