//! Expiry: which committed offsets are old enough to go.
//!
//! Kafka's rules (`ClassicGroup.offsetExpirationCondition`): of a group that had members from when it became empty, of one
//! that never had from the commit; while consumers are stable, only what none of them subscribes to.

use std::collections::BTreeSet;

use super::group::{Group, State};
use super::record::{GroupRecord, OffsetCommitValue};

impl Group {
    /// Tombstones of what has expired at `now_ms`, and of the group itself if it then holds nothing.
    pub(super) fn expired(&self, now_ms: i64, retention_ms: i64) -> Vec<GroupRecord> {
        let expiry = self.expiry();
        let ended =
            |topic: &str, _: i32, value: &OffsetCommitValue| expiry.has_come(topic, value, now_ms, retention_ms);
        let mut records = self.offsets.tombstones(&self.id, ended);
        let holds_nothing = records.len() == self.offsets.iter().count();
        let has_no_one = self.state == State::Empty && self.pending.is_empty();
        if has_no_one && holds_nothing && self.stored.is_some() {
            records.push(self.tombstone());
        }
        records
    }

    fn expiry(&self) -> Expiry {
        match (self.state, &self.protocol_type) {
            (State::Empty, Some(_)) => Expiry::SinceEmpty(self.since_ms),
            (State::Empty, None) => Expiry::SinceCommit,
            (State::Stable, _) => self.subscribed_topics().map_or(Expiry::Never, Expiry::Unsubscribed),
            _ => Expiry::Never,
        }
    }
}

/// From when offsets of a group count, and which topics are kept whatever their age.
enum Expiry {
    /// From when the group became empty, but not before the commit.
    SinceEmpty(i64),
    /// From the commit; the group never had members.
    SinceCommit,
    /// From the commit, for topics that no member subscribes to.
    Unsubscribed(BTreeSet<String>),
    /// Never: it has members, and what they use is not known.
    Never,
}

impl Expiry {
    /// Whether an offset may go.
    fn has_come(&self, topic: &str, value: &OffsetCommitValue, now_ms: i64, retention_ms: i64) -> bool {
        let since_ms = match self {
            Expiry::Never => return false,
            Expiry::Unsubscribed(topics) if topics.contains(topic) => return false,
            Expiry::SinceEmpty(empty_ms) => (*empty_ms).max(value.commit_timestamp),
            Expiry::SinceCommit | Expiry::Unsubscribed(_) => value.commit_timestamp,
        };
        match value.expire_timestamp {
            // An expiry of its own, as version 2 to 4 of OffsetCommit could ask for.
            expire_ms if expire_ms >= 0 => now_ms >= expire_ms,
            _ => now_ms.saturating_sub(since_ms) >= retention_ms,
        }
    }
}
