//! Logging: to standard error, as text or JSON. Standard output belongs to the start block and the `ready` line.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::exit::{Exit, Failure};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The form of the log on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Human,
    Json,
}

impl LogFormat {
    /// Reads what `--log-format` takes.
    pub(crate) fn parse(text: &str) -> Result<LogFormat, String> {
        match text {
            "human" => Ok(LogFormat::Human),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("'{text}' is neither human nor json")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        })
    }
}

/// Checks `LEVEL` or `LEVEL,target=LEVEL,...`.
pub(crate) fn parse_level(text: &str) -> Result<String, String> {
    let is_level = |level: &str| LEVELS.contains(&level.to_ascii_lowercase().as_str());
    let sound = text.split(',').all(|directive| match directive.split_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(directive),
    });
    match sound {
        true => Ok(text.to_owned()),
        false => Err(format!("'{text}' is not one of {} (or target=LEVEL after a comma)", LEVELS.join(", "))),
    }
}

/// Sets the process's log up, once.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), Failure> {
    let refuse = |error: &dyn fmt::Display| Failure::new(Exit::Usage, format!("log level: {error}"));
    let filter = EnvFilter::builder().parse(level).map_err(|error| refuse(&error))?;
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    let result = match format {
        LogFormat::Human => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| refuse(&error))
}
