//! What the engine does for every record, each beside the plain way of doing it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use watershed_core::checksum::crc32c;
use watershed_core::journal::frame::{Chain, encode, frame_bytes};
use watershed_core::journal::{Append, Change, Entry, FramePlan, Place};
use watershed_core::partition::index::SegmentIndex;
use watershed_core::units::{JournalId, Stamp, TopicId, TopicPartition};

const RUN_BYTES: u32 = 1024;
const RUNS_COUNT: u32 = 64;

fn entry(index: u32) -> (Stamp, Entry) {
    let offset = i64::from(index);
    let append = Append {
        base_offset: offset,
        end_offset: offset + 1,
        segment_base: 0,
        position: index * RUN_BYTES,
        length: RUN_BYTES,
        leader_epoch: 0,
        max_timestamp: 0,
        place: Place::Inline,
    };
    let target = TopicPartition { topic: TopicId([7; 16]), partition: index as i32 };
    (Stamp(u64::from(index) + 1), Entry { target, change: Change::Append(append) })
}

fn plan() -> FramePlan {
    let entries: Vec<_> = (0..RUNS_COUNT).map(entry).collect();
    let payload_bytes = RUNS_COUNT * RUN_BYTES;
    FramePlan {
        sequence: 1,
        slot: 0,
        position: 0,
        length: frame_bytes(entries.len(), u64::from(payload_bytes)) as u32,
        last_stamp: entries.last().unwrap().0,
        entries,
        payload_bytes,
        wall_ms: 0,
    }
}

/// A frame of 64 runs of 1 KiB, beside the copies that any journal makes.
fn frames(criterion: &mut Criterion) {
    let (plan, run) = (plan(), vec![0x5a; RUN_BYTES as usize]);
    let chain = Chain { journal: JournalId(1), run: 1, previous_checksum: 0, durable_end: 0 };
    let mut out = vec![0; plan.length as usize];
    let mut group = criterion.benchmark_group("journal frame of 64 KiB");
    group.throughput(Throughput::Bytes(u64::from(plan.payload_bytes)));
    group.bench_function("encoded", |bencher| {
        bencher.iter(|| encode(black_box(&mut out), &plan, &chain, |_, place| place.copy_from_slice(&run)));
    });
    group.bench_function("copied only", |bencher| {
        bencher.iter(|| black_box(&mut out).chunks_exact_mut(run.len()).for_each(|place| place.copy_from_slice(&run)));
    });
    group.finish();
}

/// One byte at a time by a table, as it is written down in books.
struct Table([u32; 256]);

impl Table {
    fn new() -> Table {
        let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        Table(std::array::from_fn(|index| (0..8).fold(index as u32, step)))
    }

    fn crc32c(&self, bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ self.0[usize::from(crc as u8 ^ byte)])
    }
}

fn checksums(criterion: &mut Criterion) {
    let table = Table::new();
    for bytes in [64, 4 << 10, 1 << 20] {
        let data: Vec<u8> = (0..bytes).map(|at| (at * 31) as u8).collect();
        assert_eq!(crc32c(&data), table.crc32c(&data));
        let mut group = criterion.benchmark_group(format!("CRC-32C of {bytes} bytes"));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function("crc-fast", |bencher| bencher.iter(|| crc32c(black_box(&data))));
        group.bench_function("table", |bencher| bencher.iter(|| table.crc32c(black_box(&data))));
        group.finish();
    }
}

/// Offsets in a full segment of 1 KiB batches, beside a map that knows every batch.
fn look_ups(criterion: &mut Criterion) {
    const BATCHES_COUNT: i64 = 64 << 10;
    let mut index = SegmentIndex::new(0, 0, 4096);
    let mut map = BTreeMap::new();
    for batch in 0..BATCHES_COUNT {
        let (position, offset) = (batch as u64 * 1024, batch * 10);
        index.push(position, offset, offset);
        map.insert(offset, position);
    }
    let mut offset = 0;
    let mut next = move || {
        offset = (offset + 7919) % (BATCHES_COUNT * 10);
        offset
    };
    let mut group = criterion.benchmark_group("offset look-up");
    group.bench_function("sparse index", |bencher| bencher.iter(|| index.find_offset(black_box(next()))));
    group.bench_function("map of all batches", |bencher| {
        bencher.iter(|| map.range(..=black_box(next())).next_back());
    });
    group.finish();
}

criterion_group!(benches, frames, checksums, look_ups);
criterion_main!(benches);
