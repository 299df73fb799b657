//! A disk that keeps only what was made durable, and of the rest whatever chance leaves.
//!
//! Owns the bytes of every file in two states: *seen* (what a read returns now) and *durable* (what survives a crash for
//! sure). Between them lie the writes that no flush has covered: a crash keeps a random subset of their 512-byte sectors, in
//! any order. Names have the same two states; a directory sync makes them durable.
//!
//! Invariants: a durable write or a flush moves only completed writes; a write that is under way is never durable.

use std::collections::BTreeMap;

use super::random::Random;
use crate::units::FileId;

/// What a crash may tear apart.
pub const SECTOR_BYTES: usize = 512;

/// A file of the data directory by its part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Ring(u32),
    Segment(FileId),
    Image(u64),
    ImageInProgress(u64),
    Anchor,
    Superblock,
}

/// A write that was submitted and has not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(u64);

#[derive(Clone, Debug, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Completed, not flushed.
    loose: Vec<Loose>,
}

/// A completed write that no flush has covered.
#[derive(Clone, Debug)]
struct Loose {
    mark: u64,
    position: usize,
    bytes: Vec<u8>,
}

impl Loose {
    /// A later write is durable: where it lies, this one's bytes can never come back.
    fn supersede(&mut self, position: usize, bytes: &[u8]) {
        let from = position.max(self.position);
        let to = (position + bytes.len()).min(self.position + self.bytes.len());
        if from < to
            && let Some(place) = self.bytes.get_mut(from - self.position..to - self.position)
        {
            place.copy_from_slice(bytes.get(from - position..to - position).unwrap_or_default());
        }
    }
}

/// The whole disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    contents: BTreeMap<u64, Content>,
    seen: BTreeMap<Name, u64>,
    durable: BTreeMap<Name, u64>,
    under_way: BTreeMap<WriteId, (u64, usize, Vec<u8>)>,
    next: u64,
    /// Bytes of all files together that may be written before the disk is full.
    pub capacity_bytes: u64,
}

impl Disk {
    pub fn new(capacity_bytes: u64) -> Disk {
        Disk { capacity_bytes, ..Disk::default() }
    }

    /// Creates a file of `length` zero bytes, durable content, name not yet synced; keeps an existing one.
    pub fn create(&mut self, name: Name, length: usize) {
        if self.seen.contains_key(&name) {
            return;
        }
        let id = self.fresh();
        let zeroes = vec![0; length];
        self.contents.insert(id, Content { seen: zeroes.clone(), durable: zeroes, loose: Vec::new() });
        self.seen.insert(name, id);
    }

    pub fn exists(&self, name: Name) -> bool {
        self.seen.contains_key(&name)
    }

    /// Every name that a reader sees now.
    pub fn names(&self) -> Vec<Name> {
        self.seen.keys().copied().collect()
    }

    pub fn used_bytes(&self) -> u64 {
        self.seen.values().filter_map(|id| self.contents.get(id)).map(|content| content.seen.len() as u64).sum()
    }

    /// Submits a write; its bytes may reach the disk in part from now on. `None` if the file does not exist.
    pub fn submit(&mut self, name: Name, position: usize, bytes: Vec<u8>) -> Option<WriteId> {
        let file = *self.seen.get(&name)?;
        let id = WriteId(self.fresh());
        self.under_way.insert(id, (file, position, bytes));
        Some(id)
    }

    /// Completes a write: reads see it; with `durable` so do crashes.
    pub fn complete(&mut self, id: WriteId, durable: bool) {
        let Some((file, position, bytes)) = self.under_way.remove(&id) else { return };
        let mark = self.fresh();
        let Some(content) = self.contents.get_mut(&file) else { return };
        overlay(&mut content.seen, position, &bytes);
        if durable {
            overlay(&mut content.durable, position, &bytes);
            content.loose.iter_mut().for_each(|loose| loose.supersede(position, &bytes));
        } else {
            content.loose.push(Loose { mark, position, bytes });
        }
    }

    /// A point between completions: what a flush that begins now will cover.
    pub fn mark(&mut self) -> u64 {
        self.fresh()
    }

    /// Makes the file's writes that had completed before `mark` durable.
    pub fn flush_before(&mut self, name: Name, mark: u64) {
        let Some(content) = self.seen.get(&name).and_then(|id| self.contents.get_mut(id)) else { return };
        for loose in content.loose.extract_if(.., |loose| loose.mark < mark) {
            overlay(&mut content.durable, loose.position, &loose.bytes);
        }
    }

    pub fn rename(&mut self, from: Name, to: Name) {
        if let Some(id) = self.seen.remove(&from) {
            self.seen.insert(to, id);
        }
    }

    pub fn remove(&mut self, name: Name) {
        self.seen.remove(&name);
    }

    /// Makes the names of a directory durable; `inside` says which those are.
    pub fn sync_names(&mut self, inside: impl Fn(&Name) -> bool) {
        self.durable.retain(|name, _| !inside(name));
        self.durable.extend(self.seen.iter().filter(|(name, _)| inside(name)).map(|(name, id)| (*name, *id)));
    }

    /// A file's length as a reader sees it; 0 if there is none.
    pub fn length(&self, name: Name) -> u64 {
        self.seen.get(&name).and_then(|id| self.contents.get(id)).map_or(0, |content| content.seen.len() as u64)
    }

    /// Reads what there is from `position` on, at most `length` bytes.
    pub fn read(&self, name: Name, position: usize, length: usize) -> Vec<u8> {
        let Some(content) = self.seen.get(&name).and_then(|id| self.contents.get(id)) else { return Vec::new() };
        let end = position.saturating_add(length).min(content.seen.len());
        content.seen.get(position.min(end)..end).unwrap_or_default().to_vec()
    }

    /// The machine loses power: of what was not durable, chance decides sector by sector and name by name.
    pub fn crash(&mut self, random: &mut Random) {
        let under_way = std::mem::take(&mut self.under_way);
        for (file, position, bytes) in under_way.into_values() {
            if let Some(content) = self.contents.get_mut(&file) {
                content.loose.push(Loose { mark: u64::MAX, position, bytes });
            }
        }
        for content in self.contents.values_mut() {
            let mut loose = std::mem::take(&mut content.loose);
            while !loose.is_empty() {
                let torn = loose.swap_remove(random.below(loose.len() as u64) as usize);
                tear(&mut content.durable, torn.position, &torn.bytes, random);
            }
            content.seen.clone_from(&content.durable);
        }
        self.crash_names(random);
        let named: std::collections::BTreeSet<u64> = self.seen.values().copied().collect();
        self.contents.retain(|id, _| named.contains(id));
    }

    fn crash_names(&mut self, random: &mut Random) {
        let names: std::collections::BTreeSet<Name> = self.seen.keys().chain(self.durable.keys()).copied().collect();
        for name in names {
            let (old, new) = (self.durable.get(&name).copied(), self.seen.get(&name).copied());
            let kept = if random.chance(50) { old } else { new };
            match kept {
                Some(id) => self.durable.insert(name, id),
                None => self.durable.remove(&name),
            };
        }
        self.seen.clone_from(&self.durable);
    }

    /// Flips one bit of a file where it lies. Returns false if there is nothing to flip.
    pub fn flip(&mut self, name: Name, position: usize, bit: u8) -> bool {
        let Some(content) = self.seen.get(&name).and_then(|id| self.contents.get_mut(id)) else { return false };
        for bytes in [&mut content.seen, &mut content.durable] {
            match bytes.get_mut(position) {
                Some(byte) => *byte ^= 1 << (bit % 8),
                None => return false,
            }
        }
        true
    }

    /// Somebody cuts a file.
    pub fn truncate(&mut self, name: Name, length: usize) {
        if let Some(content) = self.seen.get(&name).and_then(|id| self.contents.get_mut(id)) {
            content.seen.truncate(length);
            content.durable.truncate(length);
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

fn overlay(content: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(position..end) {
        place.copy_from_slice(bytes);
    }
}

fn tear(content: &mut Vec<u8>, position: usize, bytes: &[u8], random: &mut Random) {
    let all = random.below(100);
    for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
        if all < 20 || (all < 90 && random.chance(50)) {
            overlay(content, position + index * SECTOR_BYTES, sector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Name = Name::Ring(0);

    #[test]
    fn a_crash_keeps_durable_writes_and_may_drop_the_rest() {
        let mut dropped = 0;
        for seed in 0..50 {
            let mut disk = Disk::new(u64::MAX);
            disk.create(FILE, 4096);
            disk.sync_names(|_| true);
            let durable = disk.submit(FILE, 0, vec![1; 512]).unwrap();
            let loose = disk.submit(FILE, 512, vec![2; 512]).unwrap();
            disk.complete(durable, true);
            disk.complete(loose, false);
            assert_eq!(disk.read(FILE, 512, 1), [2]);
            disk.crash(&mut Random::new(seed));
            assert_eq!(disk.read(FILE, 0, 1), [1]);
            dropped += u32::from(disk.read(FILE, 512, 1) == [0]);
        }
        assert!((5..45).contains(&dropped), "dropped {dropped} of 50");
    }

    #[test]
    fn an_unsynced_name_may_vanish_and_a_synced_one_may_not() {
        let mut vanished = 0;
        for seed in 0..50 {
            let mut disk = Disk::new(u64::MAX);
            disk.create(FILE, 512);
            disk.sync_names(|_| true);
            disk.create(Name::Image(1), 512);
            disk.crash(&mut Random::new(seed));
            assert!(disk.exists(FILE));
            vanished += u32::from(!disk.exists(Name::Image(1)));
        }
        assert!((5..45).contains(&vanished), "vanished {vanished} of 50");
    }
}
