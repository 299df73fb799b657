//! Admin HTTP: `/live`, `/ready`, `/metrics`, `/dashboard` and `/version` on one ordinary thread with tokio.
//!
//! It talks to the shards by messages only and never waits longer than [`SCRAPE_WAIT`] for one of them. It changes
//! nothing. A failure of this thread never stops the log.

mod exposition;
mod serve;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::lifecycle::{Readiness, Shutdown};
use crate::metrics::ShardMetrics;

pub use serve::{Admin, start};

/// How long a scrape waits for a shard; one that is late is missing from this scrape, and counted.
pub const SCRAPE_WAIT: Duration = Duration::from_secs(1);

/// Asks every shard for a copy of its counters: one receiver per shard, answered by message at the shard's leisure.
pub type Scrape = Box<dyn Fn() -> Vec<oneshot::Receiver<Box<ShardMetrics>>> + Send + Sync>;

/// What the admin thread may see.
#[derive(Clone)]
pub struct AdminState {
    pub readiness: Readiness,
    pub shutdown: Shutdown,
    scrape: Arc<OnceLock<Scrape>>,
}

impl AdminState {
    /// Nothing to scrape yet.
    pub fn new(readiness: Readiness, shutdown: Shutdown) -> AdminState {
        AdminState { readiness, shutdown, scrape: Arc::default() }
    }

    /// Gives the shards' scrape; the first one stays.
    pub fn set_scrape(&self, scrape: Scrape) {
        let _ = self.scrape.set(scrape);
    }
}

impl AdminState {
    /// Why the broker does not serve; empty when ready.
    fn reasons(&self) -> Vec<String> {
        let draining = self.shutdown.reason().map(|reason| format!("draining ({reason})"));
        self.readiness.reasons().into_iter().chain(draining).collect()
    }

    /// The counters of all shards that answer in time, and how many do not.
    async fn scrape(&self) -> (Vec<ShardMetrics>, usize) {
        let Some(scrape) = self.scrape.get() else {
            return (Vec::new(), 0);
        };
        let deadline = Instant::now() + SCRAPE_WAIT;
        let (mut shards, mut missing) = (Vec::new(), 0);
        for answer in scrape() {
            match timeout_at(deadline, answer).await {
                Ok(Ok(metrics)) => shards.push(*metrics),
                _ => missing += 1,
            }
        }
        shards.sort_by_key(|metrics| metrics.shard);
        (shards, missing)
    }
}
