//! Coordinators: the groups of one partition of `__consumer_offsets`.
//!
//! Owns the table of groups and their clock. What a call returns as records changes committed offsets only once it was
//! appended and handed back to [`Coordinator::replay`]; recovery replays the same records and then calls
//! [`Coordinator::loaded`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use watershed_core::units::Now;

use super::group::{Group, State};
use super::member::Member;
use super::offsets::tombstone;
use super::record::{GroupRecord, OffsetCommitValue};
use super::{
    Answer, Effects, GroupSettings, Join, Joined, Speaker, Sync, Synced, Turn, Waiter, monotonic_ms, subscription,
};
use crate::wire::error_code::ErrorCode;

/// What an OffsetCommit asks.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    pub speaker: Speaker,
    /// `None`: the broker's.
    pub retention_ms: Option<i64>,
    pub parts: Vec<CommitPart>,
}

/// One partition's offset.
#[derive(Clone, Debug, Default)]
pub struct CommitPart {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub group: String,
    pub protocol_type: String,
    pub state: &'static str,
}

/// A group as DescribeGroups tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub state: &'static str,
    pub protocol_type: String,
    /// Empty unless the group is stable.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    pub id: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Vec<u8>,
    pub assignment: Vec<u8>,
}

/// The groups of one log.
#[derive(Clone, Debug, Default)]
pub struct Coordinator {
    settings: GroupSettings,
    groups: BTreeMap<String, Group>,
    /// When to look at which group again; one entry a group at most.
    clock: BTreeSet<(u64, String)>,
}

impl Coordinator {
    pub fn new(settings: GroupSettings) -> Coordinator {
        Coordinator { settings, ..Coordinator::default() }
    }

    /// Works by these limits from now on. What was begun under others is not taken back.
    pub fn configure(&mut self, settings: GroupSettings) {
        self.settings = settings;
    }

    /// Takes in a record that the log holds.
    pub fn replay(&mut self, record: GroupRecord) {
        let (GroupRecord::Offset { group: id, .. } | GroupRecord::Group { group: id, .. }) = &record;
        let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(id, 0));
        match record {
            GroupRecord::Offset { topic, partition, value, .. } => group.offsets.set(&topic, partition, value),
            GroupRecord::Group { value, .. } => group.stored = value,
        }
        if group.is_void() {
            let id = group.id.clone();
            self.remove(&id);
        }
    }

    /// Every record of the log was replayed: groups begin to live.
    pub fn loaded(&mut self, now: Now) {
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        for id in ids {
            if let Some(group) = self.groups.get_mut(&id) {
                group.restore(monotonic_ms(now));
            }
            self.settle(&id);
        }
    }

    /// All that the log has to hold of the first group after this one, with what it holds now: who writes it anew goes
    /// from group to group.
    pub fn live_records(&self, after: Option<&str>) -> Option<(String, Vec<GroupRecord>)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (id, group) = self.groups.range::<str, _>((start, Bound::Unbounded)).next()?;
        let stored = group.stored.clone().map(|value| GroupRecord::Group { group: id.clone(), value: Some(value) });
        let offsets = group.offsets.iter().map(|(topic, partition, value)| GroupRecord::Offset {
            group: id.clone(),
            topic: topic.to_owned(),
            partition,
            value: Some(value.clone()),
        });
        Some((id.clone(), stored.into_iter().chain(offsets).collect()))
    }

    /// The waiter is answered now or later.
    pub fn join(&mut self, id: &str, join: Join, waiter: Waiter, now: Now) -> Effects {
        let mut effects = Effects::default();
        let timeouts_ms = self.settings.session_timeout_min_ms..=self.settings.session_timeout_max_ms;
        let refusal = if id.is_empty() {
            Some(ErrorCode::InvalidGroupId)
        } else if !timeouts_ms.contains(&join.session_timeout_ms) {
            Some(ErrorCode::InvalidSessionTimeout)
        } else if !self.groups.contains_key(id) && !join.member_id.is_empty() {
            Some(ErrorCode::UnknownMemberId)
        } else {
            None
        };
        if let Some(error) = refusal {
            effects.joined(waiter, Joined::refused(error, join.member_id));
            return effects;
        }
        self.groups.entry(id.to_owned()).or_insert_with(|| Group::new(id, now.wall_ms));
        self.turn(id, now, |group, turn| group.join(join, waiter, turn)).map_or(effects, |((), effects)| effects)
    }

    /// The waiter is answered now or later.
    pub fn sync(&mut self, id: &str, sync: Sync, waiter: Waiter, now: Now) -> Effects {
        match self.turn(id, now, |group, turn| group.sync(sync, waiter, turn)) {
            Ok(((), effects)) => effects,
            Err(error) => {
                Effects { answers: vec![(waiter, Answer::Synced(Synced::refused(error)))], ..Effects::default() }
            }
        }
    }

    pub fn heartbeat(&mut self, id: &str, speaker: &Speaker, now: Now) -> Result<(), ErrorCode> {
        // A session only gets longer: the clock is looked at when it strikes.
        self.known(id)?.heartbeat(speaker, monotonic_ms(now))
    }

    /// The result for each member, named by its id, its instance id or both.
    pub fn leave(
        &mut self,
        id: &str,
        members: &[(String, Option<String>)],
        now: Now,
    ) -> (Vec<Result<(), ErrorCode>>, Effects) {
        let left = self.turn(id, now, |group, turn| {
            members.iter().map(|(member, instance)| group.leave(member, instance.as_deref(), turn)).collect()
        });
        left.unwrap_or_else(|error| (vec![Err(error); members.len()], Effects::default()))
    }

    /// The result for each part. Offsets change when the records are replayed.
    pub fn commit(&mut self, id: &str, commit: Commit, now: Now) -> (Vec<Result<(), ErrorCode>>, Effects) {
        if let Err(error) = self.check_commit(id, &commit.speaker, now) {
            return (vec![Err(error); commit.parts.len()], Effects::default());
        }
        let (mut results, mut effects) = (Vec::with_capacity(commit.parts.len()), Effects::default());
        for part in commit.parts {
            if part.metadata.len() > self.settings.metadata_bytes_max {
                results.push(Err(ErrorCode::OffsetMetadataTooLarge));
                continue;
            }
            let value = OffsetCommitValue {
                offset: part.offset,
                leader_epoch: part.leader_epoch,
                metadata: part.metadata,
                commit_timestamp: now.wall_ms,
                expire_timestamp: commit
                    .retention_ms
                    .map_or(-1, |retention_ms| now.wall_ms.saturating_add(retention_ms)),
                ..OffsetCommitValue::default()
            };
            let (group, topic, partition, value) = (id.to_owned(), part.topic, part.partition, Some(value));
            effects.records.push(GroupRecord::Offset { group, topic, partition, value });
            results.push(Ok(()));
        }
        (results, effects)
    }

    /// Kafka's `ClassicGroup.validateOffsetCommit`. A commit of a member is a sign of life.
    fn check_commit(&mut self, id: &str, speaker: &Speaker, now: Now) -> Result<(), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let is_simple = speaker.generation < 0;
        let Some(group) = self.groups.get_mut(id) else {
            return if is_simple { Ok(()) } else { Err(ErrorCode::IllegalGeneration) };
        };
        if is_simple && group.state == State::Empty {
            return Ok(());
        }
        if is_simple && speaker.member_id.is_empty() && speaker.instance.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        group.check_speaker(speaker)?;
        if group.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        group.heard(&speaker.member_id, monotonic_ms(now));
        Ok(())
    }

    /// What the group has committed for a partition.
    pub fn committed(&self, id: &str, topic: &str, partition: i32) -> Option<&OffsetCommitValue> {
        self.groups.get(id)?.offsets.get(topic, partition)
    }

    /// Everything that the group has committed: topic, partition, value.
    pub fn all_committed(&self, id: &str) -> impl Iterator<Item = (&str, i32, &OffsetCommitValue)> {
        self.groups.get(id).into_iter().flat_map(|group| group.offsets.iter())
    }

    /// Tombstones for these offsets; the result for each. What is not committed is deleted already.
    pub fn delete_offsets(
        &self,
        id: &str,
        parts: &[(String, i32)],
    ) -> Result<(Vec<Result<(), ErrorCode>>, Effects), ErrorCode> {
        let group = self.groups.get(id).ok_or(ErrorCode::GroupIdNotFound)?;
        let is_empty = group.state == State::Empty;
        if !is_empty && group.protocol_type.as_deref() != Some(subscription::CONSUMER) {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let subscribed = group.subscribed_topics();
        let is_in_use = |topic: &String| !is_empty && subscribed.as_ref().is_none_or(|topics| topics.contains(topic));
        let mut effects = Effects::default();
        let result = |(topic, partition): &(String, i32)| {
            if is_in_use(topic) {
                return Err(ErrorCode::GroupSubscribedToTopic);
            }
            if group.offsets.get(topic, *partition).is_some() {
                effects.records.push(tombstone(id, topic, *partition));
            }
            Ok(())
        };
        Ok((parts.iter().map(result).collect(), effects))
    }

    /// Tombstones for the group and all that it has committed.
    pub fn delete(&mut self, id: &str) -> Result<Effects, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let group = self.groups.get(id).ok_or(ErrorCode::GroupIdNotFound)?;
        if group.state != State::Empty {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let mut records = group.offsets.tombstones(id, |_, _, _| true);
        records.extend(group.stored.is_some().then(|| group.tombstone()));
        if records.is_empty() {
            self.remove(id);
        }
        Ok(Effects { records, ..Effects::default() })
    }

    /// `None`: there is no such group.
    pub fn describe(&self, id: &str) -> Option<Described> {
        let group = self.groups.get(id)?;
        let is_stable = group.state == State::Stable;
        let protocol = group.protocol.clone().filter(|_| is_stable).unwrap_or_default();
        let described = |member: &Member| DescribedMember {
            id: member.id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if is_stable { member.metadata(&protocol).to_vec() } else { Vec::new() },
            assignment: member.assignment.clone(),
        };
        Some(Described {
            state: group.state.name(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            members: group.members.values().map(described).collect(),
            protocol,
        })
    }

    pub fn list(&self) -> impl Iterator<Item = Listed> {
        self.groups.values().map(|group| Listed {
            group: group.id.clone(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state.name(),
        })
    }

    /// The first group after this one with its state and everything that it has committed: who looks at all of them goes
    /// from group to group.
    pub fn next_group(
        &self,
        after: Option<&str>,
    ) -> Option<(&str, &'static str, impl Iterator<Item = (&str, i32, &OffsetCommitValue)>)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (id, group) = self.groups.range::<str, _>((start, Bound::Unbounded)).next()?;
        Some((id, group.state.name(), group.offsets.iter()))
    }

    /// When to call [`Coordinator::tick`] next, on the monotonic clock.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.clock.first().map(|(at_ms, _)| *at_ms)
    }

    /// Ends sessions and rebalances that are due, each group by itself.
    pub fn tick(&mut self, now: Now) -> Vec<(String, Effects)> {
        let mut done = Vec::new();
        while let Some((at_ms, id)) = self.clock.pop_first() {
            if at_ms > monotonic_ms(now) {
                self.clock.insert((at_ms, id));
                break;
            }
            if let Some(group) = self.groups.get_mut(&id) {
                group.armed_ms = None;
            }
            if let Ok(((), effects)) = self.turn(&id, now, Group::tick) {
                done.push((id, effects));
            }
        }
        done
    }

    /// Tombstones of offsets that are old enough, each group by itself; groups that hold nothing go.
    pub fn expire(&mut self, now: Now) -> Vec<(String, Effects)> {
        let void: Vec<String> =
            self.groups.values().filter(|group| group.is_void()).map(|group| group.id.clone()).collect();
        void.iter().for_each(|id| self.remove(id));
        let expired = |group: &Group| group.expired(now.wall_ms, self.settings.retention_ms);
        self.tombstones(expired)
    }

    /// Tombstones of what was committed for topics that are gone.
    pub fn forget_topics(&self, gone: &BTreeSet<String>) -> Vec<(String, Effects)> {
        self.tombstones(|group| group.offsets.tombstones(&group.id, |topic, _, _| gone.contains(topic)))
    }

    fn tombstones(&self, of: impl Fn(&Group) -> Vec<GroupRecord>) -> Vec<(String, Effects)> {
        let each = self.groups.values().map(|group| (group.id.clone(), of(group)));
        let found = each.filter(|(_, records)| !records.is_empty());
        found.map(|(id, records)| (id, Effects { records, ..Effects::default() })).collect()
    }

    /// The records of these effects could not be appended. Gives what to answer instead; the group's members join again.
    pub fn append_failed(&mut self, id: &str, effects: Effects, error: ErrorCode, now: Now) -> Effects {
        let refused = |(waiter, answer)| match answer {
            Answer::Joined(joined) if joined.error == ErrorCode::None => {
                (waiter, Answer::Joined(Joined::refused(error, joined.member_id)))
            }
            Answer::Synced(synced) if synced.error == ErrorCode::None => {
                (waiter, Answer::Synced(Synced::refused(error)))
            }
            refusal => (waiter, refusal),
        };
        let mut answers: Vec<_> = effects.answers.into_iter().map(refused).collect();
        let mut events = Vec::new();
        if let Ok(((), more)) = self.turn(id, now, Group::begin_anew) {
            answers.extend(more.answers);
            events = more.events;
        }
        Effects { answers, events, ..Effects::default() }
    }

    fn known(&mut self, id: &str) -> Result<&mut Group, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        self.groups.get_mut(id).ok_or(ErrorCode::UnknownMemberId)
    }

    /// One call on a group that exists.
    fn turn<T>(
        &mut self,
        id: &str,
        now: Now,
        call: impl FnOnce(&mut Group, &mut Turn<'_>) -> T,
    ) -> Result<(T, Effects), ErrorCode> {
        let mut effects = Effects::default();
        let settings = self.settings.clone();
        let group = self.known(id)?;
        let result = call(group, &mut Turn { now, settings: &settings, effects: &mut effects });
        self.settle(id);
        Ok((result, effects))
    }

    /// Sets the clock for a group whose next deadline may have come nearer.
    fn settle(&mut self, id: &str) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let Some(next_ms) = group.next_deadline_ms() else {
            return;
        };
        if let Some(armed_ms) = group.armed_ms {
            if armed_ms <= next_ms {
                return;
            }
            self.clock.remove(&(armed_ms, id.to_owned()));
        }
        group.armed_ms = Some(next_ms);
        self.clock.insert((next_ms, id.to_owned()));
    }

    fn remove(&mut self, id: &str) {
        if let Some(armed_ms) = self.groups.remove(id).and_then(|group| group.armed_ms) {
            self.clock.remove(&(armed_ms, id.to_owned()));
        }
    }
}
