//! The engine inside a program: used from ordinary threads, twice in one process, and closed or dropped at will.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use watershed_core::error::Refusal;
use watershed_core::io::engine::{Engine, EngineConfig};
use watershed_core::io::log::{Log, LogError};
use watershed_core::io::typed_log::{TypedLog, TypedLogError};
use watershed_core::partition::LogSettings;
use watershed_core::records::{BatchWriter, Walk};
use watershed_core::units::{TopicId, TopicPartition};

fn fresh_dir(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("engine-{name}"));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn open(path: &Path, shards: u16) -> Engine {
    let config = EngineConfig { shards, memory_bytes: 128 << 20, free_bytes_min: 0, ..EngineConfig::default() };
    Engine::open(path, config).unwrap()
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([5; 16]), partition }
}

/// The batches' timestamps are tiny numbers: nothing of theirs may expire.
fn log(engine: &Engine, partition: i32) -> Log {
    engine.log(at(partition), "rivers", LogSettings { retention_ms: None, ..LogSettings::default() }).unwrap()
}

fn batch(values: &[String]) -> Vec<u8> {
    let mut writer = BatchWriter::new(1);
    values.iter().for_each(|value| writer.push(1, None, Some(value.as_bytes())));
    writer.build()
}

fn read_all(log: &Log) -> Vec<String> {
    let (mut values, mut offset) = (Vec::new(), 0);
    loop {
        let bytes = log.read(offset, 1 << 20).unwrap();
        if bytes.is_empty() {
            return values;
        }
        let mut walk = Walk::new(offset);
        while let Some(place) = walk.step(&bytes) {
            values.push(String::from_utf8(bytes[place.unwrap().value.unwrap()].to_vec()).unwrap());
        }
        offset = walk.next_offset();
    }
}

#[test]
fn threads_append_and_read_and_everything_is_there_after_a_close_and_a_drop() {
    let path = fresh_dir("threads");
    let engine = open(&path, 3);
    let writers: Vec<_> = (0..6)
        .map(|partition| {
            let log = log(&engine, partition);
            std::thread::spawn(move || {
                let pending: Vec<_> = (0..50)
                    .map(|number| log.begin_append(batch(&[format!("{partition}/{number}")])).unwrap())
                    .collect();
                let offsets: Vec<i64> =
                    pending.into_iter().map(|pending| pending.wait().unwrap().base_offset).collect();
                assert_eq!(offsets, (0..50).collect::<Vec<i64>>(), "one thread's appends keep their order");
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let expected = |partition: i32| (0..50).map(move |number| format!("{partition}/{number}")).collect::<Vec<_>>();
    for partition in 0..6 {
        assert_eq!(read_all(&log(&engine, partition)), expected(partition));
    }
    let stale = log(&engine, 0);
    engine.close().unwrap();
    assert!(matches!(stale.append(batch(&["late".to_owned()])).unwrap_err(), LogError::Ended { .. }));

    // Another number of shards, and no close this time.
    let engine = open(&path, 1);
    assert_eq!(engine.logs().len(), 6);
    for partition in 0..6 {
        let log = log(&engine, partition);
        assert_eq!(read_all(&log), expected(partition));
        assert_eq!(log.append(batch(&["more".to_owned()])).unwrap().base_offset, 50);
    }
    assert!(engine.drop_log(at(5)).unwrap() && !engine.drop_log(at(5)).unwrap());
    drop(engine);
    let engine = open(&path, 1);
    assert_eq!(engine.logs().len(), 5);
    assert_eq!(log(&engine, 4).state().unwrap().log_end, 51);
}

#[test]
fn two_engines_in_one_process_are_strangers_and_one_directory_has_one_engine() {
    let (one, two) = (fresh_dir("one"), fresh_dir("two"));
    let (first, second) = (open(&one, 1), open(&two, 2));
    log(&first, 0).append(batch(&["first".to_owned()])).unwrap();
    assert_eq!(second.logs(), []);
    let config = EngineConfig { free_bytes_min: 0, ..EngineConfig::default() };
    let Err(refused) = Engine::open(&one, config) else { panic!("a directory has one engine") };
    assert!(refused.to_string().contains("is in use"), "{refused}");
    drop(first);
    assert_eq!(read_all(&log(&open(&one, 1), 0)), ["first"]);
}

#[test]
fn a_waiting_reader_is_woken_by_an_append_and_else_by_its_deadline() {
    let engine = open(&fresh_dir("waits"), 1);
    let log = log(&engine, 0);
    assert_eq!(log.await_offset(0, Duration::from_millis(20)).unwrap(), 0);
    let reader = std::thread::spawn({
        let log = log.clone();
        move || log.await_offset(0, Duration::from_secs(60)).unwrap()
    });
    log.append(batch(&["a".to_owned(), "b".to_owned()])).unwrap();
    assert_eq!(reader.join().unwrap(), 2);
    let refused = log.read(3, 1000).unwrap_err();
    assert!(matches!(refused, LogError::Refused { refusal: Refusal::OffsetOutOfRange, .. }), "{refused}");
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Gauge {
    river: String,
    level_mm: u64,
    readings: Vec<u64>,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Mark([u8; 7]);

#[test]
fn typed_values_are_read_as_they_were_written() {
    let engine = open(&fresh_dir("typed"), 1);
    let gauges = TypedLog::<Gauge>::new(log(&engine, 0));
    let written: Vec<Gauge> = (0..20_000u64)
        .map(|at| Gauge { river: "x".repeat(at as usize % 40), level_mm: at, readings: vec![at; at as usize % 5] })
        .collect();
    assert!(gauges.append(&written).unwrap().len() > 1, "more than one batch is needed");
    let (mut offset, mut copied) = (0, 0);
    loop {
        let mut values = gauges.read(offset).unwrap();
        while let Some(value) = values.next() {
            let value = value.unwrap();
            let expected = &written[value.offset as usize];
            assert_eq!(value.offset, offset);
            assert_eq!(
                (value.value.river.as_str(), value.value.level_mm.to_native()),
                (&*expected.river, expected.level_mm)
            );
            assert!(value.value.readings.iter().eq(expected.readings.iter()));
            offset += 1;
        }
        copied += values.copied_count();
        if values.is_empty() {
            break;
        }
    }
    assert_eq!(offset, 20_000);
    assert!(copied < 20_000, "where the alignment fits nothing is copied");

    let marks = TypedLog::<Mark>::new(log(&engine, 1));
    marks.append(&[Mark([1; 7]), Mark([2; 7])]).unwrap();
    let mut values = marks.read(1).unwrap();
    assert_eq!(values.next().unwrap().unwrap().value.0, [2; 7]);
    assert!(values.next().is_none() && values.copied_count() == 0, "bytes are read where they lie");
}

#[test]
fn a_damaged_value_is_an_error_with_its_place_and_the_next_one_is_read() {
    let engine = open(&fresh_dir("damaged"), 1);
    let gauges = TypedLog::<Gauge>::new(log(&engine, 7));
    let sound = Gauge { river: "a river with a long name".to_owned(), level_mm: 1, readings: vec![1, 2] };
    gauges.append([&sound]).unwrap();
    // A Kafka client's own idea of a value: no gauge. And a record without any.
    gauges.log().append(batch(&["not a gauge".to_owned()])).unwrap();
    let mut null = BatchWriter::new(1);
    null.push(1, Some(b"key"), None);
    gauges.log().append(null.build()).unwrap();
    // Archived, but with a length of its string that reaches beyond the value.
    let mut bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&sound).unwrap();
    let root = bytes.len() - size_of::<ArchivedGauge>();
    bytes[root..].iter_mut().for_each(|byte| *byte ^= 0x40);
    let mut flipped = BatchWriter::new(1);
    flipped.push(1, None, Some(&bytes));
    gauges.log().append(flipped.build()).unwrap();
    gauges.append([&sound]).unwrap();

    let mut values = gauges.read(0).unwrap();
    let mut seen = Vec::new();
    while let Some(value) = values.next() {
        seen.push(match value {
            Ok(value) => Ok(value.value.level_mm.to_native()),
            Err(TypedLogError::Damaged { log, offset, .. }) => Err((log, offset)),
            Err(other) => panic!("{other}"),
        });
    }
    let damaged = |offset| Err(("rivers-7".to_owned(), offset));
    assert_eq!(seen, [Ok(1), damaged(1), damaged(2), damaged(3), Ok(1)]);
}

/// A directory that is gone under a running engine: the first file that it must make fails.
#[test]
fn a_fault_is_told_and_answers_whoever_waits() {
    let path = fresh_dir("fault");
    let engine = open(&path, 2);
    let (failing, other) = (log(&engine, 0), log(&engine, 1));
    other.append(batch(&["sound".to_owned()])).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    engine.on_end(move |outcome| tell.send(outcome.clone()).unwrap());
    std::fs::remove_dir_all(path.join("segments")).unwrap();
    let large = batch(&["x".repeat(900_000)]);
    let error = (0..500).find_map(|_| failing.append(large.clone()).err()).expect("a segment must be made some time");
    assert!(matches!(error, LogError::Ended { .. }), "{error}");
    let fault = told.recv().unwrap().unwrap_err().to_string();
    assert!(fault.contains("segments") && engine.failure().is_some(), "{fault}");
    // The shards of one engine end together.
    let outcome = engine.close();
    assert!(outcome.is_err() && matches!(other.state().unwrap_err(), LogError::Ended { .. }));
}
