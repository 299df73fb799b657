//! Sources: where a value came from, in the words that `settings` prints.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    /// A default that this machine decided, and by what ("25 % of the cgroup's 4 GiB").
    Machine(String),
    /// An environment variable.
    Environment(&'static str),
    File {
        path: PathBuf,
        line: usize,
    },
    /// `--set key=value`.
    Set,
    /// A flag, without its dashes.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Machine(by) => write!(f, "default: {by}"),
            Source::Environment(name) => write!(f, "environment ${name}"),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Set => f.write_str("--set"),
            Source::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// A value as it was written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub value: String,
    pub source: Source,
}
