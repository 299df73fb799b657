//! Logging: to standard error, as text or JSON. Standard output belongs to the start block and the `ready` line.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::{Exit, Failure};
use crate::settings::{LogFormat, Settings};

/// Sets the process's log up, once.
pub(super) fn start(settings: &Settings) -> Result<(), Failure> {
    let refuse = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("log level: {error}"));
    let filter = EnvFilter::builder().parse(&settings.log_level).map_err(|error| refuse(&error))?;
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    let result = match settings.log_format {
        LogFormat::Human => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| refuse(&error))
}
