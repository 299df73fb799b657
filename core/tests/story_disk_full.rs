//! A store on a full disk: what it refuses, what it still takes, and what it asks for again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use watershed_core::batch::{BatchHeader, HEADER_BYTES, MAGIC};
use watershed_core::error::Refusal;
use watershed_core::partition::LogSettings;
use watershed_core::store::{Appending, Effect, Outcome, Store, StoreConfig};
use watershed_core::units::{JournalId, Now, TopicId, TopicPartition};

const NOW: Now = Now { monotonic_us: 1_000_000, wall_ms: 1_700_000_000_000 };

fn key(topic: u8) -> TopicPartition {
    TopicPartition { topic: TopicId([topic; 16]), partition: 0 }
}

fn header(bytes: u32) -> BatchHeader {
    let mut batch = vec![0; HEADER_BYTES];
    batch[8..12].copy_from_slice(&(bytes - 12).to_be_bytes());
    batch[16] = MAGIC;
    batch[27..35].copy_from_slice(&NOW.wall_ms.to_be_bytes());
    batch[35..43].copy_from_slice(&NOW.wall_ms.to_be_bytes());
    batch[43..51].copy_from_slice(&(-1_i64).to_be_bytes());
    batch[57..61].copy_from_slice(&1_i32.to_be_bytes());
    BatchHeader::parse(&batch).unwrap()
}

/// A store with a log of records (1) and a coordinator's (2); everything that it asked for was done.
fn store() -> Store {
    let mut store = Store::create(StoreConfig::default(), JournalId(1), [7; 16]).0;
    store.assign(NOW, key(1), Arc::new(LogSettings::default()), 0);
    store.assign(NOW, key(2), Arc::new(LogSettings { control: true, ..LogSettings::default() }), 0);
    run(&mut store, |_| Outcome::Done);
    store
}

/// Performs what the store asks for, with these outcomes; returns how many effects that were.
fn run(store: &mut Store, outcome: impl Fn(&Effect) -> Outcome) -> usize {
    for count in 0..1000 {
        let Some(effect) = store.next_effect() else { return count };
        let outcome = outcome(&effect);
        match effect {
            Effect::WriteFrame(plan) => {
                let mut frame = vec![0; plan.length as usize];
                store.encode_frame(&plan, &mut frame, |_, _, _, _| {});
                store.frame_written(plan.sequence);
            }
            Effect::CreateFile { op, .. }
            | Effect::CreateRingFile { op, .. }
            | Effect::WriteSegment { op, .. }
            | Effect::WriteAnchor { op, .. }
            | Effect::RemoveFile { op, .. } => store.complete(NOW, op, outcome),
            _ => {}
        }
    }
    panic!("the store asks without end");
}

#[test]
fn records_are_refused_first_and_control_logs_go_on() {
    let mut store = store();
    store.set_disk_full(true);
    assert_eq!(store.append(NOW, key(1), &header(1000)).unwrap_err(), Refusal::DiskFull);
    assert!(matches!(store.append(NOW, key(2), &header(1000)), Ok(Appending::Placed(_))));
    assert_eq!(store.append(NOW, key(2), &header(200_000)).unwrap_err(), Refusal::DiskFull, "that needs a file");
    store.set_disk_full(false);
    assert!(matches!(store.append(NOW, key(1), &header(1000)), Ok(Appending::Placed(_))));
}

#[test]
fn a_file_that_finds_no_room_is_not_asked_for_again_before_there_is_some() {
    let mut store = store();
    // A run so large that it wants a pooled file.
    let Appending::Placed(placed) = store.append(NOW, key(1), &header(200_000)).unwrap() else { panic!() };
    store.placed(NOW, &placed, 0);
    let creates = |effect: &Effect| matches!(effect, Effect::CreateFile { .. } | Effect::CreateRingFile { .. });
    let full = |effect: &Effect| if creates(effect) { Outcome::NoSpace } else { Outcome::Done };
    run(&mut store, full);
    assert!(store.is_disk_full());
    assert_eq!(run(&mut store, full), 0, "nothing is tried on a full disk");
    store.set_disk_full(false);
    assert!(run(&mut store, |_| Outcome::Done) > 0, "it is tried once there is room");
    assert_eq!(store.durable(), store.last_stamp(key(1)).unwrap());
}
