//! Another number of shards: what the journals of the old layout hold is taken over by new ones before any shard starts.
//!
//! Order: old journals recovered, nothing of them written → new journals, each with an image of its partitions, durable →
//! the superblock names them → the old ones removed. Before the superblock's write the old layout is whole and a stop costs
//! nothing; after it the new one is.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use super::arena::Arena;
use super::data_dir::DataDir;
use super::executor::{self, ExecutorConfig};
use super::shard::ShardConfig;
use super::shard_effects::make_ring_file;
use super::shard_recovery;
use super::tail_memory::TailMemory;
use crate::checkpoint::{ImageWriter, PartitionRecord, ShardRecord};
use crate::error::Fault;
use crate::journal::JournalPoint;
use crate::store::StoreConfig;
use crate::superblock::{Anchor, KeptImage};
use crate::units::{JournalId, TopicId};

/// Gives the directory `shards` journals if it has another number. Runs on this thread, before any shard.
pub fn reshard(dir: DataDir, shards: u16, config: ShardConfig) -> Result<DataDir, Fault> {
    if dir.journals().len() == usize::from(shards) {
        return Ok(dir);
    }
    executor::run(ExecutorConfig::default(), move || async move { take_over(dir, shards, config).await })?
}

async fn take_over(mut dir: DataDir, shards: u16, config: ShardConfig) -> Result<DataDir, Fault> {
    let old: Vec<JournalId> = dir.journals().to_vec();
    let first = old.iter().map(|journal| journal.0).max().unwrap_or(0) + 1;
    let new: Vec<JournalId> = (first..first + u32::from(shards)).map(JournalId).collect();
    tracing::info!(from = old.len(), to = new.len(), "taking over the journals of another number of shards");
    let mut records = Vec::new();
    for journal in &old {
        records.extend(recover(&dir, *journal, config).await?);
    }
    let used: BTreeSet<u64> =
        records.iter().flat_map(|record| &record.image.segments).map(|segment| segment.file).collect();
    let arena = Arena::new(64 << 20)?;
    for (journal, records) in new.iter().zip(deal(records, new.len())) {
        make_journal(&dir, *journal, &records, config.store, &arena).await?;
    }
    sync(&dir.images())?;
    dir.set_journals(new)?;
    clean_up(&dir, &old, &used)?;
    Ok(dir)
}

async fn recover(dir: &DataDir, journal: JournalId, config: ShardConfig) -> Result<Vec<PartitionRecord>, Fault> {
    let arena = Arena::new(config.arena_bytes)?;
    let mut memory = TailMemory::new(arena.clone(), config.tail_cache_bytes);
    let opened = shard_recovery::open(dir, journal, config.store, &arena, &mut memory).await?;
    Ok(opened.store.export(|slot, file, range, out| {
        memory.copy(slot, file, range, |bytes| out.extend_from_slice(bytes));
    }))
}

/// The metadata log stays on shard 0; the others go round.
fn deal(records: Vec<PartitionRecord>, shards: usize) -> Vec<Vec<PartitionRecord>> {
    let mut dealt: Vec<Vec<PartitionRecord>> = (0..shards).map(|_| Vec::new()).collect();
    let mut next = 0;
    for record in records {
        let metadata = record.image.topic == TopicId::CLUSTER_METADATA.0;
        let to = if metadata { 0 } else { next % shards };
        next += usize::from(!metadata);
        if let Some(place) = dealt.get_mut(to) {
            place.push(record);
        }
    }
    dealt
}

/// A journal that begins with an image of `records`, durable but for the name of its image.
pub(super) async fn make_journal(
    dir: &DataDir,
    journal: JournalId,
    records: &[PartitionRecord],
    config: StoreConfig,
    arena: &Arena,
) -> Result<(), Fault> {
    let home = dir.journal(journal);
    let made = || {
        if home.exists() {
            // Left by an attempt that was not finished: the superblock does not name it.
            std::fs::remove_dir_all(&home)?;
        }
        std::fs::create_dir_all(&home)
    };
    made().map_err(|error| failed("create", &home, &error))?;
    make_ring_file(dir, journal, 0, arena).await?;
    let kept = KeptImage { id: 1, point: JournalPoint::START };
    let mut writer = ImageWriter::new(journal, kept.id, kept.point);
    records.iter().for_each(|record| writer.partition(record));
    let (image, _) = writer.finish(&ShardRecord { next_file_counter: 0, free_files: Vec::new() });
    write(&dir.image(journal, kept.id), 0, &image)?;
    let anchor = Anchor::new(journal, dir.directory_id(), config.journal.ring_file_bytes, 1);
    let (slot, block) = anchor.with_image(kept, anchor.durable_end).encode();
    write(&dir.anchor(journal), slot as u64 * block.len() as u64, &*block)?;
    sync(&home)?;
    home.parent().map_or(Ok(()), sync)
}

fn clean_up(dir: &DataDir, old: &[JournalId], used: &BTreeSet<u64>) -> Result<(), Fault> {
    for journal in old {
        let home = dir.journal(*journal);
        std::fs::remove_dir_all(&home).map_err(|error| failed("remove", &home, &error))?;
        let prefix = format!("{:08x}-", journal.0);
        let images = dir.images();
        let entries = std::fs::read_dir(&images).map_err(|error| failed("read", &images, &error))?;
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
            std::fs::remove_file(entry.path()).map_err(|error| failed("remove", &entry.path(), &error))?;
        }
    }
    for (file, _) in dir.segment_files()? {
        let of_old = old.iter().any(|journal| u64::from(journal.0) == file.0 >> 32);
        if of_old && !used.contains(&file.0) {
            let path = dir.segment(file);
            std::fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
        }
    }
    Ok(())
}

fn write(path: &Path, position: u64, bytes: &[u8]) -> Result<(), Fault> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(position))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| failed("write", path, &error))
}

fn sync(path: &Path) -> Result<(), Fault> {
    std::fs::File::open(path).and_then(|opened| opened.sync_all()).map_err(|error| failed("sync", path, &error))
}

fn failed(operation: &'static str, path: &Path, error: &std::io::Error) -> Fault {
    Fault::io(operation, path.display().to_string(), 0, error)
}
