//! Admin HTTP of the broker: what `/metrics`, `/version` and `/dashboard` say. The thread and its routes are
//! `watershed_daemon`'s.
//!
//! Talks to the shards by messages only.

mod exposition;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use watershed_daemon::admin::{self, Admin, Exposition, Page, Site};
use watershed_daemon::scrape::{self, Scraper};

use crate::SERVICE;
use crate::lifecycle::{Readiness, Shutdown};
use crate::metrics::ShardMetrics;

/// Asks every shard for a copy of its counters.
pub type Scrape = scrape::Scrape<ShardMetrics>;

/// For Grafana, over the names of `/metrics`.
const DASHBOARD: Page =
    Page { path: "/dashboard", content_type: "application/json", body: include_str!("../../grafana.json") };

/// What the admin thread may see.
#[derive(Clone)]
pub struct AdminState {
    pub readiness: Readiness,
    pub shutdown: Shutdown,
    shards: Scraper<ShardMetrics>,
}

impl AdminState {
    /// Nothing to scrape yet.
    pub fn new(readiness: Readiness, shutdown: Shutdown) -> AdminState {
        AdminState { readiness, shutdown, shards: Scraper::default() }
    }

    /// Gives the shards' scrape; the first one stays.
    pub fn set_scrape(&self, scrape: Scrape) {
        self.shards.set(scrape);
    }
}

impl Exposition for AdminState {
    async fn text(&self, is_ready: bool) -> Result<String, fmt::Error> {
        let (mut shards, missing) = self.shards.gather().await;
        shards.sort_by_key(|metrics| metrics.shard);
        exposition::render(exposition::Snapshot::new(shards, missing, is_ready))
    }
}

/// Binds `address` and starts the admin thread.
pub fn start(address: SocketAddr, state: AdminState) -> io::Result<Admin> {
    let site = Site {
        service: SERVICE,
        versions: &[("kafka_protocol", "4.2")],
        pages: &[DASHBOARD],
        views: &[],
        readiness: state.readiness.clone(),
        shutdown: state.shutdown.clone(),
        exposition: state,
    };
    admin::start(address, site)
}
