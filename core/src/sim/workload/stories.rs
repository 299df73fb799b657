//! Histories with a plot: cases that other systems fell for, played on the whole store over the simulated disk.

use super::*;
use crate::sim::disk::Name;
use crate::store::{Effect, Outcome};
use crate::units::FileId;

const KIB: u32 = 1 << 10;

fn key(partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([7; 16]), partition }
}

/// A history whose partitions 0 and 1 exist, without limits of age or size.
fn begin(seed: u64, bug: Option<Bug>) -> History {
    let mut history = History::new(seed, bug, Mode::PowerOnly);
    for partition in 0..2 {
        history.create(key(partition));
        let settings = LogSettings { segment_bytes: 256 << 10, retention_ms: None, ..LogSettings::default() };
        history.world.store.configure(key(partition), Arc::new(settings)).unwrap();
    }
    settle(&mut history);
    history
}

/// Everything that is under way completes.
fn settle(history: &mut History) {
    history.world.pump().unwrap();
    while history.world.under_way_count() > 0 {
        history.world.complete_one();
        history.world.pump().unwrap();
    }
    history.observe().unwrap();
}

/// The next value of the partition's producer, of so many bytes.
fn value(history: &mut History, key: TopicPartition, bytes: u32) -> Value {
    history.next_number += 1;
    let (number, timestamp) = (history.next_number, history.world.now.wall_ms);
    let producer = history.producers.entry(key).or_insert_with(|| {
        let id = 1000 + number as i64;
        Producer { id, next_sequence: 0, open: VecDeque::new(), answered: None, sent_ms: timestamp }
    });
    let (producer_id, sequence) = (producer.id, producer.next_sequence);
    let incarnation = history.model.current(key).unwrap().epoch;
    Value { incarnation, number, bytes, timestamp, producer_id, sequence }
}

fn send(history: &mut History, key: TopicPartition, bytes: u32) -> Value {
    let value = value(history, key, bytes);
    history.send(key, value).unwrap();
    value
}

/// Power fails; the next life has begun.
fn crash(history: &mut History) {
    history.restart().unwrap();
    settle(history);
}

/// The partition's client sends again what was not answered.
fn send_again(history: &mut History, key: TopicPartition) {
    let open = |history: &History| {
        let all = &history.producers.get(&key).unwrap().open;
        all.iter().find(|(_, answer)| answer.is_none()).map(|(value, _)| *value)
    };
    while let Some(value) = open(history) {
        history.send(key, value).unwrap();
    }
}

fn log_end(history: &History, key: TopicPartition) -> i64 {
    history.world.store.partition(key).unwrap().log_end()
}

fn high(history: &History, key: TopicPartition) -> i64 {
    history.world.store.partition(key).unwrap().high_watermark()
}

fn first_file(history: &History) -> FileId {
    history.world.store.partition(key(0)).unwrap().segments().iter().next().unwrap().file
}

/// What a write of a large run, its deletion and a crash leave of its producer.
fn retry_after_deletion(bug: Option<Bug>) -> Result<u64, String> {
    // Of seed 3 no image is taken meanwhile, which would know the producer.
    let mut history = begin(3, bug);
    let large = send(&mut history, key(0), 200 * KIB);
    settle(&mut history);
    let file = first_file(&history);
    history.world.store.delete_records(history.world.now, key(0), -1).unwrap();
    history.model.current(key(0)).unwrap().starts.push((1, history.world.store.last_stamp(key(0)).unwrap()));
    settle(&mut history);
    assert!(!history.world.disk.exists(Name::Segment(file)), "its file is gone");
    crash(&mut history);
    history.send(key(0), large)?;
    Ok(history.outline.duplicates_count)
}

#[test]
fn c3_a_retry_of_a_large_run_is_a_duplicate_after_its_deletion_and_a_crash() {
    assert_eq!(retry_after_deletion(None), Ok(1));
    assert!(retry_after_deletion(Some(Bug::OriginForgotten)).is_err_and(|what| what.contains("appended twice")));
}

#[test]
fn c3_a_retry_after_a_crash_is_a_duplicate_or_is_appended_once() {
    let mut duplicates_count = 0;
    for seed in 0..40 {
        let mut history = begin(seed, None);
        let sent: Vec<_> = (0..3).map(|_| send(&mut history, key(0), 3 * KIB)).collect();
        history.world.pump().unwrap();
        (0..seed % 4).for_each(|_| history.world.complete_one());
        crash(&mut history);
        let kept = log_end(&history, key(0));
        sent.iter().for_each(|value| history.send(key(0), *value).unwrap());
        assert_eq!(log_end(&history, key(0)), 3);
        duplicates_count += kept;
        settle(&mut history);
        history.read(key(0), ReadLimit::HighWatermark).unwrap();
    }
    assert!((1..120).contains(&duplicates_count), "{duplicates_count}");
}

#[test]
fn c4_an_offset_that_was_never_acknowledged_gets_one_value_only() {
    let mut given_anew_count = 0;
    for seed in 0..40 {
        let mut history = begin(seed, None);
        send(&mut history, key(0), 2 * KIB);
        history.world.pump().unwrap();
        assert_eq!(high(&history, key(0)), 0, "nobody sees what is not durable");
        crash(&mut history);
        let end = log_end(&history, key(0));
        history.producers.clear();
        let other = send(&mut history, key(0), 2 * KIB);
        settle(&mut history);
        crash(&mut history);
        // The model compares every value that is read with the one that holds the offset.
        history.read(key(0), ReadLimit::LogEnd).unwrap();
        let life = history.model.current(key(0)).unwrap();
        assert_eq!(life.sent.get(&end).map(|sent| sent.number), Some(other.number));
        given_anew_count += u32::from(end == 0);
    }
    assert!((1..40).contains(&given_anew_count), "{given_anew_count}");
}

#[test]
fn c2_nothing_is_lost_while_nothing_fails() {
    let mut history = begin(3, None);
    for number in 0..400u32 {
        let bytes = [100, 5000, 70 * KIB, 140 * KIB][number as usize % 4];
        send(&mut history, key(0), bytes);
        settle(&mut history);
    }
    assert_eq!((high(&history, key(0)), history.outline.duplicates_count), (400, 0));
    history.read(key(0), ReadLimit::HighWatermark).unwrap();
    let life = history.model.current(key(0)).unwrap();
    assert!(life.sent.values().map(|sent| sent.number).is_sorted(), "in the order of sending");
}

/// Polls once; the batches continue where the last poll ended.
fn poll(history: &mut History, at: i64) -> i64 {
    let answer = history.fetch(key(0), at, ReadLimit::HighWatermark).unwrap().unwrap();
    let mut rest = answer.as_slice();
    let mut next = at;
    while let Some(header) = BatchHeader::parse(rest) {
        assert_eq!(header.base_offset, next, "no poll skips or goes back");
        next = header.end_offset();
        rest = &rest[header.bytes as usize..];
    }
    next
}

#[test]
fn c9_no_poll_skips_or_goes_back_while_the_log_is_written_drained_and_restarted() {
    for seed in 0..10 {
        let mut history = begin(seed, None);
        let mut at = 0;
        for step in 0..120u32 {
            send(&mut history, key(0), [300, 9000, 60 * KIB, 150 * KIB][(step as usize * 7 + seed as usize) % 4]);
            history.world.pump().unwrap();
            (0..step % 5).for_each(|_| history.world.complete_one());
            history.observe().unwrap();
            while history.producers.get(&key(0)).unwrap().open.len() >= PIPELINE_MAX {
                history.world.complete_one();
                history.world.pump().unwrap();
                history.observe().unwrap();
            }
            let next = poll(&mut history, at);
            assert!(next >= at && next <= high(&history, key(0)));
            at = next;
            if step % 40 == 39 {
                crash(&mut history);
                assert!(log_end(&history, key(0)) >= at, "what was read is still there");
                send_again(&mut history, key(0));
            }
        }
        settle(&mut history);
        while at < high(&history, key(0)) {
            at = poll(&mut history, at);
        }
    }
}

#[test]
fn c13_an_offset_that_was_readable_is_in_range_after_a_restart() {
    for seed in 0..30 {
        let mut history = begin(seed, None);
        for _ in 0..20 {
            send(&mut history, key(0), 4 * KIB);
            history.world.pump().unwrap();
            history.world.complete_one();
        }
        history.observe().unwrap();
        let seen = high(&history, key(0));
        crash(&mut history);
        for offset in 0..=seen {
            let planned = history.world.store.partition(key(0)).unwrap().plan_read(offset, 1, ReadLimit::HighWatermark);
            assert!(planned.is_ok(), "{offset} of {seen}: {planned:?}");
        }
    }
}

/// Fills both partitions, stops cleanly and returns the file of the first's first segment.
fn stopped() -> (History, FileId) {
    let mut history = begin(5, None);
    for _ in 0..40 {
        for partition in 0..2 {
            send(&mut history, key(partition), 20 * KIB);
            settle(&mut history);
        }
    }
    history.stop().unwrap();
    let file = first_file(&history);
    (history, file)
}

#[test]
fn c17_a_truncated_file_closes_its_partition_and_deletes_nothing() {
    for length in [0, 4096, 100_000] {
        let (mut history, file) = stopped();
        history.world.disk.truncate(Name::Segment(file), length);
        let (_, report) = history.world.restart(history.config).unwrap();
        assert_eq!(report.damaged.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(0)]);
        let partition = history.world.store.partition(key(0)).unwrap();
        assert_eq!((partition.log_end(), partition.is_closed()), (40, true), "known, and closed");
        settle(&mut history);
        assert!(history.world.disk.exists(Name::Segment(file)), "no orphan is removed");
        let existing: Vec<_> = history.world.segment_files().into_keys().collect();
        assert!(!history.world.store.unused(existing.into_iter()).any(|unused| unused == file));
        history.read(key(1), ReadLimit::LogEnd).unwrap();
        history.resume(key(1));
        send(&mut history, key(1), KIB);
        settle(&mut history);
        assert_eq!(high(&history, key(1)), 41, "the other goes on");
    }
}

#[test]
fn c18_an_index_that_is_missing_is_built_again() {
    let (mut history, _) = stopped();
    crash(&mut history);
    let partition = history.world.store.partition_mut(key(0)).unwrap();
    partition.shrink();
    let sealed = partition.segments().iter().next().unwrap();
    let inside = sealed.base_offset + 3;
    assert!(matches!(partition.plan_read(inside, 1, ReadLimit::LogEnd), Ok(Planned::ScanFirst(_))));
    let answer = history.fetch(key(0), inside, ReadLimit::LogEnd).unwrap().unwrap();
    assert_eq!(BatchHeader::parse(&answer).map(|header| header.base_offset), Some(inside));
    let again = history.world.store.partition(key(0)).unwrap().plan_read(inside, 1, ReadLimit::LogEnd);
    assert!(matches!(again, Ok(Planned::Ready(_))), "the index stays");
}

#[test]
fn t5_an_idle_producer_past_its_expiry_goes_on_without_an_error() {
    let mut history = begin(6, None);
    for crashes in [false, true] {
        send(&mut history, key(0), KIB);
        settle(&mut history);
        let expiry_ms = LogSettings::default().producer_expiration_ms;
        history.world.now.wall_ms += expiry_ms + 1;
        history.world.now.monotonic_us += (expiry_ms as u64 + 1) * 1000;
        history.tick().unwrap();
        assert_eq!(history.world.store.partition(key(0)).unwrap().producers_count(), 0);
        settle(&mut history);
        if crashes {
            crash(&mut history);
        }
        let end = log_end(&history, key(0));
        let next = send(&mut history, key(0), KIB);
        assert!(next.sequence > 0, "the client knows nothing of it");
        assert_eq!(log_end(&history, key(0)), end + 1);
        settle(&mut history);
    }
}

#[test]
fn t6_what_is_known_of_a_producer_survives_retention() {
    let mut history = begin(7, None);
    let first = send(&mut history, key(0), 20 * KIB);
    settle(&mut history);
    history.world.store.delete_records(history.world.now, key(0), -1).unwrap();
    history.model.current(key(0)).unwrap().starts.push((1, history.world.store.last_stamp(key(0)).unwrap()));
    settle(&mut history);
    crash(&mut history);
    history.send(key(0), first).unwrap();
    assert_eq!(history.outline.duplicates_count, 1);
    let gap = Value { sequence: 5, ..first };
    assert!(history.send(key(0), gap).is_err_and(|what| what.contains("OutOfOrderSequence")));
    let next = Value { sequence: 1, number: first.number + 1, ..first };
    history.send(key(0), next).unwrap();
    assert_eq!(log_end(&history, key(0)), 2);
}

#[test]
fn a_large_run_that_found_no_space_is_acknowledged_once_there_is_some() {
    let mut history = begin(8, None);
    history.world.full = true;
    send(&mut history, key(0), 200 * KIB);
    for _ in 0..20 {
        history.look_at_the_disk();
        history.world.pump().unwrap();
        history.world.complete_one();
    }
    history.world.full = false;
    history.look_at_the_disk();
    settle(&mut history);
    assert_eq!(high(&history, key(0)), 1);
}

#[test]
fn an_image_that_found_no_space_is_written_under_the_same_name() {
    let mut history = begin(9, None);
    history.world.full = true;
    history.world.store.stop();
    for _ in 0..200 {
        history.look_at_the_disk();
        history.world.store.set_disk_full(false);
        history.world.pump().unwrap();
        history.world.complete_one();
    }
    history.world.full = false;
    settle(&mut history);
    let unfinished = history.world.disk.names().into_iter().filter(|name| matches!(name, Name::ImageInProgress(_)));
    assert_eq!(unfinished.count(), 0);
}

#[test]
fn an_only_image_that_cannot_be_read_is_replaced_by_the_whole_ring() {
    let mut history = begin(10, None);
    for _ in 0..3 {
        (0..2).for_each(|partition| {
            send(&mut history, key(partition), 6 * KIB);
        });
        settle(&mut history);
    }
    history.stop().unwrap();
    let kept: Vec<_> = history.world.store.anchor().images.iter().flatten().map(|kept| kept.id).collect();
    assert_eq!(kept.len(), 1, "its first");
    history.world.disk.truncate(Name::Image(kept[0]), 100);
    crash(&mut history);
    for partition in 0..2 {
        assert_eq!(log_end(&history, key(partition)), 3);
        history.read(key(partition), ReadLimit::LogEnd).unwrap();
    }
}

/// Flips one bit of what a batch's own checksum does not cover.
fn flipped_head(position: usize) -> Result<(), String> {
    let (mut history, file) = stopped();
    assert!(history.world.disk.flip(Name::Segment(file), position, 2));
    history.world.restart(history.config)?;
    history.suspects.insert(key(0));
    history.read(key(0), ReadLimit::LogEnd)?;
    assert_eq!(history.outline.closed_count, 1, "a flip at {position} goes unnoticed");
    history.read(key(1), ReadLimit::LogEnd)
}

#[test]
fn c16_a_bit_that_flips_outside_of_a_batchs_checksum_closes_its_partition_only() {
    // Base offset, length, leader epoch, magic and checksum of the first batch.
    for position in 0..21 {
        flipped_head(position).unwrap();
    }
}

#[test]
fn a_file_that_comes_back_to_its_partition_brings_nothing_back_at_the_next_start() {
    let mut history = begin(3, None);
    let write = |history: &mut History, count: usize, bytes: u32| {
        for _ in 0..count {
            send(history, key(0), bytes);
            settle(history);
        }
    };
    write(&mut history, 1, 70 * KIB);
    let file = first_file(&history);
    write(&mut history, 8, 50 * KIB);
    assert_eq!(history.world.store.partition(key(0)).unwrap().segments().count(), 2);
    history.world.store.delete_records(history.world.now, key(0), 4).unwrap();
    let start = history.world.store.partition(key(0)).unwrap().log_start();
    let stamp = history.world.store.last_stamp(key(0)).unwrap();
    history.model.current(key(0)).unwrap().starts.push((start, stamp));
    settle(&mut history);
    write(&mut history, 1, 80 * KIB);
    let again = history.world.store.partition(key(0)).unwrap().segments().active().unwrap().file;
    assert_eq!(again, file, "it was used again");
    write(&mut history, 3, KIB);
    assert_eq!(history.world.store.anchor().images, [None, None], "everything is replayed");
    crash(&mut history);
    assert_eq!(log_end(&history, key(0)), 13);
}

/// Flushes of files run beside each other: one that was given up for want of space would let the others end a later step.
#[test]
#[should_panic(expected = "a flush is no matter of space")]
fn a_flush_of_a_file_never_finds_no_space() {
    let mut history = begin(2, None);
    for partition in 0..2 {
        send(&mut history, key(partition), 60 * KIB);
        send(&mut history, key(partition), 60 * KIB);
    }
    history.world.store.stop();
    for _ in 0..1000 {
        match history.world.store.next_effect() {
            Some(Effect::FlushFile { op, .. }) => {
                return history.world.store.complete(history.world.now, op, Outcome::NoSpace);
            }
            Some(effect) => history.world.perform(effect).unwrap(),
            None => history.world.complete_one(),
        }
    }
}
