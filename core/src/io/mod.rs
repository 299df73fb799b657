//! The only code that names io-uring or glommio: the executor whose reactor is a ring, and what tasks on it use.
//!
//! Tasks see `executor::{spawn, yield_if_needed, sleep_until}`, `file::File`, `socket::Stream`, `mesh::Endpoint` and
//! `arena::Lease`, never a ring. Everything here belongs to one thread, except what is said to be `Send`.

pub mod arena;
pub mod bell;
pub mod block_map;
pub mod buffers;
pub mod data_dir;
pub mod doorbell;
pub mod engine;
pub mod examine;
pub mod executor;
pub mod file;
#[cfg(feature = "glommio")]
pub mod glommio;
pub mod host;
pub mod log;
pub mod mesh;
mod names;
pub mod notify;
mod open_files;
mod ops;
mod park;
pub mod probe;
pub mod reshard;
pub mod ring;
pub mod salvage;
mod segment_walk;
pub mod shard;
mod shard_ahead;
mod shard_effects;
mod shard_read;
mod shard_recovery;
pub mod shards;
pub mod socket;
mod spin;
mod spsc;
pub mod stats;
pub mod supervisor;
mod sync;
mod tail_memory;
mod tasks;
mod timers;
pub mod typed_log;

use crate::error::Fault;

impl Fault {
    /// An I/O error with its place. `position` is a file offset, or 0 where there is none.
    pub fn io(operation: &'static str, file: impl Into<String>, position: u64, error: &std::io::Error) -> Fault {
        Fault::Io {
            operation,
            file: file.into(),
            position,
            errno: error.raw_os_error().unwrap_or(0),
            cause: error.to_string(),
        }
    }

    /// The operating system's error number, if this came from it.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Fault::Io { errno, .. } if *errno != 0 => Some(*errno),
            _ => None,
        }
    }

    /// Whether the disk or a quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Fault::NoSpace { .. }) || matches!(self.errno(), Some(libc::ENOSPC | libc::EDQUOT))
    }
}

/// Locks a mutex whose holders never panic while it is inconsistent.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn wake(waker: Option<std::task::Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
