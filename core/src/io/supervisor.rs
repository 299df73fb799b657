//! Watches the shards of one embedded service from an ordinary thread, and tells how they ended.
//!
//! Owns that thread and the outcome; never ends the process and installs nothing that the whole process has. The outcome
//! is known at the first failure, before the other shards are gone; once known it stays.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::lock;
use super::shards::{Failure, Shards};
use crate::error::Fault;

/// How the shards ended: told to, or by a failure.
pub type Outcome = Result<(), Failure>;

type Subscriber = Box<dyn FnOnce(&Outcome) + Send>;

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    subscribers: Vec<Subscriber>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    decided: Condvar,
}

impl Shared {
    /// The first outcome stays.
    fn decide(&self, outcome: &Outcome) {
        let subscribers = {
            let mut state = lock(&self.state);
            if state.outcome.is_some() {
                return;
            }
            state.outcome = Some(outcome.clone());
            std::mem::take(&mut state.subscribers)
        };
        self.decided.notify_all();
        subscribers.into_iter().for_each(|tell| tell(outcome));
    }
}

/// Shards under watch.
pub struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Takes the shards over.
    pub fn over(shards: Shards) -> Result<Supervisor, Fault> {
        let shared = Arc::<Shared>::default();
        let told = shared.clone();
        let watch = move || {
            shards.supervise(|failure| told.decide(&Err(failure)));
            told.decide(&Ok(()));
        };
        let thread = std::thread::Builder::new().name("supervisor".to_owned()).spawn(watch);
        let thread = thread.map_err(|error| Fault::io("start", "thread", 0, &error))?;
        Ok(Supervisor { shared, thread: Some(thread) })
    }

    /// How the shards ended, if they did.
    pub fn outcome(&self) -> Option<Outcome> {
        lock(&self.shared.state).outcome.clone()
    }

    /// Calls `tell` once, when the outcome is known, on the thread that learns of it; at once if it is known already.
    pub fn subscribe(&self, tell: impl FnOnce(&Outcome) + Send + 'static) {
        let mut state = lock(&self.shared.state);
        let Some(outcome) = state.outcome.clone() else {
            state.subscribers.push(Box::new(tell));
            return;
        };
        drop(state);
        tell(&outcome);
    }

    /// Blocks this thread until the outcome is known. After a failure other shards may still be on their way out.
    pub fn wait(&self) -> Outcome {
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(outcome) = &state.outcome {
                return outcome.clone();
            }
            state = self.shared.decided.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks this thread until every shard's thread is gone.
    pub fn join(&mut self) -> Outcome {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a supervisor only waits and tells");
        }
        self.wait()
    }
}
