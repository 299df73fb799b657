//! A member of a consumer group of the classic protocol: joins, divides partitions if it leads, stays by heartbeats, commits,
//! leaves.
//!
//! Owns its id and generation; whoever uses it owns the records. Its one assignor is `range`, which every consumer of Java
//! and librdkafka offers by default, so that a group may be mixed. There is no thread: whoever uses it has to call
//! [`Member::beat`] now and then. Who leads learns of new partitions when the group rebalances for another reason.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::wire::apis::Api;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::generated::join_group::{JoinGroupMember, JoinGroupProtocol, JoinGroupRequest, JoinGroupResponse};
use crate::wire::generated::leave_group::{LeaveGroupMember, LeaveGroupRequest, LeaveGroupResponse};
use crate::wire::generated::offset_commit::OffsetCommitResponse;
use crate::wire::generated::sync_group::{SyncGroupAssignment, SyncGroupRequest, SyncGroupResponse};
use crate::wire::message::Message;

use super::assignment::{self, Subscriber};
use super::error::check;
use super::groups::{CONSUMER, OFFSET_COMMIT, commit_request};
use super::{ClientError, Cluster, Place, Result};

const JOIN_GROUP: (i16, i16) = (2, 9);
const SYNC_GROUP: (i16, i16) = (1, 5);
const HEARTBEAT: (i16, i16) = (1, 4);
const LEAVE_GROUP: (i16, i16) = (1, 5);
/// A member that is silent for so long is taken for dead.
const SESSION_MS: i32 = 45_000;
/// How long others wait for this member when the group rebalances.
const REBALANCE_MS: i32 = 60_000;
const HEARTBEAT_EVERY: Duration = Duration::from_secs(3);
/// Before a join that follows a refused one.
const REJOIN_WAIT: Duration = Duration::from_millis(100);

/// One member of one group.
pub struct Member {
    group: String,
    topics: Vec<String>,
    /// Empty until the coordinator gave one.
    id: String,
    generation: i32,
    last_beat: Instant,
    joined: bool,
}

impl Member {
    /// A member that wants these topics and has not joined.
    pub fn new(group: &str, topics: Vec<String>) -> Member {
        let group = group.to_owned();
        Member { group, topics, id: String::new(), generation: -1, last_beat: Instant::now(), joined: false }
    }

    /// Whether its partitions are its own. If not, they may be somebody else's, and it has to join.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// Joins, or joins again, and waits until the partitions are divided. Gives those of this member.
    pub fn join(&mut self, cluster: &mut Cluster) -> Result<Vec<Place>> {
        loop {
            let joined = self.ask_join(cluster)?;
            let code = ErrorCode::from_code(joined.error_code);
            match code {
                Some(ErrorCode::None) => {}
                Some(ErrorCode::MemberIdRequired) => {
                    self.id = joined.member_id;
                    continue;
                }
                _ => {
                    self.retry_join(joined.error_code)?;
                    continue;
                }
            }
            (self.id, self.generation) = (joined.member_id.clone(), joined.generation_id);
            let synced = self.ask_sync(cluster, &joined)?;
            if synced.error_code != ErrorCode::None.code() {
                self.retry_join(synced.error_code)?;
                continue;
            }
            (self.joined, self.last_beat) = (true, Instant::now());
            let damaged = |cause| ClientError::Damaged(format!("the assignment of group {}: {cause}", self.group));
            return assignment::places(&synced.assignment).map_err(damaged);
        }
    }

    /// Tells the coordinator that it lives, when that is due.
    pub fn beat(&mut self, cluster: &mut Cluster) -> Result<()> {
        if !self.joined || self.last_beat.elapsed() < HEARTBEAT_EVERY {
            return Ok(());
        }
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..HeartbeatRequest::default()
        };
        let answer: HeartbeatResponse =
            self.ask(cluster, Api::Heartbeat, HEARTBEAT, &request, |answer: &HeartbeatResponse| answer.error_code)?;
        self.last_beat = Instant::now();
        self.judge(answer.error_code)
    }

    /// Commits as this member. False if the group has gone on without it: then it has to join, and whoever reads the
    /// partitions now reads again what was not committed.
    pub fn commit(&mut self, cluster: &mut Cluster, offsets: &BTreeMap<Place, i64>) -> Result<bool> {
        let request = commit_request(&self.group, self.generation, &self.id, offsets);
        let first = |answer: &OffsetCommitResponse| {
            let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|part| part.error_code);
            codes.find(|code| *code != ErrorCode::None.code()).unwrap_or_default()
        };
        let answer = self.ask(cluster, Api::OffsetCommit, OFFSET_COMMIT, &request, first)?;
        let code = first(&answer);
        self.judge(code)?;
        Ok(!is_lost(code))
    }

    /// Leaves, so that others need not wait for the end of its session.
    pub fn leave(&mut self, cluster: &mut Cluster) -> Result<()> {
        if self.id.is_empty() {
            return Ok(());
        }
        let member = LeaveGroupMember { member_id: self.id.clone(), ..LeaveGroupMember::default() };
        let request =
            LeaveGroupRequest { group_id: self.group.clone(), member_id: self.id.clone(), members: vec![member] };
        let answer: LeaveGroupResponse =
            self.ask(cluster, Api::LeaveGroup, LEAVE_GROUP, &request, |answer: &LeaveGroupResponse| answer.error_code)?;
        (self.joined, self.id) = (false, String::new());
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::UnknownMemberId) => Ok(()),
            _ => check(answer.error_code, None, || format!("leaving group {}", self.group)),
        }
    }

    fn ask_join(&self, cluster: &mut Cluster) -> Result<JoinGroupResponse> {
        let protocol =
            JoinGroupProtocol { name: assignment::RANGE.to_owned(), metadata: assignment::subscription(&self.topics) };
        let request = JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: self.id.clone(),
            protocol_type: CONSUMER.to_owned(),
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        };
        self.ask(cluster, Api::JoinGroup, JOIN_GROUP, &request, |answer: &JoinGroupResponse| answer.error_code)
    }

    /// Waits for the assignment; who leads makes it.
    fn ask_sync(&self, cluster: &mut Cluster, joined: &JoinGroupResponse) -> Result<SyncGroupResponse> {
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: Some(CONSUMER.to_owned()),
            protocol_name: Some(assignment::RANGE.to_owned()),
            assignments: if leads { divide(cluster, &self.group, &joined.members)? } else { Vec::new() },
            ..SyncGroupRequest::default()
        };
        self.ask(cluster, Api::SyncGroup, SYNC_GROUP, &request, |answer: &SyncGroupResponse| answer.error_code)
    }

    /// Asks the coordinator until there is one. Other refusals are for the caller.
    fn ask<Q: Message, A: Message>(
        &self,
        cluster: &mut Cluster,
        api: Api,
        versions: (i16, i16),
        request: &Q,
        code: impl Fn(&A) -> i16,
    ) -> Result<A> {
        cluster.ask_coordinator(&self.group, api, versions, request, |answer| match code(answer) {
            refused if is_of_coordinator(refused) => check(refused, None, || format!("group {}", self.group)),
            _ => Ok(()),
        })
    }

    /// Notes what a refusal says of the membership; one that says nothing of it is an error.
    fn judge(&mut self, code: i16) -> Result<()> {
        if !is_lost(code) {
            return check(code, None, || format!("being a member of group {}", self.group));
        }
        self.joined = false;
        match ErrorCode::from_code(code) {
            Some(ErrorCode::UnknownMemberId) => (self.id, self.generation) = (String::new(), -1),
            Some(ErrorCode::IllegalGeneration) => self.generation = -1,
            _ => {}
        }
        Ok(())
    }

    fn retry_join(&mut self, code: i16) -> Result<()> {
        self.judge(code)?;
        std::thread::sleep(REJOIN_WAIT);
        Ok(())
    }
}

/// The assignment of every member.
fn divide(cluster: &mut Cluster, group: &str, members: &[JoinGroupMember]) -> Result<Vec<SyncGroupAssignment>> {
    let damaged = |cause| ClientError::Damaged(format!("a subscription of group {group}: {cause}"));
    let subscriber = |member: &JoinGroupMember| {
        let topics = assignment::topics(&member.metadata).map_err(damaged)?;
        Ok(Subscriber { id: member.member_id.clone(), instance: member.group_instance_id.clone(), topics })
    };
    let subscribers = members.iter().map(subscriber).collect::<Result<Vec<_>>>()?;
    let wanted: std::collections::BTreeSet<&String> = subscribers.iter().flat_map(|each| &each.topics).collect();
    let wanted: Vec<String> = wanted.into_iter().cloned().collect();
    let told = cluster.metadata(Some(&wanted))?;
    let count = |topic: crate::wire::generated::metadata::MetadataResponseTopic| {
        Some((topic.name?, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)))
    };
    let counts: BTreeMap<String, i32> = told.topics.into_iter().filter_map(count).collect();
    let assigned = assignment::range(subscribers, &counts).into_iter();
    Ok(assigned
        .map(|(member_id, places)| SyncGroupAssignment { member_id, assignment: assignment::bytes(&places) })
        .collect())
}

/// Another broker coordinates, or this one does not yet: asked again.
fn is_of_coordinator(code: i16) -> bool {
    use ErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let codes = [CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator];
    codes.iter().any(|known| known.code() == code)
}

/// The group goes on without this member until it joins again.
fn is_lost(code: i16) -> bool {
    use ErrorCode::{IllegalGeneration, RebalanceInProgress, UnknownMemberId};
    [IllegalGeneration, RebalanceInProgress, UnknownMemberId].iter().any(|known| known.code() == code)
}
