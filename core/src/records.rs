//! The records inside an uncompressed Kafka record batch: built from values, and walked in place.
//!
//! Owns the layout of a record (`DefaultRecord.java`). Never copies a value on the way out and never unpacks: a compressed
//! batch is refused by name. Nothing is sized by a number that was not held against the bytes that are there.

use std::ops::Range;

use crate::batch::{BatchHeader, CHECKSUM_FROM, HEADER_BYTES, LENGTH_OVERHEAD_BYTES, MAGIC, NO_PRODUCER};
use crate::checksum::crc32c;

/// Builds one batch of records that came from no idempotent producer.
#[derive(Clone, Debug)]
pub struct BatchWriter {
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    count: i32,
    records: Vec<u8>,
}

impl BatchWriter {
    /// An empty batch whose timestamps are written as distances from this one.
    pub fn new(base_timestamp_ms: i64) -> BatchWriter {
        BatchWriter { base_timestamp_ms, max_timestamp_ms: base_timestamp_ms, count: 0, records: Vec::new() }
    }

    /// Adds a record behind the others.
    pub fn push(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let mut head = vec![0];
        write_varint(&mut head, timestamp_ms.saturating_sub(self.base_timestamp_ms));
        write_varint(&mut head, i64::from(self.count));
        write_bytes(&mut head, key);
        write_varint(&mut head, value.map_or(-1, |value| value.len() as i64));
        let value = value.unwrap_or_default();
        // One byte more for the number of headers, which is none.
        write_varint(&mut self.records, (head.len() + value.len() + 1) as i64);
        self.records.extend_from_slice(&head);
        self.records.extend_from_slice(value);
        self.records.push(0);
        self.count += 1;
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
    }

    /// Bytes of the batch as it stands.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The whole batch, its checksum included. Whoever appends it checks its size.
    pub fn build(self) -> Vec<u8> {
        let mut batch = Vec::with_capacity(self.bytes());
        batch.extend_from_slice(&0i64.to_be_bytes());
        batch.extend_from_slice(&((self.bytes() - LENGTH_OVERHEAD_BYTES) as u32).to_be_bytes());
        batch.extend_from_slice(&0i32.to_be_bytes());
        batch.push(MAGIC);
        batch.extend_from_slice(&[0; 4]);
        batch.extend_from_slice(&0i16.to_be_bytes());
        batch.extend_from_slice(&(self.count - 1).to_be_bytes());
        batch.extend_from_slice(&self.base_timestamp_ms.to_be_bytes());
        batch.extend_from_slice(&self.max_timestamp_ms.to_be_bytes());
        batch.extend_from_slice(&NO_PRODUCER.to_be_bytes());
        batch.extend_from_slice(&(-1i16).to_be_bytes());
        batch.extend_from_slice(&(-1i32).to_be_bytes());
        batch.extend_from_slice(&self.count.to_be_bytes());
        batch.extend_from_slice(&self.records);
        let crc = batch.get(CHECKSUM_FROM..).map_or(0, crc32c);
        if let Some(place) = batch.get_mut(17..CHECKSUM_FROM) {
            place.copy_from_slice(&crc.to_be_bytes());
        }
        batch
    }
}

/// Where one record lies: ranges of the bytes that hold its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Range<usize>>,
    pub value: Option<Range<usize>>,
}

/// Why records cannot be walked, with the offset from which on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset}: {what}")]
pub struct WalkError {
    pub offset: i64,
    pub what: &'static str,
}

/// A walk over whole batches, one behind the other. Holds no bytes: each step is given the same ones.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Where the next batch begins.
    next_batch: usize,
    /// Inside a batch: its header, its remaining records and the next one's place.
    inside: Option<(BatchHeader, i32, usize)>,
    /// The offset of the next record.
    next_offset: i64,
}

impl Walk {
    /// From the first batch on, which is expected to begin at or before `offset`.
    pub fn new(offset: i64) -> Walk {
        Walk { next_offset: offset, ..Walk::default() }
    }

    /// The offset after what was walked: where to read on.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The next record; `None` after the last. Control batches and what lies before the walk's offset are passed over.
    pub fn step(&mut self, bytes: &[u8]) -> Option<Result<RecordPlace, WalkError>> {
        loop {
            let Some((header, left, at)) = self.inside else {
                match self.enter(bytes)? {
                    Ok(()) => continue,
                    Err(what) => return Some(Err(self.give_up(what))),
                }
            };
            if left <= 0 {
                self.next_offset = self.next_offset.max(header.end_offset());
                self.inside = None;
                continue;
            }
            let Some((place, end)) = record_at(bytes, at, self.next_batch, &header) else {
                return Some(Err(self.give_up("a record of this batch does not fit its bytes")));
            };
            self.inside = Some((header, left - 1, end));
            if place.offset >= self.next_offset {
                self.next_offset = place.offset.saturating_add(1);
                return Some(Ok(place));
            }
        }
    }

    /// Goes into the next batch.
    fn enter(&mut self, bytes: &[u8]) -> Option<Result<(), &'static str>> {
        let rest = bytes.get(self.next_batch..).filter(|rest| !rest.is_empty())?;
        let Some(header) = BatchHeader::parse(rest).filter(|header| header.bytes as usize <= rest.len()) else {
            return Some(Err("there is no whole batch"));
        };
        let records_at = self.next_batch + HEADER_BYTES;
        self.next_batch += header.bytes as usize;
        let left = if header.is_control() { 0 } else { header.records_count };
        self.inside = Some((header, left, records_at));
        match header.codec() {
            0 => Some(Ok(())),
            _ => Some(Err("the batch is compressed, so its values cannot be read in place")),
        }
    }

    /// Leaves the batch: the walk goes on behind it.
    fn give_up(&mut self, what: &'static str) -> WalkError {
        let offset = self.next_offset;
        match self.inside.take() {
            Some((header, ..)) => self.next_offset = offset.max(header.end_offset()),
            None => self.next_batch = usize::MAX,
        }
        WalkError { offset, what }
    }
}

/// The record at `at` and where it ends; nothing beyond `end` is looked at.
fn record_at(bytes: &[u8], at: usize, end: usize, header: &BatchHeader) -> Option<(RecordPlace, usize)> {
    let mut reader = Reader { bytes: bytes.get(..end)?, at };
    let length = usize::try_from(reader.varint()?).ok()?;
    let record_end = reader.at.checked_add(length).filter(|&record_end| record_end <= end)?;
    reader.bytes = bytes.get(..record_end)?;
    reader.at += 1;
    let timestamp_delta = reader.varint()?;
    let offset_delta = reader.varint()?;
    let (key, value) = (reader.nullable()?, reader.nullable()?);
    let timestamp_ms = match header.is_log_append_time() {
        true => header.max_timestamp,
        false => header.base_timestamp.saturating_add(timestamp_delta),
    };
    let offset = header.base_offset.saturating_add(offset_delta);
    Some((RecordPlace { offset, timestamp_ms, key, value }, record_end))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn varint(&mut self) -> Option<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }

    /// The range of bytes after their length; `Some(None)` is null.
    fn nullable(&mut self) -> Option<Option<Range<usize>>> {
        let length = self.varint()?;
        if length == -1 {
            return Some(None);
        }
        let end = self.at.checked_add(usize::try_from(length).ok()?).filter(|&end| end <= self.bytes.len())?;
        let range = self.at..end;
        self.at = end;
        Some(Some(range))
    }
}

fn write_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    write_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{assign, checksum_fits};

    fn batch(base_offset: i64, values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut writer = BatchWriter::new(1_000);
        for (at, value) in values.iter().enumerate() {
            writer.push(1_000 + 70 * at as i64, Some(b"key"), *value);
        }
        assert_eq!(writer.is_empty(), values.is_empty());
        let bytes = writer.bytes();
        let mut batch = writer.build();
        assert_eq!(batch.len(), bytes);
        assign(&mut batch, base_offset, 0);
        batch
    }

    #[test]
    fn what_is_written_is_walked() {
        let long = vec![7; 300];
        let mut bytes = batch(10, &[Some(b"a"), None, Some(&long)]);
        bytes.extend(batch(13, &[Some(b"d")]));
        let header = BatchHeader::parse(&bytes).unwrap();
        assert!(checksum_fits(&bytes, &header) && header.max_timestamp == 1_140);
        let mut walk = Walk::new(11);
        let mut seen = Vec::new();
        while let Some(place) = walk.step(&bytes) {
            let place = place.unwrap();
            assert_eq!(&bytes[place.key.clone().unwrap()], b"key");
            seen.push((place.offset, place.timestamp_ms, place.value.map(|range| bytes[range].to_vec())));
        }
        let expected = [(11, 1_070, None), (12, 1_140, Some(long)), (13, 1_000, Some(b"d".to_vec()))];
        assert_eq!((seen.as_slice(), walk.next_offset()), (expected.as_slice(), 14));
    }

    #[test]
    fn damage_is_told_with_its_offset_and_the_walk_goes_on_behind_it() {
        let mut bytes = batch(5, &[Some(b"first"), Some(b"second")]);
        // The second record's length, which begins behind the 15 bytes of the first.
        bytes[HEADER_BYTES + 15] = 0xfe;
        bytes.extend(batch(7, &[Some(b"third")]));
        let mut walk = Walk::new(5);
        assert_eq!(walk.step(&bytes).unwrap().unwrap().offset, 5);
        assert_eq!(walk.step(&bytes).unwrap().unwrap_err().offset, 6);
        assert_eq!(walk.step(&bytes).unwrap().unwrap().offset, 7);
        assert!(walk.step(&bytes).is_none());
        let mut packed = batch(5, &[Some(b"x")]);
        packed[22] |= 4;
        let refused = Walk::new(5).step(&packed).unwrap().unwrap_err();
        assert!(refused.to_string().contains("offset 5: the batch is compressed"), "{refused}");
        let mut cut = Walk::new(5);
        let rest = &packed[..70];
        assert!(cut.step(rest).unwrap().is_err() && cut.step(rest).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_the_walk(mut bytes in proptest::collection::vec(0u8.., 0..400), offset in 0i64..10) {
            if let Some(place) = bytes.get_mut(8..12) {
                place.copy_from_slice(&[0, 0, 0, 80]);
            }
            let mut walk = Walk::new(offset);
            let mut steps = 0;
            while walk.step(&bytes).is_some() {
                steps += 1;
                proptest::prop_assert!(steps < 1_000);
            }
        }
    }
}
