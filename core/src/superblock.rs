//! The two records that a start reads first: the data directory's superblock and each journal's anchor.
//!
//! Each is a file of two 4 KiB slots that are written alternately; the newest slot that checks wins, so a torn write
//! costs nothing. Invariants: generations rise by one; the checksum is seeded with the slot; magic and version at the
//! block's beginning and the checksum at its end stay where they are in every version. Never: a guess. What is foreign,
//! newer or damaged is refused by name.

use crate::checksum::Seeded;
use crate::error::Fault;
use crate::journal::JournalPoint;
use crate::le::{get, get_i32, get_u32, get_u64, put};
use crate::units::{BLOCK_BYTES, JournalId};

/// A file of two slots.
pub const TWO_SLOTS_BYTES: usize = 2 * SLOT_BYTES;
/// A superblock begins with generation 1, an anchor with 2: by this one both slots were written.
const BOTH_SLOTS_GENERATION: u64 = 3;
/// One slot.
pub const SLOT_BYTES: usize = BLOCK_BYTES as usize;
pub const SUPERBLOCK_MAGIC: [u8; 8] = *b"WSSUPERB";
pub const SUPERBLOCK_VERSION: u32 = 1;
pub const ANCHOR_MAGIC: [u8; 8] = *b"WSANCHOR";
pub const ANCHOR_VERSION: u32 = 2;
/// Bytes of a cluster id at most. Kafka's own have 22.
pub const CLUSTER_ID_BYTES_MAX: usize = 64;
/// Journals of one data directory at most: what fits the slot.
pub const JOURNALS_COUNT_MAX: usize = 512;

/// Where the fields of both records lie (`FORMAT.md`, "Superblock" and "Anchor").
pub mod at {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 8;
    pub const GENERATION: usize = 16;
    pub const DIRECTORY_ID: usize = 24;
    pub const CHECKSUM: usize = 4092;

    pub mod superblock {
        pub const NODE_ID: usize = 12;
        pub const CLUSTER_ID: usize = 40;
        pub const CLUSTER_ID_LENGTH: usize = 104;
        pub const JOURNALS_COUNT: usize = 108;
        pub const LAYOUT_GENERATION: usize = 112;
        pub const CLEAN: usize = 120;
        pub const JOURNALS: usize = 128;
    }

    pub mod anchor {
        pub const JOURNAL: usize = 12;
        pub const RUN: usize = 40;
        pub const RING_FILE_BYTES: usize = 48;
        pub const RING_FILES_COUNT: usize = 56;
        pub const CLEAN: usize = 60;
        pub const DURABLE_END: usize = 64;
        pub const IMAGES: usize = 72;
    }

    /// Inside a kept image's 40 bytes.
    pub mod kept {
        pub const ID: usize = 0;
        pub const SEQUENCE: usize = 8;
        pub const POSITION: usize = 16;
        pub const STAMP: usize = 24;
        pub const SLOT: usize = 32;
        pub const PREVIOUS_CHECKSUM: usize = 36;
    }
}

/// Bytes of a kept image in an anchor.
pub const KEPT_IMAGE_BYTES: usize = 40;

/// What a data directory is: its identity and its journals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Rises with every write.
    pub generation: u64,
    pub directory_id: [u8; 16],
    pub cluster_id: String,
    pub node_id: i32,
    /// Rises when the number of shards changes.
    pub layout_generation: u64,
    /// One for each shard of this layout, in the shards' order.
    pub journals: Vec<JournalId>,
    /// Written after every file was flushed at a stop; cleared durably before the next run writes.
    pub clean: bool,
}

/// An image and the journal point from which replay brings it up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptImage {
    pub id: u64,
    pub point: JournalPoint,
}

/// Where one journal starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Rises with every write.
    pub generation: u64,
    pub journal: JournalId,
    pub directory_id: [u8; 16],
    /// Rises durably at each start, before that start's first frame.
    pub run: u64,
    pub ring_file_bytes: u64,
    /// A grown ring's new file counts once it is written and flushed, and is used only then.
    pub ring_files_count: u32,
    /// Stopped after everything was durable.
    pub clean: bool,
    /// Frames with a lower sequence are durable.
    pub durable_end: u64,
    /// Newest first.
    pub images: [Option<KeptImage>; 2],
}

impl Superblock {
    /// The slot to write and its bytes.
    pub fn encode(&self) -> (usize, Box<[u8; SLOT_BYTES]>) {
        use at::superblock as field;
        assert!(self.cluster_id.len() <= CLUSTER_ID_BYTES_MAX && self.journals.len() <= JOURNALS_COUNT_MAX);
        let mut out = begin(SUPERBLOCK_MAGIC, SUPERBLOCK_VERSION, self.generation, self.directory_id);
        put(&mut *out, field::NODE_ID, self.node_id.to_le_bytes());
        let mut cluster_id = [0; CLUSTER_ID_BYTES_MAX];
        for (place, byte) in cluster_id.iter_mut().zip(self.cluster_id.bytes()) {
            *place = byte;
        }
        put(&mut *out, field::CLUSTER_ID, cluster_id);
        put(&mut *out, field::CLUSTER_ID_LENGTH, (self.cluster_id.len() as u32).to_le_bytes());
        put(&mut *out, field::JOURNALS_COUNT, (self.journals.len() as u32).to_le_bytes());
        put(&mut *out, field::LAYOUT_GENERATION, self.layout_generation.to_le_bytes());
        put(&mut *out, field::CLEAN, u32::from(self.clean).to_le_bytes());
        for (index, journal) in self.journals.iter().enumerate() {
            put(&mut *out, field::JOURNALS + 4 * index, journal.0.to_le_bytes());
        }
        seal(out, self.generation)
    }

    /// Reads both slots of the superblock `file`; its name is for the fault only.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<Superblock, Fault> {
        let slot = newest(file, bytes, SUPERBLOCK_MAGIC, SUPERBLOCK_VERSION)?;
        Superblock::read(slot).ok_or_else(|| damaged(file, "a superblock's numbers disagree"))
    }

    fn read(slot: &[u8]) -> Option<Superblock> {
        use at::superblock as field;
        let cluster_id: [u8; CLUSTER_ID_BYTES_MAX] = get(slot, field::CLUSTER_ID);
        let cluster_id = cluster_id.get(..get_u32(slot, field::CLUSTER_ID_LENGTH) as usize)?;
        let journals_count = get_u32(slot, field::JOURNALS_COUNT) as usize;
        if journals_count > JOURNALS_COUNT_MAX {
            return None;
        }
        let journals = (0..journals_count).map(|index| JournalId(get_u32(slot, field::JOURNALS + 4 * index)));
        Some(Superblock {
            generation: get_u64(slot, at::GENERATION),
            directory_id: get(slot, at::DIRECTORY_ID),
            cluster_id: String::from_utf8(cluster_id.to_vec()).ok()?,
            node_id: get_i32(slot, field::NODE_ID),
            layout_generation: get_u64(slot, field::LAYOUT_GENERATION),
            journals: journals.collect(),
            clean: get_u32(slot, field::CLEAN) == 1,
        })
    }

    /// The newest slot that has the form of a superblock, checked or not: for salvage, when none checks.
    pub fn decode_unchecked(bytes: &[u8]) -> Option<Superblock> {
        let slots = bytes.chunks_exact(SLOT_BYTES).take(2).filter(|slot| slot.iter().any(|byte| *byte != 0));
        slots.filter_map(Superblock::read).max_by_key(|block| block.generation)
    }

    /// Refuses a data directory that belongs to another cluster or node.
    pub fn check_owner(&self, cluster_id: &str, node_id: i32) -> Result<(), Fault> {
        if self.cluster_id == cluster_id && self.node_id == node_id {
            return Ok(());
        }
        Err(Fault::Refused(format!(
            "the data directory belongs to node {} of cluster {}, not to node {node_id} of cluster {cluster_id}",
            self.node_id, self.cluster_id
        )))
    }
}

impl Anchor {
    /// A new journal's anchor. Its first start raises the run to 1.
    pub fn new(journal: JournalId, directory_id: [u8; 16], ring_file_bytes: u64, ring_files_count: u32) -> Anchor {
        Anchor {
            generation: 1,
            journal,
            directory_id,
            run: 0,
            ring_file_bytes,
            ring_files_count,
            clean: true,
            durable_end: crate::journal::FIRST_SEQUENCE,
            images: [None, None],
        }
    }

    /// The anchor to make durable before a start's first frame.
    pub fn next_run(&self) -> Anchor {
        Anchor { generation: self.generation + 1, run: self.run + 1, clean: false, ..*self }
    }

    /// The anchor to make durable when everything else is, at a stop.
    pub fn clean_stop(&self, durable_end: u64) -> Anchor {
        Anchor { generation: self.generation + 1, clean: true, durable_end, ..*self }
    }

    /// The anchor to make durable when a grown ring's new file is, before the file is used.
    pub fn grown(&self, ring_files_count: u32) -> Anchor {
        assert_eq!(ring_files_count, self.ring_files_count + 1, "a ring grows by one file");
        Anchor { generation: self.generation + 1, ring_files_count, ..*self }
    }

    /// The anchor that keeps a new image beside the newest of those before.
    pub fn with_image(&self, image: KeptImage, durable_end: u64) -> Anchor {
        Anchor {
            generation: self.generation + 1,
            durable_end: self.durable_end.max(durable_end),
            images: [Some(image), self.images.first().copied().flatten()],
            ..*self
        }
    }

    /// The anchor without an image that cannot be read: the other one stands for both, so that the ring stays where it is
    /// and the next checkpoint keeps the readable one.
    pub fn without_image(&self, id: u64) -> Anchor {
        let readable = self.images.iter().flatten().find(|kept| kept.id != id).copied();
        Anchor { images: [readable, readable], ..*self }
    }

    /// The point that the ring's tail may not pass: the older image's, or the journal's beginning while there is none.
    pub fn needed_point(&self) -> JournalPoint {
        self.images.last().copied().flatten().map_or(JournalPoint::START, |kept| kept.point)
    }

    /// The slot to write and its bytes.
    pub fn encode(&self) -> (usize, Box<[u8; SLOT_BYTES]>) {
        use at::anchor as field;
        let mut out = begin(ANCHOR_MAGIC, ANCHOR_VERSION, self.generation, self.directory_id);
        put(&mut *out, field::JOURNAL, self.journal.0.to_le_bytes());
        put(&mut *out, field::RUN, self.run.to_le_bytes());
        put(&mut *out, field::RING_FILE_BYTES, self.ring_file_bytes.to_le_bytes());
        put(&mut *out, field::RING_FILES_COUNT, self.ring_files_count.to_le_bytes());
        put(&mut *out, field::CLEAN, u32::from(self.clean).to_le_bytes());
        put(&mut *out, field::DURABLE_END, self.durable_end.to_le_bytes());
        for (index, kept) in self.images.iter().enumerate() {
            if let Some(kept) = kept {
                put(&mut *out, field::IMAGES + index * KEPT_IMAGE_BYTES, encode_kept(kept));
            }
        }
        seal(out, self.generation)
    }

    /// Reads both slots of the anchor `file` and refuses one of another directory or journal.
    pub fn decode(file: &str, bytes: &[u8], directory_id: [u8; 16], journal: JournalId) -> Result<Anchor, Fault> {
        let anchor = Anchor::read(newest(file, bytes, ANCHOR_MAGIC, ANCHOR_VERSION)?);
        if anchor.directory_id != directory_id || anchor.journal != journal {
            return Err(Fault::Refused(format!(
                "{file} is the anchor of another data directory or journal ({})",
                anchor.journal.0
            )));
        }
        if anchor.ring_files_count == 0 || !anchor.ring_file_bytes.is_multiple_of(BLOCK_BYTES) {
            return Err(damaged(file, "an anchor's numbers disagree"));
        }
        Ok(anchor)
    }

    fn read(slot: &[u8]) -> Anchor {
        use at::anchor as field;
        let kept = |index: usize| decode_kept(&get(slot, field::IMAGES + index * KEPT_IMAGE_BYTES));
        Anchor {
            generation: get_u64(slot, at::GENERATION),
            journal: JournalId(get_u32(slot, field::JOURNAL)),
            directory_id: get(slot, at::DIRECTORY_ID),
            run: get_u64(slot, field::RUN),
            ring_file_bytes: get_u64(slot, field::RING_FILE_BYTES),
            ring_files_count: get_u32(slot, field::RING_FILES_COUNT),
            clean: get_u32(slot, field::CLEAN) == 1,
            durable_end: get_u64(slot, field::DURABLE_END),
            images: [kept(0), kept(1)],
        }
    }
}

fn encode_kept(kept: &KeptImage) -> [u8; KEPT_IMAGE_BYTES] {
    assert_ne!(kept.id, 0, "image ids begin with 1; 0 says that there is none");
    let mut out = [0; KEPT_IMAGE_BYTES];
    put(&mut out, at::kept::ID, kept.id.to_le_bytes());
    put(&mut out, at::kept::SEQUENCE, kept.point.sequence.to_le_bytes());
    put(&mut out, at::kept::POSITION, kept.point.position.to_le_bytes());
    put(&mut out, at::kept::STAMP, kept.point.stamp.to_le_bytes());
    put(&mut out, at::kept::SLOT, kept.point.slot.to_le_bytes());
    put(&mut out, at::kept::PREVIOUS_CHECKSUM, kept.point.previous_checksum.to_le_bytes());
    out
}

fn decode_kept(kept: &[u8; KEPT_IMAGE_BYTES]) -> Option<KeptImage> {
    let id = get_u64(kept, at::kept::ID);
    let point = JournalPoint {
        sequence: get_u64(kept, at::kept::SEQUENCE),
        slot: get_u32(kept, at::kept::SLOT),
        position: get_u64(kept, at::kept::POSITION),
        previous_checksum: get_u32(kept, at::kept::PREVIOUS_CHECKSUM),
        stamp: get_u64(kept, at::kept::STAMP),
    };
    (id != 0).then_some(KeptImage { id, point })
}

fn begin(magic: [u8; 8], version: u32, generation: u64, directory_id: [u8; 16]) -> Box<[u8; SLOT_BYTES]> {
    let mut out = Box::new([0; SLOT_BYTES]);
    put(&mut *out, at::MAGIC, magic);
    put(&mut *out, at::VERSION, version.to_le_bytes());
    put(&mut *out, at::GENERATION, generation.to_le_bytes());
    put(&mut *out, at::DIRECTORY_ID, directory_id);
    out
}

fn seal(mut out: Box<[u8; SLOT_BYTES]>, generation: u64) -> (usize, Box<[u8; SLOT_BYTES]>) {
    let slot = (generation % 2) as usize;
    let sum = checksum(&*out, slot);
    put(&mut *out, at::CHECKSUM, sum.to_le_bytes());
    (slot, out)
}

fn checksum(slot_bytes: &[u8], slot: usize) -> u32 {
    let mut sum = Seeded::new(&[slot as u64]);
    sum.update(slot_bytes.get(..at::CHECKSUM).unwrap_or_default());
    sum.finish()
}

/// The slots of a superblock's or anchor's file that do not check, though they were written: they hold something, or are
/// empty while the other slot is not the first that was ever written.
pub fn damaged_slots(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let both = slots(bytes).any(|slot| checks(slot) && get_u64(slot.1, at::GENERATION) >= BOTH_SLOTS_GENERATION);
    let damaged = slots(bytes).filter(move |slot| !checks(*slot) && (both || slot.1.iter().any(|byte| *byte != 0)));
    damaged.map(|(index, _)| index)
}

/// Whether a newer slot than the one that counts may be lost, because one does not check. So it is in a file that was
/// written once.
pub fn is_in_doubt(bytes: &[u8]) -> bool {
    !slots(bytes).all(checks)
}

/// Both slots with their numbers; one that the file ends before is empty.
fn slots(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> + Clone {
    const EMPTY: &[u8] = &[0; SLOT_BYTES];
    (0..2).map(|index| (index, bytes.get(index * SLOT_BYTES..(index + 1) * SLOT_BYTES).unwrap_or(EMPTY)))
}

fn checks((index, slot): (usize, &[u8])) -> bool {
    checksum(slot, index) == get_u32(slot, at::CHECKSUM)
}

/// The directory that the first written slot belongs to that checks.
pub fn directory_of(bytes: &[u8]) -> Option<[u8; 16]> {
    slots(bytes).find(|slot| checks(*slot)).map(|(_, slot)| get(slot, at::DIRECTORY_ID))
}

/// The slot that checks and has the highest generation.
fn newest<'a>(file: &str, bytes: &'a [u8], magic: [u8; 8], known: u32) -> Result<&'a [u8], Fault> {
    let ours = slots(bytes).filter(|(_, slot)| get(slot, at::MAGIC) == magic);
    let checked = ours.clone().filter(|slot| checks(*slot));
    let Some((_, slot)) = checked.max_by_key(|(_, slot)| get_u64(slot, at::GENERATION)) else {
        return Err(match ours.count() {
            0 => Fault::Refused(format!("{file} is not Watershed's: it begins with other bytes")),
            _ => damaged(file, "neither slot checks"),
        });
    };
    match get_u32(slot, at::VERSION) {
        found if !(1..=known).contains(&found) => Err(Fault::Version { file: file.to_owned(), found, known }),
        _ => Ok(slot),
    }
}

fn damaged(file: &str, what: &'static str) -> Fault {
    Fault::Corrupt { file: file.to_owned(), position: 0, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(generation: u64) -> Superblock {
        Superblock {
            generation,
            directory_id: [4; 16],
            cluster_id: "MkU3OEVBNTcwNTJENDM2Qk".to_owned(),
            node_id: 3,
            layout_generation: 2,
            journals: vec![JournalId(4), JournalId(9)],
            clean: generation.is_multiple_of(2),
        }
    }

    fn anchor() -> Anchor {
        let point = JournalPoint { sequence: 11, slot: 2, position: 8192, previous_checksum: 5, stamp: 99 };
        Anchor::new(JournalId(4), [4; 16], 1 << 20, 1).next_run().with_image(KeptImage { id: 1, point }, 11)
    }

    fn write(file: &mut [u8], (slot, bytes): (usize, Box<[u8; SLOT_BYTES]>)) {
        file[slot * SLOT_BYTES..][..SLOT_BYTES].copy_from_slice(&*bytes);
    }

    #[test]
    fn the_newest_slot_that_checks_wins() {
        let mut file = vec![0; TWO_SLOTS_BYTES];
        for generation in 1..5 {
            write(&mut file, superblock(generation).encode());
            assert_eq!(Superblock::decode("s", &file).unwrap(), superblock(generation));
        }
        let (slot, _) = superblock(4).encode();
        for sector in 0..8 {
            let mut torn = file.clone();
            torn[slot * SLOT_BYTES + sector * 512] ^= 1;
            assert_eq!(Superblock::decode("s", &torn).unwrap(), superblock(3));
        }
    }

    #[test]
    fn slots_swapped_or_foreign_or_newer_are_refused_by_name() {
        let mut file = vec![0; TWO_SLOTS_BYTES];
        assert!(matches!(Superblock::decode("s", &file), Err(Fault::Refused(_))));
        write(&mut file, superblock(1).encode());
        file.rotate_left(SLOT_BYTES);
        assert!(matches!(Superblock::decode("s", &file), Err(Fault::Corrupt { .. })));
        file.rotate_left(SLOT_BYTES);
        assert!(matches!(Anchor::decode("a", &file, [4; 16], JournalId(4)), Err(Fault::Refused(_))));
        put(&mut file[SLOT_BYTES..], at::VERSION, 2u32.to_le_bytes());
        assert!(matches!(Superblock::decode("s", &file), Err(Fault::Corrupt { .. })), "a flipped bit is no version");
        let sum = checksum(&file[SLOT_BYTES..], 1);
        put(&mut file[SLOT_BYTES..], at::CHECKSUM, sum.to_le_bytes());
        assert!(matches!(Superblock::decode("s", &file), Err(Fault::Version { found: 2, known: 1, .. })));
        assert!(superblock(1).check_owner("other", 3).is_err());
        assert!(superblock(1).check_owner(&superblock(1).cluster_id, 3).is_ok());
    }

    #[test]
    fn an_anchor_comes_back_and_is_bound_to_its_directory_and_journal() {
        let mut file = vec![0; TWO_SLOTS_BYTES];
        write(&mut file, anchor().encode());
        assert_eq!(Anchor::decode("a", &file, [4; 16], JournalId(4)).unwrap(), anchor());
        assert!(Anchor::decode("a", &file, [5; 16], JournalId(4)).is_err());
        assert!(Anchor::decode("a", &file, [4; 16], JournalId(5)).is_err());
    }

    #[test]
    fn the_tail_follows_the_older_of_two_images() {
        let first = anchor();
        assert_eq!(first.needed_point(), JournalPoint::START);
        let later = KeptImage { id: 2, point: JournalPoint { sequence: 20, ..JournalPoint::START } };
        let second = first.with_image(later, 20);
        assert_eq!(second.needed_point().sequence, 11);
        assert_eq!(second.durable_end, 20);
        let fallen_back = second.without_image(2);
        assert_eq!(fallen_back.needed_point().sequence, 11, "what the readable image needs stays");
        let third = KeptImage { id: 3, ..later };
        let ids = |anchor: Anchor| anchor.images.map(|kept| kept.map(|kept| kept.id));
        assert_eq!(ids(fallen_back.with_image(third, 20)), [Some(3), Some(1)]);
        assert_eq!(ids(first.without_image(1)), [None, None]);
    }
}
