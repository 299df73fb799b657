//! The checkpoint: an image of a shard's state, and the order in which it becomes the truth.
//!
//! Order: dirty segment files flushed, their directory, the image written and flushed, renamed, its directory, the
//! anchor; only then the ring's tail moves, and only to what the *older* of the two kept images needs; the image before
//! those is removed last. An image never claims what is not durable: its steps wait for the journal. An image is a header block and checksummed
//! sections, each an rkyv archive, so that it is built a partition at a time and validated before it is used.

use std::collections::VecDeque;

use rkyv::rancor::Failure;

use crate::checksum::Seeded;
use crate::error::Fault;
use crate::journal::{JournalPoint, RingPoint};
use crate::le::{get, get_u32, get_u64, put};
use crate::partition::image::PartitionImage;
use crate::store::image::{OpenRange, TailRecord};
use crate::superblock::{Anchor, KeptImage};
use crate::units::{BLOCK_BYTES, FileId, JournalId, Stamp, block_ceil};

pub const IMAGE_MAGIC: [u8; 8] = *b"WSIMAGE1";
pub const IMAGE_VERSION: u32 = 1;
/// The header's block; sections begin behind it.
pub const IMAGE_HEADER_BYTES: usize = BLOCK_BYTES as usize;
/// A section's own header; sections begin at multiples of it.
pub const SECTION_HEADER_BYTES: usize = 16;
/// An image's bytes at most: a larger one is refused before it is read.
pub const IMAGE_BYTES_MAX: u64 = 4 << 30;

/// Where the fields lie (`FORMAT.md`, "Image").
pub mod at {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 8;
    pub const JOURNAL: usize = 12;
    pub const ID: usize = 16;
    pub const SEQUENCE: usize = 24;
    pub const POSITION: usize = 32;
    pub const STAMP: usize = 40;
    pub const SLOT: usize = 48;
    pub const PREVIOUS_CHECKSUM: usize = 52;
    pub const BODY_BYTES: usize = 56;
    pub const SECTIONS_COUNT: usize = 64;
    pub const CHECKSUM: usize = 4092;

    /// Inside a section's header.
    pub mod section {
        pub const KIND: usize = 0;
        pub const LENGTH: usize = 4;
        pub const CHECKSUM: usize = 8;
    }
}

/// The kinds of sections.
pub mod section_kind {
    pub const SHARD: u32 = 1;
    pub const PARTITION: u32 = 2;
    pub const SERVICE: u32 = 3;
}

/// What a shard keeps beside its partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ShardRecord {
    /// The counter of the next segment file's id.
    pub next_file_counter: u32,
    /// Files of the pool that wait for reuse.
    pub free_files: Vec<FreeFile>,
}

/// A segment file without a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FreeFile {
    pub file: u64,
    /// Bytes from the beginning that were written before, so that writing them again changes no metadata.
    pub written_bytes: u64,
}

/// A partition's state at its own stamp, with what is not in its segments' files.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PartitionRecord {
    /// Every change up to and with this stamp is in the image; replay skips those.
    pub applied_stamp: u64,
    pub image: PartitionImage,
    /// Failed closed after damage.
    pub closed: bool,
    pub open: Vec<OpenRange>,
    pub tails: Vec<TailRecord>,
}

/// State of a service's machine (a coordinator), opaque to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ServiceRecord {
    pub name: String,
    pub applied_stamp: u64,
    pub bytes: Vec<u8>,
}

/// A whole image, read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardImage {
    pub shard: ShardRecord,
    pub partitions: Vec<PartitionRecord>,
    pub services: Vec<ServiceRecord>,
}

/// What an image's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    pub journal: JournalId,
    pub id: u64,
    /// Where replay goes on from this image.
    pub point: JournalPoint,
    pub body_bytes: u64,
    pub sections_count: u32,
}

/// Builds an image a section at a time, so that no turn of the executor is held up.
#[derive(Debug)]
pub struct ImageWriter {
    header: ImageHeader,
    bytes: Vec<u8>,
    applied_max: u64,
}

impl ImageWriter {
    /// An image with the ring point that was current before its first section is taken.
    pub fn new(journal: JournalId, id: u64, point: JournalPoint) -> ImageWriter {
        ImageWriter {
            header: ImageHeader { journal, id, point, body_bytes: 0, sections_count: 0 },
            bytes: vec![0; IMAGE_HEADER_BYTES],
            applied_max: point.stamp,
        }
    }

    pub fn partition(&mut self, record: &PartitionRecord) {
        self.applied_max = self.applied_max.max(record.applied_stamp);
        let archive = rkyv::to_bytes::<rkyv::rancor::Error>(record).expect("numbers and bytes always serialize");
        self.section(section_kind::PARTITION, &archive);
    }

    pub fn service(&mut self, record: &ServiceRecord) {
        self.applied_max = self.applied_max.max(record.applied_stamp);
        let archive = rkyv::to_bytes::<rkyv::rancor::Error>(record).expect("numbers and bytes always serialize");
        self.section(section_kind::SERVICE, &archive);
    }

    /// Where replay goes on from this image.
    pub fn point(&self) -> JournalPoint {
        self.header.point
    }

    /// Bytes so far.
    pub fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Closes the image: its bytes, whole blocks, and the stamp that must be durable before it may count.
    pub fn finish(mut self, shard: &ShardRecord) -> (Vec<u8>, Stamp) {
        let archive = rkyv::to_bytes::<rkyv::rancor::Error>(shard).expect("numbers always serialize");
        self.section(section_kind::SHARD, &archive);
        self.header.body_bytes = self.bytes.len() as u64 - IMAGE_HEADER_BYTES as u64;
        let whole = block_ceil(self.bytes.len() as u64);
        self.bytes.resize(usize::try_from(whole).expect("an image fits memory"), 0);
        self.header.encode(&mut self.bytes);
        (self.bytes, Stamp(self.applied_max))
    }

    fn section(&mut self, kind: u32, archive: &[u8]) {
        let length = u32::try_from(archive.len()).expect("a section is far below 4 GiB");
        let mut head = [0; SECTION_HEADER_BYTES];
        put(&mut head, at::section::KIND, kind.to_le_bytes());
        put(&mut head, at::section::LENGTH, length.to_le_bytes());
        let sum = section_checksum(&self.header, self.header.sections_count, kind, archive);
        put(&mut head, at::section::CHECKSUM, sum.to_le_bytes());
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(archive);
        let aligned = self.bytes.len().next_multiple_of(SECTION_HEADER_BYTES);
        self.bytes.resize(aligned, 0);
        self.header.sections_count += 1;
    }
}

impl ImageHeader {
    fn encode(&self, out: &mut [u8]) {
        put(out, at::MAGIC, IMAGE_MAGIC);
        put(out, at::VERSION, IMAGE_VERSION.to_le_bytes());
        put(out, at::JOURNAL, self.journal.0.to_le_bytes());
        put(out, at::ID, self.id.to_le_bytes());
        put(out, at::SEQUENCE, self.point.sequence.to_le_bytes());
        put(out, at::POSITION, self.point.position.to_le_bytes());
        put(out, at::STAMP, self.point.stamp.to_le_bytes());
        put(out, at::SLOT, self.point.slot.to_le_bytes());
        put(out, at::PREVIOUS_CHECKSUM, self.point.previous_checksum.to_le_bytes());
        put(out, at::BODY_BYTES, self.body_bytes.to_le_bytes());
        put(out, at::SECTIONS_COUNT, self.sections_count.to_le_bytes());
        let sum = header_checksum(out);
        put(out, at::CHECKSUM, sum.to_le_bytes());
    }

    /// Reads an image's header block.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<ImageHeader, Fault> {
        let damaged = |what| damage(file, 0, what);
        let block = bytes.get(..IMAGE_HEADER_BYTES).ok_or_else(|| damaged("an image ends in its header"))?;
        if get(block, at::MAGIC) != IMAGE_MAGIC || get_u32(block, at::CHECKSUM) != header_checksum(block) {
            return Err(damaged("an image's header does not check"));
        }
        let found = get_u32(block, at::VERSION);
        if found != IMAGE_VERSION {
            return Err(Fault::Version { file: file.to_owned(), found, known: IMAGE_VERSION });
        }
        if get_u64(block, at::BODY_BYTES) > IMAGE_BYTES_MAX {
            return Err(damaged("an image's length is beyond the limit"));
        }
        Ok(ImageHeader {
            journal: JournalId(get_u32(block, at::JOURNAL)),
            id: get_u64(block, at::ID),
            point: JournalPoint {
                sequence: get_u64(block, at::SEQUENCE),
                slot: get_u32(block, at::SLOT),
                position: get_u64(block, at::POSITION),
                previous_checksum: get_u32(block, at::PREVIOUS_CHECKSUM),
                stamp: get_u64(block, at::STAMP),
            },
            body_bytes: get_u64(block, at::BODY_BYTES),
            sections_count: get_u32(block, at::SECTIONS_COUNT),
        })
    }
}

fn header_checksum(block: &[u8]) -> u32 {
    let mut sum = Seeded::new(&[]);
    sum.update(block.get(..at::CHECKSUM).unwrap_or_default());
    sum.finish()
}

fn section_checksum(header: &ImageHeader, index: u32, kind: u32, archive: &[u8]) -> u32 {
    let mut sum = Seeded::new(&[u64::from(header.journal.0), header.id, u64::from(index), u64::from(kind)]);
    sum.update(archive);
    sum.finish()
}

fn damage(file: &str, position: usize, what: &'static str) -> Fault {
    Fault::Corrupt { file: file.to_owned(), position: position as u64, what }
}

impl ShardImage {
    /// Reads a whole image; it must be the one that the anchor keeps.
    pub fn decode(file: &str, bytes: &[u8], journal: JournalId, kept: &KeptImage) -> Result<ShardImage, Fault> {
        let header = ImageHeader::decode(file, bytes)?;
        if header.journal != journal || header.id != kept.id || header.point != kept.point {
            return Err(damage(file, 0, "an image is not the one that the anchor keeps"));
        }
        let end = IMAGE_HEADER_BYTES as u64 + header.body_bytes;
        if (bytes.len() as u64) < end {
            return Err(damage(file, bytes.len(), "an image ends before its sections do"));
        }
        let mut image = ShardImage::default();
        let mut position = IMAGE_HEADER_BYTES;
        for index in 0..header.sections_count {
            let length = image.section(file, bytes, position, &header, index)?;
            position = (position + SECTION_HEADER_BYTES + length).next_multiple_of(SECTION_HEADER_BYTES);
        }
        match position as u64 == end {
            true => Ok(image),
            false => Err(damage(file, position, "an image's sections do not fill it")),
        }
    }

    fn section(
        &mut self,
        file: &str,
        bytes: &[u8],
        position: usize,
        header: &ImageHeader,
        index: u32,
    ) -> Result<usize, Fault> {
        let cut = || damage(file, position, "an image ends in a section");
        let section = bytes.get(position..).unwrap_or_default();
        let (head, rest) = section.split_at_checked(SECTION_HEADER_BYTES).ok_or_else(cut)?;
        let (kind, length) = (get_u32(head, at::section::KIND), get_u32(head, at::section::LENGTH) as usize);
        let archive = rest.get(..length).ok_or_else(cut)?;
        if section_checksum(header, index, kind, archive) != get_u32(head, at::section::CHECKSUM) {
            return Err(damage(file, position, "an image's section does not check"));
        }
        let invalid = |_| damage(file, position, "an image's section is no valid archive");
        let mut copy: rkyv::util::AlignedVec = rkyv::util::AlignedVec::new();
        let aligned = match archive.as_ptr().align_offset(SECTION_HEADER_BYTES) {
            0 => archive,
            _ => {
                copy.extend_from_slice(archive);
                copy.as_slice()
            }
        };
        match kind {
            section_kind::SHARD => self.shard = rkyv::from_bytes::<_, Failure>(aligned).map_err(invalid)?,
            section_kind::PARTITION => {
                self.partitions.push(rkyv::from_bytes::<_, Failure>(aligned).map_err(invalid)?);
            }
            section_kind::SERVICE => {
                self.services.push(rkyv::from_bytes::<_, Failure>(aligned).map_err(invalid)?);
            }
            _ => return Err(damage(file, position, "an image's section is of no known kind")),
        }
        Ok(length)
    }
}

/// One effect of a checkpoint. The next begins when this one has completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointStep {
    /// Flush these segment files: the image says which of their bytes are written.
    FlushFiles(Vec<FileId>),
    SyncSegmentsDirectory,
    /// Complete this when the journal's durable stamp has reached it.
    AwaitDurable(Stamp),
    /// Write the image under its name in progress.
    WriteImage(u64),
    FlushImage(u64),
    RenameImage(u64),
    SyncImagesDirectory,
    /// Write the anchor's slot durably.
    WriteAnchor(Anchor),
    /// Tell the journal.
    ReleaseRing(RingPoint),
    /// Unlink an image that the anchor no longer keeps.
    RemoveImage(u64),
}

/// What a checkpoint begins with.
#[derive(Clone, Debug)]
pub struct CheckpointStart {
    /// The anchor that is durable now.
    pub anchor: Anchor,
    pub image: KeptImage,
    /// From [`ImageWriter::finish`].
    pub applied_max: Stamp,
    /// The journal's durable end now.
    pub durable_end: u64,
    /// Segment files with writes since their last flush.
    pub dirty_files: Vec<FileId>,
}

/// The steps of one checkpoint, one at a time.
#[derive(Debug)]
pub struct Checkpoint {
    steps: VecDeque<CheckpointStep>,
    under_way: bool,
}

impl Checkpoint {
    pub fn start(start: CheckpointStart) -> Checkpoint {
        let anchor = start.anchor.with_image(start.image, start.durable_end);
        let id = start.image.id;
        let mut steps = VecDeque::new();
        if !start.dirty_files.is_empty() {
            steps.push_back(CheckpointStep::FlushFiles(start.dirty_files));
        }
        steps.extend([
            CheckpointStep::SyncSegmentsDirectory,
            CheckpointStep::AwaitDurable(start.applied_max),
            CheckpointStep::WriteImage(id),
            CheckpointStep::FlushImage(id),
            CheckpointStep::RenameImage(id),
            CheckpointStep::SyncImagesDirectory,
            CheckpointStep::WriteAnchor(anchor),
            CheckpointStep::ReleaseRing(anchor.needed_point().ring_point()),
        ]);
        if let [_, Some(dropped)] = start.anchor.images
            && !anchor.images.contains(&Some(dropped))
        {
            steps.push_back(CheckpointStep::RemoveImage(dropped.id));
        }
        Checkpoint { steps, under_way: false }
    }

    /// The step to perform now; `None` while one is under way and when the checkpoint is over.
    pub fn next_step(&mut self) -> Option<CheckpointStep> {
        if self.under_way {
            return None;
        }
        let step = self.steps.front().cloned()?;
        self.under_way = true;
        Some(step)
    }

    /// The step that was handed out has completed. A failed step is never completed: the process ends.
    /// Returns the anchor that is durable now, if the step wrote one.
    pub fn step_done(&mut self) -> Option<Anchor> {
        assert!(self.under_way, "only a step that was handed out completes");
        self.under_way = false;
        match self.steps.pop_front() {
            Some(CheckpointStep::WriteAnchor(anchor)) => Some(anchor),
            _ => None,
        }
    }

    pub fn is_over(&self) -> bool {
        self.steps.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::epochs::EpochStart;

    fn point(sequence: u64) -> JournalPoint {
        JournalPoint { sequence, slot: 1, position: sequence * BLOCK_BYTES, previous_checksum: 9, stamp: sequence * 10 }
    }

    fn image() -> ShardImage {
        let partition = |partition: i32| PartitionRecord {
            applied_stamp: 300 + partition as u64,
            image: PartitionImage {
                topic: [3; 16],
                partition,
                log_start: 1,
                log_end: 7,
                epochs: vec![EpochStart { epoch: 2, start_offset: 0 }],
                segments: Vec::new(),
                producers: Vec::new(),
            },
            closed: partition == 2,
            open: vec![OpenRange { file: 7, start: 4096, end: 9000 }],
            tails: vec![TailRecord { file: 7, position: 4096, bytes: vec![partition as u8; 777 + partition as usize] }],
        };
        ShardImage {
            shard: ShardRecord { next_file_counter: 12, free_files: vec![FreeFile { file: 4, written_bytes: 8192 }] },
            partitions: (0..3).map(partition).collect(),
            services: vec![ServiceRecord { name: "groups".to_owned(), applied_stamp: 5, bytes: vec![1, 2, 3] }],
        }
    }

    fn encode(image: &ShardImage) -> (Vec<u8>, Stamp) {
        let mut writer = ImageWriter::new(JournalId(2), 8, point(3));
        image.partitions.iter().for_each(|record| writer.partition(record));
        image.services.iter().for_each(|record| writer.service(record));
        writer.finish(&image.shard)
    }

    const KEPT: fn() -> KeptImage = || KeptImage { id: 8, point: point(3) };

    #[test]
    fn an_image_comes_back_and_names_the_stamp_it_needs() {
        let (bytes, stamp) = encode(&image());
        assert_eq!(bytes.len() % BLOCK_BYTES as usize, 0);
        assert_eq!(stamp, Stamp(302));
        assert_eq!(ShardImage::decode("i", &bytes, JournalId(2), &KEPT()).unwrap(), image());
        let other = KeptImage { id: 9, ..KEPT() };
        assert!(ShardImage::decode("i", &bytes, JournalId(2), &other).is_err());
        assert!(ShardImage::decode("i", &bytes, JournalId(1), &KEPT()).is_err());
    }

    #[test]
    fn an_image_with_any_byte_of_content_changed_or_missing_is_refused() {
        let (bytes, _) = encode(&image());
        let header = ImageHeader::decode("i", &bytes).unwrap();
        let end = IMAGE_HEADER_BYTES + header.body_bytes as usize;
        let mut refused_count = 0;
        for at in (0..end).step_by(5) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            match ShardImage::decode("i", &damaged, JournalId(2), &KEPT()) {
                Ok(read) => assert_eq!((bytes[at], read), (0, image()), "only padding may change unseen"),
                Err(_) => refused_count += 1,
            }
            assert!(ShardImage::decode("i", &bytes[..at], JournalId(2), &KEPT()).is_err());
        }
        assert!(refused_count > end / 5 * 95 / 100);
    }

    fn start(anchor: Anchor, id: u64) -> CheckpointStart {
        CheckpointStart {
            anchor,
            image: KeptImage { id, point: point(id) },
            applied_max: Stamp(id * 10 + 3),
            durable_end: id,
            dirty_files: vec![FileId(1), FileId(2)],
        }
    }

    fn run(mut checkpoint: Checkpoint) -> (Vec<CheckpointStep>, Anchor) {
        let mut steps = Vec::new();
        let mut anchor = None;
        while let Some(step) = checkpoint.next_step() {
            assert_eq!(checkpoint.next_step(), None, "one step at a time");
            steps.push(step);
            anchor = anchor.or(checkpoint.step_done());
        }
        assert!(checkpoint.is_over());
        (steps, anchor.expect("every checkpoint writes an anchor"))
    }

    #[test]
    fn the_ring_moves_only_behind_the_older_image_and_after_the_anchor() {
        let anchor = Anchor::new(JournalId(2), [0; 16], 1 << 20, 1);
        let (first_steps, anchor) = run(Checkpoint::start(start(anchor, 1)));
        assert!(first_steps.contains(&CheckpointStep::ReleaseRing(RingPoint::default())));
        let (_, anchor) = run(Checkpoint::start(start(anchor, 2)));
        let (steps, anchor) = run(Checkpoint::start(start(anchor, 3)));
        assert_eq!(
            steps,
            [
                CheckpointStep::FlushFiles(vec![FileId(1), FileId(2)]),
                CheckpointStep::SyncSegmentsDirectory,
                CheckpointStep::AwaitDurable(Stamp(33)),
                CheckpointStep::WriteImage(3),
                CheckpointStep::FlushImage(3),
                CheckpointStep::RenameImage(3),
                CheckpointStep::SyncImagesDirectory,
                CheckpointStep::WriteAnchor(anchor),
                CheckpointStep::ReleaseRing(point(2).ring_point()),
                CheckpointStep::RemoveImage(1),
            ]
        );
        assert_eq!(anchor.images.map(|kept| kept.unwrap().id), [3, 2]);
        let (steps, anchor) = run(Checkpoint::start(start(anchor.without_image(3), 4)));
        assert_eq!(anchor.images.map(|kept| kept.unwrap().id), [4, 2]);
        assert_eq!(steps.last(), Some(&CheckpointStep::ReleaseRing(point(2).ring_point())), "image 2 is kept");
    }
}
