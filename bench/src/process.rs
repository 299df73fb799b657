//! What the kernel says about a process: its CPU time, what it wrote to disk, its memory. Reads `/proc` only.
//!
//! The CPU time of a process includes its io_uring workers, which are its threads, but not the kernel's own.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// `/proc` counts CPU time in hundredths of a second on every Linux of today (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Figures of one process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// Bytes sent to storage; `None` where the process belongs to somebody else.
    pub(crate) written_bytes: Option<u64>,
    /// Bytes fetched from storage; `None` likewise.
    pub(crate) read_bytes: Option<u64>,
    pub(crate) resident_bytes: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Usage> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).with_context(|| path)
        };
        let cpu = cpu_of(&read("stat")?).context("the process's CPU time cannot be read")?;
        let status = read("status")?;
        let io = read("io").ok();
        let io_bytes = |name| io.as_deref().and_then(|io| number_after(io, name));
        let (written_bytes, read_bytes) = (io_bytes("write_bytes:"), io_bytes("read_bytes:"));
        let resident_bytes = number_after(&status, "VmRSS:").unwrap_or(0) << 10;
        Ok(Usage { cpu, written_bytes, read_bytes, resident_bytes })
    }

    /// The most memory that a process ever had.
    pub(crate) fn peak_resident_bytes(pid: u32) -> Result<u64> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).context(path)?;
        Ok(number_after(&status, "VmHWM:").unwrap_or(0) << 10)
    }

    /// What was used since `earlier`; the memory is that of now.
    pub(crate) fn since(self, earlier: Usage) -> Usage {
        let grown = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Usage {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written_bytes: grown(self.written_bytes, earlier.written_bytes),
            read_bytes: grown(self.read_bytes, earlier.read_bytes),
            resident_bytes: self.resident_bytes,
        }
    }
}

/// User and system time from `/proc/PID/stat`, whose second field may hold spaces and brackets.
fn cpu_of(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * ticks()?.checked_add(ticks()?)?)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpu_time_behind_a_hostile_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu_of("7 (x) S 1"), None);
    }

    #[test]
    fn reads_this_process() {
        let before = Usage::of(std::process::id()).unwrap();
        assert!(before.resident_bytes > 0);
        assert!(Usage::peak_resident_bytes(std::process::id()).unwrap() >= before.resident_bytes);
        let at = |seconds, written, read, resident_bytes| Usage {
            cpu: Duration::from_secs(seconds),
            written_bytes: Some(written),
            read_bytes: Some(read),
            resident_bytes,
        };
        let usage = at(3, 5, 8, 9);
        assert_eq!(usage.since(at(1, 2, 7, 1)), at(2, 3, 1, 9));
        assert_eq!(usage.since(Usage::default()).written_bytes, None);
    }
}
