//! How other threads reach a sleeping core: its park flag, its ring's descriptor, its eventfd and the wakers that were
//! woken elsewhere.
//!
//! One per core, shared. Sends at most one wake per sleep and none to a core that runs. Never touches the core's tasks.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::executor;
use super::lock;
use super::park::ParkFlag;
use super::tasks::Task;
use crate::error::Fault;

/// Where others wake a core. Made before the core's thread starts; see `ExecutorConfig::doorbell`.
pub struct Doorbell {
    id: u64,
    pub(crate) flag: ParkFlag,
    event: File,
    /// The core's ring, or -1 while it does not run or may not be reached by ring messages.
    ring_fd: AtomicI32,
    /// Tasks of this core that were woken on another thread.
    woken: Mutex<Vec<Arc<Task>>>,
    any_woken: AtomicBool,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Doorbell {
    pub fn new() -> Result<Arc<Doorbell>, Fault> {
        // SAFETY: takes no pointers. Blocking on purpose: the ring's read of it then waits instead of failing.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if event < 0 {
            let error = std::io::Error::last_os_error();
            return Err(Fault::io("create", "eventfd", 0, &error));
        }
        Ok(Arc::new(Doorbell {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            flag: ParkFlag::new(),
            // SAFETY: the descriptor was just made and belongs to nobody else.
            event: unsafe { File::from_raw_fd(event) },
            ring_fd: AtomicI32::new(-1),
            woken: Mutex::default(),
            any_woken: AtomicBool::new(false),
        }))
    }

    /// Unique in this process: a waker compares it with the running executor's.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn event_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    pub(crate) fn ring_fd(&self) -> RawFd {
        self.ring_fd.load(Ordering::Acquire)
    }

    /// `None`: ring messages do not reach this core (any more); the eventfd still does.
    pub(crate) fn set_ring_fd(&self, ring_fd: Option<RawFd>) {
        self.ring_fd.store(ring_fd.unwrap_or(-1), Ordering::Release);
    }

    /// Wakes the core if it sleeps. What it is to find must be visible before.
    pub fn ring(self: &Arc<Self>) {
        if self.flag.claim() && !executor::send_ring_wake(self) {
            self.write_event();
        }
    }

    /// The wake that needs no ring of the sender's.
    pub(crate) fn write_event(&self) {
        if let Err(error) = (&self.event).write_all(&1u64.to_ne_bytes()) {
            // A lost wake is a core that never runs again.
            panic!("an eventfd accepts a write: {error}");
        }
    }

    pub(crate) fn push_woken(self: &Arc<Self>, task: Arc<Task>) {
        lock(&self.woken).push(task);
        self.any_woken.store(true, Ordering::Release);
        self.ring();
    }

    pub(crate) fn has_woken(&self) -> bool {
        self.any_woken.load(Ordering::Acquire)
    }

    pub(crate) fn take_woken(&self) -> Vec<Arc<Task>> {
        self.any_woken.store(false, Ordering::Relaxed);
        std::mem::take(&mut *lock(&self.woken))
    }
}
