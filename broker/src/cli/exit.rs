//! Exit codes: an interface for scripts and supervisors.

use std::fmt::Display;
use std::process::ExitCode;

use watershed_core::error::Fault;

use crate::broker::{self, StartError};

/// How the process ends when it does not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command line or the settings are wrong.
    Usage = 2,
    /// The data directory is locked, foreign or of a newer version.
    DataDirectory = 3,
    /// The machine refuses: io_uring, file system, an address or a CPU in use.
    Environment = 4,
    /// A write or flush failed: nothing was acknowledged after it.
    Io = 5,
    /// Damage was found.
    Damage = 6,
    /// No broker answered a client's command.
    Unreachable = 7,
    /// A broker refused what a client's command asked for, or has it not.
    Refused = 8,
    /// A bug.
    Internal = 70,
}

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

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A sentence for the operator and the exit code.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    /// A failure that says `message`.
    pub fn new(exit: Exit, message: impl Display) -> Failure {
        Failure { exit, message: message.to_string() }
    }
}

impl From<Fault> for Failure {
    /// A fault that ended the server, with the exit code of its kind.
    fn from(fault: Fault) -> Failure {
        let exit = match fault {
            Fault::Io { .. } | Fault::NoSpace { .. } => Exit::Io,
            Fault::Corrupt { .. } | Fault::Closed { .. } => Exit::Damage,
            Fault::Version { .. } => Exit::DataDirectory,
            Fault::Refused(_) => Exit::Environment,
        };
        Failure::new(exit, fault)
    }
}

impl From<broker::Failure> for Failure {
    fn from(failure: broker::Failure) -> Failure {
        match failure {
            broker::Failure::Fault(fault) => fault.into(),
            broker::Failure::Panicked(_) => Failure::new(Exit::Internal, failure),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        match error {
            StartError::Settings(error) => Failure::new(Exit::Usage, error),
            StartError::Directory(error) => Failure::new(Exit::DataDirectory, error),
            StartError::Cpu(_) | StartError::Admin { .. } => Failure::new(Exit::Environment, error),
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
    #[test]
    fn a_fault_keeps_its_words_and_gets_its_code() {
        let file = || "superblock".to_owned();
        let newer = Failure::from(Fault::Version { file: file(), found: 9, known: 1 });
        assert_eq!(newer.exit, Exit::DataDirectory);
        assert!(newer.message.contains("format version 9 of superblock"), "{}", newer.message);
        let damage = Failure::from(Fault::Corrupt { file: file(), position: 4096, what: "checksum" });
        assert_eq!(damage.exit, Exit::Damage);
        let write = Fault::Io { operation: "write", file: file(), position: 0, errno: 5, cause: "EIO".to_owned() };
        assert_eq!(Failure::from(write).exit, Exit::Io);
        assert_eq!(Failure::from(Fault::Refused("no io_uring".to_owned())).exit, Exit::Environment);
    }
}
