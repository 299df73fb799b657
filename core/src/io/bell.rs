//! Bells: how tasks of one shard wait for one another. Never crosses a thread.
//!
//! A bell remembers one ring until it is heard, so that a ring between a look and the wait is not lost. Waiters look again
//! after every ring: a bell carries no value and may ring for nothing.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// Wakes every task that waits for it.
#[derive(Default)]
pub struct Bell {
    rings: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Bell {
    /// Wakes all that wait now, and those that wait for a ring after an earlier `count`.
    pub fn ring(&self) {
        self.rings.set(self.rings.get().wrapping_add(1));
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// The rings so far: read it before looking at the state that the bell is about.
    pub fn count(&self) -> u64 {
        self.rings.get()
    }

    /// Waits for a ring after the one that `count` saw.
    pub async fn after(&self, count: u64) {
        poll_fn(|context| {
            if self.rings.get() != count {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Waits until `done` holds; looks again after every ring.
    pub async fn until(&self, mut done: impl FnMut() -> bool) {
        loop {
            let count = self.count();
            if done() {
                return;
            }
            self.after(count).await;
        }
    }
}

/// One value that another task will bring. One task may wait.
pub struct Promise<T> {
    value: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Promise { value: Cell::new(None), waker: Cell::new(None) }
    }
}

impl<T> Promise<T> {
    pub fn keep(&self, value: T) {
        self.value.set(Some(value));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub fn poll(&self, context: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = self.value.take() {
            return Poll::Ready(value);
        }
        self.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }

    pub async fn kept(&self) -> T {
        poll_fn(|context| self.poll(context)).await
    }
}

/// What comes first.
pub enum First<A, B> {
    Left(A),
    Right(B),
}

/// Polls both until one is ready; the other is dropped. The left one wins a tie.
pub async fn first<A: Future, B: Future>(left: A, right: B) -> First<A::Output, B::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|context| {
        if let Poll::Ready(value) = left.as_mut().poll(context) {
            return Poll::Ready(First::Left(value));
        }
        right.as_mut().poll(context).map(First::Right)
    })
    .await
}

/// A future on one core.
pub type Local<T> = Pin<Box<dyn Future<Output = T>>>;
