//! Tasks of one executor: their futures, their wakers, and the two queues of those that want to run.
//!
//! Futures never leave their thread; a waker may, and then goes through its owner's doorbell. Invariants: a task is in
//! a queue at most once; a future that runs is out of the table, so that it may be cancelled meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::doorbell::Doorbell;
use super::executor;

pub(crate) type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Requests: every turn.
    Hot,
    /// Drains, compaction: when no request waits.
    Background,
}

/// What wakers share of a task: where it lives, never its future.
pub(crate) struct Task {
    owner: Arc<Doorbell>,
    class: Class,
    index: usize,
    generation: u64,
    queued: AtomicBool,
}

impl Task {
    pub(crate) fn owner(&self) -> &Arc<Doorbell> {
        &self.owner
    }

    /// The task leaves its queue: from now on it may be queued again.
    pub(crate) fn unqueue(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            executor::enqueue(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            executor::enqueue(self.clone());
        }
    }
}

struct Place {
    generation: u64,
    used: bool,
    /// `None` while it runs.
    future: Option<LocalFuture>,
}

#[derive(Default)]
pub(crate) struct TaskTable {
    places: Vec<Place>,
    free: Vec<usize>,
}

impl TaskTable {
    pub(crate) fn insert(&mut self, owner: Arc<Doorbell>, class: Class, future: LocalFuture) -> Arc<Task> {
        let index = self.free.pop().unwrap_or(self.places.len());
        if index == self.places.len() {
            self.places.push(Place { generation: 0, used: false, future: None });
        }
        let place = self.places.get_mut(index).expect("the place was just made or freed");
        place.generation += 1;
        place.used = true;
        place.future = Some(future);
        Arc::new(Task { owner, class, index, generation: place.generation, queued: AtomicBool::new(false) })
    }

    /// The future, to be run; `None` if the task has ended or runs.
    pub(crate) fn take(&mut self, task: &Task) -> Option<LocalFuture> {
        self.place(task)?.future.take()
    }

    /// A future that is not finished comes back. It is returned if its task was cancelled meanwhile.
    pub(crate) fn put_back(&mut self, task: &Task, future: LocalFuture) -> Option<LocalFuture> {
        match self.place(task) {
            Some(place) => place.future.replace(future),
            None => Some(future),
        }
    }

    /// Ends a task. Its future is returned, to be dropped when no borrow is held.
    pub(crate) fn remove(&mut self, task: &Task) -> Option<LocalFuture> {
        let place = self.place(task)?;
        place.used = false;
        let future = place.future.take();
        self.free.push(task.index);
        future
    }

    /// Ends all tasks.
    pub(crate) fn remove_all(&mut self) -> Vec<LocalFuture> {
        let mut futures = Vec::new();
        for (index, place) in self.places.iter_mut().enumerate().filter(|(_, place)| place.used) {
            place.used = false;
            self.free.push(index);
            futures.extend(place.future.take());
        }
        futures
    }

    fn place(&mut self, task: &Task) -> Option<&mut Place> {
        self.places.get_mut(task.index).filter(|place| place.used && place.generation == task.generation)
    }
}

/// Tasks that want to run, in the order in which they were woken.
#[derive(Default)]
pub(crate) struct RunQueues {
    hot: RefCell<VecDeque<Arc<Task>>>,
    background: RefCell<VecDeque<Arc<Task>>>,
}

impl RunQueues {
    pub(crate) fn push(&self, task: Arc<Task>) {
        self.queue(task.class).borrow_mut().push_back(task);
    }

    pub(crate) fn pop(&self, class: Class) -> Option<Arc<Task>> {
        self.queue(class).borrow_mut().pop_front()
    }

    pub(crate) fn count(&self, class: Class) -> usize {
        self.queue(class).borrow().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count(Class::Hot) == 0 && self.count(Class::Background) == 0
    }

    pub(crate) fn clear(&self) {
        self.hot.take();
        self.background.take();
    }

    fn queue(&self, class: Class) -> &RefCell<VecDeque<Arc<Task>>> {
        match class {
            Class::Hot => &self.hot,
            Class::Background => &self.background,
        }
    }
}

struct Outcome<T> {
    value: Cell<Option<T>>,
    finished: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

/// Waits for a task's value. Dropping it lets the task run on.
pub struct JoinHandle<T> {
    outcome: Rc<Outcome<T>>,
    task: Arc<Task>,
}

impl<T> JoinHandle<T> {
    /// Whether the task has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.outcome.finished.get()
    }

    /// The value, if it is there and was not taken.
    pub(crate) fn take_value(&mut self) -> Option<T> {
        self.outcome.value.take()
    }

    /// Ends the task where it waits; operations under way keep their memory until the kernel is done.
    pub fn cancel(self) {
        executor::cancel(&self.task);
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = self.outcome.value.take() {
            return Poll::Ready(value);
        }
        self.outcome.waiter.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

/// Wraps a future so that its value reaches a handle. `start` makes it a task.
pub(crate) fn joinable<F>(future: F, start: impl FnOnce(LocalFuture) -> Arc<Task>) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let outcome = Rc::new(Outcome { value: Cell::new(None), finished: Cell::new(false), waiter: Cell::new(None) });
    let told = outcome.clone();
    let task = start(Box::pin(async move {
        told.value.set(Some(future.await));
        told.finished.set(true);
        if let Some(waiter) = told.waiter.take() {
            waiter.wake();
        }
    }));
    JoinHandle { outcome, task }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;

    fn insert(table: &mut TaskTable, kept: &Rc<()>) -> Arc<Task> {
        let kept = kept.clone();
        let future = Box::pin(async move { drop(kept) });
        table.insert(Doorbell::new().unwrap(), Class::Hot, future)
    }

    #[test]
    fn a_cancelled_task_gets_no_future_back() {
        let (mut table, kept) = (TaskTable::default(), Rc::new(()));
        let task = insert(&mut table, &kept);
        let running = table.take(&task).unwrap();
        assert!(table.take(&task).is_none(), "it runs");
        assert!(table.remove(&task).is_none());
        assert!(table.put_back(&task, running).is_some());
        assert_eq!(Rc::strong_count(&kept), 1);
        let reused = insert(&mut table, &kept);
        assert!(table.take(&task).is_none(), "an old task never runs a new one's future");
        assert!(table.take(&reused).is_some());
    }

    #[test]
    fn a_waker_of_another_thread_reaches_the_doorbell_once() {
        let (mut table, kept) = (TaskTable::default(), Rc::new(()));
        let task = insert(&mut table, &kept);
        let waker = Waker::from(task.clone());
        std::thread::spawn(move || {
            waker.wake_by_ref();
            waker.wake();
        })
        .join()
        .unwrap();
        assert!(task.owner().has_woken());
        assert_eq!(task.owner().take_woken().len(), 1);
        assert!(!task.owner().has_woken());
        assert_eq!(table.remove_all().len(), 1);
    }
}
