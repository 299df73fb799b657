//! Stories of fetch sessions: what is named once, what is told again, and what happens when there is no room.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use watershed_broker::fetch_sessions::*;
use watershed_broker::wire::error_code::ErrorCode;
use watershed_core::units::{Now, TopicId};

const NONE: [i32; 0] = [];
const QUIET: Told =
    Told { has_records: false, high_watermark: 0, log_start_offset: 0, is_error: false, must_tell: false };

fn at(seconds: u64) -> Now {
    Now { monotonic_us: seconds * 1_000_000, wall_ms: 0 }
}

fn key(partition: i32) -> PartitionKey {
    PartitionKey { topic: TopicKey::Id(TopicId([1; 16])), partition }
}

fn wanted(partition: i32, fetch_offset: i64) -> Wanted {
    Wanted {
        key: key(partition),
        fetch_offset,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        bytes_max: 1 << 20,
    }
}

fn request(session_id: i32, session_epoch: i32, partitions: &[i32]) -> SessionRequest {
    SessionRequest {
        session_id,
        session_epoch,
        uses_topic_ids: true,
        is_follower: false,
        wanted: partitions.iter().map(|&partition| wanted(partition, 0)).collect(),
        forgotten: Vec::new(),
    }
}

fn open(sessions: &mut FetchSessions, partitions: &[i32], now: Now, random: u32) -> i32 {
    let context = sessions.begin(request(0, 0, partitions), now).unwrap();
    let reply = sessions.finish(&context, &vec![QUIET; partitions.len()], now, random);
    assert_eq!((reply.error, reply.included), (ErrorCode::None, vec![true; partitions.len()]));
    reply.session_id
}

/// One incremental fetch that names nothing; returns the partitions in order and those that are told.
fn poll(sessions: &mut FetchSessions, id: i32, epoch: i32, told: impl Fn(i32) -> Told) -> (Vec<i32>, Vec<i32>) {
    let context = sessions.begin(request(id, epoch, &[]), at(1)).unwrap();
    let order: Vec<i32> = context.wanted.iter().map(|wanted| wanted.key.partition).collect();
    let answers: Vec<Told> = order.iter().map(|&partition| told(partition)).collect();
    let reply = sessions.finish(&context, &answers, at(1), 0);
    assert_eq!((reply.session_id, reply.error), (id, ErrorCode::None));
    let included = order.iter().zip(reply.included).filter(|(_, included)| *included).map(|(partition, _)| *partition);
    (order.clone(), included.collect())
}

#[test]
fn only_what_is_new_is_told() {
    let mut sessions = FetchSessions::new(0, 1, 10);
    let id = open(&mut sessions, &[0, 1, 2], at(0), 0);
    assert_ne!(id, 0);
    assert_eq!(poll(&mut sessions, id, 1, |_| QUIET), (vec![0, 1, 2], vec![]));
    let records = |partition| Told { has_records: partition == 0, ..QUIET };
    assert_eq!(poll(&mut sessions, id, 2, records).1, [0]);
    let marks = |partition| Told { high_watermark: i64::from(partition == 1), ..QUIET };
    assert_eq!(poll(&mut sessions, id, 3, marks), (vec![1, 2, 0], vec![1]), "who had records goes last");
    assert_eq!(poll(&mut sessions, id, 4, marks).1, NONE, "told once");
    let start = |partition| Told { log_start_offset: i64::from(partition == 2), ..marks(partition) };
    assert_eq!(poll(&mut sessions, id, 5, start).1, [2]);
    let must = |partition| Told { must_tell: partition == 2, ..start(partition) };
    assert_eq!(poll(&mut sessions, id, 6, must).1, [2]);
    assert_eq!(poll(&mut sessions, id, 7, must).1, [2], "each time");
}

#[test]
fn an_error_is_told_each_time_and_its_end_too() {
    let mut sessions = FetchSessions::new(0, 1, 10);
    let id = open(&mut sessions, &[0, 1], at(0), 0);
    let error = |partition| Told { is_error: partition == 1, ..QUIET };
    assert_eq!(poll(&mut sessions, id, 1, error).1, [1]);
    assert_eq!(poll(&mut sessions, id, 2, error).1, [1]);
    assert_eq!(poll(&mut sessions, id, 3, |_| QUIET).1, [1]);
    assert_eq!(poll(&mut sessions, id, 4, |_| QUIET).1, NONE);
}

#[test]
fn positions_move_and_partitions_come_and_go() {
    let mut sessions = FetchSessions::new(0, 1, 10);
    let id = open(&mut sessions, &[0, 1], at(0), 0);
    let mut change = request(id, 1, &[]);
    change.wanted = vec![wanted(1, 50), wanted(2, 7)];
    change.forgotten = vec![key(0), key(99)];
    let context = sessions.begin(change, at(0)).unwrap();
    let seen: Vec<_> = context.wanted.iter().map(|wanted| (wanted.key.partition, wanted.fetch_offset)).collect();
    assert_eq!((seen, sessions.cached_count()), (vec![(1, 50), (2, 7)], 2));
    let reply = sessions.finish(&context, &[QUIET; 2], at(0), 0);
    assert_eq!(reply.included, [false, true], "a new partition is told");
    let mut last = request(id, 2, &[]);
    last.forgotten = vec![key(1), key(2)];
    let context = sessions.begin(last, at(0)).unwrap();
    assert_eq!(sessions.finish(&context, &[], at(0), 0).session_id, 0, "an empty session ends");
    assert_eq!((sessions.session_count(), sessions.cached_count()), (0, 0));
}

#[test]
fn wrong_sessions_epochs_and_keys_are_refused() {
    let mut sessions = FetchSessions::new(0, 1, 10);
    let id = open(&mut sessions, &[0], at(0), 0);
    let refused = |sessions: &mut FetchSessions, request| sessions.begin(request, at(0)).unwrap_err();
    assert_eq!(refused(&mut sessions, request(id + 1, 1, &[])), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(refused(&mut sessions, request(0, 1, &[])), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(refused(&mut sessions, request(id, 2, &[])), ErrorCode::InvalidFetchSessionEpoch);
    let names = SessionRequest { uses_topic_ids: false, ..request(id, 1, &[]) };
    assert_eq!(refused(&mut sessions, names), ErrorCode::FetchSessionTopicIdError);
    assert_eq!(poll(&mut sessions, id, 1, |_| QUIET).1, NONE, "a refusal leaves the session as it was");
}

#[test]
fn a_fetch_that_was_overtaken_is_refused() {
    let mut sessions = FetchSessions::new(0, 1, 10);
    let id = open(&mut sessions, &[0], at(0), 0);
    let parked = sessions.begin(request(id, 1, &[]), at(0)).unwrap();
    poll(&mut sessions, id, 2, |_| QUIET);
    let reply = sessions.finish(&parked, &[QUIET], at(0), 0);
    assert_eq!((reply.error, reply.included), (ErrorCode::InvalidFetchSessionEpoch, vec![false]));
}

#[test]
fn full_fetches_close_what_they_name() {
    let mut sessions = FetchSessions::new(0, 1, 10);
    let id = open(&mut sessions, &[0], at(0), 0);
    let context = sessions.begin(request(id, -1, &[0]), at(0)).unwrap();
    assert_eq!((sessions.session_count(), sessions.cached_count()), (0, 0));
    assert_eq!(sessions.finish(&context, &[QUIET], at(0), 0).session_id, 0);
    let first = open(&mut sessions, &[0], at(0), 0);
    let context = sessions.begin(request(first, 0, &[0]), at(0)).unwrap();
    assert_ne!(sessions.finish(&context, &[QUIET], at(0), 0).session_id, 0);
    assert_eq!(sessions.session_count(), 1, "replaced, not added");
}

#[test]
fn slots_are_kept_for_two_minutes_then_go_to_the_larger() {
    let mut sessions = FetchSessions::new(0, 1, 2);
    let small = open(&mut sessions, &[0], at(0), 0);
    let large = open(&mut sessions, &[0, 1, 2], at(0), 0);
    assert_eq!(open(&mut sessions, &[0, 1], at(100), 0), 0, "no slot: served without a session");
    for id in [small, large] {
        sessions.begin(request(id, 1, &[]), at(100)).unwrap();
    }
    assert_eq!(open(&mut sessions, &[0], at(121), 0), 0, "no larger than the smallest");
    let middle = open(&mut sessions, &[0, 1], at(121), 10);
    assert_ne!(middle, 0);
    assert_eq!(sessions.begin(request(small, 2, &[]), at(121)).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    assert_ne!(open(&mut sessions, &[0], at(230), 20), 0, "the other was idle for two minutes");
    assert_eq!(sessions.begin(request(large, 2, &[]), at(230)).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    assert_eq!((sessions.session_count(), sessions.cached_count()), (2, 3));
}

#[test]
fn ids_tell_their_shard_and_never_clash() {
    for random in [0, 1, 12_345, u32::MAX] {
        for shard in 0..3 {
            let mut sessions = FetchSessions::new(shard, 3, 50);
            let ids: std::collections::BTreeSet<i32> =
                (0..50).map(|_| open(&mut sessions, &[0], at(0), random)).collect();
            assert_eq!(ids.len(), 50);
            assert!(ids.iter().all(|&id| id > 0 && shard_of(id, 3) == shard), "{random} {shard}");
        }
    }
}
