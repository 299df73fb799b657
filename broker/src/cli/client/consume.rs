//! `consume`: prints records.
//!
//! With a group it goes on where the group has committed and commits what it has printed. It is no member of the group, and so
//! reads only for one that has none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use crate::client::{Cluster, Consumed, Consumer, Place};

use super::super::progress::records_bar;
use super::super::{Exit, Failure};
use super::format::{self, Format};
use super::{Target, check_no_members, moment, output_failed};

/// How long a fetch waits for records.
const WAIT: Duration = Duration::from_millis(500);
/// A group's offsets are committed after so many records, and at the end.
const COMMIT_EVERY: u64 = 10_000;

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
    /// Only these partitions [default: all]
    #[arg(short, long, value_delimiter = ',')]
    partitions: Vec<i32>,
    /// beginning, end, an offset, -COUNT (the last so many) or @TIME (@2026-11-24T12:30:00Z, '@-1 h')
    #[arg(short = 'o', long, value_name = "WHERE", default_value = "beginning", value_parser = start, allow_hyphen_values = true)]
    from: Start,
    /// Go on where this group has committed, and commit what was printed
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
    let positions = positions(&mut cluster, args)?;
    let bar = bar(&mut cluster, args, &positions)?;
    let out: Box<dyn Write> = match &args.output {
        Some(path) => {
            let failed = |cause| Failure::new(Exit::Io, format!("{}: {cause}", path.display()));
            Box::new(File::create(path).map_err(failed)?)
        }
        None => Box::new(io::stdout().lock()),
    };
    let mut printer = Printer { out: BufWriter::new(out), form: Form::of(args)?, buffer: Vec::new() };
    let printed = pump(args, &mut Consumer::new(&mut cluster, positions), &mut printer, &bar);
    bar.finish_and_clear();
    printed
}

/// Prints until there is a reason to stop.
fn pump(
    args: &ConsumeArgs,
    consumer: &mut Consumer<'_>,
    printer: &mut Printer,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let (mut count, mut reached) = (0, BTreeMap::new());
    let is_done = |count: u64| args.count.is_some_and(|most| count >= most);
    while !is_done(count) {
        let Some(record) = consumer.next(WAIT)? else {
            if let Err(cause) = printer.out.flush() {
                return output_failed(cause);
            }
            if args.exit && consumer.is_at_end() {
                break;
            }
            continue;
        };
        if let Err(cause) = printer.print(&record) {
            return output_failed(cause);
        }
        count += 1;
        bar.inc(1);
        reached.insert((record.topic, record.partition), record.offset + 1);
        if count % COMMIT_EVERY == 0 {
            commit(args, consumer, printer, &mut reached)?;
        }
        if args.exit && consumer.is_at_end() {
            break;
        }
    }
    commit(args, consumer, printer, &mut reached)
}

/// What was printed is out before it is committed.
fn commit(
    args: &ConsumeArgs,
    consumer: &mut Consumer<'_>,
    printer: &mut Printer,
    reached: &mut BTreeMap<Place, i64>,
) -> Result<(), Failure> {
    if let Err(cause) = printer.out.flush() {
        return output_failed(cause);
    }
    match &args.group {
        Some(group) if !reached.is_empty() => Ok(consumer.commit(group, &std::mem::take(reached))?),
        _ => Ok(()),
    }
}

/// Where each partition begins.
fn positions(cluster: &mut Cluster, args: &ConsumeArgs) -> Result<BTreeMap<Place, i64>, Failure> {
    let mut places = cluster.places(&args.topic)?;
    if let Some(missing) = args.partitions.iter().find(|part| places.iter().all(|(_, there)| there != *part)) {
        return Err(Failure::new(Exit::Refused, format!("topic {} has no partition {missing}", args.topic)));
    }
    places.retain(|(_, partition)| args.partitions.is_empty() || args.partitions.contains(partition));
    let (starts, ends) = (cluster.offsets(&places, -2)?, cluster.offsets(&places, -1)?);
    let timed = match args.from {
        Start::Time(timestamp) => cluster.offsets_or_end(&places, timestamp)?,
        _ => BTreeMap::new(),
    };
    let committed = match &args.group {
        Some(group) => {
            check_no_members(cluster, group)?;
            cluster.committed(group)?
        }
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
