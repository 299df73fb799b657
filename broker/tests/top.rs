//! `top` over what a real broker tells: every panel finds its metrics, and the numbers are those of the work done.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod server_harness;

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use server_harness::{Broker, batch, now_ms};
use watershed_broker::cli::TOP_PANELS;
use watershed_top::{Panel, Reading, Scrape, View, draw};

fn readings(panel: &Panel) -> Vec<Reading> {
    match panel {
        Panel::Lines { lines, .. } => lines.iter().map(|line| line.reading).collect(),
        Panel::Table { columns, .. } => columns.iter().map(|column| column.reading).collect(),
    }
}

/// The names that a reading takes from metrics.txt.
fn names(reading: Reading) -> Vec<&'static str> {
    match reading {
        Reading::Gauge(name) | Reading::Rate(name) | Reading::Quantile(name, _) => vec![name],
        Reading::Share(part, whole) => vec![part, whole],
    }
}

#[test]
fn panels_name_metrics_that_exist() {
    let kinds = include_str!("../metrics.txt");
    for reading in TOP_PANELS.iter().flat_map(readings) {
        let kind = match reading {
            Reading::Gauge(_) | Reading::Share(..) => "gauge",
            Reading::Rate(_) => "counter",
            Reading::Quantile(..) => "histogram",
        };
        for name in names(reading) {
            assert!(kinds.lines().any(|line| line.starts_with(&format!("{name} {kind} "))), "{name} is no {kind}");
        }
    }
}

#[test]
fn the_screen_shows_what_a_broker_did_between_two_scrapes() {
    let broker = Broker::fresh("top", 2);
    let mut client = broker.client();
    client.topic("rivers");
    let mut view = View::new(TOP_PANELS);
    view.take(Scrape::parse(&broker.metrics()).unwrap(), Duration::ZERO);
    for _ in 0..20 {
        client.produce("rivers", 0, batch(now_ms(), &["v"; 10]));
    }
    view.take(Scrape::parse(&broker.metrics()).unwrap(), Duration::from_secs(2));
    let mut terminal = Terminal::new(TestBackend::new(140, 44)).unwrap();
    terminal.draw(|frame| draw(frame, &view, "test")).unwrap();
    let screen = terminal.backend().to_string();
    let row =
        |name: &str| screen.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}:\n{screen}"));
    assert!(row("records in").contains("100/s"), "200 records in 2 s:\n{screen}");
    let produce = row("Produce");
    assert!(produce.contains("10/s") && produce.contains("0/s") && produce.contains('s'), "{produce}");
    for panel in TOP_PANELS {
        assert!(screen.contains(panel.title()), "{} is missing in\n{screen}", panel.title());
        if let Panel::Table { columns, .. } = panel {
            assert!(columns.iter().all(|column| screen.contains(column.head)), "a head is cut in\n{screen}");
        }
    }
    for pool in ["receive", "tail", "unwritten"] {
        assert!(screen.contains(pool), "{pool} is missing in\n{screen}");
    }
}

#[test]
fn top_needs_a_terminal() {
    let mut top = std::process::Command::new(env!("CARGO_BIN_EXE_watershed-broker"));
    let output = top.arg("top").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("/metrics"), "{text}");
}
