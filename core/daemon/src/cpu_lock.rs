//! The lock of a CPU: two pinned processes of one user never share one, since each would starve the other's shard.
//!
//! A flock per CPU on a file in the runtime directory; the kernel drops it with the process. Unbound shards take none.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::directory_lock::{Holder, show_holder};
use crate::settings::Cores;

/// What the lock files begin with: one word for every service, since they share the CPUs.
const MARK: &str = "watershed";

/// The locks of a process's CPUs; dropped with the process.
#[derive(Debug)]
pub struct CpuLocks {
    _files: Vec<File>,
}

/// Why CPUs are refused.
#[derive(Debug, thiserror::Error)]
pub enum CpuLockError {
    #[error("CPU {cpu} is used by {}: {}", show_holder(.holder), remedy(.free, *.wanted))]
    Taken {
        cpu: usize,
        holder: Option<Holder>,
        /// The allowed CPUs that nobody uses.
        free: Vec<usize>,
        wanted: usize,
    },
    #[error("{}: {cause}", .path.display())]
    Io { path: PathBuf, cause: io::Error },
}

impl CpuLocks {
    /// Locks the CPUs that `cores` are pinned to, in this user's runtime directory; unbound cores take none.
    pub fn of(cores: &Cores, allowed: &[usize]) -> Result<Option<CpuLocks>, CpuLockError> {
        match cores {
            Cores::Pinned(cpus) => CpuLocks::acquire(&runtime_directory(), cpus, allowed).map(Some),
            Cores::Unbound(_) => Ok(None),
        }
    }

    /// Locks each of `cpus` in `runtime`; `allowed` are those that the process might use instead.
    pub fn acquire(runtime: &Path, cpus: &[usize], allowed: &[usize]) -> Result<CpuLocks, CpuLockError> {
        ensure_private(runtime).map_err(|cause| CpuLockError::Io { path: runtime.to_owned(), cause })?;
        let mut files = Vec::with_capacity(cpus.len());
        for &cpu in cpus {
            let path = path_of(runtime, cpu);
            match lock(&path).map_err(|cause| CpuLockError::Io { path: path.clone(), cause })? {
                Some(file) => files.push(file),
                None => {
                    drop(files);
                    let is_free = |cpu: &usize| matches!(lock(&path_of(runtime, *cpu)), Ok(Some(_)));
                    let free = allowed.iter().copied().filter(is_free).collect();
                    return Err(CpuLockError::Taken { cpu, holder: Holder::read(&path), free, wanted: cpus.len() });
                }
            }
        }
        Ok(CpuLocks { _files: files })
    }
}

/// Where the CPU locks of this user lie: `$XDG_RUNTIME_DIR/watershed`, `/run/watershed` for root, else in /tmp.
fn runtime_directory() -> PathBuf {
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match (given.filter(|path| path.is_absolute()), own_uid()) {
        (Some(path), _) => path.join("watershed"),
        (None, Some(0)) => PathBuf::from("/run/watershed"),
        (None, uid) => PathBuf::from(format!("/tmp/watershed-{}", uid.unwrap_or(u32::MAX))),
    }
}

fn own_uid() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|process| process.uid())
}

/// Creates the directory, and refuses one that another user planted.
fn ensure_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let found = fs::symlink_metadata(directory)?;
    match found.is_dir() && Some(found.uid()) == own_uid() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a directory of this user")),
    }
}

fn path_of(runtime: &Path, cpu: usize) -> PathBuf {
    runtime.join(format!("cpu-{cpu}.lock"))
}

/// Locks the file and writes this process into it; `None` if another holds it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(cause)) => return Err(cause),
    }
    file.set_len(0)?;
    file.write_all(Holder::this_process(MARK).to_text().as_bytes())?;
    Ok(Some(file))
}

fn remedy(free: &[usize], wanted: usize) -> String {
    let names: Vec<String> = free.iter().map(usize::to_string).collect();
    match free.len() {
        0 => format!("no CPU is free; --cores unbound:{wanted} runs without pinning"),
        _ => format!("free are {0}; say --cores {0}{1}", names.join(","), if free.len() == 1 { "," } else { "" }),
    }
}
