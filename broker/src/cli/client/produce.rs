//! `produce`: records from standard input or a file.
//!
//! Lines are read on a thread of their own, so that what has come is sent although the next line is not there yet.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::client::{Outgoing, Producer, ProducerOptions};
use crate::wire::records;

use super::super::progress::bytes_bar;
use super::super::{Exit, Failure};
use super::{Target, format, moment, pair, unescape};

/// What has come is sent when nothing more comes for so long.
const LINGER: Duration = Duration::from_millis(5);
/// Lines that may wait to be sent.
const LINES_MAX: usize = 4096;
/// The longest line.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// How batches are packed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for records::Codec {
    fn from(codec: Codec) -> records::Codec {
        match codec {
            Codec::None => records::Codec::None,
            Codec::Gzip => records::Codec::Gzip,
            Codec::Snappy => records::Codec::Snappy,
            Codec::Lz4 => records::Codec::Lz4,
            Codec::Zstd => records::Codec::Zstd,
        }
    }
}

/// Which replicas acknowledge.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Acks {
    All,
    #[value(name = "1")]
    Leader,
}

#[derive(Args)]
pub(in crate::cli) struct ProduceArgs {
    topic: String,
    /// Read from this file [default: standard input]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Split each line here into key and value, like '\t'
    #[arg(short = 'K', long, value_name = "TEXT", value_parser = separator, conflicts_with = "json")]
    key_separator: Option<Separator>,
    /// What ends a record
    #[arg(short = 'D', long, value_name = "TEXT", value_parser = separator, default_value = r"\n")]
    delimiter: Separator,
    /// A header of every record; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// To this partition [default: by the key, else by turns]
    #[arg(short, long)]
    partition: Option<i32>,
    /// How batches are packed
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    compression: Codec,
    #[arg(long, default_value = "all")]
    acks: Acks,
    /// Empty values (and keys) are null: deletions in a compacted topic
    #[arg(short = 'Z', long)]
    null: bool,
    /// Each line is a JSON object with key, payload and headers, as `consume --json` prints it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Bytes between things.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Separator(Vec<u8>);

fn separator(text: &str) -> Result<Separator, String> {
    match unescape(text)? {
        bytes if bytes.is_empty() => Err("it is empty".to_owned()),
        bytes => Ok(Separator(bytes)),
    }
}

/// Runs `produce`.
pub(super) fn run(args: &ProduceArgs) -> Result<(), Failure> {
    let (source, total_bytes) = open(args.file.as_deref())?;
    let mut cluster = args.target.connect()?;
    let acks = match args.acks {
        Acks::All => -1,
        Acks::Leader => 1,
    };
    let mut producer =
        Producer::new(&mut cluster, &args.topic, ProducerOptions { compression: args.compression.into(), acks })?;
    let bar = match args.file {
        Some(_) => bytes_bar(total_bytes, "producing"),
        None => indicatif::ProgressBar::hidden(),
    };
    let lines = lines(source, args.delimiter.0.clone());
    let mut number = 0_u64;
    while let Some(line) = next(&lines, &mut producer)? {
        number += 1;
        let line = line.map_err(|cause| Failure::new(Exit::Io, format!("reading record {number}: {cause}")))?;
        bar.inc((line.len() + args.delimiter.0.len()) as u64);
        let record = record(args, &line).map_err(|why| Failure::new(Exit::Usage, format!("record {number}: {why}")))?;
        producer.push(&record, moment::now_ms())?;
    }
    producer.flush()?;
    bar.finish_and_clear();
    eprintln!("{} records produced to {}", producer.sent_count(), args.topic);
    Ok(())
}

type Source = Box<dyn Read + Send>;

fn open(file: Option<&Path>) -> Result<(Source, Option<u64>), Failure> {
    let Some(path) = file else { return Ok((Box::new(io::stdin()), None)) };
    let failed = |cause: io::Error| Failure::new(Exit::Usage, format!("{}: {cause}", path.display()));
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((Box::new(file), Some(length)))
}

type Line = io::Result<Vec<u8>>;

/// The next line, if one comes before the end; what was taken is sent while none comes.
fn next(lines: &Receiver<Line>, producer: &mut Producer<'_>) -> Result<Option<Line>, Failure> {
    match lines.recv_timeout(LINGER) {
        Ok(line) => return Ok(Some(line)),
        Err(RecvTimeoutError::Disconnected) => return Ok(None),
        Err(RecvTimeoutError::Timeout) => producer.flush()?,
    }
    Ok(lines.recv().ok())
}

/// Reads lines on a thread that ends with its source or its reader.
fn lines(source: Source, delimiter: Vec<u8>) -> Receiver<Line> {
    let (sender, receiver) = sync_channel(LINES_MAX);
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        loop {
            match line(&mut source, &delimiter).transpose() {
                Some(line) => {
                    let is_last = line.is_err();
                    if sender.send(line).is_err() || is_last {
                        return;
                    }
                }
                None => return,
            }
        }
    });
    receiver
}

/// Up to the delimiter, without it; `None` at the end.
fn line(source: &mut impl BufRead, delimiter: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let Some(last) = delimiter.last() else { return Ok(None) };
    let mut line = Vec::new();
    loop {
        let left = LINE_BYTES_MAX.saturating_sub(line.len() as u64);
        let read = source.by_ref().take(left).read_until(*last, &mut line)?;
        if line.ends_with(delimiter) {
            line.truncate(line.len() - delimiter.len());
            return Ok(Some(line));
        }
        if read == 0 {
            return match left {
                0 => Err(io::Error::other(format!("it is longer than {LINE_BYTES_MAX} bytes"))),
                _ => Ok(Some(line).filter(|line| !line.is_empty())),
            };
        }
    }
}

fn record(args: &ProduceArgs, line: &[u8]) -> Result<Outgoing, String> {
    let mut record = match args.json {
        true => format::from_json(line)?,
        false => split(line, args.key_separator.as_ref().map(|separator| separator.0.as_slice())),
    };
    if args.null {
        record.key = record.key.filter(|key| !key.is_empty());
        record.value = record.value.filter(|value| !value.is_empty());
    }
    record.partition = args.partition;
    record.headers.extend(args.headers.iter().map(|(name, value)| (name.clone(), Some(value.clone().into_bytes()))));
    Ok(record)
}

/// Key and value; a line without the separator is a value.
fn split(line: &[u8], separator: Option<&[u8]>) -> Outgoing {
    let at = separator.and_then(|separator| line.windows(separator.len()).position(|window| window == separator));
    let (key, value) = match (at, separator) {
        (Some(at), Some(separator)) => (line.get(..at), line.get(at + separator.len()..)),
        _ => (None, Some(line)),
    };
    Outgoing { key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec), ..Outgoing::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
        let mut source = text;
        std::iter::from_fn(|| line(&mut source, delimiter).unwrap()).collect()
    }

    #[test]
    fn records_end_at_the_delimiter_or_with_the_input() {
        assert_eq!(all(b"a\n\nb", b"\n"), [b"a".to_vec(), Vec::new(), b"b".to_vec()]);
        assert_eq!(all(b"a;b;;c;;", b";;"), [b"a;b".to_vec(), b"c".to_vec()]);
        assert_eq!(all(b"", b"\n"), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        let pair = |line: &[u8], separator: Option<&[u8]>| {
            let record = split(line, separator);
            (record.key, record.value)
        };
        assert_eq!(pair(b"k::v::w", Some(b"::")), (Some(b"k".to_vec()), Some(b"v::w".to_vec())));
        assert_eq!(pair(b"v", Some(b"::")), (None, Some(b"v".to_vec())));
        assert_eq!(pair(b"k:v", None), (None, Some(b"k:v".to_vec())));
    }
}
