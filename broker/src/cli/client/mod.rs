//! The client's commands: what they share, and how their results and failures are shown.
//!
//! Each command asks through `crate::client` and prints to standard output: a table for people, or JSON for programs. What
//! is no result (progress, notes) goes to standard error.

mod config;
mod consume;
mod format;
mod group;
mod moment;
mod produce;
mod table;
mod topic;

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::{ClientError, Cluster};
use crate::settings::parse_duration_ms;

use super::{Exit, Failure};

/// A client's command.
#[derive(Subcommand)]
pub(super) enum ClientCommand {
    /// List, create, describe, change and delete topics, and delete their records
    Topic {
        #[command(subcommand)]
        command: topic::TopicCommand,
    },
    /// List, describe, reset and delete consumer groups
    Group {
        #[command(subcommand)]
        command: group::GroupCommand,
    },
    /// Write records from standard input or a file, one a line
    Produce(produce::ProduceArgs),
    /// Read records and print them
    Consume(consume::ConsumeArgs),
    /// Read and change the configurations of topics and brokers
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
}

/// Where the cluster is, and how long to ask.
#[derive(Args, Clone, Debug)]
pub(super) struct Target {
    /// A broker's address, or several after commas
    #[arg(short = 'b', long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// How long a request is tried again
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    timeout: Duration,
}

/// That, and the form of the result.
#[derive(Args, Clone, Debug)]
pub(super) struct Common {
    #[command(flatten)]
    target: Target,
    /// The result as JSON
    #[arg(long)]
    json: bool,
}

impl Target {
    fn connect(&self) -> Result<Cluster, Failure> {
        Cluster::connect(&self.bootstrap, self.timeout).map_err(Failure::from)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration_ms(text).map(Duration::from_millis)
}

/// Runs a client's command.
pub(super) fn run(command: ClientCommand) -> Result<(), Failure> {
    match command {
        ClientCommand::Topic { command } => topic::run(command),
        ClientCommand::Group { command } => group::run(command),
        ClientCommand::Produce(args) => produce::run(&args),
        ClientCommand::Consume(args) => consume::run(&args),
        ClientCommand::Config { command } => config::run(command),
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let exit = match error.is_unreachable() {
            true => Exit::Unreachable,
            false => Exit::Refused,
        };
        Failure::new(exit, error)
    }
}

/// Nobody else moves the offsets of a group while we do.
fn check_no_members(cluster: &mut Cluster, group: &str) -> Result<(), Failure> {
    match cluster.has_members(group)? {
        false => Ok(()),
        true => {
            let why = format!("group {group} has members; stop them first (`group describe {group}` shows them)");
            Err(Failure::new(Exit::Refused, why))
        }
    }
}

/// Prints a result.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).or_else(output_failed)
}

fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// Who reads the output may leave early: `| head` is no failure.
fn output_failed(cause: io::Error) -> Result<(), Failure> {
    match cause.kind() {
        ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::new(Exit::Io, format!("writing the output: {cause}"))),
    }
}

/// `NAME=VALUE`
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not of the form NAME=VALUE"))?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

/// The escapes of the command line: \n \t \r \0 \\ and \xHH.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.extend(letter.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        out.push(match letters.next() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = letters.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits} is no byte"))?
            }
            other => return Err(format!("\\{} is no escape", other.map(String::from).unwrap_or_default())),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_bytes() {
        assert_eq!(unescape(r"a\tb\x00\\é").unwrap(), b"a\tb\0\\\xc3\xa9");
        assert!(unescape(r"\q").is_err() && unescape(r"\xg").is_err() && unescape("\\").is_err());
    }

    #[test]
    fn a_pair_may_hold_further_signs() {
        assert_eq!(pair("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert!(pair("a").is_err());
    }
}
