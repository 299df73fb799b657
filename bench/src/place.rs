//! Where things run and lie: the server's core and host, the generator's core, the directory for data.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use watershed_core::io::host;

#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// The core of the server
    #[arg(long = "cores", default_value_t = 0, global = true)]
    pub(crate) server_cpu: usize,
    /// The core of the load generator
    #[arg(long, default_value_t = 1, global = true)]
    pub(crate) client_cpu: usize,
    /// Where servers keep their data; must be on the disk to be measured
    #[arg(long, default_value = "target/bench-data", global = true)]
    pub(crate) dir: PathBuf,
    /// What the floor's tasks run in; glommio needs a build with `--features glommio`
    #[arg(long, value_enum, default_value = "ours", global = true)]
    pub(crate) host: Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Host {
    /// The executor whose reactor is the ring
    Ours,
    /// The same ring and tasks inside a glommio executor
    Glommio,
}

impl Host {
    pub(crate) const fn runtime(self) -> host::Host {
        match self {
            Host::Ours => host::Host::Ring,
            Host::Glommio => host::Host::Glommio,
        }
    }
}

impl Place {
    /// A directory below `dir`, made if it is not there.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// The same, empty.
    pub(crate) fn fresh_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("empty {}", path.display()))?;
        }
        self.directory(name)
    }
}
