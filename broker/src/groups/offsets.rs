//! Committed offsets of one group: they change by replayed records only.

use std::collections::BTreeMap;

use super::record::{GroupRecord, OffsetCommitValue};

/// Offsets by topic and partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    by_topic: BTreeMap<String, BTreeMap<i32, OffsetCommitValue>>,
}

impl Offsets {
    pub(super) fn set(&mut self, topic: &str, partition: i32, value: Option<OffsetCommitValue>) {
        match value {
            Some(value) => {
                self.by_topic.entry(topic.to_owned()).or_default().insert(partition, value);
            }
            None => {
                let Some(partitions) = self.by_topic.get_mut(topic) else {
                    return;
                };
                partitions.remove(&partition);
                if partitions.is_empty() {
                    self.by_topic.remove(topic);
                }
            }
        }
    }

    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<&OffsetCommitValue> {
        self.by_topic.get(topic)?.get(&partition)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// Topic, partition and what is committed, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, i32, &OffsetCommitValue)> {
        self.by_topic.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, value)| (topic.as_str(), *partition, value))
        })
    }

    /// Tombstones for those of which `ended` holds.
    pub(super) fn tombstones(
        &self,
        group: &str,
        ended: impl Fn(&str, i32, &OffsetCommitValue) -> bool,
    ) -> Vec<GroupRecord> {
        let ended = self.iter().filter(|(topic, partition, value)| ended(topic, *partition, value));
        ended.map(|(topic, partition, _)| tombstone(group, topic, partition)).collect()
    }
}

pub(super) fn tombstone(group: &str, topic: &str, partition: i32) -> GroupRecord {
    GroupRecord::Offset { group: group.to_owned(), topic: topic.to_owned(), partition, value: None }
}
