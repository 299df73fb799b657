//! The flag by which a core says that it sleeps, and the order that loses no wake.
//!
//! Owner: `announce`, look into every inbox once more, sleep only if all are empty, `awake`. Others: make the item
//! visible, then `claim`; whoever gets `true` sends the one wake. Both sides store, fence and load, so either the owner's
//! last look sees the item or the other sees the flag. Never decides how a wake travels.

use super::sync::{AtomicBool, Ordering, fence};

pub(crate) struct ParkFlag(AtomicBool);

impl ParkFlag {
    pub(crate) fn new() -> ParkFlag {
        ParkFlag(AtomicBool::new(false))
    }

    /// The owner is about to sleep.
    pub(crate) fn announce(&self) {
        self.0.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The owner runs again, or did not sleep after all.
    pub(crate) fn awake(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Whether the caller, whose item is visible, has to send the wake.
    pub(crate) fn claim(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::SeqCst) && self.0.swap(false, Ordering::SeqCst)
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wake_per_sleep() {
        let flag = ParkFlag::new();
        assert!(!flag.claim());
        flag.announce();
        assert!(flag.claim());
        assert!(!flag.claim());
        flag.announce();
        flag.awake();
        assert!(!flag.claim());
    }
}

#[cfg(loom)]
#[cfg(test)]
mod loom_tests {
    use super::*;
    use crate::io::spsc;
    use loom::sync::{Arc, Condvar, Mutex};

    /// The level-triggered sleep: a wake sent before the sleep ends it at once, as a completion does.
    #[derive(Default)]
    struct Bell {
        rung: Mutex<bool>,
        changed: Condvar,
    }

    impl Bell {
        fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_one();
        }

        fn wait(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.changed.wait(rung).unwrap();
            }
            *rung = false;
        }
    }

    /// Loom reports a deadlock if any interleaving lets the owner sleep while an item waits.
    fn no_wake_is_lost(senders: usize) {
        loom::model(move || {
            let flag = Arc::new(ParkFlag::new());
            let bell = Arc::new(Bell::default());
            let mut inboxes = Vec::new();
            for _ in 0..senders {
                let (sender, receiver) = spsc::queue(2);
                inboxes.push(receiver);
                let (flag, bell) = (flag.clone(), bell.clone());
                loom::thread::spawn(move || {
                    sender.push(1).unwrap();
                    if flag.claim() {
                        bell.ring();
                    }
                });
            }
            let mut received = 0;
            loop {
                received += inboxes.iter().filter_map(spsc::Receiver::pop).sum::<usize>();
                if received == senders {
                    break;
                }
                flag.announce();
                if inboxes.iter().all(|inbox| !inbox.watcher().has_items()) {
                    bell.wait();
                }
                flag.awake();
            }
        });
    }

    #[test]
    fn loom_no_wake_is_lost_from_one_sender() {
        no_wake_is_lost(1);
    }

    #[test]
    fn loom_no_wake_is_lost_from_two_senders() {
        no_wake_is_lost(2);
    }
}
