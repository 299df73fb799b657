//! Sources: where a value came from, in the words that `settings` prints.

use std::collections::BTreeMap;
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
    /// The flag of the setting of this name.
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
            Source::Flag(name) => write!(f, "--{}", name.replace('_', "-")),
        }
    }
}

/// A value as it was written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub value: String,
    pub source: Source,
}

/// The source of each setting that has another than the default.
#[derive(Clone, Debug)]
pub struct Sources<K>(pub(super) BTreeMap<K, Source>);

impl<K: Ord> Sources<K> {
    /// Where the value of `key` came from.
    pub fn of(&self, key: K) -> &Source {
        self.0.get(&key).unwrap_or(&Source::Default)
    }
}
