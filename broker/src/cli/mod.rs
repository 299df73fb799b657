//! The command line: what can be asked, the exit codes, and nothing about how it is done.

mod client;
mod exit;
mod inspect;
mod progress;
mod report;
mod salvage;
mod start;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use watershed_daemon::settings::print_rows;

use crate::SERVICE;
use crate::settings::{Asked, Key, Machine, Settings, resolve};

use client::ClientCommand;
pub use exit::{Exit, Failure};
pub use top::PANELS as TOP_PANELS;

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
    Start {
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Print every setting, its value and where that came from
    Settings {
        /// As JSON, one object per setting
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: SettingsArgs,
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
        #[command(flatten)]
        settings: SettingsArgs,
    },
    #[command(flatten)]
    Client(ClientCommand),
    /// Show what the broker does, live
    Top(top::TopArgs),
    /// Print a completion script for a shell: `watershed-broker completion bash > /etc/bash_completion.d/watershed-broker`
    Completion { shell: Shell },
}

/// The flags stay text here: every layer is read by the same parser.
#[derive(Args, Default)]
struct SettingsArgs {
    /// Where the data lies [default: $XDG_DATA_HOME/watershed/broker]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where Kafka clients connect to [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// What clients are told to connect to [default: the listen address]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Admin HTTP: /live /ready /metrics /dashboard /version [default: 127.0.0.1:9644]
    #[arg(long, value_name = "HOST:PORT|none")]
    admin: Option<String>,
    /// One shard per core: a number, a list (0,1 or 0-3) or unbound:N [default: all allowed]
    #[arg(long, value_name = "CORES")]
    cores: Option<String>,
    /// What shards run in: ring, or glommio where it was built in [default: ring]
    #[arg(long, value_name = "RUNTIME")]
    runtime: Option<String>,
    /// Memory budget of the process, like 2GiB [default: 25 % of the limit]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// This broker's id [default: 1]
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// Accept plaintext without authentication off loopback
    #[arg(long)]
    insecure: bool,
    /// human or json [default: human]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// off, error, warn, info, debug or trace; more after commas: info,watershed_core=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Requests that took this long are logged with their phases, like 250ms; none: no such log [default: 1 s]
    #[arg(long, value_name = "DURATION|none")]
    slow_request: Option<String>,
    /// A file of settings: TOML, or Kafka's server.properties
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, by our name or by Kafka's: --set num.partitions=4
    #[arg(long, value_name = "KEY=VALUE")]
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
    watershed_daemon::exit::end(&SERVICE, run(Cli::parse(), started))
}

fn run(cli: Cli, started: Instant) -> Result<(), Failure> {
    let before = cli.settings.asked();
    let machine = Machine::probe();
    let settings = |behind: SettingsArgs| -> Result<Settings, Failure> {
        Ok(resolve(&before.clone().then(behind.asked()), &machine)?)
    };
    let command = cli.command.unwrap_or(Command::Start { settings: SettingsArgs::default() });
    match command {
        Command::Start { settings: behind } => start::start(settings(behind)?, started),
        Command::Settings { json, settings: behind } => print_rows(&settings(behind)?.rows(), json),
        Command::Salvage { dir, new, settings: behind } => salvage::run(&settings(behind)?, &dir, &new),
        _ if !before.is_empty() => {
            Err(Failure::new(Exit::Usage, "settings of the broker have no effect on this command"))
        }
        Command::Inspect { dir, json, frames } => inspect::print(&dir, json, frames),
        Command::Client(command) => client::run(command),
        Command::Top(args) => top::run(&args),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "watershed-broker", &mut std::io::stdout());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SettingKey;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_has_its_flag() {
        for key in Key::ALL {
            let (command, flag) = (Cli::command(), key.name().replace('_', "-"));
            assert!(command.get_arguments().any(|arg| arg.get_long() == Some(&flag)), "{flag}");
        }
    }
}
