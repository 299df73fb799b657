//! One thread's io_uring: submission, waiting, completion, and the set-up that steps down to what the kernel offers.
//!
//! Used by the thread that made it only. Every enter asks for events, since deferred completions are not run otherwise.
//! Never runs out of submission places: what does not fit waits in a backlog. Invariant: the memory that an entry points
//! to lives until its completion was reaped, or for ever if the ring ends first.
#![allow(unsafe_code)]

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

use super::doorbell::Doorbell;
use super::executor::{self, Core};
use super::ops::{Finished, OpKey, Ops, RawResult};
use super::wake;

/// `user_data` of completions that are no operation's: the upper 8 bits name the kind, and operations leave them zero.
const KIND_MASK: u64 = 0xff << 56;
const REMOTE_WAKE: u64 = 1 << 56;
const CANCEL_REPORT: u64 = 2 << 56;
const EVENT_READ: u64 = 3 << 56;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;

/// Optional set-up flags: those that the kernel accepted, or those to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSetup {
    /// Since 6.0.
    pub single_issuer: bool,
    /// Since 6.1.
    pub defer_taskrun: bool,
}

impl Default for RingSetup {
    fn default() -> RingSetup {
        RingSetup::BEST
    }
}

impl RingSetup {
    /// What a kernel of the support floor offers.
    pub const BEST: RingSetup = RingSetup { single_issuer: true, defer_taskrun: true };
    /// The least that the executor needs.
    pub const LEAST: RingSetup = RingSetup { single_issuer: false, defer_taskrun: false };

    const STEPS: [RingSetup; 3] =
        [RingSetup::BEST, RingSetup { single_issuer: true, defer_taskrun: false }, RingSetup::LEAST];

    fn is_within(self, most: RingSetup) -> bool {
        self.single_issuer <= most.single_issuer && self.defer_taskrun <= most.defer_taskrun
    }

    fn build(self, entries: u32) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_submit_all().setup_coop_taskrun().setup_taskrun_flag();
        builder.setup_cqsize(entries.saturating_mul(4));
        if self.single_issuer {
            builder.setup_single_issuer();
        }
        if self.defer_taskrun {
            builder.setup_defer_taskrun();
        }
        builder.build(entries)
    }

    /// The first step from `most` down that the kernel accepts. Errors other than "unknown flag" are final.
    pub(crate) fn step_down(entries: u32, most: RingSetup) -> io::Result<(IoUring, RingSetup)> {
        let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
        for step in Self::STEPS.into_iter().filter(|step| step.is_within(most)) {
            match step.build(entries) {
                Ok(uring) => return Ok((uring, step)),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }
}

/// Whether an enter may sleep.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    No,
    /// Until a completion arrives or this much time has passed.
    AtMost(Option<Duration>),
}

pub(crate) struct Ring {
    uring: IoUring,
    setup: RingSetup,
    ops: Ops,
    backlog: VecDeque<squeue::Entry>,
    event: Arc<Doorbell>,
    /// What the read of the eventfd is written to; boxed, so that it stays where the kernel was told.
    event_count: Box<u64>,
    event_armed: bool,
    /// The thread sleeps in another reactor, which the eventfd wakes: also for what other code of the thread queues.
    sleeps_elsewhere: bool,
}

/// Kept for a ring message: the core to be woken by other means if the message fails.
struct RingWake(Arc<Doorbell>);

impl Ring {
    pub(crate) fn new(entries: u32, most: RingSetup, event: Arc<Doorbell>) -> io::Result<Ring> {
        let (uring, setup) = RingSetup::step_down(entries, most)?;
        Ok(Ring {
            uring,
            setup,
            ops: Ops::default(),
            backlog: VecDeque::new(),
            event,
            event_count: Box::new(0),
            event_armed: false,
            sleeps_elsewhere: false,
        })
    }

    /// From now on completions are told to the eventfd whenever `tell_completions` asks for it.
    #[cfg(feature = "glommio")]
    pub(crate) fn register_event(&mut self) -> io::Result<()> {
        self.uring.submitter().register_eventfd(self.event.event_fd())?;
        self.uring.completion().disable_eventfd();
        Ok(())
    }

    /// Before and after a sleep in another reactor. What completed before is not told.
    #[cfg(feature = "glommio")]
    pub(crate) fn tell_completions(&mut self, on: bool) {
        self.sleeps_elsewhere = on;
        let queue = self.uring.completion();
        if on {
            queue.enable_eventfd();
        } else {
            queue.disable_eventfd();
        }
    }

    /// Something for this thread to do was left by code that does not run in a turn.
    pub(crate) fn end_sleep_elsewhere(&self) {
        if self.sleeps_elsewhere {
            self.event.ring();
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }

    pub(crate) fn setup(&self) -> RingSetup {
        self.setup
    }

    /// Whether anything of this ring still points to memory of ours.
    pub(crate) fn is_quiet(&self) -> bool {
        self.ops.in_flight_count() == 0 && !self.event_armed
    }

    /// Whether the kernel has to be entered for something to go on; three loads from shared memory.
    pub(crate) fn needs_enter(&mut self) -> bool {
        let queue = self.uring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow() || !self.backlog.is_empty()
    }

    pub(crate) fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// # Safety
    /// What the entry points to must stay valid and in place until its completion is reaped, and for ever if it never is.
    unsafe fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the caller's promise is the one that `push` asks for.
        let refused = !self.backlog.is_empty() || unsafe { self.uring.submission().push(&entry) }.is_err();
        if refused {
            self.backlog.push_back(entry);
        }
        self.end_sleep_elsewhere();
    }

    fn move_backlog(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: promised when the entry came to `Ring::push`.
            if unsafe { self.uring.submission().push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Keeps one read of the eventfd pending, so that threads without a ring can end a sleep.
    pub(crate) fn arm_event(&mut self) {
        if self.event_armed {
            return;
        }
        self.event_armed = true;
        let target: *mut u64 = &mut *self.event_count;
        let read = opcode::Read::new(Fd(self.event.event_fd()), target.cast(), 8).build();
        // SAFETY: the boxed count lives as long as the ring, whose drop leaks it while armed; the doorbell is held too.
        unsafe { self.push(read.user_data(EVENT_READ)) };
    }

    /// Leaves a message to a sleeping core for the enter that ends this turn.
    pub(crate) fn push_wake(&mut self, target: &Arc<Doorbell>) {
        let key = self.ops.start();
        self.ops.orphan(key, Box::new(RingWake(target.clone())));
        let message = opcode::MsgRingData::new(Fd(target.ring_fd()), 0, REMOTE_WAKE, None).build();
        // SAFETY: the entry points to no memory.
        unsafe { self.push(message.user_data(key.to_bits())) };
    }

    fn push_cancel(&mut self, key: OpKey) {
        let cancel = opcode::AsyncCancel::new(key.to_bits()).build();
        // SAFETY: the entry points to no memory.
        unsafe { self.push(cancel.user_data(CANCEL_REPORT)) };
    }

    /// Asks the kernel to end everything that is under way.
    pub(crate) fn cancel_all(&mut self) {
        let keys: Vec<OpKey> = self.ops.in_flight().collect();
        keys.into_iter().for_each(|key| self.push_cancel(key));
        if self.event_armed {
            self.event.write_event();
        }
    }

    /// Submits what is queued, runs deferred completions and, if allowed, sleeps until there is one.
    pub(crate) fn enter(&mut self, wait: Wait) {
        self.move_backlog();
        let timespec;
        let mut args = SubmitArgs::new();
        let sleep_allowed = self.backlog.is_empty();
        let want = match wait {
            Wait::AtMost(limit) if sleep_allowed => {
                timespec = limit.map(Timespec::from);
                if let Some(timespec) = &timespec {
                    args = args.timespec(timespec);
                }
                1
            }
            _ => 0,
        };
        let queued = self.uring.submission().len() as u32;
        // SAFETY: the arguments are what the two flags announce, and live during the call.
        let entered =
            unsafe { self.uring.submitter().enter(queued, want, ENTER_GETEVENTS | ENTER_EXT_ARG, Some(&args)) };
        match entered.map_err(|error| error.raw_os_error()) {
            // Timed out, interrupted, or the completion queue has to be drained first: the next turn goes on.
            Ok(_) | Err(Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
            Err(code) => panic!("io_uring_enter failed with error {code:?}"),
        }
    }

    /// Takes in what the kernel completed. Returns how many completions there were; the caller settles `finished` when it
    /// holds no borrow of the ring.
    pub(crate) fn reap(&mut self, finished: &mut Vec<Finished>) -> usize {
        let mut count = 0;
        for completion in self.uring.completion() {
            count += 1;
            let user_data = completion.user_data();
            match user_data & KIND_MASK {
                0 => finished.push(self.ops.finish(OpKey::from_bits(user_data), completion.result())),
                EVENT_READ => self.event_armed = false,
                _ => {}
            }
        }
        count
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.is_quiet() {
            return;
        }
        // The kernel may still write to what these keep.
        std::mem::forget(std::mem::take(&mut self.ops));
        Box::leak(std::mem::take(&mut self.event_count));
    }
}

/// Wakes and releases what `Ring::reap` found. No borrow of the ring may be held: both run foreign code.
pub(crate) fn settle(finished: impl IntoIterator<Item = Finished>) {
    for one in finished {
        match one {
            Finished::Wake(waker) => wake(waker),
            Finished::Release(payload, result) => release(payload, result),
        }
    }
}

fn release(payload: Box<dyn Any>, result: RawResult) {
    if let Some(RingWake(target)) = payload.downcast_ref::<RingWake>()
        && result < 0
    {
        // The core ended, its completion queue is full, or its kernel does not know such messages.
        target.set_ring_fd(None);
        target.write_event();
    }
    if payload.is::<UnwantedDescriptor>() && result >= 0 {
        // SAFETY: the operation just made this descriptor, and its future, the only taker, is gone.
        drop(unsafe { OwnedFd::from_raw_fd(result) });
    }
}

/// What becomes of an operation whose future is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDrop {
    /// Let it finish (writes, changes of paths).
    Finish,
    /// Ask the kernel to end it (receive, connect).
    Cancel,
    /// Ask the kernel to end it, and close the descriptor if it made one all the same (accept, open).
    Close,
}

/// Marks the payload of an orphan whose result is a descriptor.
struct UnwantedDescriptor {
    _payload: Box<dyn Any>,
}

/// An operation under way. Resolves to the kernel's result and what it worked on.
pub(crate) struct Op<T: 'static> {
    core: Rc<Core>,
    key: Option<OpKey>,
    payload: Option<T>,
    on_drop: OnDrop,
}

// No part of an operation is pinned: what the kernel points to lies outside of it.
impl<T> Unpin for Op<T> {}

/// Queues an operation on this thread's ring; it is submitted when the turn ends.
///
/// # Safety
/// Everything that the entry points to must be owned by `payload`, outside its own bytes (moving the payload must not
/// move it), and must not be accessed through the payload while the kernel has it. Descriptors must be held by the
/// payload too.
pub(crate) unsafe fn submit<T: 'static>(entry: squeue::Entry, payload: T, on_drop: OnDrop) -> Op<T> {
    let core = executor::current();
    let key = {
        let mut ring = core.ring.borrow_mut();
        let key = ring.ops.start();
        // SAFETY: `Op` keeps the payload, or hands it to the table, until the completion; a ring that ends first leaks
        // the table. A forgotten `Op` leaks the payload.
        unsafe { ring.push(entry.user_data(key.to_bits())) };
        key
    };
    Op { core, key: Some(key), payload: Some(payload), on_drop }
}

impl<T> Future for Op<T> {
    type Output = (io::Result<u32>, T);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key.expect("an operation is not polled after its end");
        let polled = self.core.ring.borrow_mut().ops.poll(key, context.waker());
        polled.map(|result| {
            self.key = None;
            let payload = self.payload.take().expect("the payload is here until the end");
            let result = u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            (result, payload)
        })
    }
}

impl<T> Drop for Op<T> {
    fn drop(&mut self) {
        let (Some(key), Some(payload)) = (self.key, self.payload.take()) else {
            return;
        };
        let payload: Box<dyn Any> = match self.on_drop {
            OnDrop::Close => Box::new(UnwantedDescriptor { _payload: Box::new(payload) }),
            OnDrop::Finish | OnDrop::Cancel => Box::new(payload),
        };
        let mut ring = self.core.ring.borrow_mut();
        let finished = ring.ops.orphan(key, payload);
        if finished.is_none() && self.on_drop != OnDrop::Finish {
            ring.push_cancel(key);
        }
        drop(ring);
        settle(finished);
    }
}

/// The time left until `deadline`, for an enter.
pub(crate) fn time_until(deadline: Option<Instant>) -> Wait {
    Wait::AtMost(deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())))
}
