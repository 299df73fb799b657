//! `start`: the process around the broker, the report once it serves, and the process's end with the broker's.

use std::time::Instant;

use watershed_daemon::process::Process;

use super::Failure;
use super::report::report;
use crate::broker::Broker;
use crate::settings::Settings;

/// Runs the broker until it is told to stop.
pub(super) fn start(settings: Settings, started: Instant) -> Result<(), Failure> {
    let process = Process::begin(settings.log_format, &settings.log_level)?;
    let broker = Broker::start_until(settings.clone(), process.shutdown())?;
    let serving = broker.serving();
    report(&settings, broker.admin_addr(), serving).print(started);
    let status = format!("serving on {}, shards: {}", serving.listen, serving.shards);
    process.serves(&status, broker.pulse_handle())?;
    let ended = broker.wait();
    if let Err(failure) = &ended {
        process.failed(failure);
        // The process ends at once: nothing is waited for after a failed write, least of all shards that may hang in one.
        std::mem::forget(broker);
    }
    ended.map_err(Failure::from)
}
