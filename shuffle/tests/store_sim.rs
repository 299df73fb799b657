//! A shard's store under a driver that keeps bytes in vectors: seeded senders, readers, writes and failures, interleaved at
//! every step at which a real driver gives way.
//!
//! The reader does what Uniffle's client does: memory until it is empty, then the index, then the bytes at its offsets;
//! blocks that it has seen are passed over. It must come to have every acknowledged block, with its bytes; and when all
//! applications have left, nothing may be counted. `SHUFFLE_SEED=N` plays one seed, `SHUFFLE_SEEDS=N` so many.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use watershed_core::units::{ChunkId, Now};
use watershed_shuffle::store::{
    Answer, BlockHead, ImageOf, Kept, Order, Parked, Run, Send, ShuffleId, Store, StoreConfig,
};
use watershed_shuffle::wire::bitmap::BlockIds;

const CAPACITY: u64 = 1 << 20;
const PARTITIONS: i32 = 3;
const ATTEMPT_BITS: u32 = 22;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What a block's bytes are: anyone can work them out.
fn bytes_of(shuffle: ShuffleId, id: i64, length: u32) -> Vec<u8> {
    let mut random = Random(id as u64 ^ (shuffle.0 << 48));
    let words = std::iter::repeat_with(|| random.next().to_le_bytes()).flatten();
    words.take(length as usize).collect()
}

/// A frame that arrives block by block.
struct Arriving {
    send: Send,
    application: usize,
    left: Vec<(i32, BlockHead)>,
    placed: Option<(i32, BlockHead, u64)>,
}

/// A reader of one partition between two of its requests.
struct Reading {
    application: usize,
    partition: i32,
    attempts: Option<BlockIds>,
    wanted: BTreeSet<i64>,
    got: BTreeSet<i64>,
    last: i64,
    memory_is_empty: bool,
}

struct Application {
    name: String,
    id: ShuffleId,
    acknowledged: BTreeMap<i32, BTreeMap<i64, BlockHead>>,
    next_block: i64,
}

struct World {
    random: Random,
    store: Store,
    now: Now,
    chunks: BTreeMap<ChunkId, Vec<u8>>,
    /// Bytes that were given in each chunk.
    files: BTreeMap<ShuffleId, Vec<u8>>,
    applications: Vec<Application>,
    asked: BTreeMap<Parked, (usize, u64)>,
    tickets: Vec<(usize, u64, i64)>,
    arriving: Vec<Arriving>,
    reading: Vec<Reading>,
    run: Option<Run>,
    read_from_disk: u64,
    duplicates: u64,
    restarts: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: Random(seed),
            store: Store::new(StoreConfig::new(CAPACITY)),
            now: Now { monotonic_us: 1, wall_ms: 0 },
            chunks: BTreeMap::new(),
            files: BTreeMap::new(),
            applications: Vec::new(),
            asked: BTreeMap::new(),
            tickets: Vec::new(),
            arriving: Vec::new(),
            reading: Vec::new(),
            run: None,
            read_from_disk: 0,
            duplicates: 0,
            restarts: 0,
        };
        for number in 0..3 {
            world.applications.push(Application {
                name: format!("application-{number}"),
                id: ShuffleId::default(),
                acknowledged: BTreeMap::new(),
                next_block: 0,
            });
            world.register(number);
        }
        world
    }

    fn register(&mut self, application: usize) {
        let order = if self.random.one_in(2) { Order::Attempt } else { Order::Arrival };
        let of = &mut self.applications[application];
        self.store.register(&of.name, 7, order, self.now);
        of.id = self.store.find(&of.name, 7, self.now).unwrap();
    }

    fn settle(&mut self) {
        let effects = self.store.take_effects();
        for chunk in effects.freed {
            assert!(self.chunks.remove(&chunk).is_some(), "a chunk is freed once");
        }
        for shuffle in effects.dropped {
            self.files.remove(&shuffle);
        }
        for (parked, answer) in effects.answers {
            let (application, bytes) = self.asked.remove(&parked).expect("an answer to a question");
            if let Answer::Granted(ticket) = answer {
                self.tickets.push((application, bytes, ticket));
            }
        }
    }

    fn step(&mut self) {
        self.now.monotonic_us += self.random.below(20_000);
        match self.random.below(100) {
            0..15 => self.ask(),
            15..25 => self.begin_send(),
            25..65 => self.arrive(),
            65..75 => self.write(),
            75..80 => self.begin_read(),
            80..97 => self.read(),
            97 => self.retry_a_report(),
            98 => drop(self.store.tick(self.now)),
            _ if self.random.one_in(20) => self.leave(),
            _ if self.random.one_in(10) => self.restart(),
            _ => {}
        }
        self.settle();
        self.check_memory();
    }

    fn ask(&mut self) {
        let application = self.random.below(3) as usize;
        let bytes = 1 + self.random.below(CAPACITY / 8);
        let name = &self.applications[application].name;
        let parked = self.store.require(name, 7, bytes, self.now).unwrap();
        self.asked.insert(parked, (application, bytes));
    }

    fn begin_send(&mut self) {
        let Some((application, bytes, ticket)) = self.tickets.pop() else { return };
        let of = &mut self.applications[application];
        // A ticket of an application that came again is not known to it.
        let Ok(send) = self.store.begin_send(&of.name, 7, ticket, self.now) else { return };
        let mut left = Vec::new();
        let mut room = bytes;
        while room > 0 && left.len() < 20 {
            let length = 1 + self.random.below(room.min(60_000)) as u32;
            room -= u64::from(length);
            let partition = self.random.below(PARTITIONS as u64) as i32;
            let again = of.acknowledged.get(&partition).and_then(|blocks| blocks.values().next().copied());
            let head = match again.filter(|_| self.random.one_in(8)) {
                Some(head) => head,
                None => {
                    of.next_block += 1;
                    let attempt = self.random.below(16) as i64;
                    let id = (of.next_block << 42) | (i64::from(partition) << ATTEMPT_BITS) | attempt;
                    let crc = crc32fast::hash(&bytes_of(of.id, id, length));
                    BlockHead { id, length, uncompressed_length: length * 2, crc, attempt }
                }
            };
            left.push((partition, head));
        }
        self.arriving.push(Arriving { send, application, left, placed: None });
    }

    /// One step of one frame: a place, or the bytes of what was placed, or its end.
    fn arrive(&mut self) {
        if self.arriving.is_empty() {
            return;
        }
        let which = self.random.below(self.arriving.len() as u64) as usize;
        let shuffle = self.arriving[which].send.shuffle;
        if let Some((partition, head, position)) = self.arriving[which].placed.take() {
            self.fill(which, partition, head, position);
        } else if let Some((partition, head)) = self.arriving[which].left.pop() {
            while let Ok(Some(bytes)) = self.store.missing(shuffle, head.length) {
                let chunk = self.store.extend(shuffle, bytes).unwrap();
                self.chunks.insert(chunk, vec![0xee; bytes as usize]);
            }
            if let Ok(position) = self.store.place(shuffle, head.length) {
                self.arriving[which].placed = Some((partition, head, position));
            }
        } else {
            let done = self.arriving.swap_remove(which);
            self.store.end_send(done.send, self.now);
        }
    }

    fn fill(&mut self, which: usize, partition: i32, head: BlockHead, position: u64) {
        let shuffle = self.arriving[which].send.shuffle;
        if self.random.one_in(30) {
            // The connection is lost.
            self.store.abandon(shuffle, position, head.length);
            let lost = self.arriving.swap_remove(which);
            self.store.end_send(lost.send, self.now);
            return;
        }
        let bytes = bytes_of(shuffle, head.id, head.length);
        let mut done = 0;
        for part in self.store.parts(shuffle, position, head.length) {
            let length = part.range.len();
            let target = &mut self.chunks.get_mut(&part.chunk).unwrap()[part.range];
            assert!(target.iter().all(|byte| *byte == 0xee), "memory is given once");
            target.copy_from_slice(&bytes[done..done + length]);
            done += length;
        }
        let of = &mut self.applications[self.arriving[which].application];
        let Ok(kept) = self.store.keep(shuffle, partition, &head, position) else {
            assert_ne!(of.id, shuffle, "only what was dropped is refused");
            return;
        };
        assert_eq!(done, head.length as usize, "a place has room for its block");
        let known = of.acknowledged.entry(partition).or_default().insert(head.id, head);
        assert_eq!(known.is_some(), kept == Kept::Again);
        self.duplicates += u64::from(known.is_some());
        self.store.report(shuffle, partition, &[head.id]).unwrap();
    }

    /// Begins a run, or ends it: written, or failed.
    fn write(&mut self) {
        let Some(run) = self.run.take() else {
            self.run = self.store.next_run(self.random.one_in(4));
            return;
        };
        if !self.store.is_under_way(run.id) {
            return;
        }
        if self.random.one_in(5) {
            return self.store.fail_run(run.id);
        }
        assert_eq!(run.file_start % 4096, 0);
        let file = self.files.entry(run.shuffle).or_default();
        assert!(file.len() as u64 <= run.file_start, "what was written is not written again");
        file.resize(run.file_start as usize, 0);
        for (position, length) in &run.blocks {
            for part in self.store.parts(run.shuffle, *position, *length) {
                file.extend_from_slice(&self.chunks[&part.chunk][part.range]);
            }
        }
        assert_eq!(file.len() as u64, run.file_start + run.bytes);
        self.store.end_run(run.id, self.now);
    }

    fn begin_read(&mut self) {
        let application = self.random.below(3) as usize;
        let partition = self.random.below(PARTITIONS as u64) as i32;
        let attempts: Option<BlockIds> = self.random.one_in(3).then(|| (0..8).collect());
        let of = &self.applications[application];
        let all = of.acknowledged.get(&partition).into_iter().flat_map(BTreeMap::values);
        let wanted: Vec<&BlockHead> =
            all.filter(|head| attempts.as_ref().is_none_or(|of| of.contains(head.attempt))).collect();
        let reported = self.store.reported(of.id, &[partition]).unwrap();
        assert!(wanted.iter().all(|head| reported.contains(head.id)), "a report is not forgotten");
        self.reading.push(Reading {
            application,
            partition,
            attempts,
            wanted: wanted.iter().map(|head| head.id).collect(),
            got: BTreeSet::new(),
            last: -1,
            memory_is_empty: false,
        });
    }

    fn read(&mut self) {
        if self.reading.is_empty() {
            return;
        }
        let which = self.random.below(self.reading.len() as u64) as usize;
        let mut reading = self.reading.swap_remove(which);
        if !reading.memory_is_empty {
            self.read_memory(&mut reading);
            self.reading.push(reading);
            return;
        }
        self.read_disk(&mut reading);
        let missing: Vec<_> = reading.wanted.difference(&reading.got).collect();
        assert!(missing.is_empty(), "acknowledged before the read began, in neither memory nor index: {missing:?}");
    }

    fn read_memory(&mut self, reading: &mut Reading) {
        let id = self.applications[reading.application].id;
        let bytes_max = 1 + self.random.below(100_000);
        let attempts = reading.attempts.as_ref();
        let found = self.store.in_memory(id, reading.partition, reading.last, bytes_max, attempts).unwrap();
        reading.memory_is_empty = found.is_empty();
        for (head, position) in found {
            let mut bytes = Vec::new();
            for part in self.store.parts(id, position, head.length) {
                bytes.extend_from_slice(&self.chunks[&part.chunk][part.range]);
            }
            assert_eq!(bytes, bytes_of(id, head.id, head.length), "block {} in memory", head.id);
            assert!(attempts.is_none_or(|attempts| attempts.contains(head.attempt)));
            reading.last = head.id;
            reading.got.insert(head.id);
        }
    }

    /// All at once: what happens between index and data is the same as between two readers.
    fn read_disk(&mut self, reading: &mut Reading) {
        let id = self.applications[reading.application].id;
        let (entries, disk_bytes) = self.store.index(id, reading.partition).unwrap();
        let mut at = 0;
        for entry in &entries {
            assert_eq!(entry.offset, at, "entries are back to back");
            at += u64::from(entry.head.length);
        }
        assert_eq!(at, disk_bytes);
        if entries.is_empty() {
            return;
        }
        let first = self.random.below(entries.len() as u64) as usize;
        for group in [&entries[..first], &entries[first..]] {
            let Some(start) = group.first() else { continue };
            let length: u64 = group.iter().map(|entry| u64::from(entry.head.length)).sum();
            let mut bytes = Vec::new();
            let mut checks = Vec::new();
            for extent in self.store.extents(id, reading.partition, start.offset, length).unwrap() {
                let from = extent.file_start as usize;
                bytes.extend_from_slice(&self.files[&id][from..from + extent.length as usize]);
                checks.extend(extent.checks);
            }
            assert_eq!(checks, group.iter().map(|entry| (entry.head.length, entry.head.crc)).collect::<Vec<_>>());
            let mut rest = &bytes[..];
            for entry in group {
                let (block, after) = rest.split_at(entry.head.length as usize);
                assert_eq!(block, bytes_of(id, entry.head.id, entry.head.length), "block {} on disk", entry.head.id);
                reading.got.insert(entry.head.id);
                self.read_from_disk += 1;
                rest = after;
            }
        }
        assert!(self.store.extents(id, reading.partition, disk_bytes, 1).is_err(), "nothing lies behind the end");
    }

    /// A report that is sent twice adds and loses nothing.
    fn retry_a_report(&mut self) {
        let of = &self.applications[self.random.below(3) as usize];
        let Some((partition, blocks)) = of.acknowledged.iter().next() else { return };
        let before = self.store.reported(of.id, &[*partition]).unwrap();
        self.store.report(of.id, *partition, &blocks.keys().copied().collect::<Vec<_>>()).unwrap();
        assert_eq!(self.store.reported(of.id, &[*partition]).unwrap(), before);
    }

    /// An application leaves and comes again: nothing of the first life is seen in the second.
    fn leave(&mut self) {
        let application = self.random.below(3) as usize;
        let name = self.applications[application].name.clone();
        self.store.unregister_application(&name, self.now);
        self.settle();
        assert!(self.store.find(&name, 7, self.now).is_err());
        self.applications[application].acknowledged.clear();
        self.reading.retain(|reading| reading.application != application);
        self.register(application);
    }

    /// The process stops in order and starts again; what it could not write is lost, and known to be.
    fn restart(&mut self) {
        for arriving in std::mem::take(&mut self.arriving) {
            if let Some((_, head, position)) = arriving.placed {
                self.store.abandon(arriving.send.shuffle, position, head.length);
            }
            self.store.end_send(arriving.send, self.now);
        }
        while self.run.is_some() || !self.random.one_in(4) {
            self.write();
            self.settle();
            if self.run.is_none() && self.store.usage().chunk_bytes == 0 {
                break;
            }
        }
        self.settle();
        let of = ImageOf { shard: 1, shard_count: 3 };
        let image = self.store.image(of);
        let restore = |bytes: &[u8], of| Store::restore(StoreConfig::new(CAPACITY), bytes, of, Now::default());
        assert!(restore(&image, ImageOf { shard: 0, ..of }).is_err(), "it is another shard's");
        let mut damaged = image.clone();
        let place = self.random.below(image.len() as u64) as usize;
        damaged[place] ^= 1 << self.random.below(8);
        assert!(restore(&damaged, of).is_err(), "byte {place} of {} is damaged", image.len());
        let reported: Vec<BlockIds> = self.reported();
        self.store = Store::restore(StoreConfig::new(CAPACITY), &image, of, self.now).unwrap();
        assert_eq!(self.reported(), reported);
        self.chunks.clear();
        self.tickets.clear();
        self.asked.clear();
        self.reading.clear();
        for application in &mut self.applications {
            for (partition, blocks) in &mut application.acknowledged {
                let (entries, _) = self.store.index(application.id, *partition).unwrap();
                let on_disk: BTreeSet<i64> = entries.iter().map(|entry| entry.head.id).collect();
                blocks.retain(|id, _| on_disk.contains(id));
            }
        }
        self.restarts += 1;
    }

    fn reported(&self) -> Vec<BlockIds> {
        let all: Vec<i32> = (0..PARTITIONS).collect();
        self.applications.iter().map(|of| self.store.reported(of.id, &all).unwrap()).collect()
    }

    fn check_memory(&self) {
        let chunk_bytes: u64 = self.chunks.values().map(|chunk| chunk.len() as u64).sum();
        assert_eq!(self.store.usage().chunk_bytes, chunk_bytes);
    }

    /// Everybody leaves: nothing is left.
    fn finish(mut self) -> (u64, u64, u64) {
        for arriving in std::mem::take(&mut self.arriving) {
            if let Some((_, head, position)) = arriving.placed {
                self.store.abandon(arriving.send.shuffle, position, head.length);
            }
            self.store.end_send(arriving.send, self.now);
        }
        for application in 0..3 {
            self.store.unregister_application(&self.applications[application].name.clone(), self.now);
        }
        self.settle();
        let usage = self.store.usage();
        assert_eq!((usage.chunk_bytes, usage.index_bytes, usage.promised_bytes, usage.parked_count), (0, 0, 0, 0));
        assert!(self.chunks.is_empty() && self.files.is_empty());
        (self.read_from_disk, self.duplicates, self.restarts)
    }
}

fn play(seed: u64) -> (u64, u64, u64) {
    let mut world = World::new(seed);
    for _ in 0..2000 {
        world.step();
    }
    world.finish()
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn s1_s3_s4_s5_s7_s9_every_acknowledged_block_is_read_and_nothing_stays_counted() {
    let seeds = match number_of("SHUFFLE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_of("SHUFFLE_SEEDS").unwrap_or(30),
    };
    let mut read_from_disk = 0;
    let (mut duplicates, mut restarts) = (0, 0);
    for seed in seeds {
        let played = std::panic::catch_unwind(|| play(seed));
        let Ok((from_disk, again, restarted)) = played else { panic!("SHUFFLE_SEED={seed} plays it again") };
        read_from_disk += from_disk;
        duplicates += again;
        restarts += restarted;
    }
    let seen = format!("{read_from_disk} blocks from disk, {duplicates} duplicates, {restarts} restarts");
    assert!(read_from_disk > 1000 && duplicates > 10 && restarts > 10, "{seen}");
}
