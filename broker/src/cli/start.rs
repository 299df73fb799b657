//! `start`: logging, signals, the broker; the report once it serves, and the process's end with the broker's.

use std::time::Instant;

use super::report::Report;
use super::{Exit, Failure, logging, signals};
use crate::broker::Broker;
use crate::lifecycle::Shutdown;
use crate::settings::Settings;

/// Runs the broker until it is told to stop.
pub(super) fn start(settings: Settings, started: Instant) -> Result<(), Failure> {
    logging::start(&settings)?;
    let shutdown = Shutdown::default();
    signals::obey(shutdown.clone()).map_err(|cause| Failure::new(Exit::Environment, format!("signals: {cause}")))?;
    let broker = Broker::start_until(settings.clone(), shutdown)?;
    Report { settings, admin: broker.admin_addr(), started }.print(broker.serving());
    let ended = broker.wait();
    if ended.is_err() {
        // The process ends at once: nothing is waited for after a failed write, least of all shards that may hang in one.
        std::mem::forget(broker);
    }
    ended.map_err(Failure::from)
}
