//! Scrape: the figures of the moment, asked from shards by message and from Linux about this process.
//!
//! Never waits longer than [`SCRAPE_WAIT`]: a shard that is late is missing from the scrape, and counted.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// How long a scrape waits for its shards.
pub const SCRAPE_WAIT: Duration = Duration::from_secs(1);
/// Clock ticks of /proc/self/stat, fixed in Linux's interface to user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// Asks every shard for a copy of its counters: one receiver per shard, answered by message at the shard's leisure.
pub type Scrape<M> = Box<dyn Fn() -> Vec<oneshot::Receiver<Box<M>>> + Send + Sync>;

/// The way to the shards' counters, given once they run. Clones share it.
pub struct Scraper<M>(Arc<OnceLock<Scrape<M>>>);

impl<M> Clone for Scraper<M> {
    fn clone(&self) -> Scraper<M> {
        Scraper(Arc::clone(&self.0))
    }
}

impl<M> Default for Scraper<M> {
    fn default() -> Scraper<M> {
        Scraper(Arc::default())
    }
}

impl<M> Scraper<M> {
    /// Gives the shards' scrape; the first one stays.
    pub fn set(&self, scrape: Scrape<M>) {
        let _ = self.0.set(scrape);
    }

    /// The counters of all shards that answer in time, and how many do not; none before a scrape was given.
    pub async fn gather(&self) -> (Vec<M>, usize) {
        let Some(scrape) = self.0.get() else {
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
        (shards, missing)
    }
}

/// This process as Linux sees it; what cannot be read is 0.
#[derive(Debug, Default)]
pub struct ProcessUse {
    pub resident_bytes: u64,
    pub open_files: u64,
    pub cpu_seconds: f64,
}

impl ProcessUse {
    /// Reads /proc.
    pub fn probe() -> ProcessUse {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        ProcessUse {
            resident_bytes: kib.unwrap_or(0).saturating_mul(1024),
            open_files: u64::try_from(open).unwrap_or(u64::MAX),
            cpu_seconds: cpu_ticks().unwrap_or(0) as f64 / TICKS_PER_SECOND,
        }
    }
}

/// User and system time of all threads: fields 14 and 15, counted after the parenthesised name.
fn cpu_ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen() {
        let process = ProcessUse::probe();
        assert!(process.resident_bytes > 1 << 20 && process.open_files >= 3);
        assert!(cpu_ticks().is_some());
    }
}
