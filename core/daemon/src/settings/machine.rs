//! Machine: what this machine and the environment decide, read once, so that resolving is a pure function of it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::{cores, memory};

/// What the machine and the environment decide.
#[derive(Clone, Debug)]
pub struct Machine {
    /// CPUs that this process may run on.
    pub allowed_cpus: Vec<usize>,
    pub(super) memory: Option<memory::Limit>,
    /// `$XDG_DATA_HOME` or `$HOME`, and which.
    pub(super) data_home: Option<(PathBuf, &'static str)>,
}

impl Machine {
    /// Reads /proc, the cgroup and the environment.
    pub fn probe() -> Machine {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let directory = |name| env::var_os(name).map(PathBuf::from).filter(|at| at.is_absolute());
        let xdg = directory("XDG_DATA_HOME").map(|at| (at, "XDG_DATA_HOME"));
        let home = || directory("HOME").map(|at| (at.join(".local/share"), "HOME"));
        Machine {
            allowed_cpus: allowed.and_then(|list| cores::parse_cpu_list(list.trim()).ok()).unwrap_or_else(|| vec![0]),
            memory: memory::limit(Path::new("/")),
            data_home: xdg.or_else(home),
        }
    }
}
