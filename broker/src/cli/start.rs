//! `start`: logging, signals, the broker; the report and the service manager's news once it serves, and the process's end
//! with the broker's.

use std::time::Instant;

use super::report::Report;
use super::{Exit, Failure, logging, signals};
use crate::broker::Broker;
use crate::lifecycle::Shutdown;
use crate::service_manager::{Asked, ServiceManager};
use crate::settings::Settings;

/// Runs the broker until it is told to stop.
pub(super) fn start(settings: Settings, started: Instant) -> Result<(), Failure> {
    logging::start(&settings)?;
    let shutdown = Shutdown::default();
    signals::obey(shutdown.clone()).map_err(|cause| Failure::new(Exit::Environment, format!("signals: {cause}")))?;
    let manager = ServiceManager::connect(&Asked::of_environment())
        .map_err(|cause| Failure::new(Exit::Environment, format!("NOTIFY_SOCKET: {cause}")))?;
    let broker = Broker::start_until(settings.clone(), shutdown)?;
    Report { settings, admin: broker.admin_addr(), started }.print(broker.serving());
    if let Some(manager) = &manager {
        announce(manager, &broker)?;
    }
    let ended = broker.wait();
    if let Err(failure) = &ended {
        if let Some(manager) = &manager {
            manager.status(&failure.to_string());
        }
        // The process ends at once: nothing is waited for after a failed write, least of all shards that may hang in one.
        std::mem::forget(broker);
    }
    ended.map_err(Failure::from)
}

/// Tells the manager that the broker serves, when it drains, and between the two that every shard lives.
fn announce(manager: &ServiceManager, broker: &Broker) -> Result<(), Failure> {
    let serving = broker.serving();
    manager.ready(&format!("serving on {}, shards: {}", serving.listen, serving.shards));
    let (shutdown, draining) = (broker.shutdown(), manager.clone());
    let fed = manager.feed(&shutdown, broker.pulse_handle());
    fed.map_err(|cause| Failure::new(Exit::Environment, format!("watchdog: {cause}")))?;
    shutdown.subscribe(move || draining.stopping("draining"));
    Ok(())
}
