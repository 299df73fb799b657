//! What surrounds one service process: settings, locks, admin HTTP, signals, log, exit codes, and what systemd is told.
//!
//! Services never import each other, and all of them stand on this. It knows no protocol. Only [`process`] touches what
//! belongs to the whole process; everything else serves a service inside another program as well. The main of a service:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::time::Instant;
//! use watershed_daemon::cpu_lock::CpuLocks;
//! use watershed_daemon::directory_lock::DirectoryLock;
//! use watershed_daemon::settings::{Asked, Cores, Layers, Machine, SettingKey, parse_directory};
//! use watershed_daemon::{Service, exit, logging::LogFormat, process::Process, report::Report};
//!
//! const GAUGE: Service = Service {
//!     noun: "gauge", program: "watershed-gauge", version: "0.1.0", mark: "watershed-gauge", own_file_prefix: None,
//! };
//!
//! #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
//! enum Key { DataDir, Cores }
//!
//! impl SettingKey for Key {
//!     const ALL: &'static [Key] = &[Key::DataDir, Key::Cores];
//!     fn name(self) -> &'static str {
//!         match self { Key::DataDir => "data_dir", Key::Cores => "cores" }
//!     }
//! }
//!
//! fn run(asked: &Asked<Key>) -> Result<(), exit::Failure> {
//!     let (started, machine) = (Instant::now(), Machine::probe());
//!     let mut layers = Layers::read(asked, |layers, item| layers.unknown(&item, []))?;
//!     let data_dir = layers.data_dir(Key::DataDir, &GAUGE, &machine, parse_directory);
//!     let cores: Cores = layers.cores(Key::Cores, &machine);
//!     let (_sources, _warnings) = layers.finish()?;
//!     let process = Process::begin(LogFormat::Human, "info")?;
//!     let _cpus = CpuLocks::of(&cores, &machine.allowed_cpus)?;
//!     let _directory = DirectoryLock::acquire(&GAUGE, &data_dir)?;
//!     // Start `admin` and the shards, which subscribe to `process.shutdown()`.
//!     Report { service: GAUGE, lines: vec![], fields: vec![("shards", cores.shards().to_string())] }.print(started);
//!     process.serves("serving", |_within| true)?;
//!     process.shutdown().wait();
//!     Ok(())
//! }
//!
//! fn main() -> ExitCode {
//!     exit::end(&GAUGE, run(&Asked::default())) // what clap parsed
//! }
//! ```

pub mod admin;
pub mod cpu_lock;
pub mod directory_lock;
pub mod exit;
pub mod exposition;
pub mod lifecycle;
pub mod logging;
pub mod process;
pub mod report;
pub mod scrape;
mod service_manager;
pub mod settings;
pub mod signals;

/// Which service a process is, in the words and paths that say so.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// "broker": in sentences, and the name of its default data directory.
    pub noun: &'static str,
    /// "watershed-broker"
    pub program: &'static str,
    pub version: &'static str,
    /// The first word of the lock files in its data directories, of no other service; begins with "watershed".
    pub mark: &'static str,
    /// What a file begins with that shows a directory without a lock file to be its own.
    pub own_file_prefix: Option<&'static str>,
}

#[cfg(test)]
const TESTED: Service = Service {
    noun: "gauge",
    program: "watershed-gauge",
    version: "1.2.3",
    mark: "watershed-gauge",
    own_file_prefix: None,
};
