//! What a reduce reads, with the arithmetic of Spark's clients, and what it holds each block against.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use watershed_shuffle::wire::index::{INDEX_ENTRY_BYTES, IndexEntry, entries};

use super::job::Job;
use super::plane::Client;
use crate::latency::Tally;

/// What one read asks for, unless a single block is larger.
const READ_BYTES: i32 = 14 << 20;

/// What a client is told about a block, over either way.
#[derive(Clone, Copy, Debug)]
struct Told {
    id: i64,
    length: i32,
    uncompressed_length: i32,
    crc: i64,
    attempt: i64,
}

/// Which blocks a reduce must see and has seen.
pub(crate) struct Seen<'a> {
    job: &'a Job,
    /// In rising order.
    expected: Vec<i64>,
    is_seen: Vec<bool>,
    seen_count: usize,
    pub(crate) repeated_count: u64,
}

impl<'a> Seen<'a> {
    pub(crate) fn new(job: &'a Job, expected: Vec<i64>) -> Seen<'a> {
        let is_seen = vec![false; expected.len()];
        Seen { job, expected, is_seen, seen_count: 0, repeated_count: 0 }
    }

    pub(crate) fn expects(&self, reported: &[i64]) -> bool {
        self.expected == reported
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.seen_count == self.expected.len()
    }

    pub(crate) fn check(&self) -> Result<()> {
        let missing = self.expected.iter().zip(&self.is_seen).find(|(_, is_seen)| !**is_seen);
        ensure!(
            missing.is_none(),
            "{} of {} blocks are missing, {:?} first",
            self.expected.len() - self.seen_count,
            self.expected.len(),
            missing
        );
        Ok(())
    }

    /// Checks a block's bytes and what was said of it; whether it is new.
    fn take(&mut self, told: Told, data: &[u8]) -> Result<bool> {
        let at = self.expected.binary_search(&told.id);
        let at = at.ok().with_context(|| format!("block {} is none of this partition", told.id))?;
        let payload = self.job.payload(told.id);
        let length = i32::try_from(payload.data.len())?;
        let is_as_sent = (told.length, told.uncompressed_length, told.crc) == (length, length, i64::from(payload.crc));
        ensure!(is_as_sent, "{told:?}: {length} bytes with CRC {} were sent", payload.crc);
        ensure!(told.attempt == told.id & ((1 << 22) - 1), "{told:?}: another attempt sent it");
        ensure!(crc32fast::hash(data) == payload.crc, "{told:?}: the bytes are others");
        let is_seen = self.is_seen.get_mut(at).context("as many as are expected")?;
        let is_new = !std::mem::replace(is_seen, true);
        self.seen_count += usize::from(is_new);
        self.repeated_count += u64::from(!is_new);
        Ok(is_new)
    }
}

/// Asks until memory has nothing more, or all was seen.
pub(crate) async fn read_memory(
    client: &mut Client,
    partition: i32,
    seen: &mut Seen<'_>,
    tally: &mut Tally,
) -> Result<()> {
    let mut last = -1;
    while !seen.is_complete() {
        let began = Instant::now();
        let found = client.memory(partition, last, READ_BYTES).await?;
        let Some(newest) = found.segments.last() else {
            return Ok(());
        };
        last = newest.id;
        tally.complete(found.data.len() as u64, began.elapsed());
        for of in &found.segments {
            let start = usize::try_from(of.offset)?;
            let data = found.data.get(start..).and_then(|data| data.get(..of.length as usize));
            let data = data.with_context(|| format!("{of:?} is not within {} bytes", found.data.len()))?;
            let (length, uncompressed_length) = (of.length, of.uncompressed_length);
            seen.take(Told { id: of.id, length, uncompressed_length, crc: of.crc, attempt: of.attempt }, data)?;
        }
    }
    Ok(())
}

/// Reads the index and the ranges that it leads to, as long as blocks are missing.
pub(crate) async fn read_disk(
    client: &mut Client,
    partition: i32,
    seen: &mut Seen<'_>,
    tally: &mut Tally,
) -> Result<()> {
    let index = client.index(partition).await?;
    ensure!(index.entries.len().is_multiple_of(INDEX_ENTRY_BYTES), "the index ends within an entry");
    let entries: Vec<IndexEntry> = entries(&index.entries).collect();
    let end = entries.iter().map(|entry| i64::from(entry.length)).sum::<i64>();
    ensure!(index.file_bytes == -1 || index.file_bytes >= end, "an index of {end} bytes over {}", index.file_bytes);
    for group in groups(&entries) {
        if seen.is_complete() {
            break;
        }
        read_group(client, partition, group, seen, tally).await?;
    }
    Ok(())
}

async fn read_group(
    client: &mut Client,
    partition: i32,
    group: &[IndexEntry],
    seen: &mut Seen<'_>,
    tally: &mut Tally,
) -> Result<()> {
    let offset = group.first().map_or(0, |entry| entry.offset);
    let length = group.iter().map(|entry| entry.length).sum();
    let began = Instant::now();
    let data = client.data(partition, offset, length).await?;
    tally.complete(data.len() as u64, began.elapsed());
    let mut rest: &[u8] = &data;
    for entry in group {
        let at = i64::try_from(data.len() - rest.len())?;
        ensure!(entry.offset == offset + at, "{entry:?} does not begin where the one before ends");
        let (block, later) = rest.split_at_checked(entry.length as usize).context("an entry reaches too far")?;
        rest = later;
        let (length, uncompressed_length) = (entry.length, entry.uncompress_length);
        let told =
            Told { id: entry.block_id, length, uncompressed_length, crc: entry.crc, attempt: entry.task_attempt_id };
        seen.take(told, block)?;
    }
    Ok(())
}

/// Entries that are read at once: a group ends with the entry that fills it.
fn groups(entries: &[IndexEntry]) -> Vec<&[IndexEntry]> {
    let (mut groups, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, entry) in entries.iter().enumerate() {
        bytes += i64::from(entry.length);
        if bytes >= i64::from(READ_BYTES) || at + 1 == entries.len() {
            groups.extend(entries.get(start..=at));
            (start, bytes) = (at + 1, 0);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::super::job::Shape;
    use super::*;

    fn told(job: &Job, id: i64) -> Told {
        let payload = job.payload(id);
        let length = payload.data.len() as i32;
        Told { id, length, uncompressed_length: length, crc: i64::from(payload.crc), attempt: id & ((1 << 22) - 1) }
    }

    #[test]
    fn whatever_is_wrong_with_a_block_is_found() {
        let job = Job::new(&Shape { maps: 2, reduces: 2, block_bytes: 50..=90, total_bytes: 0 }).unwrap();
        let expected = job.expected(1);
        let mut seen = Seen::new(&job, expected.clone());
        let (one, other) = (expected[0], expected[1]);
        let data = &job.payload(one).data;
        assert!(seen.take(told(&job, one), data).unwrap());
        assert!(!seen.take(told(&job, one), data).unwrap());
        assert_eq!((seen.repeated_count, seen.is_complete(), seen.check().is_err()), (1, false, true));
        assert!(seen.take(told(&job, job.expected(0)[0]), data).is_err());
        let mut flipped = job.payload(other).data.to_vec();
        flipped[7] ^= 1;
        assert!(seen.take(told(&job, other), &flipped).is_err());
        assert!(seen.take(Told { attempt: 9, ..told(&job, other) }, &job.payload(other).data).is_err());
        assert!(seen.take(told(&job, other), &job.payload(other).data).unwrap());
        assert!(seen.is_complete() && seen.check().is_ok());
    }

    #[test]
    fn groups_end_with_the_entry_that_fills_them() {
        let entry = |length| IndexEntry {
            offset: 0,
            length,
            uncompress_length: length,
            crc: 0,
            block_id: 0,
            task_attempt_id: 0,
        };
        let entries: Vec<_> = [READ_BYTES - 1, 1, 5, READ_BYTES, 7].map(entry).into();
        let counts: Vec<usize> = groups(&entries).iter().map(|group| group.len()).collect();
        assert_eq!(counts, [2, 2, 1]);
        assert!(groups(&[]).is_empty());
    }
}
