//! Brokers inside this very process: free ports, several at once, no handler of a signal, and every end told to the program.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod server_harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use server_harness::{Client, batch, now_ms, records};
use watershed_broker::broker::{Broker, BrokerBuilder, Failure, StartError};
use watershed_broker::settings::Key;
use watershed_core::records::{BatchWriter, Walk};

fn fresh_dir(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("embedded-{name}"));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn builder(path: &Path, shards: usize) -> BrokerBuilder {
    Broker::builder(path)
        .set(Key::Cores, format!("unbound:{shards}"))
        .set(Key::Memory, "128MiB")
        .property("num.partitions", 6)
}

#[test]
fn two_brokers_live_in_one_process() {
    let (one, two) = (fresh_dir("one"), fresh_dir("two"));
    let first = builder(&one, 1).start().unwrap();
    let second = builder(&two, 3).set(Key::Admin, "127.0.0.1:0").start().unwrap();
    assert_ne!(first.local_addr().port(), second.local_addr().port());
    assert!(first.admin_addr().is_none() && first.serving().shards == 1);
    assert!(TcpStream::connect(second.admin_addr().unwrap()).is_ok());
    for (broker, value) in [(&first, "of the first"), (&second, "of the second")] {
        let mut client = Client::connect(broker.local_addr());
        client.topic("rivers");
        assert_eq!(client.produce("rivers", 0, batch(now_ms(), &[value])).error_code, 0);
        let fetched = client.fetch("rivers", 0, 0, 1000).records.unwrap();
        assert_eq!(records(&fetched), [(0, value.to_owned())]);
    }
    let Err(StartError::Directory(locked)) = builder(&one, 1).start() else { panic!("a directory has one broker") };
    assert!(locked.to_string().contains("is locked by pid"), "{locked}");

    first.stop().unwrap();
    assert!(second.pulse(Duration::from_secs(10)), "the other one goes on");
    let again = builder(&one, 2).start().unwrap();
    let fetched = Client::connect(again.local_addr()).fetch("rivers", 0, 0, 1000).records.unwrap();
    assert_eq!(records(&fetched), [(0, "of the first".to_owned())]);
}

#[test]
fn a_request_ends_the_broker_and_a_drop_does_too() {
    let path = fresh_dir("ends");
    let broker = builder(&path, 1).start().unwrap();
    let (address, pulse) = (broker.local_addr(), broker.pulse_handle());
    let (tell, told) = mpsc::channel();
    broker.on_end(move |outcome| tell.send(outcome.is_ok()).unwrap());
    let shutdown = broker.shutdown();
    std::thread::spawn(move || shutdown.request("the test"));
    broker.wait().unwrap();
    assert!(told.recv().unwrap() && broker.failure().is_none());
    drop(broker);
    assert!(TcpStream::connect(address).is_err() && !pulse(Duration::from_secs(10)));

    let broker = builder(&path, 1).start().unwrap();
    let address = broker.local_addr();
    drop(broker);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn wrong_settings_and_a_foreign_directory_are_errors_and_not_the_end() {
    let path = fresh_dir("wrong");
    let Err(StartError::Settings(error)) = builder(&path, 1).property("num.partition", 1).start() else {
        panic!("no such setting")
    };
    assert!(error.to_string().contains("did you mean num.partitions?"), "{error}");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("diary"), "dear").unwrap();
    assert!(matches!(builder(&path, 1).start(), Err(StartError::Directory(_))));
    std::fs::remove_file(path.join("diary")).unwrap();
    std::fs::write(path.join("superblock"), [7; 8192]).unwrap();
    assert!(matches!(builder(&path, 1).start(), Err(StartError::Failed(Failure::Fault(_)))));
}

/// What this process catches, ignores and blocks, as the kernel tells it.
fn signals() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of_signals = |line: &&str| ["SigCgt", "SigIgn"].iter().any(|name| line.starts_with(name));
    status.lines().filter(of_signals).map(str::to_owned).collect()
}

#[test]
fn a_broker_takes_no_signal_from_its_program() {
    let before = signals();
    let broker = builder(&fresh_dir("signals"), 2).set(Key::Admin, "127.0.0.1:0").start().unwrap();
    assert_eq!((signals(), before.len()), (before, 2));
    broker.stop().unwrap();
}

/// A directory that is gone under a running broker: the first file that it must make fails.
#[test]
fn a_fault_reaches_the_program_and_ends_only_its_broker() {
    let path = fresh_dir("fault");
    let (failing, sound) = (builder(&path, 2).start().unwrap(), builder(&fresh_dir("sound"), 1).start().unwrap());
    let log = failing.log("rivers", 0).unwrap();
    let (tell, told) = mpsc::channel();
    failing.on_end(move |outcome| tell.send(outcome.clone()).unwrap());
    std::fs::remove_dir_all(path.join("segments")).unwrap();
    let mut writer = BatchWriter::new(now_ms());
    writer.push(now_ms(), None, Some(&vec![1; 900_000]));
    let batch = writer.build();
    let error = (0..500).find_map(|_| log.append(batch.clone()).err()).expect("a segment must be made some time");
    let Err(Failure::Fault(fault)) = told.recv().unwrap() else { panic!("{error}: not a fault") };
    assert!(fault.to_string().contains("segments"), "{fault}");
    assert!(error.to_string().contains("rivers-0: its shard has ended"), "{error}");
    assert!(failing.failure().is_some() && failing.wait().is_err() && failing.stop().is_err());
    assert!(sound.pulse(Duration::from_secs(10)));
    sound.stop().unwrap();
}

/// What `/metrics` says of a counter, over all shards.
fn counted(broker: &Broker, name: &str) -> u64 {
    let mut socket = TcpStream::connect(broker.admin_addr().unwrap()).unwrap();
    write!(socket, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    let lines = reply.lines().filter(|line| line.starts_with(&format!("watershed_{name}_total{{")));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn what_a_program_appends_is_held_against_the_topics_limit_and_counted() {
    let path = fresh_dir("limit");
    let builder = builder(&path, 2).set(Key::Admin, "127.0.0.1:0").property("message.max.bytes", 5_000);
    let broker = builder.start().unwrap();
    let log = broker.log("rivers", 3).unwrap();
    let batch = |bytes: usize| {
        let mut writer = BatchWriter::new(now_ms());
        writer.push(now_ms(), None, Some(&vec![1; bytes]));
        writer.push(now_ms(), None, Some(b"second"));
        writer.build()
    };
    let fits = batch(4_900);
    assert!(fits.len() <= 5_000 && batch(5_000).len() > 5_000);
    assert_eq!(log.append(fits.clone()).unwrap().base_offset, 0);
    assert_eq!(log.append(batch(5_000)).unwrap_err().to_string(), "rivers-3: TooLarge");
    assert_eq!(log.append(batch(10)).unwrap().base_offset, 2);
    assert_eq!((counted(&broker, "produced_records"), counted(&broker, "produced_batches")), (4, 2));
    assert_eq!(counted(&broker, "produced_bytes"), (fits.len() + batch(10).len()) as u64);
    broker.stop().unwrap();
}

#[test]
fn a_program_and_a_client_share_a_topic() {
    let broker = builder(&fresh_dir("shared"), 3).start().unwrap();
    let mut client = Client::connect(broker.local_addr());
    for partition in 0..6 {
        let log = broker.log("rivers", partition).unwrap();
        let mut writer = BatchWriter::new(now_ms());
        writer.push(now_ms(), None, Some(format!("from inside {partition}").as_bytes()));
        assert_eq!(log.append(writer.build()).unwrap().base_offset, 0);
        assert_eq!(client.produce("rivers", partition, batch(now_ms(), &["from outside"])).base_offset, 1);
        let seen = records(&client.fetch("rivers", partition, 0, 1000).records.unwrap());
        assert_eq!(seen, [(0, format!("from inside {partition}")), (1, "from outside".to_owned())]);
        let bytes = log.read(1, 1 << 20).unwrap();
        let place = Walk::new(1).step(&bytes).unwrap().unwrap();
        assert_eq!(&bytes[place.value.unwrap()], b"from outside");
    }
    let refused = broker.log("rivers", 6).err().unwrap();
    assert_eq!(refused.to_string(), "rivers-6: UNKNOWN_TOPIC_OR_PARTITION");
    let refused = broker.log("__consumer_offsets", 0).err().unwrap();
    assert_eq!(refused.to_string(), "__consumer_offsets-0: INVALID_TOPIC_EXCEPTION");
}
