//! Rebalances: how members join, how a generation begins and how its assignment reaches them.
//!
//! The first rebalance of an empty group waits for more members to arrive (KIP-134); a later one ends when every member
//! has joined again or the longest rebalance timeout is over. A member with an instance id keeps its place over a restart.

use std::collections::BTreeMap;

use super::group::{Group, State};
use super::member::Member;
use super::{Cause, Event, Join, Joined, Sync, Synced, Turn, Waiter};
use crate::wire::error_code::ErrorCode;

/// A rebalance that waits for members.
#[derive(Clone, Debug)]
pub(super) struct Rebalance {
    pub(super) end_ms: u64,
    /// In the first one: how much longer it may be put off, and whether a member came since it was last.
    first: Option<First>,
}

#[derive(Clone, Debug)]
struct First {
    spare_ms: u64,
    is_joined: bool,
}

impl Group {
    /// Takes a member in, or in again. It is answered now or when the generation begins.
    pub(super) fn join(&mut self, join: Join, waiter: Waiter, turn: &mut Turn<'_>) {
        if let Err(error) = self.try_join(join.clone(), waiter, turn) {
            // A new member has no id yet, and keeps none that was refused.
            turn.effects.joined(waiter, Joined::refused(error, join.member_id));
        }
    }

    fn try_join(&mut self, join: Join, waiter: Waiter, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        if !self.has_room(&join.member_id, turn.settings.members_max) {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if !self.agrees(&join) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if join.member_id.is_empty() {
            self.join_new(join, waiter, turn);
            return Ok(());
        }
        if join.instance.is_none() && self.pending.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            self.add(id, join, waiter, turn);
            return Ok(());
        }
        self.check(&join.member_id, join.instance.as_deref())?;
        self.join_again(join, waiter, turn)
    }

    /// Whether one more may join. While members join again, those who have not do not count.
    fn has_room(&self, member_id: &str, members_max: usize) -> bool {
        let is_joining = |member: &Member| member.joining.is_some();
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                self.members.get(member_id).is_some_and(is_joining)
                    || self.members.values().filter(|member| is_joining(member)).count() < members_max
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(member_id) || self.members.len() < members_max
            }
        }
    }

    /// Whether the member speaks the group's protocol type and a protocol that every other member knows.
    fn agrees(&self, join: &Join) -> bool {
        if self.state == State::Empty {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(join.protocol_type.as_str())
            && join.protocols.iter().any(|(name, _)| self.members.values().all(|member| member.knows(name)))
    }

    fn join_new(&mut self, join: Join, waiter: Waiter, turn: &mut Turn<'_>) {
        let name = join.instance.as_deref().unwrap_or(&join.client_id);
        let id = format!("{name}-{}", join.unique);
        if let Some(instance) = &join.instance {
            match self.instances.get(instance).cloned() {
                Some(held) => self.replace(&held, id, join, waiter, turn),
                None => self.add(id, join, waiter, turn),
            }
        } else if join.needs_known_id {
            let session_ms = u64::try_from(join.session_timeout_ms).unwrap_or_default();
            self.pending.insert(id.clone(), turn.now_ms() + session_ms);
            turn.effects.joined(waiter, Joined::refused(ErrorCode::MemberIdRequired, id));
        } else {
            self.add(id, join, waiter, turn);
        }
    }

    fn add(&mut self, id: String, join: Join, waiter: Waiter, turn: &mut Turn<'_>) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        let mut member = Member::new(id.clone(), join, turn.now_ms());
        member.joining = Some(waiter);
        self.members.insert(id.clone(), member);
        if let Some(first) = self.rebalance.as_mut().and_then(|rebalance| rebalance.first.as_mut()) {
            first.is_joined = true;
        }
        self.prepare_or_complete(Cause::Joined, &id, turn);
    }

    /// A member of this instance id has started again: it takes the place of the one before, which is fenced. While the
    /// group is stable and would choose the same protocol, no one else notices.
    fn replace(&mut self, held: &str, id: String, join: Join, waiter: Waiter, turn: &mut Turn<'_>) {
        let Some(old) = self.members.remove(held) else {
            return;
        };
        let was_leader = self.is_leader(held);
        let (assignment, skips) = (old.assignment.clone(), join.may_skip_assignment);
        self.forget(&old, ErrorCode::FencedInstanceId, turn);
        let mut member = Member::new(id.clone(), join, turn.now_ms());
        (member.is_new, member.assignment) = (false, assignment);
        member.heard(turn.now_ms());
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);
        if was_leader {
            self.leader = Some(id.clone());
        }
        if self.state == State::Stable && self.choose_protocol() == self.protocol {
            self.store(turn.effects);
            let mut joined = self.current(&id, skips && was_leader);
            joined.skip_assignment = skips && was_leader;
            if was_leader && !skips {
                // A client that cannot skip would assign anew if it were told that it leads.
                held.clone_into(&mut joined.leader);
            }
            turn.effects.joined(waiter, joined);
            return;
        }
        self.wait(&id, waiter);
        self.prepare_or_complete(Cause::Joined, &id, turn);
    }

    /// A member joins that is one already.
    fn join_again(&mut self, join: Join, waiter: Waiter, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        let id = join.member_id.clone();
        let is_same = self.members.get(&id).is_some_and(|member| member.protocols == join.protocols);
        match self.state {
            State::Empty => return Err(ErrorCode::UnknownMemberId),
            // The answer was lost, or a follower asks for nothing new: this generation stands.
            State::CompletingRebalance if is_same => {
                let joined = self.current(&id, self.is_leader(&id));
                turn.effects.joined(waiter, joined);
                return Ok(());
            }
            State::Stable if is_same && !self.is_leader(&id) => {
                let joined = self.current(&id, false);
                turn.effects.joined(waiter, joined);
                return Ok(());
            }
            _ => {}
        }
        self.members.get_mut(&id).ok_or(ErrorCode::UnknownMemberId)?.update(join);
        if let Some(before) = self.wait(&id, waiter) {
            turn.effects.joined(before, Joined::refused(ErrorCode::RebalanceInProgress, id.clone()));
        }
        self.prepare_or_complete(Cause::JoinedAgain, &id, turn);
        Ok(())
    }

    /// The member waits for the next generation. Returns who waited for the same before.
    fn wait(&mut self, id: &str, waiter: Waiter) -> Option<Waiter> {
        self.members.get_mut(id)?.joining.replace(waiter)
    }

    /// The answer that tells of the current generation.
    fn current(&self, id: &str, with_members: bool) -> Joined {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let told = |member: &Member| (member.id.clone(), member.instance.clone(), member.metadata(protocol).to_vec());
        Joined {
            error: ErrorCode::None,
            member_id: id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members: if with_members { self.members.values().map(told).collect() } else { Vec::new() },
        }
    }

    fn prepare_or_complete(&mut self, cause: Cause, member: &str, turn: &mut Turn<'_>) {
        match self.state {
            State::PreparingRebalance => self.try_complete(turn),
            _ => self.prepare(cause, member, turn),
        }
    }

    /// Asks every member to join again, because of this one.
    pub(super) fn prepare(&mut self, cause: Cause, member: &str, turn: &mut Turn<'_>) {
        let (generation, members, member) = (self.generation, self.members.len(), member.to_owned());
        turn.effects.events.push(Event::Rebalancing { generation, members, cause, member });
        if self.state == State::CompletingRebalance {
            self.refuse_syncs(ErrorCode::RebalanceInProgress, turn);
        }
        self.unsynced.clear();
        self.sync_end_ms = None;
        let (now_ms, longest_ms) = (turn.now_ms(), self.rebalance_timeout_ms());
        let first = (self.state == State::Empty).then(|| {
            let delay_ms = turn.settings.initial_delay_ms.min(longest_ms);
            (delay_ms, First { spare_ms: longest_ms - delay_ms, is_joined: false })
        });
        self.enter(State::PreparingRebalance, turn);
        self.rebalance = Some(match first {
            Some((delay_ms, first)) => Rebalance { end_ms: now_ms + delay_ms, first: Some(first) },
            None => Rebalance { end_ms: now_ms + longest_ms, first: None },
        });
        self.try_complete(turn);
    }

    /// The longest that a member may take to join again.
    fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        u64::try_from(longest.unwrap_or_default()).unwrap_or_default()
    }

    /// Begins the generation if no one is waited for any more. The first rebalance always takes its time.
    pub(super) fn try_complete(&mut self, turn: &mut Turn<'_>) {
        let is_first = self.rebalance.as_ref().is_some_and(|rebalance| rebalance.first.is_some());
        let are_all_here = self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
        if self.state == State::PreparingRebalance && !is_first && are_all_here {
            self.complete(turn);
        }
    }

    pub(super) fn rebalance_is_due(&mut self, turn: &mut Turn<'_>) {
        let Some(rebalance) = &mut self.rebalance else {
            return;
        };
        if let Some(first) = rebalance.first.as_mut().filter(|first| first.is_joined && first.spare_ms > 0) {
            let delay_ms = turn.settings.initial_delay_ms.min(first.spare_ms);
            first.spare_ms -= delay_ms;
            first.is_joined = false;
            rebalance.end_ms = turn.now_ms() + delay_ms;
            return;
        }
        self.complete(turn);
    }

    /// Begins the next generation with those who have joined, and with members of an instance id that may come back.
    fn complete(&mut self, turn: &mut Turn<'_>) {
        let is_gone = |member: &&Member| member.joining.is_none() && member.instance.is_none();
        let gone: Vec<String> = self.members.values().filter(is_gone).map(|member| member.id.clone()).collect();
        for id in gone {
            if let Some(member) = self.members.remove(&id) {
                self.forget(&member, ErrorCode::UnknownMemberId, turn);
            }
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only absent members of instance ids are left: wait for them as long again, or until their sessions end.
            let end_ms = turn.now_ms() + self.rebalance_timeout_ms();
            self.rebalance = Some(Rebalance { end_ms, first: None });
            return;
        }
        self.rebalance = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.become_empty(turn);
        } else {
            self.begin_generation(turn);
        }
    }

    fn become_empty(&mut self, turn: &mut Turn<'_>) {
        self.protocol = None;
        self.leader = None;
        self.enter(State::Empty, turn);
        turn.effects.events.push(Event::Empty { generation: self.generation });
        self.store(turn.effects);
    }

    fn begin_generation(&mut self, turn: &mut Turn<'_>) {
        self.protocol = self.choose_protocol();
        self.enter(State::CompletingRebalance, turn);
        let now_ms = turn.now_ms();
        self.sync_end_ms = Some(now_ms + self.rebalance_timeout_ms());
        self.unsynced = self.members.keys().cloned().collect();
        let answers: Vec<Joined> = self.members.keys().map(|id| self.current(id, self.is_leader(id))).collect();
        for (member, joined) in self.members.values_mut().zip(answers) {
            member.is_new = false;
            member.heard(now_ms);
            if let Some(waiter) = member.joining.take() {
                turn.effects.joined(waiter, joined);
            }
        }
    }

    /// Makes sure that the leader is one who has joined. Returns whether there is one.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |id: &String| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.leader.as_ref().is_some_and(has_joined) {
            let Some(joined) = self.members.keys().find(|id| has_joined(id)).cloned() else {
                return false;
            };
            self.leader = Some(joined);
        }
        true
    }

    /// Each member votes for the first of its protocols that all know; most votes win, then the least name.
    fn choose_protocol(&self) -> Option<String> {
        let members = || self.members.values();
        let is_candidate = |name: &str| members().all(|member| member.knows(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in members() {
            let vote = member.protocols.iter().map(|(name, _)| name.as_str()).find(|name| is_candidate(name));
            *votes.entry(vote?).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// Takes the leader's assignments, or waits for them. Every member is answered with its own.
    pub(super) fn sync(&mut self, sync: Sync, waiter: Waiter, turn: &mut Turn<'_>) {
        if let Err(error) = self.try_sync(sync, waiter, turn) {
            turn.effects.synced(waiter, Synced::refused(error));
        }
    }

    fn try_sync(&mut self, sync: Sync, waiter: Waiter, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        self.check_speaker(&sync.speaker)?;
        let differs = |said: &Option<String>, ours: &Option<String>| said.is_some() && said != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let id = sync.speaker.member_id;
        match self.state {
            State::Empty => return Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => return Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => {}
        }
        self.synced(&id);
        let member = self.members.get_mut(&id).ok_or(ErrorCode::UnknownMemberId)?;
        if let Some(before) = member.syncing.replace(waiter) {
            turn.effects.synced(before, Synced::refused(ErrorCode::RebalanceInProgress));
        }
        if self.state == State::CompletingRebalance {
            if !self.is_leader(&id) {
                return Ok(());
            }
            self.assign(sync.assignments, turn);
        }
        self.answer_syncs(turn);
        Ok(())
    }

    /// The leader has spoken. Who is not named gets an empty assignment.
    fn assign(&mut self, assignments: Vec<(String, Vec<u8>)>, turn: &mut Turn<'_>) {
        let mut given: BTreeMap<String, Vec<u8>> = assignments.into_iter().collect();
        for member in self.members.values_mut() {
            member.assignment = given.remove(&member.id).unwrap_or_default();
        }
        self.enter(State::Stable, turn);
        turn.effects.events.push(Event::Stable { generation: self.generation, members: self.members.len() });
        self.store(turn.effects);
    }

    fn answer_syncs(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now_ms();
        for member in self.members.values_mut() {
            if let Some(waiter) = member.syncing.take() {
                member.heard(now_ms);
                turn.effects.synced(
                    waiter,
                    Synced {
                        error: ErrorCode::None,
                        protocol_type: self.protocol_type.clone(),
                        protocol: self.protocol.clone(),
                        assignment: member.assignment.clone(),
                    },
                );
            }
        }
    }

    fn refuse_syncs(&mut self, why: ErrorCode, turn: &mut Turn<'_>) {
        let now_ms = turn.now_ms();
        for member in self.members.values_mut() {
            member.assignment.clear();
            if let Some(waiter) = member.syncing.take() {
                member.heard(now_ms);
                turn.effects.synced(waiter, Synced::refused(why));
            }
        }
    }

    /// Removes members that joined and never asked for their assignment.
    pub(super) fn expel_unsynced(&mut self, turn: &mut Turn<'_>) {
        self.sync_end_ms = None;
        let late = std::mem::take(&mut self.unsynced);
        let last = late.last().cloned().unwrap_or_default();
        for id in late {
            if let Some(member) = self.members.remove(&id) {
                self.forget(&member, ErrorCode::UnknownMemberId, turn);
            }
        }
        if matches!(self.state, State::CompletingRebalance | State::Stable) {
            self.prepare(Cause::NotSynced, &last, turn);
        }
    }

    /// The record behind these assignments or this membership could not be written: who waits is told so and the group
    /// begins anew.
    pub(super) fn begin_anew(&mut self, turn: &mut Turn<'_>) {
        for member in self.members.values_mut() {
            member.assignment.clear();
        }
        if matches!(self.state, State::CompletingRebalance | State::Stable) {
            self.prepare(Cause::NotWritten, "", turn);
        }
    }
}
