//! Appending one record batch: judged, placed, then journaled, in one synchronous stretch.

use super::files::Expected;
use super::planted::Bug;
use super::{Store, StoreConfig};
use crate::batch::{BatchHeader, LOG_APPEND_TIME, NO_PRODUCER};
use crate::error::Refusal;
use crate::journal::{Append, Change, Origin, Place, Quota};
use crate::partition::Verdict;
use crate::units::{FileId, Now, Slot, Stamp, TopicPartition};

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appending {
    /// The driver sets base offset, leader epoch and append time in the batch, puts it into memory at its place, then calls
    /// [`Store::placed`], all before anything else.
    Placed(Placed),
    /// It was appended before: answer with the old offset when the stamp is durable.
    Duplicate { base_offset: i64, append_time_ms: i64, log_start: i64, stamp: Stamp },
}

/// A batch's offsets and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub key: TopicPartition,
    pub base_offset: i64,
    pub end_offset: i64,
    pub leader_epoch: i32,
    /// The log append time to set in the batch; -1 under create time.
    pub append_time_ms: i64,
    pub log_start: i64,
    pub slot: Slot,
    pub file: FileId,
    pub position: u64,
    pub length: u32,
    /// Written straight into its segment: memory must hold it from `position` on, padded to whole blocks.
    pub reference: bool,
    segment_base: i64,
    max_timestamp: i64,
    origin: Origin,
}

impl Store {
    /// Judges a batch and gives it its place. The batch itself was checked before.
    pub fn append(&mut self, now: Now, key: TopicPartition, header: &BatchHeader) -> Result<Appending, Refusal> {
        let tenant = self.tenant(key)?;
        if let Verdict::Duplicate { base_offset, append_time_ms, stamp } = tenant.partition.check_append(now, header)? {
            let log_start = tenant.partition.log_start();
            return Ok(Appending::Duplicate { base_offset, append_time_ms, log_start, stamp });
        }
        let settings = tenant.partition.settings();
        let is_reference = settings.is_reference(header.bytes);
        let quota = if settings.control { Quota::Control } else { Quota::Records };
        if self.disk_full && (quota == Quota::Records || is_reference) {
            return Err(Refusal::DiskFull);
        }
        let inline_bytes = if is_reference { 0 } else { header.bytes };
        if !self.journal.admits(inline_bytes, quota) {
            return Err(Refusal::Overloaded);
        }
        if tenant.partition.must_roll(now, header) {
            self.roll(now, key, header)?;
        }
        let slot = self.slot(key).ok_or(Refusal::UnknownPartition)?;
        let tenant = self.tenant_mut(key)?;
        let appended = tenant.partition.append(now, header);
        let by_broker = appended.append_time_ms >= 0;
        let attributes = if by_broker { header.attributes | LOG_APPEND_TIME } else { header.attributes };
        Ok(Appending::Placed(Placed {
            key,
            base_offset: appended.base_offset,
            end_offset: appended.end_offset,
            leader_epoch: appended.leader_epoch,
            append_time_ms: appended.append_time_ms,
            log_start: tenant.partition.log_start(),
            slot,
            file: appended.file,
            position: appended.position,
            length: header.bytes,
            reference: appended.aligned,
            segment_base: appended.segment_base,
            max_timestamp: if by_broker { appended.append_time_ms } else { header.max_timestamp },
            origin: Origin { attributes, ..Origin::of(header) },
        }))
    }

    /// The batch lies in memory: journals it. `checksum` is the CRC-32C of its final bytes, needed for references only.
    pub fn placed(&mut self, now: Now, placed: &Placed, checksum: u32) -> Stamp {
        let forgotten = self.config.has_bug(Bug::OriginForgotten);
        let producer_id = if forgotten { NO_PRODUCER } else { placed.origin.producer_id };
        let origin = Some(Origin { producer_id, ..placed.origin });
        let place = match placed.reference {
            true => Place::Segment { file: placed.file, checksum, origin },
            false => Place::Inline,
        };
        let change = Change::Append(Append {
            leader_epoch: placed.leader_epoch,
            base_offset: placed.base_offset,
            end_offset: placed.end_offset,
            segment_base: placed.segment_base,
            position: u32::try_from(placed.position).expect("a segment's file is limited"),
            length: placed.length,
            max_timestamp: placed.max_timestamp,
            place,
        });
        let stamp = self.push(now, placed.key, change);
        if let Ok(tenant) = self.tenant_mut(placed.key) {
            tenant.partition.stamped(stamp);
        }
        self.unacknowledged.push_back((stamp, placed.key));
        self.checkpointing.appended(u64::from(placed.length));
        self.submit(placed, stamp);
        stamp
    }

    fn submit(&mut self, placed: &Placed, stamp: Stamp) {
        let range = placed.position..placed.position + u64::from(placed.length);
        if !placed.reference {
            self.inline_files.insert(stamp, (placed.slot, placed.file));
            self.files.placed(placed.file, range);
            return;
        }
        if self.config.has_bug(Bug::ReferenceByFrameAlone) {
            self.journal.segment_written(stamp);
        }
        match self.files.placed_aligned(placed.file, range.clone()) {
            Some(stretch) => {
                let effect = self.write_stretch(stretch, true, Some(stamp));
                self.effects.push_back(effect);
            }
            None => {
                self.references.insert((placed.file, range.start), stamp);
            }
        }
    }

    /// Seals the active segment and opens the next one, in a file for what is expected.
    fn roll(&mut self, now: Now, key: TopicPartition, header: &BatchHeader) -> Result<(), Refusal> {
        let tenant = self.tenant(key)?;
        let full = |bytes: u64| bytes >= crate::limits::SEGMENT_FILE_BYTES / 2;
        let was_full = tenant.partition.segments().active().is_some_and(|active| full(active.end_position()));
        let slot = self.slot(key).ok_or(Refusal::UnknownPartition)?;
        let is_large = tenant.partition.settings().is_reference(header.bytes);
        let expected = match is_large {
            true if was_full || self.files.may_reserve() => Expected::Runs,
            false if was_full => Expected::Much,
            _ => Expected::Little,
        };
        let file = self.files.take(slot, expected);
        let rolled = self.tenant_mut(key)?.partition.roll(now, file);
        if let Some(sealed) = rolled.sealed {
            self.files.seal(sealed.file);
        }
        self.push(now, key, Change::Roll { base_offset: rolled.base_offset, file });
        Ok(())
    }
}

impl StoreConfig {
    /// Limits at which everything wraps, rolls and checkpoints within a few thousand appends.
    pub fn small() -> StoreConfig {
        let journal = crate::journal::JournalConfig {
            ring_file_bytes: 1 << 20,
            ring_files_max: 4,
            frame_bytes_max: 256 << 10,
            control_reserve_bytes: 64 << 10,
            ..crate::journal::JournalConfig::default()
        };
        StoreConfig { journal, pool_files_max: 2, checkpoint_bytes: 512 << 10, ..StoreConfig::default() }
    }
}
