//! The rows: jobs of the shapes that the service has goals for, each beside the floor that bounds it.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::plane::Transport;
use super::report::Against;
use super::{Course, ShuffleArgs, job, on_server};
use crate::floor::{Common, Floor, Path, Shape, sequential_read};
use crate::report::Row;

const LARGE: RangeInclusive<u32> = (16 << 10)..=(64 << 10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Blocks of 16 to 64 KiB in requests of 1 MiB, six times what memory holds
    PushNetty,
    /// The same by gRPC
    PushGrpc,
    /// Blocks of 0.8 KB of 200 maps for 2,000 reduces, by `--transport`
    Small,
    /// Blocks of 1 to 4 KiB for 10,000 reduces, four times what memory holds
    #[value(name = "push-1k")]
    Push1K,
    /// Large blocks that all fit into memory
    ReadMemory,
    /// Large blocks, hardly any of which is in memory when it is read
    ReadDisk,
    /// Two applications, one pushing while the other reads, of 70 % and of 150 % of memory
    Pressure,
}

/// A row's job.
struct Plan {
    row: &'static str,
    transport: Option<Transport>,
    maps: u32,
    reduces: u32,
    block_bytes: RangeInclusive<u32>,
    total_mib: u64,
    memory: &'static str,
    against: Option<Against>,
    course: Course,
}

/// A job of large blocks, to be varied.
const fn large(row: &'static str, transport: Option<Transport>) -> Plan {
    Plan {
        row,
        transport,
        maps: 16,
        reduces: 200,
        block_bytes: LARGE,
        total_mib: 3072,
        memory: "512MiB",
        against: Some(Against::Push),
        course: Course::Whole,
    }
}

fn plans(name: Name) -> Vec<Plan> {
    let pressed = |row, total_mib| Plan {
        maps: 8,
        total_mib,
        memory: "1GiB",
        against: None,
        course: Course::Overlapping,
        ..large(row, None)
    };
    match name {
        Name::PushNetty => vec![large("push-netty", Some(Transport::Netty))],
        Name::PushGrpc => vec![large("push-grpc", Some(Transport::Grpc))],
        Name::Small => vec![Plan {
            maps: 200,
            reduces: 2000,
            block_bytes: 640..=960,
            total_mib: 0,
            memory: "2GiB",
            against: None,
            ..large("small", None)
        }],
        Name::Push1K => {
            vec![Plan { maps: 80, reduces: 10_000, block_bytes: 1024..=4096, total_mib: 0, ..large("push-1k", None) }]
        }
        Name::ReadMemory => {
            vec![Plan { total_mib: 1024, memory: "3GiB", against: Some(Against::Memory), ..large("read-memory", None) }]
        }
        Name::ReadDisk => vec![Plan { memory: "256MiB", against: Some(Against::Disk), ..large("read-disk", None) }],
        Name::Pressure => vec![pressed("pressure 70 %", 717), pressed("pressure 150 %", 1536)],
    }
}

pub(super) fn run(args: &ShuffleArgs, name: Name) -> Result<()> {
    ensure!(args.server.is_none(), "a row starts a server of its own, with the memory that belongs to it");
    plans(name).iter().try_for_each(|plan| plan.run(args))
}

impl Plan {
    fn run(&self, args: &ShuffleArgs) -> Result<()> {
        let args = ShuffleArgs {
            transport: self.transport.unwrap_or(args.transport),
            maps: self.maps,
            reduces: self.reduces,
            block_bytes: self.block_bytes.clone(),
            total_mib: self.total_mib,
            memory: Some(self.memory.to_owned()),
            ..args.clone()
        };
        let floor = self.against.map(|against| Ok((floor(&args, against)?, against))).transpose();
        let floor: Option<(Row, Against)> = floor.map_err(|error: anyhow::Error| error.context("the floor"))?;
        let report = on_server(&args, |target| job(target, self.row, &args.shape(), args.manner(), self.course));
        let mut report = report.with_context(|| format!("row {}", self.row))?;
        if matches!(self.course, Course::Overlapping) {
            report = report.overlapping();
        }
        if let Some((floor, against)) = floor {
            report = report.beside(&floor, against);
        }
        report.print(args.json)
    }
}

/// What the machine can do for the figure of a row: 1 MiB received, checked and written; sent from memory; read.
fn floor(args: &ShuffleArgs, against: Against) -> Result<Row> {
    let common = Common { seconds: args.seconds, rounds: 1, place: args.place.clone(), json: args.json };
    let (name, path, in_flight) = match against {
        Against::Disk => return sequential_read(&common),
        Against::Push => ("receive, check and write 1 MiB", Path::Written, 5),
        Against::Memory => ("send 1 MiB", Path::Send, 1),
    };
    let shape = Shape { path, size: 1 << 20, connections: args.connections, in_flight };
    let floor = Floor::start(shape, &args.place)?;
    Ok(Row::new(name, &[floor.round(args.seconds, &args.place)?]))
}
