//! The second host: the same tasks and the same ring, driven by one task of a glommio executor.
//!
//! The driver does our turns while there is something to do and otherwise waits for its eventfd in glommio's reactor, to
//! which our ring, other cores and other threads write. Invariants: it waits only after `Core::rest_elsewhere` found
//! nothing; at most one read of the eventfd is pending, and it lives across waits; when the host ends, so has the read.
#![allow(unsafe_code)]

use std::future::{Future, poll_fn};
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use glommio::io::BufferedFile;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement, Task};

use super::executor::{self, Core, Entered, ExecutorConfig};
use super::ring::RingSetup;
use crate::error::Fault;

/// glommio may go to sleep although tasks want to run, if its thread loses the CPU at a bad moment; any completion ends
/// such a sleep. So a timer fires this often.
const BEAT: Duration = Duration::from_millis(4);
/// A beat may itself fall into such a sleep and is then set again by nobody, hence several.
const BEATS: u32 = 8;
/// glommio's own buffers: only the eventfd is read by them.
const BUFFER_BYTES: usize = 64 << 10;

/// As `executor::run`, inside a glommio executor made for it.
pub fn run<F>(config: ExecutorConfig, make: impl FnOnce() -> F) -> Result<F::Output, Fault>
where
    F: Future + 'static,
    F::Output: 'static,
{
    // glommio panics where rings are forbidden, so one is tried first.
    let (ring, _) = RingSetup::step_down(8, config.ring_setup).map_err(|error| set_up_fault(&error))?;
    drop(ring);
    let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(BUFFER_BYTES);
    let host = builder.make().map_err(|error| Fault::Refused(format!("glommio does not start: {error}")))?;
    host.run(drive(config, make))
}

/// Runs the future that `make` returns, and the tasks it spawns, inside the glommio executor of this thread. glommio's
/// other tasks run between our turns and may call what our tasks may. To be awaited to its end.
pub async fn drive<F>(config: ExecutorConfig, make: impl FnOnce() -> F) -> Result<F::Output, Fault>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let entered = Entered::new(config)?;
    let core = entered.core();
    let mut bell = Bell::new(core)?;
    let _heartbeat = heartbeat();
    let mut main = executor::spawn(make());
    let output = loop {
        core.work();
        if let Some(output) = main.take_value() {
            break output;
        }
        if core.rest_elsewhere() {
            glommio::executor().yield_now().await;
        } else {
            bell.wait(core.next_deadline()).await;
            core.end_sleep_elsewhere();
        }
    };
    bell.close(core).await;
    Ok(output)
}

fn set_up_fault(error: &std::io::Error) -> Fault {
    Fault::io("set up", "io_uring", 0, error)
}

fn heartbeat() -> Vec<Task<()>> {
    let beat = |number| async move {
        Timer::new(BEAT * number).await;
        loop {
            Timer::new(BEAT * BEATS).await;
        }
    };
    (1..=BEATS).map(|number| glommio::spawn_local(beat(number))).collect()
}

/// The eventfd of this thread's doorbell, as a file of glommio's.
struct Bell {
    file: Rc<BufferedFile>,
    reading: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Bell {
    fn new(core: &Core) -> Result<Bell, Fault> {
        core.ring.borrow_mut().register_event().map_err(|error| set_up_fault(&error))?;
        // SAFETY: the doorbell owns the descriptor and lives as long as the executor that `core` is.
        let event = unsafe { BorrowedFd::borrow_raw(core.doorbell().event_fd()) };
        let own = event.try_clone_to_owned().map_err(|error| Fault::io("duplicate", "eventfd", 0, &error))?;
        // SAFETY: the duplicate was just made and is given to this file, which closes it.
        let file = Rc::new(unsafe { BufferedFile::from_raw_fd(own.into_raw_fd()) });
        Ok(Bell { file, reading: None })
    }

    /// Waits until the eventfd was written to, or the deadline.
    async fn wait(&mut self, deadline: Option<Instant>) {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut timer = left.map(Timer::new);
        poll_fn(|context| {
            let timed_out = timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(context).is_ready());
            if self.poll_read(context).is_ready() || timed_out { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let file = &self.file;
        let reading = self.reading.get_or_insert_with(|| Box::pin(read(file.clone())));
        let polled = reading.as_mut().poll(context);
        if polled.is_ready() {
            self.reading = None;
        }
        polled
    }

    /// Ends the pending read: glommio would wait for it for ever.
    async fn close(mut self, core: &Core) {
        if let Some(reading) = self.reading.take() {
            core.doorbell().write_event();
            reading.await;
        }
    }
}

async fn read(file: Rc<BufferedFile>) {
    if let Err(error) = file.read_at(0, size_of::<u64>()).await {
        // Without it nothing would wake this thread again.
        panic!("an eventfd can be read: {error}");
    }
}
