//! The command line: what can be asked, the exit codes, and nothing about how it is done.

mod exit;
mod inspect;
mod logging;
mod report;
mod salvage;
mod show_settings;
mod signals;
mod start;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};

use crate::settings::{Asked, Key, Machine, Settings, resolve};

pub use exit::{Exit, Failure};

/// A durable partitioned log that unmodified Apache Kafka clients write and read.
#[derive(Parser)]
#[command(name = "watershed-broker", version, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Start the broker (the default)
    Start,
    /// Print every setting, its value and where that came from
    Settings {
        /// As JSON, one object per setting
        #[arg(long)]
        json: bool,
    },
    /// Print what a data directory holds and check all of it; changes nothing
    Inspect {
        dir: PathBuf,
        /// As one JSON object
        #[arg(long)]
        json: bool,
        /// With every frame of the journals and its entries
        #[arg(long)]
        frames: bool,
    },
    /// Copy what is sound in a damaged data directory into a new one
    Salvage {
        /// The damaged directory; it is not changed
        dir: PathBuf,
        /// A missing or empty directory
        new: PathBuf,
    },
}

/// The flags stay text here: every layer is read by the same parser.
#[derive(Args)]
struct SettingsArgs {
    /// Where the data lies [default: $XDG_DATA_HOME/watershed/broker]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where Kafka clients connect to [default: 127.0.0.1:9092]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// What clients are told to connect to [default: the listen address]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Admin HTTP: /live /ready /metrics /dashboard /version [default: 127.0.0.1:9644]
    #[arg(long, global = true, value_name = "HOST:PORT|none")]
    admin: Option<String>,
    /// One shard per core: a number, a list (0,1 or 0-3) or unbound:N [default: all allowed]
    #[arg(long, global = true, value_name = "CORES")]
    cores: Option<String>,
    /// What shards run in: ring, or glommio where it was built in [default: ring]
    #[arg(long, global = true, value_name = "RUNTIME")]
    runtime: Option<String>,
    /// Memory budget of the process, like 2GiB [default: 25 % of the limit]
    #[arg(long, global = true, value_name = "SIZE")]
    memory: Option<String>,
    /// This broker's id [default: 1]
    #[arg(long, global = true, value_name = "N")]
    node_id: Option<String>,
    /// Accept plaintext without authentication off loopback
    #[arg(long, global = true)]
    insecure: bool,
    /// human or json [default: human]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// off, error, warn, info, debug or trace; more after commas: info,watershed_core=debug [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Requests that took this long are logged with their phases, like 250ms; none: no such log [default: 1 s]
    #[arg(long, global = true, value_name = "DURATION|none")]
    slow_request: Option<String>,
    /// A file of settings: TOML, or Kafka's server.properties
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, by our name or by Kafka's: --set num.partitions=4
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl SettingsArgs {
    fn asked(self) -> Asked {
        let flags = [
            (Key::DataDir, self.data_dir),
            (Key::Listen, self.listen),
            (Key::Advertise, self.advertise),
            (Key::Admin, self.admin),
            (Key::Cores, self.cores),
            (Key::Runtime, self.runtime),
            (Key::Memory, self.memory),
            (Key::NodeId, self.node_id),
            (Key::Insecure, self.insecure.then(|| "true".to_owned())),
            (Key::LogFormat, self.log_format),
            (Key::LogLevel, self.log_level),
            (Key::SlowRequest, self.slow_request),
        ];
        let given = flags.into_iter().filter_map(|(key, value)| Some((key, value?)));
        Asked { config: self.config, set: self.set, flags: given.collect() }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let started = Instant::now();
    match run(Cli::parse(), started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("watershed-broker: {}", failure.message);
            failure.exit.into()
        }
    }
}

fn run(cli: Cli, started: Instant) -> Result<(), Failure> {
    let machine = Machine::probe();
    let settings: Settings =
        resolve(&cli.settings.asked(), &machine).map_err(|error| Failure::new(Exit::Usage, error))?;
    match cli.command.unwrap_or(Command::Start) {
        Command::Start => start::start(settings, started),
        Command::Settings { json } => show_settings::print(&settings, json),
        Command::Inspect { dir, json, frames } => inspect::print(&dir, json, frames),
        Command::Salvage { dir, new } => salvage::run(&settings, &dir, &new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_has_its_flag() {
        for key in Key::ALL {
            let command = Cli::command();
            assert!(command.get_arguments().any(|arg| arg.get_long() == Some(key.flag())), "{}", key.flag());
        }
    }
}
