//! Lifecycle: what passes between the server and the process around it, from the start to the drain.
//!
//! Owns no thread, socket or file.

use std::net::SocketAddr;

pub use watershed_daemon::lifecycle::{Readiness, Shutdown};

use crate::admin::Scrape;

/// What the server says once it serves; printed as the block and the `ready` line.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The address that was bound.
    pub listen: SocketAddr,
    pub shards: usize,
    /// Facts of the start in words: arena backing, replayed frames, file system.
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
}

/// What the process lends to `server::start`.
pub struct Hooks {
    /// Subscribe to it, drain, write a clean checkpoint, return `Ok`.
    pub shutdown: Shutdown,
    /// Reasons beside those of start and drain, which the process keeps itself.
    pub readiness: Readiness,
    /// Given the shards' scrape once they run; `/metrics` has only process figures before.
    pub set_scrape: Box<dyn FnOnce(Scrape) + Send>,
    /// Called once, when connections are accepted.
    pub ready: Box<dyn FnOnce(Serving) + Send>,
}
