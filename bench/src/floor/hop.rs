//! A message from one shard to another and back, with pauses in which both fall asleep.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use watershed_core::error::Fault;
use watershed_core::io::executor;
use watershed_core::io::mesh::{Endpoint, Full, Lane, Mesh};
use watershed_core::io::shards::{Placement, ShardsConfig, start_shards};
use watershed_core::units::ShardId;

use super::Common;
use crate::latency::Tally;
use crate::process::Usage;
use crate::report::{Figures, Row};

/// Long enough for both shards to sleep.
const PAUSE: Duration = Duration::from_micros(300);
const CALLER: ShardId = ShardId(0);
const CALLEE: ShardId = ShardId(1);

/// Tells the callee to end.
const LAST: u64 = u64::MAX;

pub(super) fn row(common: &Common) -> Result<Row> {
    let rounds = (0..common.rounds.max(1)).map(|_| round(common));
    Ok(Row::new("hop to and fro, parked", &rounds.collect::<Result<Vec<_>>>()?))
}

pub(super) fn round(common: &Common) -> Result<Figures> {
    let cpus = vec![common.place.server_cpu, common.place.client_cpu];
    let duration = Duration::from_secs_f64(common.seconds);
    let (tell, tallies) = mpsc::channel();
    let before = Usage::of(std::process::id())?;
    let body = move |mesh: Endpoint<u64>| {
        let tell = tell.clone();
        async move {
            match mesh.shard() {
                CALLER => {
                    let tally = call(&mesh, duration).await;
                    // The receiver is dropped only if the process is ending.
                    let _ = tell.send(tally);
                }
                _ => answer(&mesh).await,
            }
            Ok::<(), Fault>(())
        }
    };
    let placement = Placement::Pinned { cpus, spin: Duration::ZERO };
    let config = ShardsConfig { host: common.place.host.runtime(), ..ShardsConfig::from(&placement) };
    start_shards(Mesh::new(2, 16)?, config, body)?.join()?;
    let tally = tallies.recv().context("the calling shard reports")?;
    Ok(Figures::new(&tally, Usage::of(std::process::id())?.since(before), common.seconds))
}

async fn call(mesh: &Endpoint<u64>, duration: Duration) -> Tally {
    let (mut tally, end) = (Tally::default(), Instant::now() + duration);
    while Instant::now() < end {
        executor::sleep(PAUSE).await;
        let sent = Instant::now();
        send(mesh, CALLEE, Lane::Call, 1).await;
        mesh.recv().await;
        tally.complete(8, sent.elapsed());
    }
    send(mesh, CALLEE, Lane::Call, LAST).await;
    tally
}

async fn answer(mesh: &Endpoint<u64>) {
    loop {
        let (from, _, message) = mesh.recv().await;
        if message == LAST {
            return;
        }
        send(mesh, from, Lane::Reply, message).await;
    }
}

async fn send(mesh: &Endpoint<u64>, to: ShardId, lane: Lane, mut message: u64) {
    while let Err(Full(back)) = mesh.send(to, lane, message) {
        message = back;
        executor::yield_now().await;
    }
}
