//! `grafana.json` is generated from `metrics.txt` and never edited: REGENERATE=1 cargo test -p watershed-broker --test dashboard
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Value, json};

const METRICS: &str = include_str!("../metrics.txt");
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/grafana.json");

/// The rows of the dashboard and how the names in them begin, without the prefix. Every metric has a row.
const ROWS: [(&str, &[&str]); 8] = [
    (
        "Clients",
        &["received", "sent", "produced", "fetched", "connections", "produces_waiting", "fetches_waiting", "throttled"],
    ),
    ("Requests", &["request", "slow_requests"]),
    ("Groups", &["group"]),
    ("Journal", &["journal"]),
    ("Disk", &["segment", "disk", "checkpoint", "pool", "partitions"]),
    ("Memory", &["memory", "arena", "tail_cache"]),
    ("Shards", &["executor", "mesh"]),
    ("Process", &["build", "ready", "shards_missing", "process"]),
];
/// Grafana's grid is this wide.
const GRID: usize = 24;
const PANEL_WIDTH: usize = 8;
const PANEL_HEIGHT: usize = 8;

struct Metric<'a> {
    name: &'a str,
    kind: &'a str,
    labels: Vec<&'a str>,
    help: &'a str,
}

fn metrics() -> Vec<Metric<'static>> {
    let metric = |line: &'static str| {
        let [name, kind, labels, help] = line.splitn(4, ' ').collect::<Vec<_>>().try_into().unwrap();
        let labels = labels.trim_matches(['{', '}']).split(',').filter(|label| !label.is_empty()).collect();
        Metric { name, kind, labels, help }
    };
    METRICS.lines().filter(|line| !line.starts_with('#')).map(metric).collect()
}

impl Metric<'_> {
    fn row(&self) -> usize {
        let short = self.name.strip_prefix("watershed_").unwrap();
        let begins = |(_, names): &(&str, &[&str])| names.iter().any(|name| short.starts_with(name));
        ROWS.iter().position(begins).unwrap_or_else(|| panic!("{short} has no row on the dashboard"))
    }

    /// A lag is shown by group and topic; partitions only where someone asks.
    fn shown_labels(&self) -> Vec<&str> {
        self.labels.iter().copied().filter(|label| *label != "partition").collect()
    }

    fn unit(&self) -> &'static str {
        match (self.kind, self.name.rsplit('_').next().unwrap()) {
            ("counter", "bytes") => "Bps",
            ("counter", "seconds") => "percentunit",
            ("counter", _) => "ops",
            (_, "bytes") => "bytes",
            (_, "seconds") => "s",
            _ => "short",
        }
    }

    /// Each query with its legend.
    fn queries(&self) -> Vec<(String, String)> {
        let labels = self.shown_labels().join(", ");
        let by = if labels.is_empty() { String::new() } else { format!(" by ({labels})") };
        let legend: Vec<String> = self.shown_labels().iter().map(|label| format!("{{{{{label}}}}}")).collect();
        let legend = legend.join(" ");
        let (name, source) = (self.name, "{instance=~\"$instance\"}");
        match self.kind {
            "counter" => vec![(format!("sum{by} (rate({name}_total{source}[$__rate_interval]))"), legend)],
            "histogram" => [("0.5", "p50"), ("0.99", "p99")]
                .map(|(quantile, word)| {
                    let by = [self.shown_labels(), vec!["le"]].concat().join(", ");
                    let rate = format!("sum by ({by}) (rate({name}_bucket{source}[$__rate_interval]))");
                    (format!("histogram_quantile({quantile}, {rate})"), format!("{word} {legend}").trim().to_owned())
                })
                .to_vec(),
            "gauge" => vec![(format!("sum{by} ({name}{source})"), legend)],
            "info" => vec![(format!("{name}_info{source}"), "{{version}}".to_owned())],
            other => panic!("no panel for a {other}"),
        }
    }

    fn panel(&self, id: usize, place: (usize, usize)) -> Value {
        let target = |(letter, (query, legend)): (char, (String, String))| json!({ "refId": letter.to_string(), "expr": query, "legendFormat": legend });
        let targets: Vec<Value> = ('A'..).zip(self.queries()).map(target).collect();
        json!({
            "id": id,
            "type": "timeseries",
            "title": self.help,
            "description": self.name,
            "datasource": { "type": "prometheus", "uid": "$datasource" },
            "gridPos": { "x": place.0, "y": place.1, "w": PANEL_WIDTH, "h": PANEL_HEIGHT },
            "fieldConfig": { "defaults": { "unit": self.unit(), "min": 0 }, "overrides": [] },
            "targets": targets,
        })
    }
}

fn dashboard() -> Value {
    let metrics = metrics();
    let (mut panels, mut y) = (Vec::new(), 0);
    for (number, (title, _)) in ROWS.iter().enumerate() {
        let grid = json!({ "x": 0, "y": y, "w": GRID, "h": 1 });
        panels.push(
            json!({ "id": panels.len() + 1, "type": "row", "title": title, "collapsed": false, "gridPos": grid }),
        );
        y += 1;
        let mut x = 0;
        for metric in metrics.iter().filter(|metric| metric.row() == number) {
            if x + PANEL_WIDTH > GRID {
                (x, y) = (0, y + PANEL_HEIGHT);
            }
            panels.push(metric.panel(panels.len() + 1, (x, y)));
            x += PANEL_WIDTH;
        }
        y += PANEL_HEIGHT;
    }
    let instances = "label_values(watershed_ready, instance)";
    json!({
        "uid": "watershed-broker",
        "title": "Watershed broker",
        "tags": ["watershed"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [
            { "name": "datasource", "type": "datasource", "query": "prometheus" },
            {
                "name": "instance", "type": "query", "query": instances, "definition": instances, "refresh": 2,
                "datasource": { "type": "prometheus", "uid": "$datasource" },
                "includeAll": true, "multi": true, "allValue": ".*", "current": { "text": "All", "value": "$__all" },
            },
        ] },
        "panels": panels,
    })
}

#[test]
fn the_dashboard_is_what_the_names_make_it() {
    let generated = format!("{:#}\n", dashboard());
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(FILE, &generated).unwrap();
    }
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    assert_eq!(written, generated, "run it again with REGENERATE=1");
}

#[test]
fn every_metric_has_a_panel_and_every_query_a_metric() {
    let (dashboard, metrics) = (dashboard(), metrics());
    let panels: Vec<&Value> =
        dashboard["panels"].as_array().unwrap().iter().filter(|each| each["type"] != "row").collect();
    assert_eq!(panels.len(), metrics.len());
    for metric in &metrics {
        let panel = panels.iter().find(|panel| panel["description"] == metric.name).unwrap();
        let targets = panel["targets"].as_array().unwrap();
        assert!(targets.iter().all(|target| target["expr"].as_str().unwrap().contains(metric.name)), "{panel}");
    }
    let lag = metrics.iter().find(|metric| metric.name == "watershed_group_lag_records").unwrap();
    assert_eq!(lag.labels, ["group", "topic", "partition"]);
}
