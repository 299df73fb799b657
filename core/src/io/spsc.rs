//! A bounded queue with one sender and one receiver, on any two threads.
//!
//! Owns the order of accesses to its slots. Never blocks, never allocates after `queue`. Invariants: `head` and `tail`
//! only rise; slots in `head..tail` hold items, which the receiver alone touches; the others are the sender's.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::mem::MaybeUninit;

use super::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// Apart from its neighbours, so that sender and receiver do not fight for a cache line.
#[repr(align(128))]
struct Apart<T>(T);

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    head: Apart<AtomicUsize>,
    tail: Apart<AtomicUsize>,
}

// SAFETY: an item moves from one thread to the other and is touched by one at a time (see `push` and `pop`).
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above; the only two handles are neither `Clone` nor `Sync`.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        self.slots.get(position & (self.slots.len() - 1)).expect("a masked position lies inside")
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let (mut head, tail) = (self.head.0.load(Ordering::Acquire), self.tail.0.load(Ordering::Acquire));
        while head != tail {
            // SAFETY: slots in `head..tail` hold items, and both handles are gone.
            self.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// The sending end.
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
    tail: Cell<usize>,
    /// The head as last seen: read again only when the queue looks full.
    head_seen: Cell<usize>,
}

/// The receiving end.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    head: Cell<usize>,
    tail_seen: Cell<usize>,
}

/// Looks whether items wait, from any thread.
pub(crate) struct Watcher<T>(Arc<Shared<T>>);

/// A queue for `capacity` items, rounded up to a power of two.
pub(crate) fn queue<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let capacity = capacity.max(1).next_power_of_two();
    let shared = Arc::new(Shared {
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        head: Apart(AtomicUsize::new(0)),
        tail: Apart(AtomicUsize::new(0)),
    });
    let sender = Sender { shared: shared.clone(), tail: Cell::new(0), head_seen: Cell::new(0) };
    let receiver = Receiver { shared, head: Cell::new(0), tail_seen: Cell::new(0) };
    (sender, receiver)
}

impl<T> Sender<T> {
    /// Puts an item behind the others, or gives it back if the queue is full.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let tail = self.tail.get();
        let full = |head: usize| tail.wrapping_sub(head) == self.shared.slots.len();
        if full(self.head_seen.get()) {
            self.head_seen.set(self.shared.head.0.load(Ordering::Acquire));
            if full(self.head_seen.get()) {
                return Err(item);
            }
        }
        // SAFETY: the slot at `tail` is outside `head..tail`, so the receiver does not touch it, and this thread is the
        // only sender. The Acquire load of `head` came after the receiver's read of the slot.
        self.shared.slot(tail).with_mut(|slot| unsafe { (*slot).write(item) });
        self.tail.set(tail.wrapping_add(1));
        self.shared.tail.0.store(self.tail.get(), Ordering::Release);
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// Takes the oldest item.
    pub(crate) fn pop(&self) -> Option<T> {
        let head = self.head.get();
        if head == self.tail_seen.get() {
            self.tail_seen.set(self.shared.tail.0.load(Ordering::Acquire));
            if head == self.tail_seen.get() {
                return None;
            }
        }
        // SAFETY: the slot at `head` is inside `head..tail`, so it holds an item; the Acquire load of `tail` came after
        // the sender's write; storing `head` gives the slot away only after the item was moved out.
        let item = self.shared.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_read() });
        self.head.set(head.wrapping_add(1));
        self.shared.head.0.store(self.head.get(), Ordering::Release);
        Some(item)
    }

    pub(crate) fn watcher(&self) -> Watcher<T> {
        Watcher(self.shared.clone())
    }
}

impl<T> Watcher<T> {
    /// Whether an item waits. Exact on the receiver's thread; a momentary view elsewhere.
    pub(crate) fn has_items(&self) -> bool {
        self.0.head.0.load(Ordering::Relaxed) != self.0.tail.0.load(Ordering::Acquire)
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_refuses_when_full() {
        let (sender, receiver) = queue(3);
        for round in 0..10 {
            for item in 0..4 {
                sender.push(round * 4 + item).unwrap();
            }
            assert_eq!(sender.push(99), Err(99));
            assert!(receiver.watcher().has_items());
            for item in 0..4 {
                assert_eq!(receiver.pop(), Some(round * 4 + item));
            }
            assert_eq!(receiver.pop(), None);
            assert!(!receiver.watcher().has_items());
        }
    }

    #[test]
    fn drops_what_was_not_received() {
        let (sender, receiver) = queue(4);
        let item = std::rc::Rc::new(());
        for _ in 0..3 {
            sender.push(item.clone()).unwrap();
        }
        drop(receiver.pop());
        drop((sender, receiver));
        assert_eq!(std::rc::Rc::strong_count(&item), 1);
    }

    #[test]
    fn crosses_threads_in_order() {
        let count = if cfg!(miri) { 200 } else { 100_000 };
        let (sender, receiver) = queue(8);
        let thread = std::thread::spawn(move || {
            for item in 0..count {
                while sender.push(Box::new(item)).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        for expected in 0..count {
            let item = loop {
                match receiver.pop() {
                    Some(item) => break item,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(*item, expected);
        }
        thread.join().unwrap();
    }
}

#[cfg(loom)]
#[cfg(test)]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_items_cross_once_and_in_order() {
        loom::model(|| {
            let (sender, receiver) = queue(2);
            let thread = loom::thread::spawn(move || {
                for item in 0..3 {
                    let mut item = Box::new(item);
                    while let Err(back) = sender.push(item) {
                        item = back;
                        loom::thread::yield_now();
                    }
                }
            });
            let mut expected = 0;
            while expected < 3 {
                match receiver.pop() {
                    Some(item) => {
                        assert_eq!(*item, expected);
                        expected += 1;
                    }
                    None => loom::thread::yield_now(),
                }
            }
            thread.join().unwrap();
        });
    }
}
