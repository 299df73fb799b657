//! Process: what a service's command line sets up around the service, and what it tells the service manager.
//!
//! The log, the signals and the manager's socket belong to the process: a service inside another program never makes a
//! [`Process`].

use std::fmt::Display;
use std::time::Duration;

use crate::exit::{Exit, Failure};
use crate::lifecycle::Shutdown;
use crate::logging::{self, LogFormat};
use crate::service_manager::{Asked, ServiceManager};
use crate::signals;

/// This process, once its log is set up and its signals ask for a drain.
pub struct Process {
    shutdown: Shutdown,
    manager: Option<ServiceManager>,
}

impl Process {
    /// Sets the log up, takes the signals over and finds the manager that asked to be told, if any. Once per process.
    pub fn begin(format: LogFormat, level: &str) -> Result<Process, Failure> {
        logging::start(format, level)?;
        let shutdown = Shutdown::default();
        signals::obey(shutdown.clone()).map_err(|cause| refuse("signals", cause))?;
        let manager =
            ServiceManager::connect(&Asked::of_environment()).map_err(|cause| refuse("NOTIFY_SOCKET", cause))?;
        Ok(Process { shutdown, manager })
    }

    /// What the first SIGTERM or SIGINT requests.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Tells the manager that the service serves, when it drains, and between the two that it lives: whenever `pulse`
    /// finds within the time that it is given that every shard does.
    pub fn serves(&self, status: &str, pulse: impl Fn(Duration) -> bool + Send + 'static) -> Result<(), Failure> {
        let Some(manager) = &self.manager else {
            return Ok(());
        };
        manager.ready(status);
        manager.feed(&self.shutdown, pulse).map_err(|cause| refuse("watchdog", cause))?;
        let draining = manager.clone();
        self.shutdown.subscribe(move || draining.stopping("draining"));
        Ok(())
    }

    /// Tells the manager what ended the service.
    pub fn failed(&self, failure: &impl Display) {
        if let Some(manager) = &self.manager {
            manager.status(&failure.to_string());
        }
    }
}

fn refuse(what: &str, cause: std::io::Error) -> Failure {
    Failure::new(Exit::Environment, format!("{what}: {cause}"))
}
