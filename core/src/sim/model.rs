//! What must be true whatever fails: the logs as their clients know them.
//!
//! Owns, of each partition's incarnations, every batch that was placed and what was promised about it. Never looks into the
//! store beyond what a client or a reader could see.

use std::collections::BTreeMap;

use crate::partition::Partition;
use crate::units::{Stamp, TopicPartition};

/// A batch that was placed.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub number: u64,
    pub checksum: u32,
    pub stamp: Stamp,
}

/// One life of a partition between its creation and its drop.
#[derive(Clone, Debug)]
pub struct Incarnation {
    pub epoch: i32,
    pub created: Stamp,
    pub dropped: Option<Stamp>,
    /// By base offset; each holds one record.
    pub sent: BTreeMap<i64, Sent>,
    /// Moves of the log start and their stamps.
    pub starts: Vec<(i64, Stamp)>,
    pub visible: i64,
}

/// Everything that was promised.
#[derive(Debug, Default)]
pub struct Model {
    partitions: BTreeMap<TopicPartition, Vec<Incarnation>>,
}

impl Incarnation {
    fn start_at(&self, durable: Stamp) -> i64 {
        self.starts.iter().filter(|(_, stamp)| *stamp <= durable).map(|(offset, _)| *offset).max().unwrap_or(0)
    }

    fn durable_end(&self, durable: Stamp) -> i64 {
        let acknowledged = self.sent.iter().rev().find(|(_, sent)| sent.stamp <= durable);
        acknowledged.map_or(0, |(base, _)| base + 1)
    }
}

impl Model {
    pub fn created(&mut self, key: TopicPartition, epoch: i32, stamp: Stamp) {
        let new =
            Incarnation { epoch, created: stamp, dropped: None, sent: BTreeMap::new(), starts: Vec::new(), visible: 0 };
        self.partitions.entry(key).or_default().push(new);
    }

    /// The incarnation that takes appends.
    pub fn current(&mut self, key: TopicPartition) -> Option<&mut Incarnation> {
        self.partitions.get_mut(&key)?.last_mut().filter(|incarnation| incarnation.dropped.is_none())
    }

    /// Checks a live partition: the invariants of its ends, and that nothing is visible that is not durable.
    pub fn observe(&mut self, partition: &Partition, durable: Stamp) -> Result<(), String> {
        let key = partition.id();
        let (start, stable, high) = (partition.log_start(), partition.last_stable(), partition.high_watermark());
        let (end, flushed) = (partition.log_end(), partition.durable_end());
        if !(start <= stable && stable <= high && high <= end && high <= flushed && flushed <= end) {
            return Err(format!("{key}: ends {start} {stable} {high} {flushed} {end} are out of order"));
        }
        let incarnation = self.current(key).ok_or_else(|| format!("{key} lives but was dropped"))?;
        let promised = incarnation.durable_end(durable);
        if high > promised.max(incarnation.visible) {
            return Err(format!("{key}: offsets below {high} are visible, durable are those below {promised}"));
        }
        if high < incarnation.visible {
            return Err(format!("{key}: the high watermark fell from {} to {high}", incarnation.visible));
        }
        incarnation.visible = high;
        Ok(())
    }

    /// After a start: which incarnation came back, and that it holds all that was promised. `durable` is the last stamp that
    /// was acknowledged before. Forgets what was lost by right.
    pub fn recovered(&mut self, partition: &Partition, durable: Stamp) -> Result<(), String> {
        let key = partition.id();
        let epoch = partition.leader_epoch();
        let all = self.partitions.entry(key).or_default();
        let at = all.iter().rposition(|incarnation| incarnation.epoch == epoch || epoch < 0);
        let at = at.ok_or_else(|| format!("{key} came back in an epoch {epoch} that nobody assigned"))?;
        all.truncate(at + 1);
        let Some(incarnation) = all.last_mut() else { return Ok(()) };
        if incarnation.dropped.is_some_and(|stamp| stamp <= durable) {
            return Err(format!("{key} came back after its drop was durable"));
        }
        incarnation.dropped = None;
        let (start, end) = (partition.log_start(), partition.log_end());
        let promised = incarnation.durable_end(durable).max(incarnation.visible);
        if end < promised {
            return Err(format!("{key} ends at {end}, promised was {promised}"));
        }
        if start < incarnation.start_at(durable) || start > incarnation.start_at(Stamp(u64::MAX)) {
            return Err(format!(
                "{key} begins at {start}, which is not where it was moved to: {:?}",
                incarnation.starts
            ));
        }
        incarnation.sent.retain(|base, _| *base < end);
        for sent in incarnation.sent.values_mut() {
            sent.stamp = Stamp(0);
        }
        incarnation.created = Stamp(0);
        incarnation.starts = vec![(start, Stamp(0))];
        incarnation.visible = end;
        Ok(())
    }

    /// After a start: that no partition is missing. Forgets those that are gone by right.
    pub fn absent(&mut self, key: TopicPartition, durable: Stamp) -> Result<(), String> {
        let Some(last) = self.partitions.get(&key).and_then(|all| all.last()) else { return Ok(()) };
        let lives = self.partitions.get(&key).into_iter().flatten();
        let kept =
            lives.into_iter().any(|life| life.created <= durable && life.dropped.is_none() && life.epoch == last.epoch);
        if kept {
            return Err(format!("{key} is gone"));
        }
        self.partitions.remove(&key);
        Ok(())
    }

    /// Compares a batch that was read.
    pub fn check(&self, key: TopicPartition, base_offset: i64, checksum: u32) -> Result<(), String> {
        let sent = self.partitions.get(&key).and_then(|all| all.last()).and_then(|life| life.sent.get(&base_offset));
        match sent {
            Some(sent) if sent.checksum == checksum => Ok(()),
            Some(sent) => Err(format!("{key} at {base_offset}: value {} came back changed", sent.number)),
            None => Err(format!("{key} at {base_offset}: a batch that was never placed there")),
        }
    }
}
