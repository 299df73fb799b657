//! Lifecycle: how a process tells its service to stop, and how the service tells that it serves.
//!
//! Owns no thread, socket or file. Everything is `Send + Sync` and may be called from a shard: nothing here waits but
//! [`Shutdown::wait`]. Invariants: a shutdown once requested stays requested; each subscriber is called exactly once.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

type Subscriber = Box<dyn FnOnce() + Send>;

/// A request to drain and stop. Clones share one request.
#[derive(Clone, Default)]
pub struct Shutdown(Arc<ShutdownState>);

#[derive(Default)]
struct ShutdownState {
    inner: Mutex<ShutdownInner>,
    changed: Condvar,
}

#[derive(Default)]
struct ShutdownInner {
    requested: Option<String>,
    subscribers: Vec<Subscriber>,
}

impl Shutdown {
    /// Asks for a drain, for `reason` ("SIGTERM"); a second call changes nothing and returns false.
    pub fn request(&self, reason: &str) -> bool {
        let subscribers = {
            let mut inner = lock(&self.0.inner);
            if inner.requested.is_some() {
                return false;
            }
            inner.requested = Some(reason.to_owned());
            std::mem::take(&mut inner.subscribers)
        };
        self.0.changed.notify_all();
        subscribers.into_iter().for_each(|notify| notify());
        true
    }

    /// Whether a drain was asked for.
    pub fn is_requested(&self) -> bool {
        lock(&self.0.inner).requested.is_some()
    }

    /// Why a drain was asked for.
    pub fn reason(&self) -> Option<String> {
        lock(&self.0.inner).requested.clone()
    }

    /// Calls `notify` once when a drain is asked for, on the thread that asks; at once if it was already.
    pub fn subscribe(&self, notify: impl FnOnce() + Send + 'static) {
        let mut inner = lock(&self.0.inner);
        if inner.requested.is_none() {
            inner.subscribers.push(Box::new(notify));
            return;
        }
        drop(inner);
        notify();
    }

    /// Blocks this thread until a drain is asked for. Never on a shard.
    pub fn wait(&self) {
        let mut inner = lock(&self.0.inner);
        while inner.requested.is_none() {
            inner = self.0.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Why the service does not serve, as `/ready` shows it: ready means that no reason is left.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeSet<String>>>);

impl Readiness {
    /// Not ready, for this reason ("replaying the journal of shard 1").
    pub fn starting(reason: &str) -> Readiness {
        Readiness(Arc::new(Mutex::new(BTreeSet::from([reason.to_owned()]))))
    }

    /// Adds a reason.
    pub fn block(&self, reason: &str) {
        lock(&self.0).insert(reason.to_owned());
    }

    /// Takes a reason away.
    pub fn clear(&self, reason: &str) {
        lock(&self.0).remove(reason);
    }

    /// The reasons left; empty when ready.
    pub fn reasons(&self) -> Vec<String> {
        lock(&self.0).iter().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_subscriber_is_called_once_whether_early_or_late() {
        let shutdown = Shutdown::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = |calls: &Arc<AtomicUsize>| {
            let calls = Arc::clone(calls);
            move || {
                calls.fetch_add(1, Ordering::SeqCst);
            }
        };
        shutdown.subscribe(count(&calls));
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        assert!(shutdown.request("SIGTERM"));
        assert!(!shutdown.request("SIGINT"), "a second request is no news");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        shutdown.subscribe(count(&calls));
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert_eq!(shutdown.reason().as_deref(), Some("SIGTERM"));
        shutdown.wait();
    }

    #[test]
    fn ready_means_that_no_reason_is_left() {
        let readiness = Readiness::starting("starting");
        readiness.block("replaying");
        readiness.clear("starting");
        assert_eq!(readiness.reasons(), ["replaying"]);
        readiness.clear("replaying");
        assert!(readiness.reasons().is_empty());
    }
}
