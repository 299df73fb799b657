//! Exposition: the names, kinds and units of all metrics.
//!
//! Names are an interface: `shuffle/metrics.txt` lists them with kind, labels and help, and a test compares. Series stay few:
//! everything is labelled by shard, nothing by application or client; `/apps` shows those.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use watershed_daemon::exposition::Read::{Counter, CounterMicros, Gauge, Histogram};
use watershed_daemon::exposition::{self, Durations, Series, Whole};
use watershed_daemon::scrape::ProcessUse;

use crate::SERVICE;
use crate::metrics::{ArenaUse, ShardMetrics, WAIT_BOUNDS_US};

const PREFIX: &str = "watershed_shuffle";

/// Everything that is labelled by shard alone, in the order of the text.
const SHARD_SERIES: &[Series<ShardMetrics>] = &[
    Series::plain(
        "received_blocks",
        "Blocks received and acknowledged, duplicates too",
        Counter(|m| m.received_blocks),
    ),
    Series::bytes("received", "Bytes of blocks received and acknowledged", Counter(|m| m.received_bytes)),
    Series::plain("refused_blocks", "Blocks without the checksum of their sender", Counter(|m| m.refused_blocks)),
    Series::plain("duplicate_blocks", "Blocks received that were there already", Counter(|m| m.duplicate_blocks)),
    Series::plain("runs", "Runs of blocks written to disk", Counter(|m| m.runs)),
    Series::plain("failed_runs", "Runs of blocks that could not be written", Counter(|m| m.failed_runs)),
    Series::bytes("written", "Bytes of blocks written to disk", Counter(|m| m.written_bytes)),
    Series::bytes("read", "Bytes of blocks read from disk", Counter(|m| m.read_bytes)),
    Series::bytes("sent", "Bytes of blocks given to readers", Counter(|m| m.sent_bytes)),
    Series::plain("connections_accepted", "Netty connections accepted", Counter(|m| m.connections_accepted)),
    Series::plain("connections_open", "Netty connections open", Gauge(|m| m.connections_open)),
    Series::plain("applications", "Applications registered", Gauge(|m| m.holdings.len() as u64)),
    Series::plain(
        "shuffles",
        "Shuffles registered",
        Gauge(|m| m.holdings.iter().map(|holding| holding.shuffle_count as u64).sum()),
    ),
    Series::plain("blocks_held", "Blocks in memory and on disk", Gauge(|m| m.blocks_held)),
    Series::bytes("disk_used", "Bytes of blocks on disk", Gauge(|m| m.holdings.iter().map(|h| h.disk_bytes).sum())),
    Series::bytes("memory_capacity", "Memory for blocks, index and promises", Gauge(|m| m.usage.capacity_bytes)),
    Series::bytes("memory_chunks", "Memory in which blocks lie", Gauge(|m| m.usage.chunk_bytes)),
    Series::bytes("memory_index", "Memory that the entries of blocks are counted for", Gauge(|m| m.usage.index_bytes)),
    Series::bytes("memory_promised", "Memory promised to senders", Gauge(|m| m.usage.promised_bytes)),
    Series::plain("parked_requests", "Requests that wait for memory", Gauge(|m| m.usage.parked_count as u64)),
    Series::seconds(
        "ticket_wait",
        "Time that requests waited for memory",
        Histogram(|m| Durations {
            bounds_us: &WAIT_BOUNDS_US,
            counts: &m.ticket_waits.counts,
            sum_us: m.ticket_waits.sum_us,
        }),
    ),
    Series::plain("ailing", "1 while blocks cannot be written to disk", Gauge(|m| m.is_ailing.into())),
    Series::plain(
        "decommissioning",
        "1 while the shard takes no new shuffle and applications are left",
        Gauge(|m| m.is_decommissioning.into()),
    ),
    Series::plain(
        "decommissioned",
        "1 when the shard takes no new shuffle and no application is left",
        Gauge(|m| m.is_decommissioned.into()),
    ),
    Series::plain("executor_turns", "Turns of the executor", Counter(|m| m.turns)),
    Series::plain("executor_parks", "Times the executor slept", Counter(|m| m.parks)),
    Series::seconds("executor_busy", "Time spent in turns", CounterMicros(|m| m.busy_us)),
    Series::plain("executor_stalls", "Turns longer than the stall limit", Counter(|m| m.stalls)),
];

#[derive(Debug)]
struct Snapshot {
    shards: Vec<ShardMetrics>,
    whole: Whole,
}

/// The text of a scrape.
pub(super) fn render(shards: Vec<ShardMetrics>, missing_count: usize, is_ready: bool) -> Result<String, fmt::Error> {
    let whole = Whole { service: SERVICE, is_ready, missing_count, process: ProcessUse::probe() };
    exposition::render(PREFIX, Snapshot { shards, whole })
}

impl Collector for Snapshot {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        self.whole.encode(&mut out)?;
        for series in SHARD_SERIES {
            series.encode(&self.shards, |metrics| metrics.shard, &mut out)?;
        }
        self.encode_arenas(&mut out)
    }
}

impl Snapshot {
    fn encode_arenas(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut encode = |name, help, read: fn(&ArenaUse) -> u64| -> fmt::Result {
            let mut family = out.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            for shard in &self.shards {
                for arena in &shard.arenas {
                    let labels = [("shard", shard.shard.to_string()), ("arena", arena.arena.to_owned())];
                    family.encode_family(&labels)?.encode_gauge(&read(arena))?;
                }
            }
            Ok(())
        };
        encode("arena_used", "Bytes of an arena in use", |arena| arena.used_bytes)?;
        encode("arena_size", "Bytes of an arena", |arena| arena.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const WRITTEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/metrics.txt");
    const HEAD: &str = "\
# Every metric of /metrics in the order of the text: name, kind, labels, help. A name here is an interface.
# Written by REGENERATE=1 cargo test -p watershed-shuffle --lib exposition
";

    fn full() -> ShardMetrics {
        let arenas = vec![ArenaUse { arena: "reads", used_bytes: 1, size_bytes: 2 }];
        ShardMetrics { shard: 3, received_blocks: 17, arenas, ..ShardMetrics::default() }
    }

    #[test]
    fn names_are_those_that_are_written_down() {
        let text = render(vec![full()], 0, true).unwrap();
        let found = format!("{HEAD}{}", exposition::listing(&text));
        if std::env::var_os("REGENERATE").is_some() {
            fs::write(WRITTEN, &found).unwrap();
        }
        let written = fs::read_to_string(WRITTEN).unwrap();
        assert_eq!(found, written, "metric names are an interface: regenerate metrics.txt and write the changelog");
    }

    #[test]
    fn the_count_of_blocks_is_where_scripts_look_for_it() {
        let text = render(vec![full()], 0, true).unwrap();
        for line in [
            "watershed_shuffle_received_blocks_total{shard=\"3\"} 17",
            "watershed_shuffle_arena_size_bytes{shard=\"3\",arena=\"reads\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
