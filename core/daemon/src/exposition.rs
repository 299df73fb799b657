//! Exposition: what services' metrics have in common, as OpenMetrics text for Prometheus.
//!
//! Names are a service's own and an interface; units are base units. What shards count are plain numbers, so of
//! prometheus-client only the encoder is used; its own counters are atomics that cores would share.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::Service;
use crate::scrape::ProcessUse;

const MICROS: f64 = 1e-6;

/// The text of a scrape; every name begins with `prefix` and an underscore.
pub fn render(prefix: &str, collector: impl Collector) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(prefix);
    registry.register_collector(Box::new(collector));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// A histogram of durations in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Durations<'a> {
    /// Upper bounds; one more bucket takes what is slower.
    pub bounds_us: &'a [u64],
    /// Per bucket, not cumulated.
    pub counts: &'a [u64],
    pub sum_us: u64,
}

/// How a field of a shard's figures is shown.
pub enum Read<M> {
    Counter(fn(&M) -> u64),
    Gauge(fn(&M) -> u64),
    /// Microseconds in the field, seconds in the text.
    CounterMicros(fn(&M) -> u64),
    Histogram(fn(&M) -> Durations<'_>),
}

impl<M> Read<M> {
    fn kind(&self) -> MetricType {
        match self {
            Read::Counter(_) | Read::CounterMicros(_) => MetricType::Counter,
            Read::Gauge(_) => MetricType::Gauge,
            Read::Histogram(_) => MetricType::Histogram,
        }
    }

    fn encode(&self, figures: &M, mut out: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Read::Counter(read) => out.encode_counter::<NoLabelSet, _, u64>(&read(figures), None),
            Read::CounterMicros(read) => {
                out.encode_counter::<NoLabelSet, _, u64>(&(read(figures) as f64 * MICROS), None)
            }
            Read::Gauge(read) => out.encode_gauge(&read(figures)),
            Read::Histogram(read) => encode_durations(&read(figures), out),
        }
    }
}

fn encode_durations(durations: &Durations<'_>, mut out: MetricEncoder<'_>) -> fmt::Result {
    let bounds = durations.bounds_us.iter().map(|&bound| bound as f64 * MICROS).chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(durations.counts.iter().copied()).collect();
    let count = durations.counts.iter().sum();
    out.encode_histogram::<NoLabelSet>(durations.sum_us as f64 * MICROS, count, &buckets, None)
}

/// A metric that every shard has.
pub struct Series<M> {
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    read: Read<M>,
}

impl<M> Series<M> {
    pub const fn plain(name: &'static str, help: &'static str, read: Read<M>) -> Series<M> {
        Series { name, unit: None, help, read }
    }

    pub const fn bytes(name: &'static str, help: &'static str, read: Read<M>) -> Series<M> {
        Series { name, unit: Some(Unit::Bytes), help, read }
    }

    pub const fn seconds(name: &'static str, help: &'static str, read: Read<M>) -> Series<M> {
        Series { name, unit: Some(Unit::Seconds), help, read }
    }

    /// One sample of each shard, labelled by its number.
    pub fn encode(&self, shards: &[M], number: fn(&M) -> u16, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = out.encode_descriptor(self.name, self.help, self.unit.as_ref(), self.read.kind())?;
        for shard in shards {
            let label = [("shard", number(shard).to_string())];
            self.read.encode(shard, family.encode_family(&label)?)?;
        }
        Ok(())
    }
}

/// What every service says of itself.
#[derive(Debug)]
pub struct Whole {
    pub service: Service,
    pub is_ready: bool,
    /// Shards that did not answer.
    pub missing_count: usize,
    pub process: ProcessUse,
}

impl Whole {
    pub fn encode(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let ProcessUse { resident_bytes, open_files, cpu_seconds } = &self.process;
        let gauge = MetricType::Gauge;
        out.encode_descriptor("build", "The version that runs", None, MetricType::Info)?
            .encode_info(&[("version", self.service.version)])?;
        let help = format!("1 when the {} serves", self.service.noun);
        out.encode_descriptor("ready", &help, None, gauge)?.encode_gauge(&u64::from(self.is_ready))?;
        let missing = u64::try_from(self.missing_count).unwrap_or(u64::MAX);
        out.encode_descriptor("shards_missing", "Shards that did not answer this scrape", None, gauge)?
            .encode_gauge(&missing)?;
        out.encode_descriptor("process_resident", "Resident memory", Some(&Unit::Bytes), gauge)?
            .encode_gauge(resident_bytes)?;
        out.encode_descriptor("process_open_files", "Open file descriptors", None, gauge)?.encode_gauge(open_files)?;
        out.encode_descriptor("process_cpu", "Processor time", Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(cpu_seconds, None)
    }
}

/// Every metric of a scrape in the order of the text, one a line: name, kind, labels, help. For lists that a test compares.
pub fn listing(text: &str) -> String {
    let mut out = String::new();
    for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let help = text.lines().find_map(|line| line.strip_prefix("# HELP ")?.strip_prefix(name)?.strip_prefix(' '));
        let help = help.unwrap_or_default().trim_end_matches('.');
        out.push_str(&format!("{name} {kind} {{{}}} {help}\n", label_names(text, name).join(",")));
    }
    out
}

/// The names of the labels of a metric's first sample.
fn label_names<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let sample = text.lines().find(|line| line.starts_with(name) && line.contains('{'));
    let inner = sample.and_then(|line| Some(line.split_once('{')?.1.split_once('}')?.0)).unwrap_or_default();
    let names = inner.split(',').filter_map(|label| Some(label.split_once('=')?.0));
    names.filter(|name| *name != "le").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TESTED;

    struct Level {
        shard: u16,
        bytes: u64,
        busy_us: u64,
        waits: [u64; 3],
    }

    struct Levels(Vec<Level>);

    impl fmt::Debug for Levels {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(out, "{} levels", self.0.len())
        }
    }

    const SERIES: &[Series<Level>] = &[
        Series::bytes("held", "Bytes held", Read::Gauge(|level| level.bytes)),
        Series::seconds("busy", "Time in turns", Read::CounterMicros(|level| level.busy_us)),
        Series::seconds(
            "wait",
            "Time of a wait",
            Read::Histogram(|level| Durations {
                bounds_us: &[1_000, 500_000],
                counts: &level.waits,
                sum_us: 2_000_000,
            }),
        ),
    ];

    impl Collector for Levels {
        fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
            let process = ProcessUse::default();
            Whole { service: TESTED, is_ready: true, missing_count: 2, process }.encode(&mut out)?;
            SERIES.iter().try_for_each(|series| series.encode(&self.0, |level| level.shard, &mut out))
        }
    }

    #[test]
    fn figures_are_shown_in_base_units_and_listed_by_name() {
        let level = Level { shard: 3, bytes: 17, busy_us: 1_500_000, waits: [1, 0, 1] };
        let text = render("gauge", Levels(vec![level])).unwrap();
        for line in [
            "gauge_build_info{version=\"1.2.3\"} 1",
            "gauge_ready 1",
            "gauge_shards_missing 2",
            "gauge_held_bytes{shard=\"3\"} 17",
            "gauge_busy_seconds_total{shard=\"3\"} 1.5",
            "gauge_wait_seconds_bucket{le=\"0.001\",shard=\"3\"} 1",
            "gauge_wait_seconds_bucket{le=\"0.5\",shard=\"3\"} 1",
            "gauge_wait_seconds_bucket{le=\"+Inf\",shard=\"3\"} 2",
            "gauge_wait_seconds_sum{shard=\"3\"} 2.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(listing(&text).contains("gauge_wait_seconds histogram {shard} Time of a wait\n"), "{}", listing(&text));
    }
}
