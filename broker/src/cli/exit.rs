//! What the exit codes say of the broker, and which of them ends a start that failed.

pub use watershed_daemon::exit::{Exit, Failure};

use crate::broker::StartError;

pub(super) const HELP: &str = "\
Exit codes:
  0   clean end, after a drain and a checkpoint
  2   wrong command line or settings
  3   data directory locked, foreign or of a newer version
  4   environment: io_uring, file system, address or CPU in use
  5   a write or flush failed; nothing was acknowledged after it
  6   damage found
  7   no broker answered (topic, group, produce, consume, config, top)
  8   the broker refused, or there is no such topic, group or offset
  70  internal error (a broken invariant aborts instead)
  130, 143  ended by a second SIGINT or SIGTERM, without a checkpoint";

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        match error {
            StartError::Settings(error) => error.into(),
            StartError::Directory(error) => error.into(),
            StartError::Cpu(error) => error.into(),
            StartError::Admin { .. } => Failure::new(Exit::Environment, error),
            StartError::Failed(failure) => failure.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_code() {
        let codes = [Exit::Usage, Exit::DataDirectory, Exit::Environment, Exit::Io, Exit::Damage, Exit::Internal];
        for exit in codes.into_iter().chain([Exit::Unreachable, Exit::Refused]) {
            let code = (exit as u8).to_string();
            assert!(HELP.lines().any(|line| line.split_whitespace().next() == Some(&code)), "{code}");
        }
    }
}
