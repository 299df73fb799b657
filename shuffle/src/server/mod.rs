//! A shard: receives, keeps, writes and serves blocks.
//!
//! Owns connections, memory and files; what is registered and where blocks lie is in the shard's `store`. Nothing crosses
//! between shards: a client is told which of them owns a partition, and each has ports of its own.

pub(crate) mod arrival;
pub(crate) mod connection;
mod flusher;
mod permits;
pub(crate) mod reads;
pub(crate) mod shard;
mod window;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use watershed_core::error::Fault;
use watershed_core::io::executor::{sleep, spawn};
use watershed_core::io::notify::ThreadReceiver;
use watershed_core::io::socket::Listener;
use watershed_core::units::ShardId;

use crate::grpc::Job;
use shard::Shard;

pub(crate) use flusher::STAGING_BYTES;
pub(crate) use shard::ShardConfig;

const TICK: Duration = Duration::from_millis(250);
/// After a failed accept, so that want of descriptors does not become a hot loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs a shard until nobody can give it work any more. `bound` is told the port that frames come to.
pub(crate) async fn run(
    id: ShardId,
    config: ShardConfig,
    address: SocketAddr,
    jobs: ThreadReceiver<Job>,
    bound: impl FnOnce(u16),
) -> Result<(), Fault> {
    let shard = Shard::new(id, config)?;
    let listener = Listener::bind(address)?;
    bound(listener.local_address().port());
    drop(spawn(accept(Rc::clone(&shard), listener)));
    drop(spawn(flusher::keep_memory_free(Rc::clone(&shard))));
    drop(spawn(tick(Rc::clone(&shard))));
    while let Some(job) = jobs.recv().await {
        job(&shard);
    }
    shard.stopping.set(true);
    Ok(())
}

async fn accept(shard: Rc<Shard>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(stream) => drop(spawn(connection::serve(Rc::clone(&shard), stream))),
            Err(fault) => {
                tracing::warn!(%fault, "a connection was not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn tick(shard: Rc<Shard>) {
    loop {
        sleep(TICK).await;
        shard.tick();
    }
}
