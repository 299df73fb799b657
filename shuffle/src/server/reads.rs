//! What readers get: blocks in memory, the index of what is on disk, and bytes from there, whichever plane asks.
//!
//! Bytes from disk are checked against the checksums that their senders gave before they leave. Reads of one request run
//! beside each other, each at most a mebibyte; a request begins when there is memory for all of them.

use std::ops::Range;

use watershed_core::error::Fault;
use watershed_core::io::arena::{Lease, Slice};
use watershed_core::io::executor::{JoinHandle, spawn};
use watershed_core::io::file::File;
use watershed_core::units::{BLOCK_BYTES, block_ceil, block_floor};

use super::shard::{Shard, count, memory_of};
use crate::store::{BlockHead, Extent, Refusal};
use crate::wire::bitmap::BlockIds;
use crate::wire::index::IndexEntry;

const READ_BYTES: u64 = 1 << 20;

/// Why a read fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("a read of {0} bytes is more than this server has memory for: give it more, or ask for less at once")]
    TooMuch(u64),
    #[error(transparent)]
    Failed(#[from] Fault),
}

/// Whom a reader asks about.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) application: String,
    pub(crate) shuffle: i32,
    pub(crate) partition: i32,
}

/// Blocks of one partition.
pub(crate) struct InMemory {
    pub(crate) blocks: Vec<BlockHead>,
    /// Their bytes, back to back.
    pub(crate) bytes: Vec<Slice>,
}

impl Shard {
    /// Blocks in memory behind `last`.
    pub(crate) fn memory(
        &self,
        asked: &Asked,
        last: i64,
        bytes_max: u64,
        attempts: Option<&BlockIds>,
    ) -> Result<InMemory, Refusal> {
        let shuffle = self.find(&asked.application, asked.shuffle)?;
        let found = self.store.borrow().in_memory(shuffle, asked.partition, last, bytes_max, attempts)?;
        let bytes = found.iter().flat_map(|(head, position)| self.bytes_of(shuffle, *position, head.length)).collect();
        let blocks: Vec<BlockHead> = found.into_iter().map(|(head, _)| head).collect();
        count(&self.figures.sent_bytes, blocks.iter().map(|head| u64::from(head.length)).sum());
        Ok(InMemory { blocks, bytes })
    }

    /// The index of what is on disk, as it goes over the wire, and the bytes that it is about.
    pub(crate) fn index(&self, asked: &Asked) -> Result<(Vec<u8>, u64), Refusal> {
        let shuffle = self.find(&asked.application, asked.shuffle)?;
        let (entries, disk_bytes) = self.store.borrow().index(shuffle, asked.partition)?;
        let wire = |entry: crate::store::IndexEntry| {
            let wire = IndexEntry {
                offset: entry.offset.cast_signed(),
                length: entry.head.length.cast_signed(),
                uncompress_length: entry.head.uncompressed_length.cast_signed(),
                crc: i64::from(entry.head.crc),
                block_id: entry.head.id,
                task_attempt_id: entry.head.attempt,
            };
            wire.to_bytes()
        };
        Ok((entries.into_iter().flat_map(wire).collect(), disk_bytes))
    }

    /// Bytes at virtual offsets of a partition, from disk.
    pub(crate) async fn data(&self, asked: &Asked, offset: u64, length: u64) -> Result<Vec<Slice>, ReadError> {
        let shuffle = self.find(&asked.application, asked.shuffle)?;
        let extents = self.store.borrow().extents(shuffle, asked.partition, offset, length)?;
        let file = self.file(shuffle).ok_or(Refusal::NoSuchBytes)?;
        let memory: u64 = extents.iter().map(memory_of_extent).sum();
        if memory > self.reads.usage().limit_bytes as u64 {
            return Err(ReadError::TooMuch(length));
        }
        let _permits = self.read_permits.take((memory / BLOCK_BYTES) as usize).await;
        let mut bytes = Vec::new();
        for extent in &extents {
            let from = bytes.len();
            self.read_extent(&file, extent, &mut bytes).await?;
            check(&file, extent, bytes.get(from..).unwrap_or_default())?;
        }
        count(&self.figures.read_bytes, length);
        count(&self.figures.sent_bytes, length);
        Ok(bytes)
    }

    async fn read_extent(&self, file: &File, extent: &Extent, bytes: &mut Vec<Slice>) -> Result<(), Fault> {
        let end = extent.file_start + extent.length;
        let mut reads: Vec<(Reading, Range<usize>)> = Vec::new();
        for (at, to) in pieces_of(extent) {
            let wanted = (extent.file_start.max(at) - at) as usize..(end.min(to) - at) as usize;
            let lease = memory_of(&self.reads, (to - at) as usize).await;
            reads.push((spawn(read(file.clone(), lease, at, (to - at) as usize, wanted.end)), wanted));
        }
        for (read, wanted) in reads {
            bytes.push(read.await?.slice(wanted));
        }
        Ok(())
    }
}

type Reading = JoinHandle<Result<Slice, Fault>>;

/// The pieces in which an extent is read: where each begins and ends in the file, in whole blocks of disk.
fn pieces_of(extent: &Extent) -> impl Iterator<Item = (u64, u64)> {
    let end = block_ceil(extent.file_start + extent.length);
    let starts = (block_floor(extent.file_start)..end).step_by(READ_BYTES as usize);
    starts.map(move |start| (start, (start + READ_BYTES).min(end)))
}

/// What an arena gives for the pieces: each the next power of two.
fn memory_of_extent(extent: &Extent) -> u64 {
    pieces_of(extent).map(|(start, end)| (end - start).next_power_of_two()).sum()
}

/// Reads `bytes` at `position`, of which the first `needed` must be there.
async fn read(file: File, lease: Lease, position: u64, bytes: usize, needed: usize) -> Result<Slice, Fault> {
    let (lease, got) = file.read_at(lease, position, bytes).await?;
    match got >= needed {
        true => Ok(lease.freeze()),
        false => Err(Fault::Corrupt {
            file: file.path().display().to_string(),
            position: position + got as u64,
            what: "the file ends before blocks that were written",
        }),
    }
}

/// Every whole block against the checksum of its sender.
fn check(file: &File, extent: &Extent, bytes: &[Slice]) -> Result<(), Fault> {
    let mut pieces = bytes.iter().map(|slice| &**slice);
    let mut here: &[u8] = &[];
    let mut position = extent.file_start;
    for (length, crc) in &extent.checks {
        let mut missing = *length as usize;
        let mut checksum = crc32fast::Hasher::new();
        while missing > 0 {
            if here.is_empty() {
                here = pieces.next().unwrap_or_default();
            }
            let (now, later) = here.split_at(here.len().min(missing));
            assert!(!now.is_empty(), "an extent has the bytes of its blocks");
            checksum.update(now);
            missing -= now.len();
            here = later;
        }
        if checksum.finalize() != *crc {
            return Err(Fault::Corrupt {
                file: file.path().display().to_string(),
                position,
                what: "a block does not have the checksum that its sender gave",
            });
        }
        position += u64::from(*length);
    }
    Ok(())
}
