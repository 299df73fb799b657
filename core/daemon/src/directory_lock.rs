//! The lock of a data directory: one process at a time, and never a directory that is not this service's.
//!
//! The lock is a flock on the directory itself, so that a refused directory is left exactly as it was; the kernel drops
//! it with the process, however that ends. The file [`LOCK_FILE`] only says who holds it. Nothing is written before
//! the directory is locked and known to be empty or ours.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::Service;

/// Says who holds the directory; its presence also marks a directory as ours.
pub const LOCK_FILE: &str = "lock";
/// What the marks of all services begin with.
const MARKS_PREFIX: &str = "watershed";

/// A process that holds, or held, a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The first word of the lock file ([`Service::mark`]).
    pub mark: String,
    pub pid: u32,
    /// The kernel's boot: with another one, a power loss or restart lies in between.
    pub boot_id: String,
}

/// A locked data directory; dropped with the process.
#[derive(Debug)]
pub struct DirectoryLock {
    _directory: File,
    /// Who held it before, if anyone.
    pub previous: Option<Holder>,
}

/// Why a lock is refused.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryLockError {
    #[error("{} is locked by {}: one {noun} at a time may use a data directory", .directory.display(), show_holder(.holder))]
    Locked { directory: PathBuf, holder: Option<Holder>, noun: &'static str },
    #[error("{} holds another service's data (its lock file says {mark}): name an empty directory or one that a {noun} wrote", .directory.display())]
    OtherService { directory: PathBuf, mark: String, noun: &'static str },
    #[error("{} holds {found}, which is not Watershed's data: name an empty directory or one that Watershed wrote", .directory.display())]
    Foreign { directory: PathBuf, found: String },
    #[error("{}: {cause}", .directory.display())]
    Io { directory: PathBuf, cause: io::Error },
}

impl DirectoryLock {
    /// Locks `directory` for this process and creates it if it is missing.
    pub fn acquire(service: &Service, directory: &Path) -> Result<DirectoryLock, DirectoryLockError> {
        let io = |cause| DirectoryLockError::Io { directory: directory.to_owned(), cause };
        fs::create_dir_all(directory).map_err(io)?;
        let lock = DirectoryLock::hold(service, directory)?;
        if lock.previous.is_none()
            && let Some(found) = foreign_entry(service, directory).map_err(io)?
        {
            return Err(DirectoryLockError::Foreign { directory: directory.to_owned(), found });
        }
        fs::write(directory.join(LOCK_FILE), Holder::this_process(service.mark).to_text()).map_err(io)?;
        Ok(lock)
    }

    /// Locks a directory that must be there and leaves no trace in it.
    pub fn hold(service: &Service, directory: &Path) -> Result<DirectoryLock, DirectoryLockError> {
        let io = |cause| DirectoryLockError::Io { directory: directory.to_owned(), cause };
        let handle = File::open(directory).map_err(io)?;
        let locked = handle.try_lock();
        let previous = Holder::read(&directory.join(LOCK_FILE));
        let (directory, noun) = (directory.to_owned(), service.noun);
        match (locked, previous) {
            (Err(TryLockError::WouldBlock), holder) => Err(DirectoryLockError::Locked { directory, holder, noun }),
            (Err(TryLockError::Error(cause)), _) => Err(DirectoryLockError::Io { directory, cause }),
            (Ok(()), Some(Holder { mark, .. })) if mark != service.mark => {
                Err(DirectoryLockError::OtherService { directory, mark, noun })
            }
            (Ok(()), previous) => Ok(DirectoryLock { _directory: handle, previous }),
        }
    }

    /// Whether a process holds the directory now.
    pub fn is_held(directory: &Path) -> bool {
        let shared = File::open(directory).map(|handle| handle.try_lock_shared());
        matches!(shared, Ok(Err(TryLockError::WouldBlock)))
    }
}

impl Holder {
    /// This process in this boot.
    pub fn this_process(mark: &str) -> Holder {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Holder { mark: mark.to_owned(), pid: std::process::id(), boot_id: boot_id.trim().to_owned() }
    }

    /// What a lock file says.
    pub fn read(path: &Path) -> Option<Holder> {
        let text = fs::read_to_string(path).ok()?;
        let mut words = text.split_whitespace();
        let (mark, pid, boot_id) = (words.next()?, words.next()?, words.next().unwrap_or_default());
        let pid = pid.parse().ok()?;
        mark.starts_with(MARKS_PREFIX).then(|| Holder { mark: mark.to_owned(), pid, boot_id: boot_id.to_owned() })
    }

    /// The content of a lock file.
    pub fn to_text(&self) -> String {
        format!("{} {} {}\n", self.mark, self.pid, self.boot_id)
    }
}

/// "pid 17", or what can be said when the file names nobody.
pub(crate) fn show_holder(holder: &Option<Holder>) -> String {
    holder.as_ref().map_or_else(|| "another process".to_owned(), |holder| format!("pid {}", holder.pid))
}

/// An entry that shows that the directory is somebody else's: any, unless a file of the service's own is there too.
fn foreign_entry(service: &Service, directory: &Path) -> io::Result<Option<String>> {
    let mut found = None;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if service.own_file_prefix.is_some_and(|prefix| name.starts_with(prefix)) {
            return Ok(None);
        }
        // The root of an ext4 file system is born with it.
        if name != "lost+found" {
            found = found.max(Some(name));
        }
    }
    Ok(found)
}
