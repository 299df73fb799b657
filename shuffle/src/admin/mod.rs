//! Admin HTTP of the shuffle: what `/metrics`, `/apps` and `/version` say. The thread and its routes are
//! `watershed_daemon`'s.
//!
//! Talks to the shards by messages only.

mod applications;
mod exposition;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use watershed_daemon::admin::{self, Admin, Exposition, Site};
use watershed_daemon::lifecycle::{Readiness, Shutdown};
use watershed_daemon::scrape::Scraper;

use crate::SERVICE;
use crate::metrics::ShardMetrics;

const APPLICATIONS: &str = "/apps";

/// The figures of all shards.
struct Figures(Scraper<ShardMetrics>);

impl Figures {
    /// In the order of their numbers, and how many are missing.
    async fn gather(&self) -> (Vec<ShardMetrics>, usize) {
        let (mut shards, missing) = self.0.gather().await;
        shards.sort_by_key(|metrics| metrics.shard);
        (shards, missing)
    }
}

impl Exposition for Figures {
    async fn text(&self, is_ready: bool) -> Result<String, fmt::Error> {
        let (shards, missing) = self.gather().await;
        exposition::render(shards, missing, is_ready)
    }

    /// `/apps` is the only one.
    async fn view(&self, _path: &'static str) -> serde_json::Value {
        let (shards, missing) = self.gather().await;
        applications::show(&shards, missing)
    }
}

/// Binds `address` and starts the admin thread. There is nothing to scrape before `shards` is set.
pub(crate) fn start(
    address: SocketAddr,
    readiness: Readiness,
    shutdown: Shutdown,
    shards: Scraper<ShardMetrics>,
) -> io::Result<Admin> {
    let site = Site {
        service: SERVICE,
        versions: &[("uniffle_client", "0.9.2")],
        pages: &[],
        views: &[APPLICATIONS],
        readiness,
        shutdown,
        exposition: Figures(shards),
    };
    admin::start(address, site)
}
