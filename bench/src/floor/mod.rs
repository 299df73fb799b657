//! `floor`: what this machine can do at best for the shapes that the broker is measured with.
//!
//! The server is this program again, as a child process pinned to one core, so that its figures are read as the broker's.

mod disk;
mod hop;
mod hosts;
mod server;
mod traffic;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::builder::PossibleValue;
use clap::{Args, Subcommand, ValueEnum};
use watershed_core::io::arena::Arena;
use watershed_core::io::executor::ExecutorConfig;

pub(crate) use disk::sequential_read;
pub(crate) use server::{Path, ServerArgs};

use crate::load::{Load, Stream, measure};
use crate::place::{Host, Place};
use crate::report::{self, Figures, Row};
use crate::server_process::Server;

/// Memory of the floor's server: frames of all connections, several times over.
const ARENA_BYTES: usize = 512 << 20;

#[derive(Args)]
pub(crate) struct FloorArgs {
    #[command(subcommand)]
    probe: Option<Probe>,
    /// Bytes of a frame
    #[arg(long, default_value_t = 1 << 20)]
    size: usize,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Frames under way per connection
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    #[arg(long, value_enum, default_value = "durable")]
    path: Path,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Probe {
    /// Direct reads and writes by block size and depth, and one durable append at a time
    Disk,
    /// 64 bytes to and fro on one connection
    Ping,
    /// A message to another shard and back
    Hop,
    /// Both hosts: a parked request, and a message to another shard and back
    Hosts,
    /// 1 MiB answers from memory, as a fetch at the tail
    Send,
}

/// What every measurement is told.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Seconds of each round
    #[arg(long, default_value_t = 3.0, global = true)]
    pub(crate) seconds: f64,
    /// Rounds; figures are medians over them
    #[arg(long, default_value_t = 3, global = true)]
    pub(crate) rounds: usize,
    #[command(flatten)]
    pub(crate) place: Place,
    /// One JSON array instead of a table
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Common {
    /// The same on another host.
    fn on(&self, host: Host) -> Common {
        Common { place: Place { host, ..self.place.clone() }, ..self.clone() }
    }
}

/// A shape of the floor's load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) path: Path,
    pub(crate) size: usize,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
}

/// One request at a time: both ends sleep between.
const PING: Shape = Shape { path: Path::Receive, size: 64, connections: 1, in_flight: 1 };

/// A floor's server that runs, and the shape it is for.
pub(crate) struct Floor {
    server: Server,
    shape: Shape,
}

impl Floor {
    pub(crate) fn start(shape: Shape, place: &Place) -> Result<Floor> {
        let size = match shape.path {
            // A frame that is written on its own is whole blocks.
            Path::Written | Path::Durable => shape.size.next_multiple_of(4096),
            _ => shape.size.max(8),
        };
        let shape = Shape { size, ..shape };
        let mut command = Command::new(std::env::current_exe().context("find this program")?);
        let path = name_of(shape.path)?;
        command.args(["serve-floor", "--path", path.get_name(), "--size", &size.to_string(), "--dir"]);
        command.arg(place.directory("floor")?);
        command.args(["--cpu", &place.server_cpu.to_string(), "--host", name_of(place.host)?.get_name()]);
        Ok(Floor { server: Server::start(command)?, shape })
    }

    pub(crate) fn round(&self, seconds: f64, place: &Place) -> Result<Figures> {
        let traffic = || Box::new(traffic::FloorTraffic::new(self.shape.path, self.shape.size));
        let in_flight = self.shape.in_flight;
        let stream = |_| Stream { traffic: traffic(), in_flight, rate: None, group: 0 };
        let load = Load {
            target: self.server.address,
            warm_up: warm_up(seconds),
            duration: Duration::from_secs_f64(seconds),
            cpu: Some(place.client_cpu),
            server_pid: Some(self.server.pid()),
        };
        let measured = measure(load, (0..self.shape.connections).map(stream).collect())?;
        let tally = measured.tallies.first().context("there is one group of streams")?;
        Ok(Figures::new(tally, measured.usage, measured.seconds))
    }
}

/// A fifth of the time goes before.
pub(crate) fn warm_up(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds * 0.2)
}

pub(crate) fn run(args: &FloorArgs) -> Result<()> {
    let common = &args.common;
    let rows = match args.probe {
        Some(Probe::Disk) => disk::rows(common)?,
        Some(Probe::Hop) => vec![hop::row(common)?],
        Some(Probe::Hosts) => hosts::rows(common)?,
        Some(Probe::Ping) => vec![row("ping 64 B", PING, common)?],
        Some(Probe::Send) => vec![row("send", args.shape(Path::Send), common)?],
        None => {
            let shape = args.shape(args.path);
            let name = format!("{:?} {} x{} x{}", shape.path, shape.size, shape.connections, shape.in_flight);
            vec![row(&name.to_lowercase(), shape, common)?]
        }
    };
    report::print(&rows, common.json)
}

impl FloorArgs {
    fn shape(&self, path: Path) -> Shape {
        Shape { path, size: self.size, connections: self.connections, in_flight: self.in_flight }
    }
}

/// The name by which the command line knows `value`.
fn name_of(value: impl ValueEnum) -> Result<PossibleValue> {
    value.to_possible_value().context("every value has a name")
}

fn row(name: &str, shape: Shape, common: &Common) -> Result<Row> {
    let floor = Floor::start(shape, &common.place)?;
    let rounds = (0..common.rounds.max(1)).map(|_| floor.round(common.seconds, &common.place));
    Ok(Row::new(name, &rounds.collect::<Result<Vec<_>>>()?))
}

/// The child process of `Floor::start`.
#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[arg(long)]
    cpu: usize,
    #[arg(long, value_enum)]
    host: Host,
}

pub(crate) fn serve(args: &ServeArgs) -> Result<()> {
    let server = args.server.clone();
    on_cpu(args.cpu, args.host, move |arena| server::serve(server, arena))
}

/// Runs a task that uses an arena on `host` pinned to `cpu`, in a thread of its own, so that the caller's stays free.
fn on_cpu<F, T>(cpu: usize, host: Host, make: impl FnOnce(Arena) -> F + Send + 'static) -> Result<T>
where
    F: Future<Output = Result<T, watershed_core::error::Fault>> + 'static,
    T: Send + 'static,
{
    let config = ExecutorConfig { cpu: Some(cpu), ..ExecutorConfig::default() };
    let body = move || {
        let arena = Arena::new(ARENA_BYTES);
        host.runtime().run(config, move || async move { make(arena?).await })?
    };
    Ok(std::thread::spawn(body).join().map_err(|_| anyhow!("a task of the floor panicked"))??)
}

/// The directory of the disk probes' file.
fn disk_file(place: &Place) -> Result<PathBuf> {
    Ok(place.directory("floor")?.join("disk"))
}
