//! A single-threaded executor whose only way to sleep is its ring.
//!
//! Owns the turn, the park and the wake of one thread. A turn: tasks that were woken before it began, then background
//! tasks if nothing else is to be done, inboxes, timers, one visit to the ring. Invariants: it sleeps only with empty
//! queues, after announcing it and a last look into every inbox; entries that tasks queued leave in the very call that
//! sleeps; tasks woken during a turn run in the next one, so that the ring is never starved.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
#[cfg(feature = "glommio")]
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::doorbell::Doorbell;
use super::ops::Finished;
use super::ring::{self, Ring, RingSetup, Wait};
use super::spin::SpinRecord;
use super::stats::{StallWarning, TurnStats};
use super::tasks::{Class, LocalFuture, RunQueues, Task, TaskTable, joinable};
use super::timers::{TimerKey, Timers};
use super::wake;
use crate::error::Fault;
use crate::units::Now;

pub use super::tasks::JoinHandle;

/// Hot tasks of one turn: bounds the time between two visits to the ring.
const TASKS_PER_TURN_MAX: usize = 512;
/// How long tasks run before `yield_if_needed` gives way.
const SLICE: Duration = Duration::from_micros(100);
/// With requests always waiting, background work still gets one poll this often.
const BACKGROUND_WAIT_MAX: Duration = Duration::from_millis(10);
/// How long the end of an executor waits for the kernel to give back memory before leaking it.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(5);

/// How one executor runs.
#[derive(Clone)]
pub struct ExecutorConfig {
    /// The CPU to pin the thread to; `None` leaves it where the scheduler puts it.
    pub cpu: Option<usize>,
    /// Places of the submission queue; the completion queue has four times as many.
    pub ring_entries: u32,
    /// The optional features to try for; a ring steps down from them to what the kernel has.
    pub ring_setup: RingSetup,
    /// How long to look for work before sleeping, after a completion, while such looks find some. Zero for threads without
    /// a CPU of their own.
    pub spin: Duration,
    /// Turns longer than this are counted and warned of.
    pub stall: Duration,
    /// Where others wake this executor; `None` makes one.
    pub doorbell: Option<Arc<Doorbell>>,
    /// Figures that others read.
    pub stats: Arc<TurnStats>,
}

impl Default for ExecutorConfig {
    fn default() -> ExecutorConfig {
        ExecutorConfig {
            cpu: None,
            ring_entries: 1024,
            ring_setup: RingSetup::BEST,
            spin: Duration::ZERO,
            stall: Duration::from_millis(20),
            doorbell: None,
            stats: Arc::default(),
        }
    }
}

/// Something that other threads put work into, looked at in every turn and before every sleep.
pub(crate) trait Inbox: Send + Sync {
    fn has_items(&self) -> bool;
}

struct Watched {
    inbox: Arc<dyn Inbox>,
    reader: Option<Waker>,
}

impl Watched {
    fn is_due(&self) -> bool {
        self.reader.is_some() && self.inbox.has_items()
    }
}

/// The state of this thread's executor.
pub(crate) struct Core {
    pub(crate) ring: RefCell<Ring>,
    doorbell: Arc<Doorbell>,
    tasks: RefCell<TaskTable>,
    queues: RunQueues,
    timers: RefCell<Timers>,
    inboxes: RefCell<Vec<Watched>>,
    turn_hooks: RefCell<Vec<Box<dyn FnMut() -> bool>>>,
    /// When the turn began.
    now: Cell<Now>,
    slice_end: Cell<Instant>,
    background_ran: Cell<Instant>,
    /// The last visit to the ring brought a completion: spinning may pay.
    was_busy: Cell<bool>,
    spin: Duration,
    spun: RefCell<SpinRecord>,
    stats: Arc<TurnStats>,
    stall: StallWarning,
}

thread_local! {
    static CORE: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// This thread's executor; a bug if there is none.
pub(crate) fn current() -> Rc<Core> {
    try_current().expect("this is called by a task of an executor")
}

fn try_current() -> Option<Rc<Core>> {
    CORE.try_with(|core| core.borrow().clone()).ok().flatten()
}

/// Runs the future that `make` returns, and the tasks it spawns, on this thread until that future ends. Tasks that are
/// left are dropped; memory that the kernel still uses is waited for.
pub fn run<F>(config: ExecutorConfig, make: impl FnOnce() -> F) -> Result<F::Output, Fault>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let entered = Entered::new(config)?;
    let core = entered.core();
    core.doorbell.set_ring_fd(Some(core.ring.borrow().fd()));
    let mut main = spawn(make());
    loop {
        core.work();
        if let Some(output) = main.take_value() {
            return Ok(output);
        }
        core.rest();
    }
}

/// The executor of this thread while it lives. Its end, also by a panic, clears the thread.
pub(crate) struct Entered(Rc<Core>);

impl Entered {
    /// Makes the thread's executor. Others reach it by its eventfd until they are told of its ring.
    pub(crate) fn new(config: ExecutorConfig) -> Result<Entered, Fault> {
        Core::enter_thread(config).map(Entered)
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.shut_down();
        }
        self.0.doorbell.set_ring_fd(None);
        CORE.with(|core| core.borrow_mut().take());
    }
}

/// Starts a task on this thread.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    joinable(future, |future| current().start(Class::Hot, future))
}

/// Starts a task that runs when nothing else does. It must call `yield_if_needed` between steps.
pub fn spawn_background<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    joinable(future, |future| current().start(Class::Background, future))
}

/// Gives way if another task wants to run, the ring needs a visit, or the slice is over.
pub async fn yield_if_needed() {
    if current().should_yield() {
        yield_now().await;
    }
}

/// Lets every other task that wants to run go first.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The present moment, for `sleep_until`.
pub fn now() -> Instant {
    Instant::now()
}

/// The time as machines take it: on an executor's thread that of the turn's beginning, or of a deadline since then.
/// Comparable between all threads of this process.
pub fn machine_now() -> Now {
    try_current().map_or_else(|| machine_time(Instant::now()), |core| core.now.get())
}

/// The present moment, of which the monotonic clock was just read.
fn machine_time(now: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { monotonic_us: now.duration_since(origin()).as_micros() as u64, wall_ms: wall.as_millis() as i64 }
}

/// The moment of a machine's `monotonic_us`.
pub fn instant_of(monotonic_us: u64) -> Instant {
    origin() + Duration::from_micros(monotonic_us)
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// Waits until `deadline`.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// Waits for `duration`.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

/// The future's value, or `None` if `deadline` comes first; the future is then dropped.
pub async fn until<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let (mut future, mut sleep) = (pin!(future), sleep_until(deadline));
    poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        Pin::new(&mut sleep).poll(context).map(|()| None)
    })
    .await
}

/// See `sleep_until`.
pub struct Sleep {
    deadline: Instant,
    timer: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let core = current();
        let now = Instant::now();
        if now >= self.deadline {
            // Who wakes must find that its time has come, or it would sleep again, for nothing, in a turn that never ends.
            if instant_of(core.now.get().monotonic_us) < self.deadline {
                core.now.set(machine_time(now));
            }
            return Poll::Ready(());
        }
        let mut timers = core.timers.borrow_mut();
        let is_kept = self.timer.is_some_and(|key| timers.update(key, context.waker()));
        if !is_kept {
            self.timer = Some(timers.insert(self.deadline, context.waker().clone()));
        }
        core.ring.borrow().end_sleep_elsewhere();
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(key), Some(core)) = (self.timer, try_current()) {
            core.timers.borrow_mut().remove(key);
        }
    }
}

/// Where other threads wake this executor.
pub fn doorbell() -> Arc<Doorbell> {
    current().doorbell.clone()
}

/// The figures of this thread's executor.
pub fn stats() -> Arc<TurnStats> {
    current().stats.clone()
}

/// Which optional features this thread's ring has.
pub fn ring_setup() -> RingSetup {
    current().ring.borrow().setup()
}

/// Calls `hook` in every turn of this thread's executor, if there is one, until it returns false.
pub(crate) fn each_turn(hook: impl FnMut() -> bool + 'static) {
    if let Some(core) = try_current() {
        core.turn_hooks.borrow_mut().push(Box::new(hook));
    }
}

/// Looks into `inbox` from now on. The place is what `wait_for` takes.
pub(crate) fn watch(inbox: Arc<dyn Inbox>) -> usize {
    let core = current();
    let mut inboxes = core.inboxes.borrow_mut();
    inboxes.push(Watched { inbox, reader: None });
    inboxes.len() - 1
}

/// Wakes `reader` once when the inbox has an item.
pub(crate) fn wait_for(place: usize, reader: &Waker) {
    if let Some(watched) = current().inboxes.borrow_mut().get_mut(place) {
        watched.reader = Some(reader.clone());
    }
}

/// A task was woken, on whatever thread this is.
pub(crate) fn enqueue(task: Arc<Task>) {
    match try_current().filter(|core| core.doorbell.id() == task.owner().id()) {
        Some(core) => {
            core.queues.push(task);
            core.ring.borrow().end_sleep_elsewhere();
        }
        None => task.owner().clone().push_woken(task),
    }
}

/// Sends the one wake of a sleep by this thread's ring. False if that is impossible.
pub(crate) fn send_ring_wake(target: &Arc<Doorbell>) -> bool {
    match try_current().filter(|_| target.ring_fd() >= 0) {
        Some(core) => {
            core.ring.borrow_mut().push_wake(target);
            true
        }
        None => false,
    }
}

pub(crate) fn cancel(task: &Task) {
    if let Some(core) = try_current() {
        let future = core.tasks.borrow_mut().remove(task);
        drop(future);
    }
}

fn pin_thread(cpu: usize) -> Result<(), Fault> {
    let core = core_affinity::CoreId { id: cpu };
    // The crate aborts on a number that no CPU set holds, so it is checked first.
    let allowed = core_affinity::get_core_ids().unwrap_or_default().contains(&core);
    if allowed && core_affinity::set_for_current(core) {
        return Ok(());
    }
    Err(Fault::Refused(format!("cannot pin a thread to CPU {cpu}: it does not exist or is not allowed")))
}

impl Core {
    fn enter_thread(config: ExecutorConfig) -> Result<Rc<Core>, Fault> {
        assert!(try_current().is_none(), "a thread runs one executor");
        if let Some(cpu) = config.cpu {
            pin_thread(cpu)?;
        }
        let doorbell = config.doorbell.map_or_else(Doorbell::new, Ok)?;
        let ring = Ring::new(config.ring_entries, config.ring_setup, doorbell.clone())
            .map_err(|error| Fault::io("set up", "io_uring", 0, &error))?;
        let now = Instant::now();
        let core = Rc::new(Core {
            ring: RefCell::new(ring),
            doorbell,
            tasks: RefCell::default(),
            queues: RunQueues::default(),
            timers: RefCell::default(),
            inboxes: RefCell::default(),
            turn_hooks: RefCell::default(),
            now: Cell::new(machine_time(now)),
            slice_end: Cell::new(now),
            background_ran: Cell::new(now),
            was_busy: Cell::new(false),
            spin: config.spin,
            spun: RefCell::default(),
            stall: StallWarning::new(config.stall),
            stats: config.stats,
        });
        origin();
        CORE.with(|current| *current.borrow_mut() = Some(core.clone()));
        Ok(core)
    }

    fn start(&self, class: Class, future: LocalFuture) -> Arc<Task> {
        let task = self.tasks.borrow_mut().insert(self.doorbell.clone(), class, future);
        Waker::from(task.clone()).wake();
        task
    }

    /// The first half of a turn: everything that needs no ring.
    pub(crate) fn work(&self) {
        let began = Instant::now();
        self.now.set(machine_time(began));
        self.slice_end.set(began + SLICE);
        self.run_hot();
        self.run_background(began);
        self.look_around();
        let ended = Instant::now();
        self.fire_timers(ended);
        self.stats.turn_ended(ended - began, &self.stall);
    }

    /// The second half: the ring, and sleep if there is nothing to run.
    fn rest(&self) {
        if !self.queues.is_empty() {
            self.visit_ring(None);
        } else if !self.spin_finds_work() {
            self.park();
        }
        self.reap();
    }

    fn run_hot(&self) {
        for _ in 0..self.queues.count(Class::Hot).min(TASKS_PER_TURN_MAX) {
            if let Some(task) = self.queues.pop(Class::Hot) {
                self.run_task(&task);
            }
        }
    }

    /// Runs background tasks until the slice is over or something else wants to run; under constant load one, now and
    /// then.
    fn run_background(&self, turn_started: Instant) {
        let starved = turn_started.duration_since(self.background_ran.get()) > BACKGROUND_WAIT_MAX;
        if self.queues.count(Class::Background) == 0 {
            self.background_ran.set(turn_started);
            return;
        }
        if self.must_serve() && !starved {
            return;
        }
        let now = Instant::now();
        self.background_ran.set(now);
        self.slice_end.set(now + SLICE);
        for _ in 0..self.queues.count(Class::Background) {
            if let Some(task) = self.queues.pop(Class::Background) {
                self.run_task(&task);
            }
            if self.should_yield() {
                return;
            }
        }
    }

    fn run_task(&self, task: &Arc<Task>) {
        task.unqueue();
        let future = self.tasks.borrow_mut().take(task);
        let Some(mut future) = future else {
            return;
        };
        let waker = Waker::from(task.clone());
        let done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let unneeded = {
            let mut tasks = self.tasks.borrow_mut();
            if done {
                tasks.remove(task);
                Some(future)
            } else {
                tasks.put_back(task, future)
            }
        };
        // Dropping a future runs foreign code, so no borrow is held.
        drop(unneeded);
    }

    fn must_serve(&self) -> bool {
        self.queues.count(Class::Hot) > 0 || self.ring.borrow_mut().needs_enter()
    }

    fn should_yield(&self) -> bool {
        self.must_serve() || Instant::now() >= self.slice_end.get()
    }

    /// Takes in what arrived without the ring: remote wakes, inboxes, returned memory.
    fn look_around(&self) {
        if self.doorbell.has_woken() {
            self.doorbell.take_woken().into_iter().for_each(|task| self.queues.push(task));
        }
        for watched in self.inboxes.borrow_mut().iter_mut().filter(|watched| watched.is_due()) {
            wake(watched.reader.take());
        }
        self.turn_hooks.borrow_mut().retain_mut(|hook| hook());
    }

    fn fire_timers(&self, now: Instant) {
        while let Some(waker) = { self.timers.borrow_mut().pop_due(now) } {
            waker.wake();
        }
    }

    #[cfg(feature = "glommio")]
    pub(crate) fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.borrow().next_deadline()
    }

    fn has_inbox_items(&self) -> bool {
        self.doorbell.has_woken() || self.inboxes.borrow().iter().any(Watched::is_due)
    }

    /// Enters the ring if something goes on by it; `wait` as in `Ring::enter`.
    fn visit_ring(&self, wait: Option<Wait>) {
        let mut ring = self.ring.borrow_mut();
        match wait {
            Some(wait) => ring.enter(wait),
            None if ring.needs_enter() => ring.enter(Wait::No),
            None => {}
        }
    }

    /// Looks for work before a sleep, if there was some lately and such looks pay.
    fn spin_finds_work(&self) -> bool {
        if self.spin.is_zero() || !self.was_busy.replace(false) || !self.spun.borrow_mut().is_due() {
            return false;
        }
        // What tasks queued must not wait for the end of the spin. What that completes at once needed none.
        self.visit_ring(None);
        if self.has_work() {
            return true;
        }
        let found = self.spin();
        self.spun.borrow_mut().judge(found);
        found
    }

    /// Looks for work without a system call for as long as the configuration says.
    fn spin(&self) -> bool {
        let mut end = Instant::now() + self.spin;
        if let Some(deadline) = self.next_deadline() {
            end = end.min(deadline);
        }
        while Instant::now() < end {
            if self.has_work() {
                return true;
            }
            self.visit_ring(None);
            std::hint::spin_loop();
        }
        false
    }

    fn has_work(&self) -> bool {
        self.ring.borrow_mut().has_completions() || self.has_inbox_items()
    }

    /// The second half of a turn inside another reactor. False if there is nothing to do until the eventfd says so, or
    /// the next deadline comes; `end_sleep_elsewhere` must then follow the sleep.
    #[cfg(feature = "glommio")]
    pub(crate) fn rest_elsewhere(&self) -> bool {
        let busy = !self.queues.is_empty() || self.spin_finds_work();
        if busy {
            self.visit_ring(None);
        }
        let stays = busy || !self.may_sleep_elsewhere();
        self.reap();
        stays
    }

    /// Announces a sleep, then looks at everything once more.
    #[cfg(feature = "glommio")]
    fn may_sleep_elsewhere(&self) -> bool {
        self.doorbell.flag.announce();
        let mut ring = self.ring.borrow_mut();
        ring.tell_completions(true);
        fence(Ordering::SeqCst);
        // What completed or waited to be run before is not told, so it is fetched.
        ring.enter(Wait::No);
        let idle = !ring.has_completions() && !ring.needs_enter() && !self.has_inbox_items();
        drop(ring);
        if idle {
            self.stats.parked();
        } else {
            self.end_sleep_elsewhere();
        }
        idle
    }

    #[cfg(feature = "glommio")]
    pub(crate) fn end_sleep_elsewhere(&self) {
        self.ring.borrow_mut().tell_completions(false);
        self.doorbell.flag.awake();
    }

    fn park(&self) {
        if self.ring.borrow_mut().has_completions() {
            return;
        }
        self.doorbell.flag.announce();
        if !self.has_inbox_items() {
            self.ring.borrow_mut().arm_event();
            self.stats.parked();
            self.visit_ring(Some(ring::time_until(self.next_deadline())));
        }
        self.doorbell.flag.awake();
    }

    fn reap(&self) {
        let mut finished: Vec<Finished> = Vec::new();
        let count = self.ring.borrow_mut().reap(&mut finished);
        if count > 0 {
            self.was_busy.set(true);
        }
        ring::settle(finished);
    }

    /// Drops all tasks and waits until the kernel has given back their memory.
    fn shut_down(&self) {
        self.doorbell.set_ring_fd(None);
        loop {
            let futures = self.tasks.borrow_mut().remove_all();
            if futures.is_empty() {
                break;
            }
            drop(futures);
        }
        self.turn_hooks.take();
        self.queues.clear();
        self.ring.borrow_mut().cancel_all();
        let give_up = Instant::now() + QUIET_WAIT_MAX;
        while !self.ring.borrow().is_quiet() && Instant::now() < give_up {
            self.visit_ring(Some(Wait::AtMost(Some(Duration::from_millis(10)))));
            self.reap();
        }
        if self.ring.borrow_mut().needs_enter() {
            self.visit_ring(None);
            self.reap();
        }
        drop(self.doorbell.take_woken());
        self.queues.clear();
    }
}
