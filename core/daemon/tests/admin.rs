//! Admin HTTP of a service that is not the broker.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use watershed_daemon::Service;
use watershed_daemon::admin::{self, Exposition, Page, Site};
use watershed_daemon::lifecycle::{Readiness, Shutdown};

const GAUGE: Service = Service {
    noun: "gauge",
    program: "watershed-gauge",
    version: "1.2.3",
    mark: "watershed-gauge",
    own_file_prefix: None,
};

/// Fails while the service is not ready.
struct Level;

impl Exposition for Level {
    async fn text(&self, is_ready: bool) -> Result<String, fmt::Error> {
        if is_ready { Ok("level 7\n# EOF\n".to_owned()) } else { Err(fmt::Error) }
    }

    async fn view(&self, path: &'static str) -> serde_json::Value {
        serde_json::json!({ path: 7 })
    }
}

fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn a_service_shows_its_own_words_pages_and_figures() {
    let readiness = Readiness::starting("filling");
    let site = Site {
        service: GAUGE,
        versions: &[("scale", "2")],
        pages: &[Page { path: "/scale", content_type: "text/plain", body: "metres\n" }],
        views: &["/levels"],
        readiness: readiness.clone(),
        shutdown: Shutdown::default(),
        exposition: Level,
    };
    let admin = admin::start("127.0.0.1:0".parse().unwrap(), site).unwrap();
    let at = admin.address;
    let version = serde_json::json!({ "name": "watershed-gauge", "version": "1.2.3", "scale": "2" });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&get(at, "/version").1).unwrap(), version);
    assert_eq!(get(at, "/scale"), (200, "metres\n".to_owned()));
    assert_eq!(get(at, "/levels"), (200, "{\"/levels\":7}\n".to_owned()));
    assert_eq!((get(at, "/ready").0, get(at, "/metrics").0), (503, 500), "a scrape that fails is told");
    readiness.clear("filling");
    assert_eq!((get(at, "/ready").0, get(at, "/metrics")), (200, (200, "level 7\n# EOF\n".to_owned())));
    assert_eq!((get(at, "/live").0, get(at, "/dashboard").0), (200, 404));
    drop(admin);
    assert!(TcpStream::connect(at).is_err(), "the thread ends with its handle");
}
