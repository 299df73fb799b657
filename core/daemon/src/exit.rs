//! Exit codes: an interface for scripts and supervisors, the same for every service.
//!
//! Each service lists in its `--help` what they mean for it.

use std::fmt::Display;
use std::process::ExitCode;

use watershed_core::error::Fault;
use watershed_core::io::shards;

use crate::Service;
use crate::cpu_lock::CpuLockError;
use crate::directory_lock::DirectoryLockError;
use crate::settings::SettingsError;

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
    /// No server answered a client's command.
    Unreachable = 7,
    /// The server refused what a client's command asked for, or has it not.
    Refused = 8,
    /// A bug.
    Internal = 70,
}

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

/// The end of a service's `main`: says on standard error what failed.
pub fn end(service: &Service, ended: Result<(), Failure>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}: {}", service.program, failure.message);
            failure.exit.into()
        }
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

impl From<shards::Failure> for Failure {
    fn from(failure: shards::Failure) -> Failure {
        match failure {
            shards::Failure::Fault(fault) => fault.into(),
            shards::Failure::Panicked(_) => Failure::new(Exit::Internal, failure),
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Failure {
        Failure::new(Exit::Usage, error)
    }
}

impl From<DirectoryLockError> for Failure {
    fn from(error: DirectoryLockError) -> Failure {
        Failure::new(Exit::DataDirectory, error)
    }
}

impl From<CpuLockError> for Failure {
    fn from(error: CpuLockError) -> Failure {
        Failure::new(Exit::Environment, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
