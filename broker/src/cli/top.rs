//! `top`: a broker's view of itself in the terminal, from its admin HTTP. The panels name this broker's metrics.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use watershed_top::{Column, Line, Panel, Reading, RunError, Unit, run as show};

use super::{Exit, Failure};
use crate::settings::parse_duration_ms;

#[derive(Args)]
pub(super) struct TopArgs {
    /// The broker's admin HTTP
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9644")]
    admin: String,
    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    every: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration_ms(text)? {
        0..100 => Err("at least 100 ms".to_owned()),
        ms => Ok(Duration::from_millis(ms)),
    }
}

const fn rate(name: &'static str, metric: &'static str, unit: Unit) -> Line {
    Line { name, reading: Reading::Rate(metric), unit }
}

const fn gauge(name: &'static str, metric: &'static str, unit: Unit) -> Line {
    Line { name, reading: Reading::Gauge(metric), unit }
}

const fn column(head: &'static str, reading: Reading, unit: Unit) -> Column {
    Column { head, reading, unit }
}

/// What is shown, in this order.
pub const PANELS: &[Panel] = &[
    Panel::Lines {
        title: "Clients",
        lines: &[
            rate("in", "watershed_received_bytes", Unit::BytesPerSecond),
            rate("out", "watershed_sent_bytes", Unit::BytesPerSecond),
            rate("records in", "watershed_produced_records", Unit::PerSecond),
            rate("requests", "watershed_requests", Unit::PerSecond),
            rate("errors", "watershed_request_errors", Unit::PerSecond),
            rate("throttled", "watershed_throttled_requests", Unit::PerSecond),
            gauge("connections", "watershed_connections_open", Unit::Count),
        ],
    },
    Panel::Table {
        title: "Requests",
        by: &["api"],
        columns: &[
            column("rate", Reading::Rate("watershed_requests"), Unit::PerSecond),
            column("errors", Reading::Rate("watershed_request_errors"), Unit::PerSecond),
            column("p50", Reading::Quantile("watershed_request_duration_seconds", 0.5), Unit::Duration),
            column("p99", Reading::Quantile("watershed_request_duration_seconds", 0.99), Unit::Duration),
        ],
    },
    Panel::Table {
        title: "Lag",
        by: &["group", "topic"],
        columns: &[column("records", Reading::Gauge("watershed_group_lag_records"), Unit::Count)],
    },
    Panel::Lines {
        title: "Disk",
        lines: &[
            rate("journal", "watershed_journal_written_bytes", Unit::BytesPerSecond),
            rate("commits", "watershed_journal_flushes", Unit::PerSecond),
            Line {
                name: "commit p99",
                reading: Reading::Quantile("watershed_journal_commit_duration_seconds", 0.99),
                unit: Unit::Duration,
            },
            rate("segments out", "watershed_segment_written_bytes", Unit::BytesPerSecond),
            rate("segments in", "watershed_segment_read_bytes", Unit::BytesPerSecond),
            gauge("free", "watershed_disk_free_bytes", Unit::Bytes),
        ],
    },
    Panel::Table {
        title: "Shards",
        by: &["shard"],
        columns: &[
            column("busy", Reading::Rate("watershed_executor_busy_seconds"), Unit::Share),
            column("longest turn", Reading::Gauge("watershed_executor_longest_turn_seconds"), Unit::Duration),
            column("connections", Reading::Gauge("watershed_connections_open"), Unit::Count),
            column("partitions", Reading::Gauge("watershed_partitions"), Unit::Count),
            column("ring", Reading::Share("watershed_journal_used_bytes", "watershed_journal_ring_bytes"), Unit::Share),
        ],
    },
    Panel::Table {
        title: "Memory",
        by: &["pool"],
        columns: &[
            column("used", Reading::Gauge("watershed_memory_pool_used_bytes"), Unit::Bytes),
            column("limit", Reading::Gauge("watershed_memory_pool_limit_bytes"), Unit::Bytes),
        ],
    },
];

/// Runs `top`.
pub(super) fn run(args: &TopArgs) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        let why = format!("top draws on a terminal; for programs there is http://{}/metrics", args.admin);
        return Err(Failure::new(Exit::Usage, why));
    }
    let title = format!("watershed-broker at {}", args.admin);
    show(&args.admin, &title, PANELS, args.every).map_err(|error| match error {
        RunError::Http(why) => {
            Failure::new(Exit::Unreachable, format!("{why}; is the broker running, with --admin there?"))
        }
        RunError::Terminal(why) => Failure::new(Exit::Environment, format!("the terminal: {why}")),
    })
}
