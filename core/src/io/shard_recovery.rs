//! The driver of a recovery: reads what the machine needs and puts tails back into memory.

use std::collections::BTreeMap;

use super::arena::Arena;
use super::data_dir::DataDir;
use super::executor::machine_now;
use super::file::{self, File};
use super::shard_effects::{DIRECT, DIRECT_NEW, make_ring_file};
use super::tail_memory::TailMemory;
use crate::error::Fault;
use crate::store::recovery::{Need, Recovery};
use crate::store::{Store, StoreConfig};
use crate::superblock::{Anchor, SLOT_BYTES, is_in_doubt};
use crate::units::{BLOCK_BYTES, FileId, JournalId, block_ceil, block_floor};

/// A store that is ready to run, and its files.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) anchor_file: File,
    pub(super) ring_files: BTreeMap<u32, File>,
}

/// Recovers the journal, or makes it if it was never started.
pub(super) async fn open(
    dir: &DataDir,
    journal: JournalId,
    config: StoreConfig,
    arena: &Arena,
    memory: &mut TailMemory,
) -> Result<Opened, Fault> {
    let path = dir.anchor(journal);
    match std::fs::read(&path) {
        Ok(bytes) if bytes.len() >= SLOT_BYTES => recover(dir, journal, config, arena, memory, &bytes).await,
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Fault::io("read", path.display().to_string(), 0, &error))
        }
        _ => {
            dir.expect_unused(journal)?;
            create(dir, journal, config, arena).await
        }
    }
}

async fn create(dir: &DataDir, journal: JournalId, config: StoreConfig, arena: &Arena) -> Result<Opened, Fault> {
    let home = dir.journal(journal);
    match file::mkdir(&home).await {
        Err(fault) if fault.errno() != Some(libc::EEXIST) => return Err(fault),
        _ => {}
    }
    let ring = make_ring_file(dir, journal, 0, arena).await?;
    // The anchor is last: a journal without one was never used.
    let anchor_file = File::open(dir.anchor(journal), DIRECT_NEW).await?;
    file::sync_dir(&home).await?;
    if let Some(journals) = home.parent() {
        file::sync_dir(journals).await?;
    }
    file::sync_dir(dir.path()).await?;
    let (store, _) = Store::create(config, journal, dir.directory_id());
    Ok(Opened { store, anchor_file, ring_files: BTreeMap::from([(0, ring)]) })
}

async fn recover(
    dir: &DataDir,
    journal: JournalId,
    config: StoreConfig,
    arena: &Arena,
    memory: &mut TailMemory,
    anchor: &[u8],
) -> Result<Opened, Fault> {
    let path = dir.anchor(journal);
    let in_doubt = is_in_doubt(anchor);
    let anchor = Anchor::decode(&path.display().to_string(), anchor, dir.directory_id(), journal)?;
    let mut ring_files = BTreeMap::new();
    let anchor = Anchor { ring_files_count: ring_files_count(dir, &anchor), ..anchor };
    dir.expect_whole_ring(&anchor)?;
    for slot in 0..anchor.ring_files_count {
        let file = File::open(dir.ring(journal, slot), DIRECT).await?;
        // What replay will take for durable must be.
        file.fdatasync().await?;
        ring_files.insert(slot, file);
    }
    let lengths: BTreeMap<FileId, u64> = dir.segment_files()?.into_iter().collect();
    let recovery = Recovery::new(config, anchor, lengths.clone(), machine_now());
    let mut recovery = if in_doubt { recovery.doubting_anchor() } else { recovery };
    while let Some(need) = recovery.need() {
        let bytes = read(dir, journal, &ring_files, arena, &need).await?;
        recovery.supply(&bytes)?;
        for (slot, file) in recovery.take_forgotten() {
            memory.forget(slot, file);
        }
        for restored in recovery.take_restored() {
            memory.restore(restored.slot, restored.file, restored.position, &restored.bytes);
        }
    }
    let (store, report) = recovery.finish();
    tracing::info!(
        journal = journal.0,
        clean = report.was_clean,
        frames = report.frames_count,
        bytes = report.frame_bytes,
        entries = report.entries_count,
        partitions = store.partitions().count(),
        "recovered"
    );
    for why in &report.images_refused {
        tracing::warn!(journal = journal.0, %why, "an image was refused; the older one serves");
    }
    for (partition, why) in &report.damaged {
        tracing::error!(%partition, %why, "a partition failed closed");
    }
    let unused: Vec<_> = store.unused(lengths.keys().copied()).collect();
    for id in unused {
        file::unlink(&dir.segment(id)).await?;
    }
    let anchor_file = File::open(path, DIRECT).await?;
    Ok(Opened { store, anchor_file, ring_files })
}

/// What the anchor says, and whole files behind those: the ring may have grown after a slot of the anchor that is lost.
fn ring_files_count(dir: &DataDir, anchor: &Anchor) -> u32 {
    let is_whole = |slot: &u32| {
        let file = std::fs::metadata(dir.ring(anchor.journal, *slot));
        file.is_ok_and(|file| file.len() == anchor.ring_file_bytes)
    };
    (anchor.ring_files_count..u32::MAX).find(|slot| !is_whole(slot)).unwrap_or(anchor.ring_files_count)
}

async fn read(
    dir: &DataDir,
    journal: JournalId,
    ring_files: &BTreeMap<u32, File>,
    arena: &Arena,
    need: &Need,
) -> Result<Vec<u8>, Fault> {
    match need {
        // An image that cannot be read is judged as a damaged one.
        Need::Image { id } => Ok(std::fs::read(dir.image(journal, *id)).unwrap_or_default()),
        Need::Ring(read) => {
            let file = ring_files.get(&read.slot).ok_or(Fault::Corrupt {
                file: dir.ring(journal, read.slot).display().to_string(),
                position: 0,
                what: "a file of the ring is missing",
            })?;
            let mut bytes = read_stretch(file, arena, read.position, u64::from(read.length)).await?;
            bytes.resize(read.length as usize, 0);
            Ok(bytes)
        }
        Need::Segment { file, position, length } => {
            let opened = match File::open(dir.segment(*file), DIRECT).await {
                Err(fault) if fault.errno() == Some(libc::ENOENT) => return Ok(Vec::new()),
                opened => opened?,
            };
            read_stretch(&opened, arena, *position, *length).await
        }
    }
}

/// Reads what there is of a stretch, in steps.
async fn read_stretch(file: &File, arena: &Arena, position: u64, length: u64) -> Result<Vec<u8>, Fault> {
    const STEP_BYTES: u64 = 1 << 20;
    let (from, to) = (block_floor(position), block_ceil(position + length));
    let mut bytes = Vec::new();
    let mut at = from;
    while at < to {
        let step = (to - at).min(STEP_BYTES) as usize;
        let lease =
            arena.try_alloc(step.max(BLOCK_BYTES as usize)).ok_or(Fault::NoSpace { what: "a recovery buffer" })?;
        let (lease, read) = file.read_at(lease, at, step).await?;
        bytes.extend_from_slice(lease.get(..read).unwrap_or_default());
        at += step as u64;
        if read < step {
            break;
        }
    }
    let head = (position - from) as usize;
    bytes.drain(..head.min(bytes.len()));
    bytes.truncate(length as usize);
    Ok(bytes)
}
