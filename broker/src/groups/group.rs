//! Groups: one group's members, their sessions and its state between rebalances.

use std::collections::{BTreeMap, BTreeSet};

use super::member::Member;
use super::offsets::Offsets;
use super::rebalance::Rebalance;
use super::record::{GroupMetadataValue, GroupRecord};
use super::{Cause, Effects, Joined, Speaker, Synced, Turn, subscription};
use crate::wire::error_code::ErrorCode;

/// Where a group is, in Kafka's words. A group that is dead is one that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Without members; it may hold offsets.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// A generation has begun; the leader's assignment is missing.
    CompletingRebalance,
    Stable,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// One group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) state: State,
    /// Wall clock: when the state began.
    pub(super) since_ms: i64,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// The member of each instance id (KIP-345).
    pub(super) instances: BTreeMap<String, String>,
    /// Ids that were given out and not used yet, and until when they may be.
    pub(super) pending: BTreeMap<String, u64>,
    /// Under [`State::PreparingRebalance`].
    pub(super) rebalance: Option<Rebalance>,
    /// Members of this generation that have not asked for their assignment yet, and until when they may.
    pub(super) unsynced: BTreeSet<String>,
    pub(super) sync_end_ms: Option<u64>,
    pub(super) offsets: Offsets,
    /// What the log says of the members, if it says anything.
    pub(super) stored: Option<GroupMetadataValue>,
    /// The deadline that the coordinator's clock is set to.
    pub(super) armed_ms: Option<u64>,
}

impl Group {
    pub(super) fn new(id: &str, since_ms: i64) -> Group {
        Group {
            id: id.to_owned(),
            state: State::Empty,
            since_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            rebalance: None,
            unsynced: BTreeSet::new(),
            sync_end_ms: None,
            offsets: Offsets::default(),
            stored: None,
            armed_ms: None,
        }
    }

    /// Begins to serve what the log holds: members that were there have a session from now.
    pub(super) fn restore(&mut self, now_ms: u64) {
        let Some(stored) = &self.stored else {
            return;
        };
        self.generation = stored.generation;
        self.protocol_type = Some(stored.protocol_type.clone()).filter(|kind| !kind.is_empty());
        self.protocol.clone_from(&stored.protocol);
        self.leader.clone_from(&stored.leader);
        self.since_ms = stored.current_state_timestamp.max(0);
        let protocol = self.protocol.clone().unwrap_or_default();
        for member in &stored.members {
            let member = Member::restored(member, &protocol, now_ms);
            if let Some(instance) = &member.instance {
                self.instances.insert(instance.clone(), member.id.clone());
            }
            self.members.insert(member.id.clone(), member);
        }
        self.state = if self.members.is_empty() { State::Empty } else { State::Stable };
    }

    /// The group as the log is to hold it.
    pub(super) fn store(&self, effects: &mut Effects) {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.since_ms,
            members: self.members.values().map(|member| member.stored(protocol)).collect(),
        };
        effects.records.push(GroupRecord::Group { group: self.id.clone(), value: Some(value) });
    }

    pub(super) fn tombstone(&self) -> GroupRecord {
        GroupRecord::Group { group: self.id.clone(), value: None }
    }

    pub(super) fn enter(&mut self, state: State, turn: &Turn<'_>) {
        self.state = state;
        self.since_ms = turn.now.wall_ms;
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Whether it holds nothing: no member, no offset, no id given out, no record.
    pub(super) fn is_void(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty() && self.offsets.is_empty() && self.stored.is_none()
    }

    /// When something happens by itself.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        let sessions = self.members.values().filter_map(Member::session_end_ms);
        let others = [self.rebalance.as_ref().map(|rebalance| rebalance.end_ms), self.sync_end_ms];
        sessions.chain(self.pending.values().copied()).chain(others.into_iter().flatten()).min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now_ms();
        let late: Vec<String> =
            self.pending.iter().filter(|(_, end_ms)| **end_ms <= now_ms).map(|(id, _)| id.clone()).collect();
        for id in late {
            self.pending.remove(&id);
            self.try_complete(turn);
        }
        let is_over = |member: &&Member| member.session_end_ms().is_some_and(|end_ms| end_ms <= now_ms);
        let over: Vec<String> = self.members.values().filter(is_over).map(|member| member.id.clone()).collect();
        for id in over {
            // One that leaves may have started a rebalance in which the next is waited for once more: it still is silent.
            self.remove(&id, Cause::SessionEnded, turn);
        }
        if self.sync_end_ms.is_some_and(|end_ms| end_ms <= now_ms) {
            self.expel_unsynced(turn);
        }
        if self.rebalance.as_ref().is_some_and(|rebalance| rebalance.end_ms <= now_ms) {
            self.rebalance_is_due(turn);
        }
    }

    /// Whether this is a member of the group, by its id and, if it has one, its instance id.
    pub(super) fn check(&self, member_id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(held) if held != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    pub(super) fn check_speaker(&self, speaker: &Speaker) -> Result<(), ErrorCode> {
        self.check(&speaker.member_id, speaker.instance.as_deref())?;
        match speaker.generation == self.generation {
            true => Ok(()),
            false => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// The member is alive.
    pub(super) fn heard(&mut self, member_id: &str, now_ms: u64) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.heard(now_ms);
        }
    }

    pub(super) fn heartbeat(&mut self, speaker: &Speaker, now_ms: u64) -> Result<(), ErrorCode> {
        self.check_speaker(speaker)?;
        self.heard(&speaker.member_id, now_ms);
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            // Who waits for the leader's assignment has nothing else to do.
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// One member leaves, or an id is given back. An empty id stands for whoever holds the instance id.
    pub(super) fn leave(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let id = match (member_id, instance) {
            ("", Some(instance)) => self.instances.get(instance).cloned().ok_or(ErrorCode::UnknownMemberId)?,
            _ => member_id.to_owned(),
        };
        if self.pending.remove(&id).is_some() {
            self.try_complete(turn);
            return Ok(());
        }
        self.check(&id, instance)?;
        self.remove(&id, Cause::Left, turn);
        Ok(())
    }

    /// Removes a member and asks the others to join again.
    pub(super) fn remove(&mut self, member_id: &str, cause: Cause, turn: &mut Turn<'_>) {
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        self.forget(&member, ErrorCode::UnknownMemberId, turn);
        match self.state {
            State::Empty => {}
            State::PreparingRebalance => self.try_complete(turn),
            State::CompletingRebalance | State::Stable => self.prepare(cause, member_id, turn),
        }
    }

    /// Answers a member that is gone and clears what speaks of it.
    pub(super) fn forget(&mut self, member: &Member, why: ErrorCode, turn: &mut Turn<'_>) {
        if let Some(waiter) = member.joining {
            turn.effects.joined(waiter, Joined::refused(why, member.id.clone()));
        }
        if let Some(waiter) = member.syncing {
            turn.effects.synced(waiter, Synced::refused(why));
        }
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        self.synced(&member.id);
        if self.is_leader(&member.id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Nothing is waited for from this member in this generation any more.
    pub(super) fn synced(&mut self, member_id: &str) {
        self.unsynced.remove(member_id);
        if self.unsynced.is_empty() {
            self.sync_end_ms = None;
        }
    }

    /// The topics that members subscribe to; `None` if they are not consumers or cannot be understood.
    pub(super) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some(subscription::CONSUMER) {
            return None;
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription::topics(member.metadata(protocol)).ok()?);
        }
        Some(topics)
    }
}
