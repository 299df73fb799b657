//! `groups`: what consumer groups cost a broker, whichever it is: idle members, a join of many, offset commits.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::broker;
use crate::floor::{Common, warm_up};
use crate::kafka::{Admin, Committer, Member, await_coordinator, settle};
use crate::latency::Tally;
use crate::load::{Load, Stream, measure};
use crate::process::Usage;
use crate::report::{self, Figures, Row};

/// How often a member tells that it is there, by the clients' defaults.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Members of `--groups` stable groups that send heartbeats only
    Idle,
    /// `--members` members join a new group at once; latency until the last has its assignment, the broker's initial
    /// rebalance delay included: all must come within it
    Join,
    /// `--connections` simple consumers commit one offset after the other
    Commit,
}

#[derive(Args)]
pub(crate) struct GroupsArgs {
    #[arg(long, value_enum, default_value = "commit")]
    mode: Mode,
    /// A broker that runs already
    #[arg(long, required_unless_present = "own", conflicts_with = "own")]
    target: Option<String>,
    /// The process of that broker, for its CPU time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// Start a Watershed broker on an empty directory
    #[arg(long = "self")]
    own: bool,
    /// The broker's program, if it does not lie beside this one
    #[arg(long)]
    broker: Option<PathBuf>,
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    /// Members of each group; 3 idle ones or 100 that join, if not given
    #[arg(long)]
    members: Option<usize>,
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Commits under way per connection
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(args: &GroupsArgs) -> Result<()> {
    let row = if args.own {
        let server = broker::start(args.broker.as_deref(), &args.common.place, "groups", &[])?;
        let row = on(args, server.address, Some(server.pid()))?;
        server.stop()?;
        row
    } else {
        let target = args.target.as_deref().context("a target is given")?;
        let address = target.to_socket_addrs()?.next().with_context(|| format!("{target} has no address"))?;
        on(args, address, args.pid)?
    };
    report::print(&[row], args.common.json)
}

fn on(args: &GroupsArgs, target: SocketAddr, pid: Option<u32>) -> Result<Row> {
    core_affinity::set_for_current(core_affinity::CoreId { id: args.common.place.client_cpu });
    let run = Run { args, target, pid, name: format!("bench-groups-{}", std::process::id()) };
    let partitions = u32::try_from(args.connections.max(1))?;
    Admin::connect(target)?.create_topic(&run.name, partitions, &[])?;
    await_coordinator(target, &run.name)?;
    match args.mode {
        Mode::Idle => run.idle(),
        Mode::Join => run.join(),
        Mode::Commit => run.commit(),
    }
}

struct Run<'a> {
    args: &'a GroupsArgs,
    target: SocketAddr,
    pid: Option<u32>,
    name: String,
}

impl Run<'_> {
    fn usage(&self) -> Result<Usage> {
        self.pid.map_or_else(|| Ok(Usage::default()), Usage::of)
    }

    fn connect(&self, group: &str, count: usize) -> Result<Vec<Member>> {
        (0..count).map(|_| Member::connect(self.target, group)).collect()
    }

    /// Every member is heard of once in an interval, at even distances, after all groups are stable.
    fn idle(&self) -> Result<Row> {
        let per_group = self.args.members.unwrap_or(3);
        let mut members = Vec::new();
        for group in 0..self.args.groups {
            members.push(self.connect(&format!("{}-{group}", self.name), per_group)?);
        }
        // Groups wait for members that may still come: all at the same time, each on a thread of its own.
        std::thread::scope(|scope| {
            let joining: Vec<_> = members.iter_mut().map(|group| scope.spawn(|| settle(group))).collect();
            joining.into_iter().try_for_each(|thread| thread.join().expect("a member does not panic"))
        })?;
        let mut members: Vec<Member> = members.into_iter().flatten().collect();
        let mut rounds = Vec::new();
        for _ in 0..self.args.common.rounds.max(1) {
            rounds.push(self.beats(&mut members)?);
        }
        let share = Figures::median(&rounds);
        let percent = share.cpu_us_per_op * share.ops_per_s / 1e4;
        Ok(Row::new(format!("idle {}x{per_group} {percent:.2} % core", self.args.groups), &rounds))
    }

    fn beats(&self, members: &mut [Member]) -> Result<Figures> {
        let mut tally = Tally::default();
        let (began, before) = (Instant::now(), self.usage()?);
        let distance = HEARTBEAT_INTERVAL / u32::try_from(members.len().max(1))?;
        let seconds = self.args.common.seconds.max(HEARTBEAT_INTERVAL.as_secs_f64());
        let mut due = began;
        let count = members.len();
        for member in (0..count).cycle().take_while(|_| began.elapsed().as_secs_f64() < seconds) {
            let Some(member) = members.get_mut(member) else { break };
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            member.heartbeat()?;
            tally.complete(0, due.elapsed());
            due += distance;
        }
        Ok(Figures::new(&tally, self.usage()?.since(before), began.elapsed().as_secs_f64()))
    }

    fn join(&self) -> Result<Row> {
        let count = self.args.members.unwrap_or(100);
        let mut rounds = Vec::new();
        for round in 0..self.args.common.rounds.max(1) {
            let mut members = self.connect(&format!("{}-{round}", self.name), count)?;
            let mut tally = Tally::default();
            let (began, before) = (Instant::now(), self.usage()?);
            settle(&mut members)?;
            tally.complete(0, began.elapsed());
            rounds.push(Figures::new(&tally, self.usage()?.since(before), began.elapsed().as_secs_f64()));
        }
        Ok(Row::new(format!("join of {count}"), &rounds))
    }

    fn commit(&self) -> Result<Row> {
        let args = self.args;
        let load = Load {
            target: self.target,
            warm_up: warm_up(args.common.seconds),
            duration: Duration::from_secs_f64(args.common.seconds),
            cpu: Some(args.common.place.client_cpu),
            server_pid: self.pid,
        };
        let stream = |index: usize| {
            let traffic = Committer::new(format!("{}-{index}", self.name), &self.name, i32::try_from(index)?);
            Ok(Stream { traffic: Box::new(traffic), in_flight: args.in_flight, rate: None, group: 0 })
        };
        let mut rounds = Vec::new();
        for _ in 0..args.common.rounds.max(1) {
            let measured = measure(load, (0..args.connections).map(stream).collect::<Result<_>>()?)?;
            let tally = measured.tallies.first().context("there is one group of streams")?;
            rounds.push(Figures::new(tally, measured.usage, measured.seconds));
        }
        Ok(Row::new(format!("commit x{} x{}", args.connections, args.in_flight), &rounds))
    }
}
