//! A segment's sparse index: from offsets and timestamps to positions where a batch begins.
//!
//! Owns at most about a thousand entries of 16 bytes: when there are more, every second goes and the interval doubles, up
//! to 64 KiB. Derived from the segment's batches; never the truth. Covers positions from `covered_from`: below it a scan
//! must come first.

use crate::batch::BatchHeader;

const ENTRIES_MAX: usize = 1024;
const INTERVAL_BYTES_MAX: u32 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    offset_delta: u32,
    position: u32,
    /// The largest timestamp of the covered batches before this one; `i64::MIN` if there are none.
    max_timestamp_before: i64,
}

/// Where a look-up leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A batch begins at `position`, at or before what was asked; one begins at `next`, after it (`None`: not known).
    Found { position: u64, next: Option<u64> },
    /// Not covered: scan the segment below this position first.
    Missing { below: u64 },
}

/// The index of one segment.
#[derive(Clone, Debug)]
pub struct SegmentIndex {
    base_offset: i64,
    covered_from: u32,
    interval_bytes: u32,
    max_timestamp: i64,
    entries: Vec<Entry>,
}

impl SegmentIndex {
    /// An empty index that covers batches from `covered_from` on; 0 covers the whole segment.
    pub fn new(base_offset: i64, covered_from: u64, interval_bytes: u32) -> SegmentIndex {
        SegmentIndex {
            base_offset,
            covered_from: compact(covered_from),
            interval_bytes: interval_bytes.clamp(4096, INTERVAL_BYTES_MAX),
            max_timestamp: i64::MIN,
            entries: Vec::new(),
        }
    }

    pub fn is_whole(&self) -> bool {
        self.covered_from == 0
    }

    pub fn covered_from(&self) -> u64 {
        u64::from(self.covered_from)
    }

    /// Takes the next batch; batches come in order.
    pub fn push(&mut self, position: u64, base_offset: i64, max_timestamp: i64) {
        let position = compact(position);
        let due = self.entries.last().is_none_or(|last| position.saturating_sub(last.position) >= self.interval_bytes);
        let delta = u32::try_from(base_offset.saturating_sub(self.base_offset));
        if let (true, Ok(offset_delta)) = (due, delta) {
            self.entries.push(Entry { offset_delta, position, max_timestamp_before: self.max_timestamp });
            self.thin();
        }
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }

    /// Takes the next scanned batch.
    pub fn push_header(&mut self, position: u64, header: &BatchHeader) {
        self.push(position, header.base_offset, header.max_timestamp);
    }

    /// Where to look for the batch that holds `offset`.
    pub fn find_offset(&self, offset: i64) -> Lookup {
        self.found(|entry| self.base_offset + i64::from(entry.offset_delta) <= offset)
    }

    /// Where to look for the first batch whose largest timestamp is at least `timestamp`.
    pub fn find_timestamp(&self, timestamp: i64) -> Lookup {
        if !self.is_whole() {
            return Lookup::Missing { below: self.covered_from() };
        }
        self.found(|entry| entry.max_timestamp_before < timestamp)
    }

    /// Puts the index of the batches below `covered_from`, scanned meanwhile, before this one.
    pub fn prepend(&mut self, mut front: SegmentIndex) {
        if !front.is_whole() || self.is_whole() {
            return;
        }
        let end = self.covered_from;
        front.entries.retain(|entry| entry.position < end);
        let known = front.max_timestamp;
        front.entries.extend(
            self.entries
                .iter()
                .map(|entry| Entry { max_timestamp_before: entry.max_timestamp_before.max(known), ..*entry }),
        );
        self.entries = front.entries;
        self.interval_bytes = self.interval_bytes.max(front.interval_bytes);
        self.max_timestamp = self.max_timestamp.max(known);
        self.covered_from = 0;
        self.thin();
    }

    /// Bytes of memory that the entries hold.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    fn found(&self, at_or_before: impl Fn(&Entry) -> bool) -> Lookup {
        let above = self.entries.partition_point(at_or_before);
        let next = self.entries.get(above).map(|entry| u64::from(entry.position));
        match above.checked_sub(1).and_then(|at| self.entries.get(at)) {
            Some(entry) => Lookup::Found { position: u64::from(entry.position), next },
            None if self.is_whole() => Lookup::Found { position: 0, next },
            None => Lookup::Missing { below: self.covered_from() },
        }
    }

    fn thin(&mut self) {
        if self.entries.len() > ENTRIES_MAX && self.interval_bytes < INTERVAL_BYTES_MAX {
            self.interval_bytes *= 2;
            let mut at = 0;
            self.entries.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
    }
}

fn compact(position: u64) -> u32 {
    u32::try_from(position).expect("a position lies inside a segment file")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(from: u64, to: u64) -> SegmentIndex {
        let mut index = SegmentIndex::new(100, from * 1000, 4096);
        for n in from..to {
            index.push(n * 1000, 100 + n as i64, n as i64 % 50 + n as i64);
        }
        index
    }

    #[test]
    fn leads_to_a_batch_at_or_before_the_offset() {
        let index = filled(0, 100);
        for n in 0..100 {
            let Lookup::Found { position, next } = index.find_offset(100 + n) else {
                panic!("covered");
            };
            assert!(position <= n as u64 * 1000 && n as u64 * 1000 - position < 5000);
            assert!(next.is_none_or(|next| next > n as u64 * 1000));
        }
    }

    #[test]
    fn leads_to_the_first_batch_with_the_timestamp() {
        let index = filled(0, 100);
        for target in 0..150 {
            let Lookup::Found { position, .. } = index.find_timestamp(target) else {
                panic!("covered");
            };
            if let Some(first) = (0..100u64).find(|n| (n % 50 + n) as i64 >= target) {
                assert!(position <= first * 1000, "{target}");
            }
        }
    }

    #[test]
    fn asks_for_a_scan_below_its_cover_and_joins_what_it_brings() {
        let mut index = filled(50, 100);
        assert_eq!(index.find_offset(120), Lookup::Missing { below: 50_000 });
        assert!(matches!(index.find_offset(160), Lookup::Found { .. }));
        assert_eq!(index.find_timestamp(0), Lookup::Missing { below: 50_000 });
        index.prepend(filled(0, 50));
        assert!(matches!(index.find_offset(120), Lookup::Found { position, .. } if position <= 20_000));
        assert!(matches!(index.find_timestamp(0), Lookup::Found { position: 0, .. }));
    }

    #[test]
    fn stays_small_over_a_whole_segment_file() {
        let mut index = SegmentIndex::new(0, 0, 4096);
        for n in 0..(64u64 << 20) / 512 {
            index.push(n * 512, n as i64, 0);
        }
        assert!(index.bytes() <= 64 << 10, "{}", index.bytes());
        assert!(matches!(index.find_offset(100_000), Lookup::Found { position, .. }
            if position <= 51_200_000 && position > 51_200_000 - (128 << 10)));
    }
}
