//! The server: shards that recover, listen, serve Kafka's protocol and drain.
//!
//! Owns the driver's side of everything: connections, calls between shards, the metadata host. State that survives is in
//! the engine's logs and in machines; nothing here is the only copy of anything but work under way.

pub(crate) mod append;
mod apply;
mod boot;
pub(crate) mod calls;
pub(crate) mod connection;
pub(crate) mod dispatch;
mod drain;
pub(crate) mod envelope;
pub(crate) mod errors;
pub(crate) mod fetching;
pub(crate) mod frame;
pub(crate) mod groups;
pub(crate) mod lag;
mod log_walk;
mod memory;
pub(crate) mod metadata;
pub(crate) mod metadata_log;
mod news;
pub(crate) mod node;
pub(crate) mod offsets;
pub(crate) mod offsets_log;
pub(crate) mod peers;
pub(crate) mod phases;
pub(crate) mod quotas;
pub(crate) mod random;
mod reach;
pub(crate) mod reads;
pub(crate) mod response;
mod scrape;
mod shard;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use watershed_core::error::Fault;
use watershed_core::io::data_dir::{DataDir, Identity};
use watershed_core::io::log::log_calls;
use watershed_core::io::mesh::Mesh;
use watershed_core::io::notify::{ThreadSender, thread_channel};
use watershed_core::io::probe::probe;
use watershed_core::io::reshard::reshard;
use watershed_core::io::shards::{Placement, ShardsConfig, start_shards};
use watershed_core::io::supervisor::Supervisor;
use watershed_core::units::TopicId;

use crate::admin::Scrape;
use crate::lifecycle::Hooks;
use crate::settings::{Cores, Settings};

pub use reach::{LogRefusal, Running};
use shard::{Leading, Order, Plan};

/// How long a pinned shard looks for work before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// Starts shards that serve until `hooks.shutdown` is requested, then drain and leave a clean checkpoint.
pub fn start(settings: Settings, hooks: Hooks) -> Result<Running, Fault> {
    let report = probe(&settings.data_dir).map_err(|failure| Fault::Refused(failure.to_string()))?;
    let shards = u16::try_from(settings.cores.shards()).map_err(|_| Fault::Refused("too many shards".to_owned()))?;
    let data_dir = data_dir(&settings, shards)?;
    let (orders, inboxes): (Vec<_>, Vec<_>) = (0..shards).map(|_| thread_channel::<Order>()).unzip();
    let (logs, log_calls): (Vec<_>, Vec<_>) = (0..shards).map(|_| log_calls()).unzip();
    let plan = Arc::new(Plan {
        properties: settings.broker_properties(),
        data_dir,
        memory_bytes: settings.memory_bytes / u64::from(shards),
        shards,
        inboxes: Mutex::new(inboxes.into_iter().zip(log_calls).map(Some).collect()),
        leading: Mutex::new(Some(Leading {
            ready: hooks.ready,
            notes: report.to_string().lines().map(str::to_owned).collect(),
        })),
        settings,
    });
    (hooks.set_scrape)(scrape(orders.clone()));
    if let Some(leader) = orders.first().cloned() {
        hooks.shutdown.subscribe(move || {
            // A shard that is gone needs no order.
            let _ = leader.send(Order::Stop);
        });
    }
    let mesh = Mesh::new(shards, peers::QUEUE_CAPACITY)?;
    let config = shards_config(&plan.settings);
    let started = start_shards(mesh, config, move |endpoint| shard::run(endpoint, Arc::clone(&plan)))?;
    Ok(Running { supervisor: Supervisor::over(started)?, orders, logs })
}

/// Opens the data directory, or makes a new one; takes over what another number of shards left.
fn data_dir(settings: &Settings, shards: u16) -> Result<DataDir, Fault> {
    let fresh = Identity {
        directory_id: random::uuid(),
        cluster_id: TopicId(random::uuid()).to_string(),
        node_id: settings.node_id,
    };
    let data_dir = DataDir::open(&settings.data_dir, shards, fresh)?;
    reshard(data_dir, shards, shard::config(settings.memory_bytes, &settings.broker_properties()))
}

fn shards_config(settings: &Settings) -> ShardsConfig {
    let placement = match &settings.cores {
        Cores::Pinned(cpus) => Placement::Pinned { cpus: cpus.clone(), spin: SPIN },
        Cores::Unbound(_) => Placement::Unbound,
    };
    ShardsConfig { host: settings.runtime, ..ShardsConfig::from(&placement) }
}

fn scrape(orders: Vec<ThreadSender<Order>>) -> Scrape {
    let orders = Mutex::new(orders);
    Box::new(move || {
        let orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = |shard: &ThreadSender<Order>| {
            let (answer, asked) = oneshot::channel();
            // The admin thread counts a shard that does not answer.
            let _ = shard.send(Order::Scrape(answer));
            asked
        };
        orders.iter().map(ask).collect()
    })
}
