//! Between shards and ordinary threads: a queue into a shard, and an answer that either side may wait for.
//!
//! For control traffic: both take a lock. Wakes go through wakers, which know their core.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::{lock, wake};

struct Queue<T> {
    items: VecDeque<T>,
    reader: Option<Waker>,
    sender_count: usize,
    receiver_gone: bool,
}

/// Sends to a shard from any thread.
pub struct ThreadSender<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

/// The shard's end. May be moved to the shard's thread before its executor starts.
pub struct ThreadReceiver<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

/// A queue from any threads into one shard. Unbounded: what may be sent is the senders' agreement with the shard.
pub fn thread_channel<T: Send>() -> (ThreadSender<T>, ThreadReceiver<T>) {
    let queue = Queue { items: VecDeque::new(), reader: None, sender_count: 1, receiver_gone: false };
    let queue = Arc::new(Mutex::new(queue));
    (ThreadSender { queue: queue.clone() }, ThreadReceiver { queue })
}

impl<T: Send> ThreadSender<T> {
    /// Puts an item behind the others. It comes back if the shard has ended.
    pub fn send(&self, item: T) -> Result<(), T> {
        let mut queue = lock(&self.queue);
        if queue.receiver_gone {
            return Err(item);
        }
        queue.items.push_back(item);
        let reader = queue.reader.take();
        drop(queue);
        wake(reader);
        Ok(())
    }
}

impl<T> Clone for ThreadSender<T> {
    fn clone(&self) -> ThreadSender<T> {
        lock(&self.queue).sender_count += 1;
        ThreadSender { queue: self.queue.clone() }
    }
}

impl<T> Drop for ThreadSender<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.sender_count -= 1;
        let reader = if queue.sender_count == 0 { queue.reader.take() } else { None };
        drop(queue);
        wake(reader);
    }
}

impl<T: Send> ThreadReceiver<T> {
    /// The next item; `None` when all senders are gone. One task may wait at a time.
    pub async fn recv(&self) -> Option<T> {
        poll_fn(|context| {
            let mut queue = lock(&self.queue);
            if let Some(item) = queue.items.pop_front() {
                return Poll::Ready(Some(item));
            }
            if queue.sender_count == 0 {
                return Poll::Ready(None);
            }
            queue.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<T> Drop for ThreadReceiver<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.receiver_gone = true;
        let items = std::mem::take(&mut queue.items);
        drop(queue);
        drop(items);
    }
}

struct Outcome<T> {
    state: Mutex<OutcomeState<T>>,
    changed: Condvar,
}

struct OutcomeState<T> {
    value: Option<T>,
    ended: bool,
    waiter: Option<Waker>,
}

/// The answering side. Dropping it without a value tells the asker.
pub struct Answer<T> {
    outcome: Arc<Outcome<T>>,
}

/// The asking side: a future for tasks of any executor, or a blocking wait for a thread.
pub struct Awaiting<T> {
    outcome: Arc<Outcome<T>>,
}

/// One value from one side to the other, whichever of them is a shard.
pub fn answer<T: Send>() -> (Answer<T>, Awaiting<T>) {
    let state = OutcomeState { value: None, ended: false, waiter: None };
    let outcome = Arc::new(Outcome { state: Mutex::new(state), changed: Condvar::new() });
    (Answer { outcome: outcome.clone() }, Awaiting { outcome })
}

impl<T> Answer<T> {
    pub fn send(self, value: T) {
        lock(&self.outcome.state).value = Some(value);
        // The drop that follows tells the other side.
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.outcome.state);
        state.ended = true;
        let waiter = state.waiter.take();
        drop(state);
        self.outcome.changed.notify_one();
        wake(waiter);
    }
}

impl<T> Awaiting<T> {
    /// Blocks an ordinary thread. `None` if the time is up or the other side was dropped.
    pub fn wait(self, at_most: Duration) -> Option<T> {
        let deadline = Instant::now() + at_most;
        let mut state = lock(&self.outcome.state);
        while !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.outcome.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        state.value.take()
    }
}

impl<T> Future for Awaiting<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = lock(&self.outcome.state);
        if state.ended {
            return Poll::Ready(state.value.take());
        }
        state.waiter = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_or_its_absence_does() {
        let (answer_one, awaiting_one) = answer();
        let (answer_two, awaiting_two) = answer::<u8>();
        let thread = std::thread::spawn(move || {
            answer_one.send(5);
            drop(answer_two);
        });
        assert_eq!(awaiting_one.wait(Duration::from_secs(60)), Some(5));
        assert_eq!(awaiting_two.wait(Duration::from_secs(60)), None);
        thread.join().unwrap();
        let (_held, late) = answer::<u8>();
        assert_eq!(late.wait(Duration::from_millis(1)), None);
    }

    #[test]
    fn a_channel_ends_with_its_last_sender_and_refuses_after_its_receiver() {
        let (sender, receiver) = thread_channel();
        let second = sender.clone();
        sender.send(1).unwrap();
        drop(sender);
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = || std::pin::pin!(receiver.recv()).poll(&mut context);
        assert_eq!(poll(), Poll::Ready(Some(1)));
        assert_eq!(poll(), Poll::Pending);
        drop(second);
        assert_eq!(poll(), Poll::Ready(None));
        let (sender, receiver) = thread_channel();
        drop(receiver);
        assert_eq!(sender.send(3), Err(3));
    }
}
