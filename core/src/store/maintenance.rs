//! What time brings: retention, forgotten producers, files written ahead. In slices, so that no turn is held up.

use std::ops::Bound;

use super::{Effect, Op, Outcome, Store};
use crate::journal::{Change, Quota};
use crate::units::{FileId, Now, TopicPartition};

/// Partitions looked at in one slice.
const SLICE_PARTITIONS_COUNT: usize = 256;

impl Store {
    /// Looks at the next few partitions. Returns whether the round is over; a round begins again with the next call.
    pub fn tick(&mut self, now: Now) -> bool {
        let deletes = self.clock.observe(now);
        let from = self.maintenance_at.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.keys.range((from, Bound::Unbounded));
        let keys: Vec<_> = range.map(|(key, _)| *key).take(SLICE_PARTITIONS_COUNT).collect();
        for key in &keys {
            if !self.journal.admits(0, Quota::Control) {
                return false;
            }
            if deletes {
                self.retain(now, *key);
            }
            self.expire_producers(now, *key);
            self.maintenance_at = Some(*key);
        }
        let over = keys.len() < SLICE_PARTITIONS_COUNT;
        if over {
            self.maintenance_at = None;
        }
        over
    }

    /// Whether deletes wait until the wall clock, which jumped, has run steadily or an operator vouches for it.
    pub fn is_retention_suspended(&self) -> bool {
        self.clock.is_suspended()
    }

    fn retain(&mut self, now: Now, key: TopicPartition) {
        let Ok(tenant) = self.tenant_mut(key) else { return };
        if !tenant.configured {
            return;
        }
        let Some(offset) = tenant.partition.retention(now) else { return };
        let start = tenant.partition.retain_from(offset);
        let stamp = self.push(now, key, Change::LogStart { offset: start.log_start });
        self.leave(stamp, key, start.dropped);
    }

    fn expire_producers(&mut self, now: Now, key: TopicPartition) {
        let Ok(tenant) = self.tenant_mut(key) else { return };
        for producer_id in tenant.partition.expired_producers(now) {
            self.push(now, key, Change::ProducerExpire { producer_id });
            if let Ok(tenant) = self.tenant_mut(key) {
                tenant.partition.expire_producer(producer_id);
            }
        }
    }

    /// One file for the pool, if it is wanted and nothing else is to be written.
    pub(super) fn next_pool_effect(&mut self) -> Option<Effect> {
        if self.creating_pool_file || self.disk_full || !self.files.wants_pool_file() || self.drains_in_flight > 0 {
            return None;
        }
        self.creating_pool_file = true;
        let file = self.files.fresh();
        let op = self.begin(Op::PoolFile(file));
        let allocate_bytes = crate::limits::SEGMENT_FILE_BYTES;
        Some(Effect::CreateFile { op, file, allocate_bytes, write_zeroes: true })
    }

    pub(super) fn pool_file_created(&mut self, file: FileId, outcome: Outcome) {
        self.creating_pool_file = false;
        match outcome {
            Outcome::Done => self.files.pooled(file),
            Outcome::NoSpace => {
                self.disk_full = true;
                let op = self.begin(Op::Remove);
                self.effects.push_back(Effect::RemoveFile { op, file });
            }
        }
    }
}
