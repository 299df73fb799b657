//! Admin HTTP as bytes over a socket.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use watershed_broker::admin::{self, AdminState};
use watershed_broker::lifecycle::{Readiness, Shutdown};
use watershed_broker::metrics::ShardMetrics;

fn start(state: &AdminState) -> SocketAddr {
    let admin = admin::start("127.0.0.1:0".parse().unwrap(), state.clone()).unwrap();
    let address = admin.address;
    // It serves until the test process ends.
    std::mem::forget(admin);
    address
}

fn state() -> AdminState {
    AdminState::new(Readiness::starting("starting"), Shutdown::default())
}

/// Status code, head and body of a GET.
fn get(at: SocketAddr, path: &str) -> (u16, String, String) {
    let mut socket = TcpStream::connect(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

#[test]
fn live_version_and_unknown_paths() {
    let at = start(&state());
    assert_eq!(get(at, "/live").0, 200);
    let (status, head, body) = get(at, "/version");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    let version: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let (status, _, dashboard) = get(at, "/dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert_eq!((status, &dashboard["title"]), (200, &serde_json::json!("Watershed broker")));
    assert_eq!(get(at, "/nothing").0, 404);
}

#[test]
fn ready_says_why_not_until_it_is_and_again_when_draining() {
    let state = state();
    let at = start(&state);
    let ready = || {
        let (status, _, body) = get(at, "/ready");
        (status, serde_json::from_str::<serde_json::Value>(&body).unwrap())
    };
    assert_eq!(ready(), (503, serde_json::json!({ "ready": false, "reasons": ["starting"] })));
    state.readiness.clear("starting");
    assert_eq!(ready(), (200, serde_json::json!({ "ready": true, "reasons": [] })));
    state.shutdown.request("SIGTERM");
    assert_eq!(ready(), (503, serde_json::json!({ "ready": false, "reasons": ["draining (SIGTERM)"] })));
}

#[test]
fn metrics_come_from_the_shards_that_answer() {
    let state = state();
    let at = start(&state);
    let (status, head, before) = get(at, "/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    assert!(before.contains("watershed_ready 0\n") && before.ends_with("# EOF\n"), "{before}");

    // Shard 1 answers late from a thread, shard 0 at once, shard 2 is gone, shard 3 never answers.
    let keep = std::sync::Mutex::new(Vec::new());
    state.set_scrape(Box::new(move || {
        let channels = [(); 4].map(|()| oneshot::channel::<Box<ShardMetrics>>());
        let [(zero, a), (one, b), (two, c), (three, d)] = channels;
        let metrics =
            |shard: u16, received_bytes| Box::new(ShardMetrics { shard, received_bytes, ..Default::default() });
        zero.send(metrics(0, 10)).unwrap();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            let _ = one.send(metrics(1, 20));
        });
        drop(two);
        keep.lock().unwrap().push(three);
        vec![a, b, c, d]
    }));
    let started = Instant::now();
    let (_, _, text) = get(at, "/metrics");
    assert!(started.elapsed() < Duration::from_secs(8), "a shard that hangs does not hang the scrape");
    for line in [
        "watershed_received_bytes_total{shard=\"0\"} 10",
        "watershed_received_bytes_total{shard=\"1\"} 20",
        "watershed_shards_missing 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn an_address_in_use_is_an_error() {
    let at = start(&state());
    assert!(admin::start(at, state()).is_err());
}
