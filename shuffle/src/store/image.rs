//! What a stop in order leaves for the next start: who was registered, what was reported, and what lies in files.
//!
//! Blocks that are in memory are not in an image: they are written before it is made, or reported as missing after it.
//! Layout: `core/FORMAT.md`, "The shuffle's data directory". An image is validated whole before any of it is used.

use std::collections::BTreeMap;

use rkyv::rancor::Error;
use watershed_core::units::Now;

use super::block::Packed;
use super::partition::{Partition, Piece};
use super::shuffle::{Order, Shuffle};
use super::{Application, ShuffleId, Store, StoreConfig};
use crate::wire::bitmap::BlockIds;

pub const IMAGE_MAGIC: [u8; 8] = *b"WSSHUFI1";
/// Magic, shard, number of shards, checksum of the archive, its length.
pub const IMAGE_HEADER_BYTES: usize = 24;

/// Why bytes are no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("it does not begin as an image does")]
    NoImage,
    #[error("it is of shard {found} of {count}")]
    OtherShard { found: u16, count: u16 },
    #[error("it is damaged")]
    Damaged,
}

/// Whose image it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageOf {
    pub shard: u16,
    pub shard_count: u16,
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct StoreImage {
    next_shuffle: u64,
    applications: Vec<(String, Vec<(i32, u64)>)>,
    shuffles: Vec<ShuffleImage>,
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct ShuffleImage {
    id: u64,
    by_attempt: bool,
    file_end: u64,
    partitions: Vec<PartitionImage>,
}

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct PartitionImage {
    number: i32,
    /// In the format of the wire.
    reported: Vec<u8>,
    blocks: Vec<Packed>,
    pieces: Vec<Piece>,
    attempts: Vec<(i64, i64)>,
}

impl Store {
    /// The store as bytes, with what lies on disk only.
    pub fn image(&self, of: ImageOf) -> Vec<u8> {
        let shuffles_of = |entry: &Application| entry.shuffles.iter().map(|(number, id)| (*number, id.0)).collect();
        let image = StoreImage {
            next_shuffle: self.next_shuffle,
            applications: self.applications.iter().map(|(name, entry)| (name.clone(), shuffles_of(entry))).collect(),
            shuffles: self.shuffles.iter().map(|(id, shuffle)| shuffle.image(*id)).collect(),
        };
        let archive = rkyv::to_bytes::<Error>(&image).expect("numbers and bytes always serialize");
        let mut bytes = Vec::with_capacity(IMAGE_HEADER_BYTES + archive.len());
        bytes.extend_from_slice(&IMAGE_MAGIC);
        bytes.extend_from_slice(&of.shard.to_le_bytes());
        bytes.extend_from_slice(&of.shard_count.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&archive).to_le_bytes());
        bytes.extend_from_slice(&(archive.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&archive);
        bytes
    }

    /// The store that an image holds. Every application has been heard of just now.
    pub fn restore(config: StoreConfig, bytes: &[u8], of: ImageOf, now: Now) -> Result<Store, ImageError> {
        let image = read(bytes, of)?;
        let mut store = Store::new(config);
        store.next_shuffle = image.next_shuffle;
        for (name, shuffles) in image.applications {
            let shuffles = shuffles.into_iter().map(|(number, id)| (number, ShuffleId(id))).collect();
            store.applications.insert(name, Application { shuffles, seen_us: now.monotonic_us });
        }
        for shuffle in image.shuffles {
            let id = ShuffleId(shuffle.id);
            let shuffle = Shuffle::restore(shuffle)?;
            store.block_count += shuffle.block_count();
            store.shuffles.insert(id, shuffle);
        }
        let is_known = |id: &ShuffleId| store.shuffles.contains_key(id) && id.0 <= store.next_shuffle;
        match store.applications.values().all(|entry| entry.shuffles.values().all(is_known)) {
            true => Ok(store),
            false => Err(ImageError::Damaged),
        }
    }

    /// Each shuffle that has something on disk, and how far its file reaches.
    pub fn files(&self) -> impl Iterator<Item = (ShuffleId, u64)> {
        let on_disk = self.shuffles.iter().filter(|(_, shuffle)| shuffle.file_end > 0);
        on_disk.map(|(id, shuffle)| (*id, shuffle.file_end))
    }
}

fn read(bytes: &[u8], of: ImageOf) -> Result<StoreImage, ImageError> {
    let (header, archive) = bytes.split_first_chunk::<IMAGE_HEADER_BYTES>().ok_or(ImageError::NoImage)?;
    let [m0, m1, m2, m3, m4, m5, m6, m7, s0, s1, n0, n1, c0, c1, c2, c3, length @ ..] = *header;
    if [m0, m1, m2, m3, m4, m5, m6, m7] != IMAGE_MAGIC {
        return Err(ImageError::NoImage);
    }
    let found = ImageOf { shard: u16::from_le_bytes([s0, s1]), shard_count: u16::from_le_bytes([n0, n1]) };
    if found != of {
        return Err(ImageError::OtherShard { found: found.shard, count: found.shard_count });
    }
    let is_sound = u64::from_le_bytes(length) == archive.len() as u64
        && u32::from_le_bytes([c0, c1, c2, c3]) == crc32fast::hash(archive);
    if !is_sound {
        return Err(ImageError::Damaged);
    }
    let mut aligned: rkyv::util::AlignedVec = rkyv::util::AlignedVec::with_capacity(archive.len());
    aligned.extend_from_slice(archive);
    rkyv::from_bytes::<StoreImage, Error>(&aligned).map_err(|_| ImageError::Damaged)
}

impl Shuffle {
    fn image(&self, id: ShuffleId) -> ShuffleImage {
        ShuffleImage {
            id: id.0,
            by_attempt: self.order == Order::Attempt,
            file_end: self.file_end,
            partitions: self.partitions.iter().map(|(number, partition)| partition.image(*number)).collect(),
        }
    }

    fn restore(image: ShuffleImage) -> Result<Shuffle, ImageError> {
        let mut shuffle = Shuffle::new(if image.by_attempt { Order::Attempt } else { Order::Arrival });
        shuffle.file_end = image.file_end;
        for partition in image.partitions {
            let number = partition.number;
            let restored = Partition::restore(partition, image.file_end)?;
            shuffle.partitions.insert(number, restored);
        }
        Ok(shuffle)
    }
}

impl Partition {
    fn image(&self, number: i32) -> PartitionImage {
        PartitionImage {
            number,
            reported: self.reported.serialize(),
            blocks: self.disk.clone(),
            pieces: self.pieces.clone(),
            attempts: self.attempts.iter().map(|(block, attempt)| (*block, *attempt)).collect(),
        }
    }

    fn restore(image: PartitionImage, file_end: u64) -> Result<Partition, ImageError> {
        let disk_bytes: u64 = image.blocks.iter().map(|block| u64::from(block.length())).sum();
        let mut at = Place::default();
        for (place, piece) in image.pieces.iter().enumerate() {
            let next = image.pieces.get(place + 1);
            let end = next.map_or(image.blocks.len(), |next| next.first as usize);
            let blocks = image.blocks.get(piece.first as usize..end).ok_or(ImageError::Damaged)?;
            let bytes: u64 = blocks.iter().map(|block| u64::from(block.length())).sum();
            let fits = piece.file_start.checked_add(bytes).is_some_and(|end| end <= file_end);
            if piece.first != at.first || piece.virtual_start != at.virtual_start || !fits {
                return Err(ImageError::Damaged);
            }
            at = Place { first: end as u64, virtual_start: at.virtual_start + bytes };
        }
        if at != (Place { first: image.blocks.len() as u64, virtual_start: disk_bytes }) {
            return Err(ImageError::Damaged);
        }
        Ok(Partition {
            // What was only in memory may be sent again.
            received: image.blocks.iter().map(|block| block.id).collect(),
            reported: BlockIds::deserialize(&image.reported).map_err(|_| ImageError::Damaged)?,
            disk: image.blocks,
            pieces: image.pieces,
            disk_bytes,
            attempts: BTreeMap::from_iter(image.attempts),
            ..Partition::default()
        })
    }
}

/// Where the next piece begins.
#[derive(Default, PartialEq, Eq)]
struct Place {
    first: u64,
    virtual_start: u64,
}
