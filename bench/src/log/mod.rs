//! `log`: load on any Kafka-wire broker, beside the floor of the same shape where the broker is ours.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::broker;
use crate::floor::{Common, Floor, Path, Shape, warm_up};
use crate::kafka::{Admin, Consumer, EARLIEST, LATEST, Producer, Template, Until};
use crate::load::{Load, Measured, Stream, measure, once};
use crate::report::{self, Figures, Row};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Send batches
    Produce,
    /// Fetch at the end of the log what is produced meanwhile; latency from the producer's send
    Tail,
    /// Fetch the newest `--preload-mib` over and over
    Recent,
    /// Fetch from the beginning to the end
    Catchup,
    /// The same, checking every offset and checksum
    Verify,
}

#[derive(Args, Clone)]
pub(crate) struct LogArgs {
    #[arg(long, value_enum, default_value = "produce")]
    pub(crate) mode: Mode,
    /// A broker that runs already
    #[arg(long, required_unless_present = "own", conflicts_with = "own")]
    pub(crate) target: Option<String>,
    /// The process of that broker, for its CPU time, writes and memory
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Start a Watershed broker on an empty directory, and measure the floor beside it
    #[arg(long = "self")]
    pub(crate) own: bool,
    /// The broker's program, if it does not lie beside this one
    #[arg(long)]
    pub(crate) broker: Option<PathBuf>,
    /// The memory budget of that broker, as its own flag takes it
    #[arg(long)]
    pub(crate) memory: Option<String>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args, Clone)]
pub(crate) struct LoadArgs {
    /// The topic; made if this run produces into it
    #[arg(long)]
    pub(crate) topic: Option<String>,
    #[arg(long, default_value_t = 4)]
    pub(crate) connections: usize,
    /// Requests under way per connection
    #[arg(long, default_value_t = 5)]
    pub(crate) in_flight: usize,
    #[arg(long, default_value_t = 4)]
    pub(crate) partitions: u32,
    #[arg(long, default_value_t = 1 << 20)]
    pub(crate) batch_bytes: usize,
    /// Records of each batch
    #[arg(long, default_value_t = 100)]
    pub(crate) records: usize,
    /// -1 all, 1 leader; both are answered
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, value_parser = clap::value_parser!(i16).range(-1..=1))]
    pub(crate) acks: i16,
    #[arg(long)]
    pub(crate) idempotent: bool,
    /// Batches per second of all connections together: an open loop, with latency from when each was due
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// MiB that a partition keeps (`retention.bytes`), so that files are used again; all if not given
    #[arg(long)]
    pub(crate) keep_mib: Option<u64>,
    /// MiB to write first, for the modes that only fetch
    #[arg(long, default_value_t = 0)]
    pub(crate) preload_mib: u64,
    /// Bytes that one fetch asks for
    #[arg(long, default_value_t = 1 << 20)]
    pub(crate) fetch_bytes: i32,
}

pub(crate) fn run(args: &LogArgs) -> Result<()> {
    ensure!(args.load.acks != 0, "acks 0 has no answers to count; use -1 or 1");
    let rows = if args.own { beside_floor(args)? } else { vec![alone(args)?] };
    report::print(&rows, args.common.json)
}

fn alone(args: &LogArgs) -> Result<Row> {
    let target = args.target.as_deref().context("a target is given")?;
    let target = target.to_socket_addrs()?.next().with_context(|| format!("{target} has no address"))?;
    let session = Session::new(args, target, args.pid)?;
    let rounds = (0..args.common.rounds.max(1)).map(|_| session.round());
    Ok(Row::new(session.name(), &rounds.collect::<Result<Vec<_>>>()?))
}

/// Rounds of the floor and of the broker in turn.
pub(crate) fn beside_floor(args: &LogArgs) -> Result<Vec<Row>> {
    let place = &args.common.place;
    let floor = Floor::start(args.floor_shape(), place)?;
    let mut more: Vec<&str> = args.memory.iter().flat_map(|memory| ["--memory", memory]).collect();
    if args.load.keep_mib.is_some() {
        more.extend(["--set", "log.retention.check.interval.ms=100"]);
    }
    let server = broker::start(args.broker.as_deref(), place, "broker", &more)?;
    let session = Session::new(args, server.address, Some(server.pid()))?;
    let (mut floors, mut brokers) = (Vec::new(), Vec::new());
    for _ in 0..args.common.rounds.max(1) {
        floors.push(floor.round(args.common.seconds, place)?);
        brokers.push(session.round()?);
    }
    let name = session.name();
    server.stop()?;
    let floor = Row::new("floor of the same shape", &floors);
    let row = Row::new(name, &brokers).beside(&floor);
    Ok(vec![floor, row])
}

impl LogArgs {
    /// Frames of under 64 KiB are grouped by the broker's journal; what is fetched is held against sending.
    pub(crate) fn floor_shape(&self) -> Shape {
        let load = &self.load;
        let (path, size) = match self.mode {
            Mode::Produce if load.batch_bytes < 64 << 10 => (Path::Grouped, load.batch_bytes),
            Mode::Produce => (Path::Durable, load.batch_bytes),
            _ => (Path::Send, load.fetch_bytes.max(8) as usize),
        };
        let in_flight = if path == Path::Send { 1 } else { load.in_flight };
        Shape { path, size, connections: load.connections, in_flight }
    }
}

/// A topic under load.
struct Session<'a> {
    args: &'a LogArgs,
    topic: String,
    template: Template,
    target: SocketAddr,
    pid: Option<u32>,
    origin: Instant,
}

impl<'a> Session<'a> {
    fn new(args: &'a LogArgs, target: SocketAddr, pid: Option<u32>) -> Result<Session<'a>> {
        let load = &args.load;
        let topic = load.topic.clone().unwrap_or_else(|| format!("bench-{}", std::process::id()));
        let template = Template::new(load.batch_bytes, load.records, 1);
        let session = Session { args, topic, template, target, pid, origin: Instant::now() };
        let produces = matches!(args.mode, Mode::Produce | Mode::Tail) || load.preload_mib > 0;
        if produces {
            let keep_bytes = load.keep_mib.map(|mib| (mib << 20).to_string());
            let configs: Vec<_> = keep_bytes.iter().map(|bytes| ("retention.bytes", bytes.as_str())).collect();
            Admin::connect(target)?.create_topic(&session.topic, load.partitions, &configs)?;
        }
        session.preload()?;
        Ok(session)
    }

    fn name(&self) -> String {
        let load = &self.args.load;
        let mode = format!("{:?}", self.args.mode).to_lowercase();
        format!("{mode} {} x{} x{}", load.batch_bytes, load.connections, load.in_flight)
    }

    fn load(&self) -> Load {
        Load {
            target: self.target,
            warm_up: warm_up(self.args.common.seconds),
            duration: Duration::from_secs_f64(self.args.common.seconds),
            cpu: Some(self.args.common.place.client_cpu),
            server_pid: self.pid,
        }
    }

    fn round(&self) -> Result<Figures> {
        let measured = match self.args.mode {
            Mode::Produce => measure(self.load(), self.producers(1)?)?,
            Mode::Tail => {
                let consumers = self.consumers(|admin, partition| {
                    Ok((admin.offset(&self.topic, partition, LATEST)?, Until::Forever))
                })?;
                measure(self.load(), consumers.into_iter().chain(self.producers(1)?).collect())?
            }
            Mode::Recent => measure(
                self.load(),
                self.consumers(|admin, partition| {
                    let end = admin.offset(&self.topic, partition, LATEST)?;
                    Ok((admin.offset(&self.topic, partition, EARLIEST)?, Until::Again(end)))
                })?,
            )?,
            Mode::Catchup | Mode::Verify => once(
                self.load(),
                self.consumers(|admin, partition| {
                    let end = admin.offset(&self.topic, partition, LATEST)?;
                    Ok((admin.offset(&self.topic, partition, EARLIEST)?, Until::Offset(end)))
                })?,
            )?,
        };
        figures(&measured)
    }

    /// Writes what the fetching modes need.
    fn preload(&self) -> Result<()> {
        let bytes = self.args.load.preload_mib << 20;
        let batches = bytes.div_ceil(self.template.bytes() as u64).div_ceil(self.args.load.connections.max(1) as u64);
        if batches == 0 {
            return Ok(());
        }
        let stream = |seed: usize| {
            let producer = self.producer(seed as u64).batches(batches);
            Stream { traffic: Box::new(producer), in_flight: self.args.load.in_flight, rate: None, group: 0 }
        };
        once(self.load(), (0..self.args.load.connections).map(stream).collect()).map(drop)
    }

    fn producer(&self, seed: u64) -> Producer {
        Producer::new(&self.topic, self.args.load.partitions, self.template.clone(), seed).acks(self.args.load.acks)
    }

    fn producers(&self, group: usize) -> Result<Vec<Stream>> {
        let load = &self.args.load;
        let group = if self.args.mode == Mode::Tail { group } else { 0 };
        let mut admin = Admin::connect(self.target)?;
        let mut stream = |seed: usize| {
            let identity = load.idempotent.then(|| admin.identity()).transpose()?;
            let origin = (self.args.mode == Mode::Tail).then_some(self.origin);
            let traffic = Box::new(self.producer(seed as u64 + 1).idempotent(identity).stamped(origin));
            Ok(Stream { traffic, in_flight: load.in_flight, rate: load.rate, group })
        };
        (0..load.connections).map(&mut stream).collect()
    }

    /// One consumer per partition.
    fn consumers(&self, mut offsets: impl FnMut(&mut Admin, i32) -> Result<(i64, Until)>) -> Result<Vec<Stream>> {
        let mut admin = Admin::connect(self.target)?;
        let mut stream = |partition| {
            let offsets = offsets(&mut admin, partition)?;
            let mut consumer = Consumer::new(&self.topic, partition, offsets, self.args.load.fetch_bytes);
            if self.args.mode == Mode::Verify {
                consumer = consumer.checking();
            }
            if self.args.mode == Mode::Tail {
                consumer = consumer.stamped(self.template.clone(), self.origin);
            }
            Ok(Stream { traffic: Box::new(consumer), in_flight: 1, rate: None, group: 0 })
        };
        (0..i32::try_from(self.args.load.partitions)?).map(&mut stream).collect()
    }
}

fn figures(measured: &Measured) -> Result<Figures> {
    let tally = measured.tallies.first().context("there is one group of streams")?;
    Ok(Figures::new(tally, measured.usage, measured.seconds))
}
