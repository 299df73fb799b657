//! Rebuilding a catalog from its log, in which whole snapshots may lie between the records.
//!
//! A snapshot (header, the records of a whole catalog, footer; KIP-630) replaces what came before it, but only once its
//! footer is there: one that was cut off by the end of the process is dropped, and the log has to get a whole one before
//! anything else is written.

use std::collections::BTreeSet;

use watershed_core::units::TopicId;

use super::image::{Catalog, ReplayError};
use super::record::MetadataRecord;

/// A catalog under construction.
#[derive(Debug, Default)]
pub struct Rebuild {
    catalog: Catalog,
    /// What the snapshot that has begun says so far.
    snapshot: Option<Catalog>,
    removed: BTreeSet<TopicId>,
}

/// A catalog as its log has it.
#[derive(Debug)]
pub struct Rebuilt {
    pub catalog: Catalog,
    /// Topics that the log says are gone. A topic's id is never used again.
    pub removed: BTreeSet<TopicId>,
    /// The log ends inside a snapshot.
    pub is_cut_off: bool,
}

impl Rebuild {
    /// A snapshot begins; one that began before was cut off.
    pub fn begin_snapshot(&mut self) {
        self.snapshot = Some(Catalog::default());
    }

    /// The snapshot is whole. Returns whether one had begun.
    pub fn end_snapshot(&mut self) -> bool {
        let snapshot = self.snapshot.take();
        let had_begun = snapshot.is_some();
        self.catalog = snapshot.unwrap_or_else(|| std::mem::take(&mut self.catalog));
        had_begun
    }

    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        if let MetadataRecord::RemoveTopic(removed) = record {
            self.removed.insert(removed.topic_id);
        }
        self.snapshot.as_mut().unwrap_or(&mut self.catalog).replay(record).map(|_| ())
    }

    /// The log has ended.
    pub fn finish(self) -> Rebuilt {
        Rebuilt { catalog: self.catalog, removed: self.removed, is_cut_off: self.snapshot.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{RemoveTopicRecord, TopicRecord};
    use super::*;

    fn topic(name: &str, id: u8) -> MetadataRecord {
        TopicRecord { name: name.to_owned(), topic_id: TopicId([id; 16]) }.into()
    }

    fn names(catalog: &Catalog) -> Vec<&str> {
        catalog.topics().map(|topic| topic.name.as_str()).collect()
    }

    #[test]
    fn a_whole_snapshot_replaces_what_came_before_it() {
        let mut rebuild = Rebuild::default();
        rebuild.replay(&topic("old", 1)).unwrap();
        rebuild.begin_snapshot();
        rebuild.replay(&topic("kept", 2)).unwrap();
        assert!(rebuild.end_snapshot());
        rebuild.replay(&topic("new", 3)).unwrap();
        let rebuilt = rebuild.finish();
        assert_eq!((names(&rebuilt.catalog), rebuilt.is_cut_off), (vec!["kept", "new"], false));
    }

    #[test]
    fn what_was_removed_stays_known_behind_a_snapshot() {
        let mut rebuild = Rebuild::default();
        rebuild.replay(&topic("gone", 1)).unwrap();
        rebuild.replay(&RemoveTopicRecord { topic_id: TopicId([1; 16]) }.into()).unwrap();
        rebuild.begin_snapshot();
        rebuild.replay(&topic("kept", 2)).unwrap();
        assert!(rebuild.end_snapshot());
        assert_eq!(rebuild.finish().removed, BTreeSet::from([TopicId([1; 16])]));
    }

    #[test]
    fn a_snapshot_that_was_cut_off_changes_nothing() {
        let mut rebuild = Rebuild::default();
        rebuild.replay(&topic("old", 1)).unwrap();
        rebuild.begin_snapshot();
        rebuild.replay(&topic("half", 2)).unwrap();
        rebuild.begin_snapshot();
        rebuild.replay(&topic("half again", 2)).unwrap();
        let rebuilt = rebuild.finish();
        assert_eq!((names(&rebuilt.catalog), rebuilt.is_cut_off), (vec!["old"], true));
        assert!(!Rebuild::default().end_snapshot(), "a footer without a header is damage");
    }
}
