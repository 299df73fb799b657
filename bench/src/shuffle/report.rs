//! The figures of a job, for people and as JSON.

use std::time::Duration;

use serde::Serialize;

use super::session::{Fetched, Pushed};
use crate::latency::Tally;
use crate::process::Usage;
use crate::report::Row;

/// In milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    p50_ms: f64,
    pub(crate) p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

impl Latency {
    fn of(tally: &Tally) -> Latency {
        let ms = |percent| tally.latency_us(percent) / 1000.0;
        Latency { p50_ms: ms(50.0), p99_ms: ms(99.0), p999_ms: ms(99.9), max_ms: ms(100.0) }
    }

    fn line(&self) -> String {
        format!("{:.2} / {:.2} / {:.2} / {:.2} ms", self.p50_ms, self.p99_ms, self.p999_ms, self.max_ms)
    }
}

/// What the server's process used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerUsage {
    pub(crate) pushing: Usage,
    pub(crate) reading: Usage,
    pub(crate) peak_resident_bytes: u64,
}

/// One job that was pushed and read, every byte as it was sent.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) row: String,
    bytes: u64,
    block_count: u64,
    push_mb_per_s: f64,
    pub(crate) ticket: Latency,
    send: Latency,
    /// Each costs an unmodified client two seconds and more.
    pub(crate) refused_ticket_count: u64,
    read_mb_per_s: f64,
    /// Of the time in which connections asked memory.
    memory_mb_per_s: Option<f64>,
    memory_bytes: u64,
    disk_mb_per_s: Option<f64>,
    disk_bytes: u64,
    repeated_block_count: u64,
    /// Per GB (1e9 bytes) pushed.
    push_cpu_s_per_gb: Option<f64>,
    /// The same with reading everything once.
    cpu_s_per_gb: Option<f64>,
    written_bytes: Option<u64>,
    storage_read_bytes: Option<u64>,
    peak_resident_mib: Option<f64>,
    /// Share of its core that this program used; near 100 it was the limit.
    generator_busy_percent: f64,
    floor: Option<String>,
    floor_mb_per_s: Option<f64>,
    percent_of_floor: Option<f64>,
}

/// Which of a job's rates is held against the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    Push,
    Memory,
    Disk,
}

/// What a report is made of.
pub(crate) struct Measured {
    pub(crate) bytes: u64,
    pub(crate) block_count: u64,
    pub(crate) connections: usize,
    pub(crate) pushed: Pushed,
    pub(crate) fetched: Fetched,
    pub(crate) server: Option<ServerUsage>,
    pub(crate) generator: Duration,
    pub(crate) elapsed: Duration,
}

fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9)
}

impl Report {
    pub(crate) fn new(row: &str, measured: &Measured) -> Report {
        let Measured { pushed, fetched, server, .. } = measured;
        let gb = measured.bytes as f64 / 1e9;
        let busy = |time: Duration| time.div_f64(measured.connections.max(1) as f64);
        let split = |tally: &Tally, time| (tally.bytes > 0).then(|| rate(tally.bytes, busy(time)));
        let sum = |field: fn(&Usage) -> Option<u64>| {
            server.and_then(|server| Some(field(&server.pushing)? + field(&server.reading)?))
        };
        Report {
            row: row.to_owned(),
            bytes: measured.bytes,
            block_count: measured.block_count,
            push_mb_per_s: rate(measured.bytes, pushed.elapsed),
            ticket: Latency::of(&pushed.tickets),
            send: Latency::of(&pushed.sends),
            refused_ticket_count: pushed.refused_count,
            read_mb_per_s: rate(fetched.memory.bytes + fetched.disk.bytes, fetched.elapsed),
            memory_mb_per_s: split(&fetched.memory, fetched.memory_time),
            memory_bytes: fetched.memory.bytes,
            disk_mb_per_s: split(&fetched.disk, fetched.disk_time),
            disk_bytes: fetched.disk.bytes,
            repeated_block_count: fetched.repeated_count,
            push_cpu_s_per_gb: server.map(|server| server.pushing.cpu.as_secs_f64() / gb),
            cpu_s_per_gb: server.map(|server| (server.pushing.cpu + server.reading.cpu).as_secs_f64() / gb),
            written_bytes: sum(|usage| usage.written_bytes),
            storage_read_bytes: sum(|usage| usage.read_bytes),
            peak_resident_mib: server.map(|server| server.peak_resident_bytes as f64 / 1_048_576.0),
            generator_busy_percent: 100.0 * measured.generator.as_secs_f64() / measured.elapsed.as_secs_f64().max(1e-9),
            floor: None,
            floor_mb_per_s: None,
            percent_of_floor: None,
        }
    }

    /// One application pushed while the other read: what either cost cannot be told apart.
    pub(crate) fn overlapping(self) -> Report {
        Report { push_cpu_s_per_gb: None, ..self }
    }

    pub(crate) fn beside(mut self, floor: &Row, against: Against) -> Report {
        let measured = match against {
            Against::Push => self.push_mb_per_s,
            // Not the rates by tier: those count only the time that connections spent in theirs.
            Against::Memory | Against::Disk => self.read_mb_per_s,
        };
        let floor_mb_per_s = floor.figures.mb_per_s;
        self.floor = Some(floor.name.clone());
        self.floor_mb_per_s = Some(floor_mb_per_s);
        self.percent_of_floor = (floor_mb_per_s > 0.0).then(|| 100.0 * measured / floor_mb_per_s);
        self
    }

    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let number =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let of_storage = |bytes: Option<u64>| number(bytes.map(mb), 0);
        println!("{}: {} blocks, {:.0} MB, every byte as it was sent", self.row, self.block_count, mb(self.bytes));
        println!("  push       {:.0} MB/s", self.push_mb_per_s);
        println!(
            "  ticket     {} (p50 / p99 / p99.9 / max), {} refused",
            self.ticket.line(),
            self.refused_ticket_count
        );
        println!("  send       {}", self.send.line());
        println!(
            "  read       {:.0} MB/s: memory {} MB/s of {:.0} MB, disk {} MB/s of {:.0} MB, {} blocks repeated",
            self.read_mb_per_s,
            number(self.memory_mb_per_s, 0),
            mb(self.memory_bytes),
            number(self.disk_mb_per_s, 0),
            mb(self.disk_bytes),
            self.repeated_block_count
        );
        println!(
            "  server     {} CPU-s/GB pushed, {} pushed and read; peak RSS {} MiB; storage: {} MB written, {} read",
            number(self.push_cpu_s_per_gb, 3),
            number(self.cpu_s_per_gb, 3),
            number(self.peak_resident_mib, 0),
            of_storage(self.written_bytes),
            of_storage(self.storage_read_bytes)
        );
        println!("  generator  {:.0} % of its core", self.generator_busy_percent);
        if let Some(floor) = &self.floor {
            let (rate, share) = (number(self.floor_mb_per_s, 0), number(self.percent_of_floor, 0));
            println!("  floor      {floor}: {rate} MB/s, reached {share} %");
        }
        Ok(())
    }
}
