//! `consume`: prints records.
//!
//! With a group it is a member of it: it gets a part of the partitions, goes on where the group has committed, commits what it
//! has printed, and leaves at its end, by a signal too. Its heartbeats come between two records: a member whose output is
//! blocked for longer than its session lasts is taken for dead, and joins again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use watershed_daemon::signals;

use crate::client::{Cluster, Consumed, Consumer, Member, Place};
use crate::lifecycle::Shutdown;

use super::super::progress::records_bar;
use super::super::{Exit, Failure};
use super::format::{self, Format};
use super::{Target, moment, output_failed};

/// How long a fetch waits for records.
const WAIT: Duration = Duration::from_millis(500);
/// A group's offsets are committed after so many records or so long, and at the end.
const COMMIT_RECORDS: u64 = 10_000;
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Start {
    Beginning,
    End,
    Offset(i64),
    /// So many records before the end of each partition.
    Last(i64),
    Time(i64),
}

fn start(text: &str) -> Result<Start, String> {
    if let Some(time) = text.strip_prefix('@') {
        return moment::parse(time).map(Start::Time);
    }
    match (text, text.parse::<i64>()) {
        ("beginning" | "earliest", _) => Ok(Start::Beginning),
        ("end" | "latest", _) => Ok(Start::End),
        (_, Ok(offset)) if offset >= 0 => Ok(Start::Offset(offset)),
        (_, Ok(count)) => Ok(Start::Last(count.saturating_neg())),
        _ => Err(format!("'{text}' is not beginning, end, an offset, -COUNT (the last so many) or @TIME")),
    }
}

fn parse_format(text: &str) -> Result<Format, String> {
    Format::parse(text)
}

#[derive(Args)]
pub(in crate::cli) struct ConsumeArgs {
    topic: String,
    /// Only these partitions [default: all, or those that the group gives]
    #[arg(short, long, value_delimiter = ',', conflicts_with = "group")]
    partitions: Vec<i32>,
    /// beginning, end, an offset, -COUNT (the last so many) or @TIME (@2026-11-24T12:30:00Z, '@-1 h')
    #[arg(short = 'o', long, value_name = "WHERE", default_value = "beginning", value_parser = start, allow_hyphen_values = true)]
    from: Start,
    /// Join this group: share the partitions with its members, go on where it has committed, commit what was printed
    #[arg(short, long)]
    group: Option<String>,
    /// Exit at the end of the partitions
    #[arg(short, long)]
    exit: bool,
    /// Exit after so many records
    #[arg(short, long)]
    count: Option<u64>,
    /// As kcat's: %t topic, %p partition, %o offset, %T timestamp, %k key, %s value, %K %S lengths, %h headers
    #[arg(short, long, value_parser = parse_format, conflicts_with_all = ["json", "keys"])]
    format: Option<Format>,
    /// Print keys, a tab and values
    #[arg(short, long, conflicts_with = "json")]
    keys: bool,
    /// Each record as a JSON object on a line
    #[arg(long)]
    json: bool,
    /// Write to this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Runs `consume`.
pub(super) fn run(args: &ConsumeArgs) -> Result<(), Failure> {
    let mut cluster = args.target.connect()?;
    let places = wanted(&mut cluster, args)?;
    let stop = Shutdown::default();
    let (positions, member) = match &args.group {
        None => (positions(&mut cluster, args, places)?, None),
        Some(group) => {
            signals::obey(stop.clone())
                .map_err(|cause| Failure::new(Exit::Environment, format!("signals: {cause}")))?;
            (BTreeMap::new(), Some(Member::new(group, vec![args.topic.clone()])))
        }
    };
    let bar = bar(&mut cluster, args, &positions)?;
    let out: Box<dyn Write> = match &args.output {
        Some(path) => {
            let failed = |cause| Failure::new(Exit::Io, format!("{}: {cause}", path.display()));
            Box::new(File::create(path).map_err(failed)?)
        }
        None => Box::new(io::stdout().lock()),
    };
    let printer = Printer { out: BufWriter::new(out), form: Form::of(args)?, buffer: Vec::new() };
    let consumer = Consumer::new(&mut cluster, positions);
    let mut pump = Pump { args, consumer, printer, bar, stop, member, printed: Printed::default(), count: 0 };
    let done = pump.run();
    pump.bar.finish_and_clear();
    done
}

/// Moves records from a consumer to where they are printed.
struct Pump<'a> {
    args: &'a ConsumeArgs,
    consumer: Consumer<'a>,
    printer: Printer,
    bar: ProgressBar,
    /// A signal asks to end: what was printed is committed then.
    stop: Shutdown,
    /// Of the group, if there is one.
    member: Option<Member>,
    printed: Printed,
    count: u64,
}

/// What was printed since the last commit.
struct Printed {
    /// Behind the last record of each partition.
    reached: BTreeMap<Place, i64>,
    since: Instant,
    records_count: u64,
}

impl Default for Printed {
    fn default() -> Printed {
        Printed { reached: BTreeMap::new(), since: Instant::now(), records_count: 0 }
    }
}

impl Pump<'_> {
    /// Prints until there is a reason to stop.
    fn run(&mut self) -> Result<(), Failure> {
        let lost = || {
            Failure::new(
                Exit::Refused,
                "the group has gone on without this member: what it printed last may be read again",
            )
        };
        let printed = self.print_all().and_then(|()| self.commit()?.then_some(()).ok_or_else(lost));
        let left = self.member.as_mut().map_or(Ok(()), |member| member.leave(self.consumer.cluster()));
        printed?;
        Ok(left?)
    }

    fn print_all(&mut self) -> Result<(), Failure> {
        while !self.is_done() {
            self.stay()?;
            match self.consumer.next(WAIT)? {
                Some(record) => {
                    if let Err(cause) = self.print(record) {
                        return output_failed(cause);
                    }
                }
                None => {
                    if let Err(cause) = self.printer.out.flush() {
                        return output_failed(cause);
                    }
                }
            }
            if self.args.exit && self.consumer.is_at_end() {
                break;
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.stop.is_requested() || self.args.count.is_some_and(|most| self.count >= most)
    }

    fn print(&mut self, record: Consumed) -> io::Result<()> {
        self.printer.print(&record)?;
        self.count += 1;
        self.bar.inc(1);
        self.printed.records_count += 1;
        self.printed.reached.insert((record.topic, record.partition), record.offset + 1);
        Ok(())
    }

    /// Stays a member of the group: commits when that is due, and joins anew when the group rebalances.
    fn stay(&mut self) -> Result<(), Failure> {
        let Some(member) = &mut self.member else { return Ok(()) };
        member.beat(self.consumer.cluster())?;
        let is_joined = member.is_joined();
        let is_due = self.printed.records_count >= COMMIT_RECORDS || self.printed.since.elapsed() >= COMMIT_EVERY;
        if !is_joined || is_due {
            self.commit()?;
        }
        let Some(member) = self.member.as_mut().filter(|member| !member.is_joined()) else { return Ok(()) };
        let places = member.join(self.consumer.cluster())?;
        let positions = positions(self.consumer.cluster(), self.args, places)?;
        self.consumer.assign(positions);
        Ok(())
    }

    /// What was printed is out before it is committed. Whether the group has taken it.
    fn commit(&mut self) -> Result<bool, Failure> {
        if let Err(cause) = self.printer.out.flush() {
            return output_failed(cause).map(|()| true);
        }
        let printed = std::mem::take(&mut self.printed);
        match &mut self.member {
            Some(member) if !printed.reached.is_empty() => {
                Ok(member.commit(self.consumer.cluster(), &printed.reached)?)
            }
            _ => Ok(true),
        }
    }
}

/// The partitions that are asked for.
fn wanted(cluster: &mut Cluster, args: &ConsumeArgs) -> Result<Vec<Place>, Failure> {
    let mut places = cluster.places(&args.topic)?;
    if let Some(missing) = args.partitions.iter().find(|part| places.iter().all(|(_, there)| there != *part)) {
        return Err(Failure::new(Exit::Refused, format!("topic {} has no partition {missing}", args.topic)));
    }
    places.retain(|(_, partition)| args.partitions.is_empty() || args.partitions.contains(partition));
    Ok(places)
}

/// Where each partition begins.
fn positions(cluster: &mut Cluster, args: &ConsumeArgs, places: Vec<Place>) -> Result<BTreeMap<Place, i64>, Failure> {
    let (starts, ends) = (cluster.offsets(&places, -2)?, cluster.offsets(&places, -1)?);
    let timed = match args.from {
        Start::Time(timestamp) => cluster.offsets_or_end(&places, timestamp)?,
        _ => BTreeMap::new(),
    };
    let committed = match &args.group {
        Some(group) => cluster.committed(group)?,
        None => BTreeMap::new(),
    };
    let mut positions = BTreeMap::new();
    for place in places {
        let of = |offsets: &BTreeMap<Place, i64>| offsets.get(&place).copied().unwrap_or_default();
        let (start, end) = (of(&starts), of(&ends));
        let wanted = match args.from {
            Start::Beginning => start,
            Start::End => end,
            Start::Offset(offset) => offset,
            Start::Last(count) => end.saturating_sub(count),
            Start::Time(_) => of(&timed),
        };
        let wanted = committed.get(&place).map_or(wanted, |committed| committed.offset);
        positions.insert(place, wanted.clamp(start, end.max(start)));
    }
    Ok(positions)
}

/// A bar where records go to a file and their number is known.
fn bar(cluster: &mut Cluster, args: &ConsumeArgs, positions: &BTreeMap<Place, i64>) -> Result<ProgressBar, Failure> {
    if args.output.is_none() {
        return Ok(ProgressBar::hidden());
    }
    let places: Vec<Place> = positions.keys().cloned().collect();
    let ends = cluster.offsets(&places, -1)?;
    let left: i64 = positions.iter().map(|(place, from)| ends.get(place).map_or(0, |end| (end - from).max(0))).sum();
    let left = u64::try_from(left).ok().filter(|_| args.exit);
    Ok(records_bar(args.count.or(left), "consuming"))
}

enum Form {
    Json,
    Text(Format),
}

impl Form {
    fn of(args: &ConsumeArgs) -> Result<Form, Failure> {
        let plain = if args.keys { format::KEYED } else { format::PLAIN };
        let wrong = |why| Failure::new(Exit::Internal, why);
        Ok(match (&args.format, args.json) {
            (_, true) => Form::Json,
            (Some(format), _) => Form::Text(format.clone()),
            (None, _) => Form::Text(Format::parse(plain).map_err(wrong)?),
        })
    }
}

struct Printer {
    out: BufWriter<Box<dyn Write>>,
    form: Form,
    buffer: Vec<u8>,
}

impl Printer {
    fn print(&mut self, record: &Consumed) -> io::Result<()> {
        self.buffer.clear();
        match &self.form {
            Form::Json => {
                self.buffer.extend(format::to_json(record).into_bytes());
                self.buffer.push(b'\n');
            }
            Form::Text(format) => format.write(record, &mut self.buffer),
        }
        self.out.write_all(&self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin_is_spelt_as_in_kcat() {
        assert_eq!(start("beginning"), Ok(Start::Beginning));
        assert_eq!(start("latest"), Ok(Start::End));
        assert_eq!(start("17"), Ok(Start::Offset(17)));
        assert_eq!(start("-5"), Ok(Start::Last(5)));
        assert_eq!(start("@1970-01-01T00:00:01Z"), Ok(Start::Time(1000)));
        assert!(start("middle").is_err() && start("@now").is_err());
    }
}
