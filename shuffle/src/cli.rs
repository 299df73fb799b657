//! The command line: what can be asked, the process around the service, and its report once it serves.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use watershed_daemon::exit::{self, Failure};
use watershed_daemon::process::Process;
use watershed_daemon::report::Report;
use watershed_daemon::settings::{Cores, Machine, print_rows};

use crate::SERVICE;
use crate::service::Shuffle;
use crate::settings::{Asked, Key, Settings, resolve};

const HELP: &str = "Exit codes: 0 stopped in order; 2 command line or settings; 3 data directory locked, foreign or newer; \
                    4 the machine refuses (io_uring, file system, address or CPU in use); 5 a write failed; 70 a bug.";

/// A shuffle service that unmodified Apache Spark jobs use: an Apache Uniffle server and coordinator in one.
#[derive(Parser)]
#[command(name = "watershed-shuffle", version, after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Start the service (the default)
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
    /// Print a completion script for a shell
    Completion { shell: Shell },
}

/// The flags stay text here: every layer is read by the same parser.
#[derive(Args, Default)]
struct SettingsArgs {
    /// Where blocks lie that memory does not hold [default: $XDG_DATA_HOME/watershed/shuffle]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The coordinator, and the first core's gRPC; the other ports follow it [default: 127.0.0.1:19999]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The host that clients are told to connect to [default: that of the listen address]
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// Admin HTTP: /live /ready /metrics /apps /version [default: 127.0.0.1:19998]
    #[arg(long, value_name = "HOST:PORT|none")]
    admin: Option<String>,
    /// One shard per core: a number, a list (0,1 or 0-3) or unbound:N [default: all allowed]
    #[arg(long, value_name = "CORES")]
    cores: Option<String>,
    /// Memory budget of the process, like 2GiB [default: 25 % of the limit]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Serve without authentication off loopback: the protocol has none
    #[arg(long)]
    insecure: bool,
    /// human or json [default: human]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// off, error, warn, info, debug or trace; more after commas [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// A file of settings, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting: --set memory=2GiB
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
            (Key::Memory, self.memory),
            (Key::Insecure, self.insecure.then(|| "true".to_owned())),
            (Key::LogFormat, self.log_format),
            (Key::LogLevel, self.log_level),
        ];
        let given = flags.into_iter().filter_map(|(key, value)| Some((key, value?)));
        Asked { config: self.config, set: self.set, flags: given.collect() }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let started = Instant::now();
    exit::end(&SERVICE, run(Cli::parse(), started))
}

fn run(cli: Cli, started: Instant) -> Result<(), Failure> {
    let before = cli.settings.asked();
    let settings =
        |behind: SettingsArgs| resolve(&before.clone().then(behind.asked()), &Machine::probe()).map_err(Failure::from);
    match cli.command.unwrap_or(Command::Start { settings: SettingsArgs::default() }) {
        Command::Start { settings: behind } => start(&settings(behind)?, started),
        Command::Settings { json, settings: behind } => print_rows(&settings(behind)?.rows(), json),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), SERVICE.program, &mut std::io::stdout());
            Ok(())
        }
    }
}

fn start(settings: &Settings, started: Instant) -> Result<(), Failure> {
    let process = Process::begin(settings.log_format, &settings.log_level)?;
    let service = Shuffle::start_until(settings, process.shutdown())?;
    report(settings, &service).print(started);
    process.serves(&format!("serving on {}", service.local_addr()), service.pulse_handle())?;
    let ended = service.wait();
    if let Err(failure) = &ended {
        process.failed(failure);
        std::mem::forget(service);
    }
    ended.map_err(Failure::from)
}

fn report(settings: &Settings, service: &Shuffle) -> Report {
    let ports: Vec<String> = service.ports().iter().map(|(grpc, netty)| format!("{grpc}/{netty}")).collect();
    let pinned = match &settings.cores {
        Cores::Pinned(_) => format!("pinned to CPU {}", settings.cores.to_string().trim_end_matches(',')),
        Cores::Unbound(_) => "not pinned".to_owned(),
    };
    let listen = service.local_addr();
    let lines = [
        ("address", format!("{listen} (spark.rss.coordinator.quorum; clients are told {})", settings.advertised())),
        ("ports", format!("gRPC/Netty per shard: {}", ports.join(" "))),
        ("admin", service.admin_addr().map_or_else(|| "off".to_owned(), |at| format!("http://{at}"))),
        ("data", settings.data_dir.display().to_string()),
        (
            "durability",
            "memory first, as in Uniffle: a block that was lost is reported missing, never as empty".to_owned(),
        ),
        ("memory", settings.shown(Key::Memory)),
        ("shards", format!("{}, {pinned}", settings.cores.shards())),
    ];
    let warnings = settings.warnings.iter().map(|warning| ("warning", warning.clone()));
    let fields = vec![
        ("listen", listen.to_string()),
        ("advertise", settings.advertised()),
        ("admin", service.admin_addr().map_or_else(|| "none".to_owned(), |at| at.to_string())),
        ("ports", ports.join(",")),
        ("shards", settings.cores.shards().to_string()),
        ("memory_bytes", settings.memory_bytes.to_string()),
        ("data_dir", settings.data_dir.display().to_string()),
    ];
    Report { service: SERVICE, lines: lines.into_iter().chain(warnings).collect(), fields }
}
