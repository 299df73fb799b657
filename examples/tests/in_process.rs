//! How a program tests against a broker without a container: it starts one in its own process, on a free port.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use watershed_broker::Broker;
use watershed_examples::Client;

/// An empty directory on a disk: the broker refuses memory file systems.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

#[test]
fn a_test_has_a_broker_of_its_own() {
    let broker = Broker::builder(&directory("in-process")).property("num.partitions", 4).start().unwrap();
    let mut client = Client::connect(broker.local_addr()).unwrap();
    assert_eq!(client.topic("rivers").unwrap(), 4);
    assert_eq!(client.produce("rivers", 3, b"Elbe").unwrap(), 0);
    assert_eq!(client.produce("rivers", 3, b"Oder").unwrap(), 1);
    assert_eq!(client.fetch("rivers", 3, 1).unwrap(), [b"Oder".to_vec()]);
    // The broker stops when it is dropped.
}

#[test]
fn the_shared_topic_is_read_from_both_sides_and_again_after_a_restart() {
    let directory = directory("shared-topic");
    for first in [0, 3] {
        let run = Command::new(env!("CARGO_BIN_EXE_shared_topic")).arg(&directory).output().unwrap();
        let (out, errors) = (String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap());
        assert!(run.status.success(), "{errors}");
        let expected = [("Elbe", 2310), ("Oder", 1870), ("Spree", 640)]
            .iter()
            .zip(first..)
            .map(|((river, level_mm), offset)| format!("{offset}: {river} stands at {level_mm} mm\n"));
        assert_eq!(out, expected.collect::<String>());
    }
}
