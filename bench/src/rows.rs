//! `rows`: the figures that the broker has goals for, each beside its floor and its goal.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::broker;
use crate::floor::{Common, sequential_read};
use crate::kafka::{Admin, Producer, Template};
use crate::load::{Connection, Load, Stream, Traffic, once};
use crate::log::{LoadArgs, LogArgs, Mode, beside_floor};
use crate::process::Usage;
use crate::report::{Row, print};
use crate::server_process::Server;

/// What a bounded log keeps, all partitions together.
const KEEP_MIB: u64 = 1024;
/// Batches of the log that is killed: as large as go through the journal, so that it is full when the end comes.
const KILLED_BATCH_BYTES: usize = 60 << 10;
/// Until what was just made is at rest.
const SETTLE: Duration = Duration::from_secs(2);
/// What is added to see what one of it takes.
const MORE_CONNECTIONS: u32 = 1000;
const MORE_PARTITIONS: u32 = 9000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    #[value(name = "produce-1m")]
    Produce1M,
    /// On files that were never written before: beside the one above, not held to a goal of its own
    #[value(name = "produce-1m-fresh")]
    Produce1MFresh,
    #[value(name = "produce-100k")]
    Produce100K,
    #[value(name = "produce-10k")]
    Produce10K,
    #[value(name = "produce-1")]
    Produce1,
    #[value(name = "tail-1m")]
    Tail1M,
    Catchup,
    #[value(name = "partitions-10k")]
    Partitions10K,
    StartKill,
    StartClean,
    Idle,
}

#[derive(Args)]
pub(crate) struct RowsArgs {
    /// Which rows; all if none is named
    names: Vec<Name>,
    /// Smaller logs and fewer partitions: shows that a row works, not what it is worth
    #[arg(long)]
    quick: bool,
    /// The broker's program, if it does not lie beside this one
    #[arg(long)]
    broker: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// A row's goal and what came out.
#[derive(Serialize)]
struct Outcome {
    row: String,
    goal: String,
    measured: String,
    is_met: bool,
}

pub(crate) fn run(args: &RowsArgs) -> Result<()> {
    let names = if args.names.is_empty() { Name::value_variants().to_vec() } else { args.names.clone() };
    for name in names {
        let row = name.to_possible_value().context("every row has a name")?.get_name().to_owned();
        let (goal, measured, is_met) = match args.run(name) {
            Ok(outcome) => outcome,
            Err(error) => ("to run at all".to_owned(), format!("{error:#}"), false),
        };
        let outcome = Outcome { row, goal, measured, is_met };
        if args.common.json {
            println!("{}", serde_json::to_string(&outcome)?);
        } else {
            let verdict = if is_met { "met" } else { "short" };
            println!("{:<15} {verdict:<6} goal: {}; measured: {}\n", outcome.row, outcome.goal, outcome.measured);
        }
    }
    Ok(())
}

type Judged = (String, String, bool);

impl RowsArgs {
    fn run(&self, name: Name) -> Result<Judged> {
        match name {
            Name::Produce1M => self.recycling(self.produce(1 << 20, 100, 5, 4), 70.0, Some(1.5)),
            Name::Produce1MFresh => self.throughput(self.produce(1 << 20, 100, 5, 4), 70.0, None),
            Name::Produce100K => self.recycling(self.produce(100 << 10, 100, 4, 4), 65.0, None),
            Name::Produce10K => self.recycling(self.produce(10 << 10, 10, 8, 16), 60.0, None),
            Name::Produce1 => self.single_record(),
            Name::Tail1M => self.throughput(self.fetch(Mode::Recent, 64), 85.0, None),
            Name::Catchup => self.catch_up(),
            Name::Partitions10K => self.many_partitions(),
            Name::StartKill => self.start_after_kill(),
            Name::StartClean => self.start_clean(),
            Name::Idle => self.idle(),
        }
    }

    fn sized<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    fn produce(&self, batch_bytes: usize, records: usize, in_flight: usize, partitions: u32) -> LogArgs {
        let load = LoadArgs {
            topic: None,
            connections: 4,
            in_flight,
            partitions,
            batch_bytes,
            records,
            acks: -1,
            idempotent: false,
            rate: None,
            keep_mib: None,
            preload_mib: 0,
            fetch_bytes: 1 << 20,
        };
        let (broker, common) = (self.broker.clone(), self.common.clone());
        LogArgs { mode: Mode::Produce, target: None, pid: None, own: true, broker, memory: None, load, common }
    }

    fn fetch(&self, mode: Mode, preload_mib: u64) -> LogArgs {
        let mut args = self.produce(1 << 20, 100, 5, 4);
        args.mode = mode;
        args.load.preload_mib = preload_mib;
        args
    }

    fn measured(&self, args: &LogArgs) -> Result<(Row, Row)> {
        let rows = beside_floor(args)?;
        if !self.common.json {
            print(&rows, false)?;
        }
        let [floor, row] = rows.try_into().ok().context("a floor and a row")?;
        Ok((floor, row))
    }

    /// A log that keeps a bounded size, as most do: segments lie in files that were used before.
    fn recycling(&self, mut args: LogArgs, percent: f64, cpu_max: Option<f64>) -> Result<Judged> {
        args.load.keep_mib = Some(KEEP_MIB / u64::from(args.load.partitions));
        self.throughput(args, percent, cpu_max)
    }

    fn throughput(&self, args: LogArgs, percent: f64, cpu_max: Option<f64>) -> Result<Judged> {
        let (floor, row) = self.measured(&args)?;
        let share = row.percent_of_floor.unwrap_or(0.0);
        let cpu = row.figures.cpu_s_per_gb / floor.figures.cpu_s_per_gb.max(1e-9);
        let mut goal = format!("{percent:.0} % of floor");
        let mut measured = format!("{share:.0} %, {:.0} MB/s, {cpu:.2} x its CPU per byte", row.figures.mb_per_s);
        let mut is_met = share >= percent;
        if let Some(most) = cpu_max {
            let written = row.figures.written_per_byte.unwrap_or(f64::INFINITY);
            goal.push_str(&format!(", at most {most} x its CPU, written/acknowledged at most 1.1"));
            measured.push_str(&format!(", written/acknowledged {written:.2} (pool included)"));
            is_met &= cpu <= most && written <= 1.1;
        }
        Ok((goal, measured, is_met))
    }

    fn single_record(&self) -> Result<Judged> {
        let mut args = self.produce(1 << 10, 1, 1, 1);
        args.load.connections = 1;
        let (floor, row) = self.measured(&args)?;
        let ratio = row.figures.p50_us / floor.figures.p50_us;
        let measured = format!("{ratio:.2} x ({:.0} us beside {:.0})", row.figures.p50_us, floor.figures.p50_us);
        Ok(("p50 at most 1.3 x floor".to_owned(), measured, ratio <= 1.3))
    }

    fn catch_up(&self) -> Result<Judged> {
        let disk = sequential_read(&self.common)?;
        let mut args = self.fetch(Mode::Catchup, self.sized(4096, 512));
        args.memory = Some(self.sized("1GiB", "128MiB").to_owned());
        // One consumer for the whole log.
        args.load.partitions = 1;
        let (_, row) = self.measured(&args)?;
        let share = 100.0 * row.figures.mb_per_s / disk.figures.mb_per_s;
        let read = row.figures.read_per_byte.unwrap_or(0.0);
        let measured = format!(
            "{share:.0} % ({:.0} of {:.0} MB/s), {read:.2} bytes from disk for each byte fetched",
            row.figures.mb_per_s, disk.figures.mb_per_s
        );
        // What the tail cache may hold, a quarter of the budget, is a sixteenth of the log.
        let is_from_disk = read >= 1.0 - 1.0 / 16.0;
        Ok(("70 % of the disk's direct sequential read".to_owned(), measured, share >= 70.0 && is_from_disk))
    }

    fn many_partitions(&self) -> Result<Judged> {
        let (_, few) = self.measured(&self.produce(10 << 10, 10, 8, 100))?;
        let (_, many) = self.measured(&self.produce(10 << 10, 10, 8, self.sized(10_000, 1000)))?;
        let share = 100.0 * many.figures.ops_per_s / few.figures.ops_per_s;
        let measured = format!("{share:.0} % ({:.0} of {:.0}/s)", many.figures.ops_per_s, few.figures.ops_per_s);
        Ok(("80 % of the 100-partition figure".to_owned(), measured, share >= 80.0))
    }

    fn broker(&self) -> Option<&Path> {
        self.broker.as_deref()
    }

    fn start_after_kill(&self) -> Result<Judged> {
        let partitions = self.sized(10_000, 1000);
        let (small, small_replayed) = self.first_ack_after_kill(self.sized(1024, 64), partitions)?;
        let (large, large_replayed) = self.first_ack_after_kill(self.sized(10_240, 256), partitions)?;
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        let measured = format!(
            "{:.0} ms ({large_replayed} replayed), with a tenth of the log {:.0} ms ({small_replayed})",
            ms(large),
            ms(small)
        );
        let goal = "first ack within 500 ms of exec".to_owned();
        Ok((goal, measured, large.max(small) <= Duration::from_millis(500)))
    }

    /// Writes a log of `mib` over all partitions in batches that go through the journal, and kills the broker while more
    /// come.
    fn first_ack_after_kill(&self, mib: u64, partitions: u32) -> Result<(Duration, String)> {
        let place = &self.common.place;
        let server = broker::start(self.broker(), place, "start-kill", &[])?;
        let template = Template::new(KILLED_BATCH_BYTES, 100, 1);
        Admin::connect(server.address)?.create_topic("start", partitions, &[])?;
        let batches = (mib << 20) / template.bytes() as u64 / 4;
        let streams = |batches: Option<u64>| -> Vec<Stream> {
            let producer = |seed| Producer::new("start", partitions, template.clone(), seed);
            let counted = |seed| batches.map_or_else(|| producer(seed), |count| producer(seed).batches(count));
            let stream = |seed| Stream { traffic: Box::new(counted(seed)), in_flight: 5, rate: None, group: 0 };
            (0..4).map(stream).collect()
        };
        let load = self.load(server.address);
        once(load, streams(Some(batches)))?;
        let under_load = std::thread::spawn({
            let streams = streams(None);
            // It ends with the server: that is no failure.
            move || drop(once(load, streams))
        });
        std::thread::sleep(Duration::from_secs(1));
        server.kill()?;
        under_load.join().ok().context("the load ended")?;
        let (server, replayed) = broker::recover(self.broker(), place, "start-kill")?;
        let acknowledged = first_acknowledgement(&server, partitions)?;
        server.stop()?;
        Ok((acknowledged, replayed))
    }

    fn start_clean(&self) -> Result<Judged> {
        let server = broker::start(self.broker(), &self.common.place, "start-clean", &[])?;
        let ready = server.ready_after;
        server.stop()?;
        let measured = format!("{:.0} ms", ready.as_secs_f64() * 1e3);
        Ok(("ready within 100 ms".to_owned(), measured, ready <= Duration::from_millis(100)))
    }

    fn idle(&self) -> Result<Judged> {
        let server = broker::start(self.broker(), &self.common.place, "idle", &[])?;
        let mut admin = Admin::connect(server.address)?;
        let before = Usage::of(server.pid())?;
        admin.create_topic("idle", 1000, &[])?;
        let connect = |_| Admin::connect(server.address).and_then(|mut it| it.identity().map(|_| it));
        let connections = (0..100).map(connect).collect::<Result<Vec<_>>>()?;
        std::thread::sleep(SETTLE);
        let (began, resting) = (Instant::now(), Usage::of(server.pid())?);
        std::thread::sleep(Duration::from_secs_f64(self.common.seconds.max(10.0)));
        let spent = Usage::of(server.pid())?.since(resting);
        let percent = 100.0 * spent.cpu.as_secs_f64() / began.elapsed().as_secs_f64();
        let more_connections = (0..MORE_CONNECTIONS).map(connect).collect::<Result<Vec<_>>>()?;
        let connection_bytes = self.grown(&server, spent)? / u64::from(MORE_CONNECTIONS);
        drop((connections, more_connections));
        let few = Usage::of(server.pid())?;
        admin.create_topic("more", MORE_PARTITIONS, &[])?;
        let partition_bytes = self.grown(&server, few)? / u64::from(MORE_PARTITIONS);
        server.stop()?;
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let (empty, full) = (mib(before.resident_bytes), mib(spent.resident_bytes));
        let measured = format!(
            "{percent:.2} % of a core, RSS {full:.1} MiB ({empty:.1} before them), {connection_bytes} bytes for a \
             connection, {partition_bytes} for a partition"
        );
        let is_small = connection_bytes <= 8 << 10 && partition_bytes <= 1 << 10;
        Ok((
            "at most 0.2 % of a core, 64 MiB and the arena in use, 8 KiB for a connection, 1 KiB for a partition"
                .to_owned(),
            measured,
            percent <= 0.2 && full <= 64.0 && is_small,
        ))
    }

    /// How much more memory the server has than it had, once it rests.
    fn grown(&self, server: &Server, before: Usage) -> Result<u64> {
        std::thread::sleep(SETTLE);
        Ok(Usage::of(server.pid())?.resident_bytes.saturating_sub(before.resident_bytes))
    }

    fn load(&self, target: SocketAddr) -> Load {
        let cpu = Some(self.common.place.client_cpu);
        Load { target, warm_up: Duration::ZERO, duration: Duration::ZERO, cpu, server_pid: None }
    }
}

/// From the server's exec to the first acknowledged batch.
fn first_acknowledgement(server: &Server, partitions: u32) -> Result<Duration> {
    let mut producer = Producer::new("start", partitions, Template::new(1 << 10, 1, 1), 9);
    let mut connection = Connection::open(server.address)?;
    let request = producer.request().context("its batches are not counted")?;
    connection.send(&[request])?;
    connection.wait_for_frame()?;
    producer.answer(connection.next_frame()?.unwrap_or_default())?;
    Ok(server.started.elapsed())
}
