//! Direct reads and writes of a file that was written before, by block size and depth.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use watershed_core::error::Fault;
use watershed_core::io::arena::Arena;
use watershed_core::io::executor;
use watershed_core::io::file::{File, OpenHow};

use super::{Common, disk_file, on_cpu};
use crate::latency::Tally;
use crate::process::Usage;
use crate::report::{Figures, Row};

const FILE_BYTES: u64 = 1 << 30;
const STEP_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Access {
    Read,
    Write,
    Durable,
}

/// What is done, bytes of each operation, operations at a time.
const PROBES: [(Access, usize, usize); 9] = [
    (Access::Read, 4 << 10, 16),
    (Access::Read, 128 << 10, 8),
    (Access::Read, 1 << 20, 4),
    (Access::Write, 128 << 10, 8),
    (Access::Write, 1 << 20, 4),
    (Access::Durable, 4 << 10, 1),
    (Access::Durable, 128 << 10, 4),
    (Access::Durable, 1 << 20, 1),
    (Access::Durable, 1 << 20, 4),
];

pub(super) fn rows(common: &Common) -> Result<Vec<Row>> {
    PROBES.into_iter().map(|(access, bytes, depth)| row(common, access, bytes, depth)).collect()
}

/// Direct sequential reads, as a catch-up fetch is held against.
pub(crate) fn sequential_read(common: &Common) -> Result<Row> {
    row(common, Access::Read, 1 << 20, 4)
}

fn row(common: &Common, access: Access, bytes: usize, depth: usize) -> Result<Row> {
    let path = disk_file(&common.place)?;
    let (seconds, rounds) = (common.seconds, common.rounds.max(1));
    let measured = on_cpu(common.place.server_cpu, common.place.host, move |arena| async move {
        let how = OpenHow { create: true, direct: true, ..OpenHow::default() };
        let probe = Rc::new(Disk { file: File::open(path, how).await?, access, bytes, arena, next: Cell::new(0) });
        probe.prepare().await?;
        let mut measured = Vec::new();
        for _ in 0..rounds {
            measured.push(probe.clone().round(depth, Duration::from_secs_f64(seconds)).await?);
        }
        Ok(measured)
    })?;
    let figures: Vec<Figures> = measured.iter().map(|(tally, usage)| Figures::new(tally, *usage, seconds)).collect();
    let name = format!("disk {access:?} {} KiB x{depth}", bytes >> 10).to_lowercase();
    Ok(Row::new(name, &figures))
}

struct Disk {
    file: File,
    access: Access,
    bytes: usize,
    arena: Arena,
    next: Cell<u64>,
}

impl Disk {
    /// Writes the whole file once, so that every extent is initialised.
    async fn prepare(&self) -> Result<(), Fault> {
        if self.file.len()? >= FILE_BYTES {
            return Ok(());
        }
        let mut lease = self.arena.try_alloc(STEP_BYTES).ok_or(Fault::NoSpace { what: "the probe's memory" })?;
        lease.fill(0x5a);
        for offset in (0..FILE_BYTES).step_by(STEP_BYTES) {
            lease = self.file.write_lease_at(lease, offset, STEP_BYTES, false).await?;
        }
        self.file.fdatasync().await
    }

    async fn round(self: Rc<Self>, depth: usize, duration: Duration) -> Result<(Tally, Usage), Fault> {
        let usage = || Usage::of(std::process::id()).unwrap_or_default();
        let (before, end) = (usage(), Instant::now() + duration);
        let tally = Rc::new(RefCell::new(Tally::default()));
        let start = |_| executor::spawn(self.clone().worker(end, tally.clone()));
        let workers: Vec<_> = (0..depth).map(start).collect();
        for worker in workers {
            worker.await?;
        }
        let counted = tally.borrow().clone();
        Ok((counted, usage().since(before)))
    }

    async fn worker(self: Rc<Self>, end: Instant, tally: Rc<RefCell<Tally>>) -> Result<(), Fault> {
        let mut lease = self.arena.try_alloc(self.bytes).ok_or(Fault::NoSpace { what: "the probe's memory" })?;
        while Instant::now() < end {
            let (offset, began) = (self.next.get(), Instant::now());
            self.next.set((offset + self.bytes as u64) % FILE_BYTES);
            lease = match self.access {
                Access::Read => self.file.read_at(lease, offset, self.bytes).await?.0,
                access => self.file.write_lease_at(lease, offset, self.bytes, access == Access::Durable).await?,
            };
            tally.borrow_mut().complete(self.bytes as u64, began.elapsed());
        }
        Ok(())
    }
}
