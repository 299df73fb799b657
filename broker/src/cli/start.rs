//! `start`: logging, locks, the admin thread, the server; and the report once it serves.
//!
//! The order matters: nothing is written before the data directory is locked and known to be ours, and `/live` answers
//! while the journal is still replayed.

use std::time::Instant;

use super::report::Report;
use super::{Exit, Failure, logging};
use crate::admin::{self, AdminState};
use crate::cpu_lock::{CpuLocks, runtime_directory};
use crate::directory_lock::DirectoryLock;
use crate::lifecycle::{Hooks, Readiness, Shutdown};
use crate::server;
use crate::settings::{Cores, Machine, Settings};

const STARTING: &str = "starting";

/// Runs the broker until it is told to stop.
pub(super) fn start(settings: Settings, machine: &Machine, started: Instant) -> Result<(), Failure> {
    logging::start(&settings)?;
    let _cpus = lock_cpus(&settings, machine)?;
    let _directory = lock_directory(&settings)?;
    let shutdown = Shutdown::default();
    let readiness = Readiness::starting(STARTING);
    let state = AdminState::new(readiness.clone(), shutdown.clone());
    let admin = admin::start(settings.admin, state.clone()).map_err(|cause| {
        let at = settings.admin.map_or_else(|| "off".to_owned(), |at| at.to_string());
        Failure::new(Exit::Environment, format!("admin HTTP ({at}): {cause}"))
    })?;
    let report = Report { settings: settings.clone(), admin: admin.address, started };
    let hooks = hooks(shutdown, readiness, state, report);
    serve(settings, hooks)
}

fn lock_directory(settings: &Settings) -> Result<DirectoryLock, Failure> {
    let lock = DirectoryLock::acquire(&settings.data_dir).map_err(|error| Failure::new(Exit::DataDirectory, error))?;
    if let Some(previous) = &lock.previous {
        tracing::debug!(pid = previous.pid, boot_id = previous.boot_id, "data directory was last used by");
    }
    Ok(lock)
}

fn lock_cpus(settings: &Settings, machine: &Machine) -> Result<Option<CpuLocks>, Failure> {
    let Cores::Pinned(cpus) = &settings.cores else {
        return Ok(None);
    };
    let locks = CpuLocks::acquire(&runtime_directory(), cpus, &machine.allowed_cpus);
    locks.map(Some).map_err(|error| Failure::new(Exit::Environment, error))
}

fn hooks(shutdown: Shutdown, readiness: Readiness, state: AdminState, report: Report) -> Hooks {
    let serves = readiness.clone();
    Hooks {
        shutdown,
        readiness,
        set_scrape: Box::new(move |scrape| state.set_scrape(scrape)),
        ready: Box::new(move |serving| {
            serves.clear(STARTING);
            report.print(&serving);
        }),
    }
}

fn serve(settings: Settings, hooks: Hooks) -> Result<(), Failure> {
    server::run(settings, hooks).map_err(Failure::from)
}
