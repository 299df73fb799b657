//! A shard: receives, keeps, writes and serves blocks.
//!
//! Owns connections, memory and files; what is registered and where blocks lie is in the shard's `store`. Nothing crosses
//! between shards: a client is told which of them owns a partition, and each has ports of its own.

pub(crate) mod arrival;
pub(crate) mod connection;
mod flusher;
mod keeping;
mod permits;
pub(crate) mod reads;
mod scrape;
pub(crate) mod shard;
mod window;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use watershed_core::error::Fault;
use watershed_core::io::executor::{now, sleep, spawn};
use watershed_core::io::notify::ThreadReceiver;
use watershed_core::io::socket::Listener;
use watershed_core::units::ShardId;

use crate::grpc::Job;
use shard::Shard;

pub(crate) use flusher::STAGING_BYTES;
pub(crate) use scrape::scrape;
pub(crate) use shard::ShardConfig;

const TICK: Duration = Duration::from_millis(250);
/// How long a stop waits for frames that are arriving.
const FRAMES_TIME_MAX: Duration = Duration::from_secs(5);
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
    let shard = Shard::new(id, &config, keeping::take(&config)?)?;
    shard.open_files().await?;
    let listener = Listener::bind(address)?;
    bound(listener.local_address().port());
    let accepting = spawn(accept(Rc::clone(&shard), listener));
    let flushing = spawn(flusher::keep_memory_free(Rc::clone(&shard)));
    drop(spawn(tick(Rc::clone(&shard))));
    while let Some(job) = jobs.recv().await {
        job(&shard);
    }
    accepting.cancel();
    shard.stopping.set(true);
    shard.changed.ring();
    flushing.await;
    end_frames(&shard).await;
    flusher::write_all(&shard).await;
    keeping::leave(&config, &shard.store.borrow())
}

/// Frames that are arriving may arrive; new ones are not begun.
async fn end_frames(shard: &Rc<Shard>) {
    let end = now() + FRAMES_TIME_MAX;
    while shard.store.borrow().is_receiving() && now() < end {
        sleep(Duration::from_millis(5)).await;
    }
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
