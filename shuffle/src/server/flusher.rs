//! Writes runs: copies blocks, grouped as the store says, into aligned memory and writes that in large direct writes.
//!
//! One run at a time, a few writes in flight. A run that fails leaves its blocks in memory; the shard calls itself ailing
//! until a later one succeeds.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use watershed_core::error::Fault;
use watershed_core::io::arena::Lease;
use watershed_core::io::executor::{JoinHandle, machine_now, sleep, spawn, yield_if_needed};
use watershed_core::io::file::File;
use watershed_core::units::block_ceil;

use super::shard::{Shard, count};
use crate::store::Run;

const WRITE_BYTES: usize = 1 << 20;
const WRITES_IN_FLIGHT_MAX: usize = 4;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Memory that the flusher needs beside what holds blocks.
pub(crate) const STAGING_BYTES: usize = WRITE_BYTES * (WRITES_IN_FLIGHT_MAX + 1);

/// Writes whenever memory is short, until the shard stops.
pub(crate) async fn keep_memory_free(shard: Rc<Shard>) {
    while !shard.stopping.get() {
        let seen = shard.changed.count();
        let run = shard.store.borrow_mut().next_run(shard.is_starving());
        match run {
            Some(run) => write_and_tell(&shard, run).await,
            None => shard.changed.after(seen).await,
        }
    }
}

/// Writes all that is in memory; gives up when the disk fails.
pub(crate) async fn write_all(shard: &Rc<Shard>) {
    loop {
        let run = shard.store.borrow_mut().next_run(true);
        let Some(run) = run else { return };
        write_and_tell(shard, run).await;
        if shard.is_ailing.get() {
            return;
        }
    }
}

async fn write_and_tell(shard: &Rc<Shard>, run: Run) {
    match write(shard, &run).await {
        Ok(()) => {
            shard.store.borrow_mut().end_run(run.id, machine_now());
            shard.is_ailing.set(false);
            count(&shard.figures.written_bytes, run.bytes);
            count(&shard.figures.runs, 1);
            shard.settle();
        }
        Err(fault) => {
            shard.store.borrow_mut().fail_run(run.id);
            count(&shard.figures.failed_runs, 1);
            if !shard.is_ailing.replace(true) {
                tracing::error!(%fault, shard = shard.id.0, "blocks stay in memory: they cannot be written");
            }
            sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
}

async fn write(shard: &Rc<Shard>, run: &Run) -> Result<(), Fault> {
    let file = shard.file_to_write(run.shuffle).await?;
    file.fallocate(run.file_start, block_ceil(run.bytes)).await?;
    let mut writes = Writes { file, at: run.file_start, in_flight: VecDeque::new() };
    let mut staging = Staging { lease: shard.work_memory(WRITE_BYTES).await, filled: 0 };
    for (position, length) in &run.blocks {
        for bytes in shard.bytes_of(run.shuffle, *position, *length) {
            let mut rest: &[u8] = &bytes;
            while !rest.is_empty() {
                rest = staging.append(rest);
                if staging.is_full() {
                    writes.begin(staging).await?;
                    staging = Staging { lease: shard.work_memory(WRITE_BYTES).await, filled: 0 };
                }
            }
        }
        yield_if_needed().await;
        if !shard.store.borrow().is_under_way(run.id) {
            break;
        }
    }
    if staging.filled > 0 {
        writes.begin(staging).await?;
    }
    writes.finish().await
}

struct Staging {
    lease: Lease,
    filled: usize,
}

impl Staging {
    /// Takes what fits; gives the rest back.
    fn append<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let room = WRITE_BYTES - self.filled;
        let (now, later) = bytes.split_at(bytes.len().min(room));
        if let Some(place) = self.lease.get_mut(self.filled..self.filled + now.len()) {
            place.copy_from_slice(now);
        }
        self.filled += now.len();
        later
    }

    fn is_full(&self) -> bool {
        self.filled == WRITE_BYTES
    }
}

struct Writes {
    file: File,
    at: u64,
    in_flight: VecDeque<JoinHandle<Result<(), Fault>>>,
}

impl Writes {
    /// Begins a write of what is filled, up to whole blocks of disk; waits for an older one if too many are in flight.
    async fn begin(&mut self, mut staging: Staging) -> Result<(), Fault> {
        if self.in_flight.len() == WRITES_IN_FLIGHT_MAX
            && let Some(oldest) = self.in_flight.pop_front()
        {
            oldest.await?;
        }
        let bytes = block_ceil(staging.filled as u64);
        if let Some(padding) = staging.lease.get_mut(staging.filled..bytes as usize) {
            padding.fill(0);
        }
        let (file, at) = (self.file.clone(), self.at);
        self.at += bytes;
        let write = async move { file.write_lease_at(staging.lease, at, bytes as usize, false).await.map(drop) };
        self.in_flight.push_back(spawn(write));
        Ok(())
    }

    async fn finish(self) -> Result<(), Fault> {
        for write in self.in_flight {
            write.await?;
        }
        Ok(())
    }
}
