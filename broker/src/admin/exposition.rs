//! Exposition: the names, kinds and units of all metrics, and their text for Prometheus.
//!
//! Names are an interface: `broker/metrics.txt` lists them with kind, labels and help, and a test compares. Units are base
//! units. Series stay few: requests are labelled by API and phase, lags by group, topic and partition (bounded where they
//! are collected), everything else by shard; nothing is labelled by client. What shards count are plain numbers, so of
//! prometheus-client only the encoder is used; its own counters are atomics that cores would share.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use watershed_daemon::scrape::ProcessUse;

use crate::metrics::{ApiMetrics, LATENCY_BOUNDS_US, Latency, Phase, PoolUse, ShardMetrics, merged_apis};
use crate::wire::apis::SERVED;

const MICROS: f64 = 1e-6;
/// Histograms of phases show every other bound.
const PHASE_BOUNDS_STEP: usize = 2;

/// What one scrape shows.
#[derive(Debug)]
pub(super) struct Snapshot {
    shards: Vec<ShardMetrics>,
    missing: usize,
    ready: bool,
    process: ProcessUse,
}

impl Snapshot {
    /// The shards' answers and what the process looks like now.
    pub(super) fn new(shards: Vec<ShardMetrics>, missing: usize, ready: bool) -> Snapshot {
        Snapshot { shards, missing, ready, process: ProcessUse::probe() }
    }
}

/// The text of a scrape.
pub(super) fn render(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("watershed");
    registry.register_collector(Box::new(snapshot));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// How a field of [`ShardMetrics`] is shown.
enum Read {
    Counter(fn(&ShardMetrics) -> u64),
    Gauge(fn(&ShardMetrics) -> u64),
    /// Microseconds in the field, seconds in the text.
    CounterMicros(fn(&ShardMetrics) -> u64),
    GaugeMicros(fn(&ShardMetrics) -> u64),
    Histogram(fn(&ShardMetrics) -> &Latency),
}

use Read::{Counter, CounterMicros, Gauge, GaugeMicros, Histogram};

struct Series {
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    read: Read,
}

const fn plain(name: &'static str, help: &'static str, read: Read) -> Series {
    Series { name, unit: None, help, read }
}

const fn bytes(name: &'static str, help: &'static str, read: Read) -> Series {
    Series { name, unit: Some(Unit::Bytes), help, read }
}

const fn seconds(name: &'static str, help: &'static str, read: Read) -> Series {
    Series { name, unit: Some(Unit::Seconds), help, read }
}

/// Everything that is labelled by shard, in the order of the text.
const SHARD_SERIES: &[Series] = &[
    plain("connections_accepted", "Client connections accepted", Counter(|m| m.connections_accepted)),
    plain("connections_refused", "Client connections closed by the broker", Counter(|m| m.connections_refused)),
    plain("connections_open", "Client connections open", Gauge(|m| m.connections_open)),
    bytes("received", "Bytes received from clients", Counter(|m| m.received_bytes)),
    bytes("sent", "Bytes sent to clients", Counter(|m| m.sent_bytes)),
    bytes("produced", "Bytes of record batches appended", Counter(|m| m.produced_bytes)),
    plain("produced_batches", "Record batches appended", Counter(|m| m.produced_batches)),
    plain("produced_records", "Records appended", Counter(|m| m.produced_records)),
    bytes("fetched", "Bytes of fetch responses", Counter(|m| m.fetched_bytes)),
    plain("throttled_requests", "Answers that told a client to wait for its quota", Counter(|m| m.throttled_requests)),
    seconds("throttled", "Time that clients were told to wait for their quotas", CounterMicros(|m| m.throttled_us)),
    plain("slow_requests", "Requests over the limit of the slow log", Counter(|m| m.slow_requests)),
    plain("produces_waiting", "Produce requests waiting for durability", Gauge(|m| m.produces_waiting)),
    plain("fetches_waiting", "Fetch requests waiting for data", Gauge(|m| m.fetches_waiting)),
    plain("mesh_calls", "Calls to other shards", Counter(|m| m.mesh_calls)),
    seconds("mesh_call_duration", "Time from a call to its reply", Histogram(|m| &m.mesh_latency)),
    plain("journal_frames", "Journal frames committed", Counter(|m| m.journal_frames)),
    bytes("journal_written", "Bytes written to the journal", Counter(|m| m.journal_bytes)),
    plain("journal_flushes", "Durable writes and flushes of the journal", Counter(|m| m.journal_flushes)),
    seconds(
        "journal_commit_duration",
        "Time from a commit's write to its completion",
        Histogram(|m| &m.commit_latency),
    ),
    bytes("journal_used", "Bytes of the journal ring not freed by a checkpoint", Gauge(|m| m.journal_used_bytes)),
    bytes("journal_ring", "Bytes of the journal ring", Gauge(|m| m.journal_ring_bytes)),
    plain("journal_frames_in_flight", "Journal frames being written", Gauge(|m| m.journal_frames_in_flight)),
    bytes("segment_written", "Bytes written to segments", Counter(|m| m.segment_written_bytes)),
    bytes("segment_read", "Bytes read from segments", Counter(|m| m.segment_read_bytes)),
    plain("segment_flushes", "Flushes of segments", Counter(|m| m.segment_flushes)),
    seconds("segment_write_duration", "Time of a segment's write", Histogram(|m| &m.segment_write_latency)),
    seconds("segment_flush_duration", "Time of a segment's flush", Histogram(|m| &m.segment_flush_latency)),
    seconds("segment_read_duration", "Time of a segment's read", Histogram(|m| &m.segment_read_latency)),
    bytes("disk_free", "Bytes that the file system has left", Gauge(|m| m.disk_free_bytes)),
    plain("disk_full", "1 while new records are refused for want of space", Gauge(|m| m.disk_full)),
    plain("checkpoints", "Checkpoints written", Counter(|m| m.checkpoints)),
    bytes("checkpoint_written", "Bytes written to checkpoint images", Counter(|m| m.checkpoint_bytes)),
    bytes("pool_written", "Bytes written ahead into pooled segment files", Counter(|m| m.pool_written_bytes)),
    plain("pool_files", "Segment files ready in the pool", Gauge(|m| m.pool_files)),
    plain("tail_cache_hits", "Reads served from memory", Counter(|m| m.tail_cache_hits)),
    plain("tail_cache_misses", "Reads that went to disk", Counter(|m| m.tail_cache_misses)),
    bytes("arena_used", "Bytes of the arena in use", Gauge(|m| m.arena_used_bytes)),
    bytes("arena_size", "Bytes of the arena", Gauge(|m| m.arena_bytes)),
    plain("partitions", "Partitions owned", Gauge(|m| m.partitions)),
    plain("partitions_damaged", "Partitions that failed closed after damage", Gauge(|m| m.partitions_damaged)),
    plain("executor_turns", "Turns of the executor", Counter(|m| m.turns)),
    plain("executor_parks", "Times the executor slept", Counter(|m| m.parks)),
    seconds("executor_busy", "Time spent in turns", CounterMicros(|m| m.busy_us)),
    seconds("executor_longest_turn", "Longest turn since the last scrape", GaugeMicros(|m| m.longest_turn_us)),
    plain("executor_stalls", "Turns longer than the stall limit", Counter(|m| m.stalls)),
];

impl Read {
    fn kind(&self) -> MetricType {
        match self {
            Counter(_) | CounterMicros(_) => MetricType::Counter,
            Gauge(_) | GaugeMicros(_) => MetricType::Gauge,
            Histogram(_) => MetricType::Histogram,
        }
    }

    fn encode(&self, shard: &ShardMetrics, mut out: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Counter(read) => out.encode_counter::<NoLabelSet, _, u64>(&read(shard), None),
            CounterMicros(read) => out.encode_counter::<NoLabelSet, _, u64>(&(read(shard) as f64 * MICROS), None),
            Gauge(read) => out.encode_gauge(&read(shard)),
            GaugeMicros(read) => out.encode_gauge(&(read(shard) as f64 * MICROS)),
            Histogram(read) => encode_latency(read(shard), out),
        }
    }
}

fn encode_latency(latency: &Latency, out: MetricEncoder<'_>) -> fmt::Result {
    encode_buckets(latency, 1, out)
}

/// Shows every bound whose number divides by `step`, counted from 1.
fn encode_buckets(latency: &Latency, step: usize, mut out: MetricEncoder<'_>) -> fmt::Result {
    let bounds: Vec<f64> = LATENCY_BOUNDS_US.iter().map(|&bound| bound as f64 * MICROS).chain([f64::MAX]).collect();
    let merged = |(bounds, counts): (&[f64], &[u64])| Some((*bounds.last()?, counts.iter().sum()));
    let buckets: Vec<(f64, u64)> = bounds.chunks(step).zip(latency.buckets.chunks(step)).filter_map(merged).collect();
    let sum = latency.sum_us as f64 * MICROS;
    out.encode_histogram::<NoLabelSet>(sum, latency.count(), &buckets, None)
}

/// The name that the wire gives an API, or its number.
fn api_name(key: i16) -> String {
    let entry = SERVED.iter().find(|entry| entry.key == key);
    entry.map_or_else(|| key.to_string(), |entry| entry.name.to_owned())
}

impl Collector for Snapshot {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_process(&mut out)?;
        self.encode_apis(&mut out)?;
        self.encode_phases(&mut out)?;
        self.encode_groups(&mut out)?;
        self.encode_pools(&mut out)?;
        for series in SHARD_SERIES {
            let unit = series.unit.as_ref();
            let mut family = out.encode_descriptor(series.name, series.help, unit, series.read.kind())?;
            for shard in &self.shards {
                let label = [("shard", shard.shard.to_string())];
                series.read.encode(shard, family.encode_family(&label)?)?;
            }
        }
        Ok(())
    }
}

impl Snapshot {
    fn encode_process(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let ProcessUse { resident_bytes, open_files, cpu_seconds } = &self.process;
        let gauge = MetricType::Gauge;
        out.encode_descriptor("build", "The version that runs", None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        out.encode_descriptor("ready", "1 when the broker serves", None, gauge)?
            .encode_gauge(&u64::from(self.ready))?;
        let missing = u64::try_from(self.missing).unwrap_or(u64::MAX);
        out.encode_descriptor("shards_missing", "Shards that did not answer this scrape", None, gauge)?
            .encode_gauge(&missing)?;
        out.encode_descriptor("process_resident", "Resident memory", Some(&Unit::Bytes), gauge)?
            .encode_gauge(resident_bytes)?;
        out.encode_descriptor("process_open_files", "Open file descriptors", None, gauge)?.encode_gauge(open_files)?;
        out.encode_descriptor("process_cpu", "Processor time", Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(cpu_seconds, None)
    }

    fn encode_apis(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let apis: Vec<([(&str, String); 1], ApiMetrics)> =
            merged_apis(&self.shards).into_iter().map(|(key, api)| ([("api", api_name(key))], api)).collect();
        let mut requests = out.encode_descriptor("requests", "Requests answered", None, MetricType::Counter)?;
        for (label, api) in &apis {
            requests.encode_family(label)?.encode_counter::<NoLabelSet, _, u64>(&api.requests, None)?;
        }
        let help = "Requests answered with an error code";
        let mut errors = out.encode_descriptor("request_errors", help, None, MetricType::Counter)?;
        for (label, api) in &apis {
            errors.encode_family(label)?.encode_counter::<NoLabelSet, _, u64>(&api.errors, None)?;
        }
        let (name, help) = ("request_duration", "Time from the last byte received to the reply");
        let mut latency = out.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (label, api) in &apis {
            encode_latency(&api.latency, latency.encode_family(label)?)?;
        }
        Ok(())
    }
}

impl Snapshot {
    fn encode_phases(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("request_phase_duration", "Time that requests spent in a phase");
        let mut family = out.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (key, api) in merged_apis(&self.shards) {
            for (phase, latency) in Phase::ALL.iter().zip(&api.phases) {
                let labels = [("api", api_name(key)), ("phase", phase.name().to_owned())];
                encode_buckets(latency, PHASE_BOUNDS_STEP, family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_groups(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = MetricType::Gauge;
        let mut states: BTreeMap<&str, u64> = BTreeMap::new();
        for (state, count) in self.shards.iter().flat_map(|shard| &shard.groups) {
            *states.entry(state).or_default() += count;
        }
        let mut groups = out.encode_descriptor("groups", "Consumer groups", None, gauge)?;
        for (state, count) in states {
            groups.encode_family(&[("state", state)])?.encode_gauge(&count)?;
        }
        let (name, help) = ("group_lag_records", "Records between a group's committed offset and the high watermark");
        let mut lags = out.encode_descriptor(name, help, None, gauge)?;
        for lag in self.shards.iter().flat_map(|shard| &shard.lags) {
            let partition = lag.partition.to_string();
            let labels = [("group", &*lag.group), ("topic", &*lag.topic), ("partition", partition.as_str())];
            lags.encode_family(&labels)?.encode_gauge(&lag.records)?;
        }
        let left_out: u64 = self.shards.iter().map(|shard| shard.lags_left_out).sum();
        let help = "Committed partitions whose lag this scrape does not show, for their number or a late shard";
        out.encode_descriptor("group_lags_left_out", help, None, gauge)?.encode_gauge(&left_out)
    }

    fn encode_pools(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut encode = |name, help, read: fn(&PoolUse) -> u64| -> fmt::Result {
            let mut family = out.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            for shard in &self.shards {
                for pool in &shard.pools {
                    let labels = [("shard", shard.shard.to_string()), ("pool", pool.pool.to_owned())];
                    family.encode_family(&labels)?.encode_gauge(&read(pool))?;
                }
            }
            Ok(())
        };
        encode("memory_pool_used", "Bytes that a pool of memory holds", |pool| pool.used_bytes)?;
        encode("memory_pool_limit", "Bytes that a pool of memory may hold", |pool| pool.limit_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::metrics::GroupLag;

    const HEAD: &str = "\
# Every metric of /metrics in the order of the text: name, kind, labels, help. A name here is an interface.
# Written by REGENERATE=1 cargo test -p watershed-broker --lib exposition
";

    /// One shard with something of everything.
    fn full() -> ShardMetrics {
        let mut metrics = ShardMetrics::default();
        metrics.answered(0, 1_000, false).observe_us(Phase::Wait, 900);
        metrics.pools.push(PoolUse { pool: "tail", used_bytes: 1, limit_bytes: 2 });
        metrics.groups.insert("Stable", 1);
        let (group, topic) = ("g".into(), "t".into());
        metrics.lags.push(GroupLag { group, topic, partition: 3, records: 7 });
        metrics
    }

    /// The names of the labels of a family's first sample.
    fn labels(text: &str, name: &str) -> String {
        let of_family = |line: &&str| line.starts_with(name) && line.contains('{');
        let Some(line) = text.lines().filter(|line| !line.starts_with('#')).find(of_family) else {
            return "{}".to_owned();
        };
        let inner = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).unwrap().0;
        let names = inner.split(',').map(|label| label.split_once('=').unwrap().0).filter(|name| *name != "le");
        format!("{{{}}}", names.collect::<Vec<_>>().join(","))
    }

    /// What metrics.txt says of a scrape.
    fn listing(text: &str) -> String {
        let mut out = HEAD.to_owned();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} "))).unwrap();
            out.push_str(&format!("{name} {kind} {} {}\n", labels(text, name), help.trim_end_matches('.')));
        }
        out
    }

    #[test]
    fn names_are_those_that_are_written_down() {
        let found = listing(&render(Snapshot::new(vec![full()], 0, true)).unwrap());
        if std::env::var_os("REGENERATE").is_some() {
            fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/metrics.txt"), &found).unwrap();
        }
        let written = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/metrics.txt")).unwrap();
        assert_eq!(found, written, "metric names are an interface: regenerate metrics.txt and write the changelog");
    }

    #[test]
    fn phases_pools_and_lags_carry_their_labels() {
        let text = render(Snapshot::new(vec![full()], 0, true)).unwrap();
        for line in [
            "watershed_request_phase_duration_seconds_bucket{le=\"0.0005\",api=\"Produce\",phase=\"wait\"} 0",
            "watershed_request_phase_duration_seconds_bucket{le=\"0.0025\",api=\"Produce\",phase=\"wait\"} 1",
            "watershed_request_phase_duration_seconds_bucket{le=\"+Inf\",api=\"Produce\",phase=\"wait\"} 1",
            "watershed_request_phase_duration_seconds_count{api=\"Produce\",phase=\"send\"} 0",
            "watershed_group_lag_records{group=\"g\",topic=\"t\",partition=\"3\"} 7",
            "watershed_groups{state=\"Stable\"} 1",
            "watershed_memory_pool_limit_bytes{shard=\"0\",pool=\"tail\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn values_carry_their_labels_and_base_units() {
        let mut metrics = ShardMetrics { shard: 3, received_bytes: 17, busy_us: 1_500_000, ..ShardMetrics::default() };
        metrics.answered(0, 1_000, true);
        metrics.answered(0, 9_000_000, false);
        metrics.answered(999, 1, false);
        let text = render(Snapshot::new(vec![metrics], 2, false)).unwrap();
        for line in [
            "watershed_received_bytes_total{shard=\"3\"} 17",
            "watershed_executor_busy_seconds_total{shard=\"3\"} 1.5",
            "watershed_requests_total{api=\"Produce\"} 2",
            "watershed_requests_total{api=\"999\"} 1",
            "watershed_request_errors_total{api=\"Produce\"} 1",
            "watershed_request_duration_seconds_bucket{le=\"0.0005\",api=\"Produce\"} 0",
            "watershed_request_duration_seconds_bucket{le=\"0.001\",api=\"Produce\"} 1",
            "watershed_request_duration_seconds_bucket{le=\"5.0\",api=\"Produce\"} 1",
            "watershed_request_duration_seconds_bucket{le=\"+Inf\",api=\"Produce\"} 2",
            "watershed_request_duration_seconds_count{api=\"Produce\"} 2",
            "watershed_shards_missing 2",
            "watershed_ready 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
