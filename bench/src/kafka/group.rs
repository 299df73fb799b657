//! Members of classic groups that do as little as a member may, and simple consumers that only commit.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use watershed_broker::wire::apis::Api;
use watershed_broker::wire::generated::find_coordinator::FindCoordinatorRequest;
use watershed_broker::wire::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use watershed_broker::wire::generated::join_group::{JoinGroupProtocol, JoinGroupRequest, JoinGroupResponse};
use watershed_broker::wire::generated::offset_commit::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
};
use watershed_broker::wire::generated::sync_group::{SyncGroupAssignment, SyncGroupRequest, SyncGroupResponse};
use watershed_broker::wire::header::{parse_response, request_frame};
use watershed_broker::wire::message::Message;

use super::{CLIENT_ID, check};
use crate::load::{Answer, Connection, Request, Traffic};

/// The last version in which a member joins without an id of the coordinator's first.
const JOIN_VERSION: i16 = 3;
const SYNC_VERSION: i16 = 2;
const HEARTBEAT_VERSION: i16 = 2;
const COMMIT_VERSION: i16 = 7;
const FIND_VERSION: i16 = 1;
const SESSION_MS: i32 = 45_000;
const REBALANCE_MS: i32 = 60_000;
/// What a member of this many bytes subscribes to and is assigned nobody looks at.
const BLOB_BYTES: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// One member on a connection of its own.
pub(crate) struct Member {
    connection: Connection,
    group: String,
    id: String,
    generation: i32,
}

impl Member {
    pub(crate) fn connect(target: SocketAddr, group: &str) -> Result<Member> {
        Ok(Member { connection: Connection::open(target)?, group: group.to_owned(), id: String::new(), generation: -1 })
    }

    fn send<Q: Message>(&mut self, api: Api, version: i16, request: &Q) -> Result<()> {
        let head = request_frame(api, version, 1, Some(CLIENT_ID), request);
        self.connection.send(&[Request { head, body: None }])
    }

    fn receive<A: Message>(&mut self, api: Api, version: i16) -> Result<A> {
        self.connection.wait_for_frame()?;
        let frame = self.connection.next_frame()?.unwrap_or_default();
        let (_, body_at) = parse_response(frame, api, version)?;
        Ok(A::from_bytes(frame.get(body_at..).unwrap_or_default(), version)?)
    }

    fn send_join(&mut self) -> Result<()> {
        let protocol = JoinGroupProtocol { name: "range".to_owned(), metadata: vec![0; BLOB_BYTES] };
        let request = JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: "bench".to_owned(),
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        };
        self.send(Api::JoinGroup, JOIN_VERSION, &request)
    }

    /// The member ids that the leader has to serve; empty for all others.
    fn receive_join(&mut self) -> Result<Vec<String>> {
        let joined: JoinGroupResponse = self.receive(Api::JoinGroup, JOIN_VERSION)?;
        check(joined.error_code, "join the group")?;
        self.id = joined.member_id;
        self.generation = joined.generation_id;
        Ok(joined.members.into_iter().map(|member| member.member_id).collect())
    }

    fn send_sync(&mut self, members: Vec<String>) -> Result<()> {
        let assign = |member_id| SyncGroupAssignment { member_id, assignment: vec![0; BLOB_BYTES] };
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            assignments: members.into_iter().map(assign).collect(),
            ..SyncGroupRequest::default()
        };
        self.send(Api::SyncGroup, SYNC_VERSION, &request)
    }

    fn receive_sync(&mut self) -> Result<()> {
        let synced: SyncGroupResponse = self.receive(Api::SyncGroup, SYNC_VERSION)?;
        check(synced.error_code, "get an assignment")?;
        ensure!(synced.assignment.len() == BLOB_BYTES, "an assignment of {} bytes", synced.assignment.len());
        Ok(())
    }

    pub(crate) fn heartbeat(&mut self) -> Result<()> {
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..HeartbeatRequest::default()
        };
        self.send(Api::Heartbeat, HEARTBEAT_VERSION, &request)?;
        let answer: HeartbeatResponse = self.receive(Api::Heartbeat, HEARTBEAT_VERSION)?;
        check(answer.error_code, "heartbeat")
    }
}

/// All members join and get their assignments: stable when it returns.
pub(crate) fn settle(members: &mut [Member]) -> Result<()> {
    for member in members.iter_mut() {
        member.send_join()?;
    }
    let mut led = Vec::with_capacity(members.len());
    for member in members.iter_mut() {
        led.push(member.receive_join()?);
    }
    for (member, led) in members.iter_mut().zip(led) {
        member.send_sync(led)?;
    }
    members.iter_mut().try_for_each(Member::receive_sync)
}

/// Waits until the coordinator of a group serves: who asks for the first one makes the offsets topic.
pub(crate) fn await_coordinator(target: SocketAddr, topic: &str) -> Result<()> {
    const FIRST: &str = "bench-first";
    let patience_ends = Instant::now() + PATIENCE;
    loop {
        let mut committer = Committer::new(FIRST, topic, 0);
        let mut connection = Connection::open(target)?;
        let find = FindCoordinatorRequest { key: FIRST.to_owned(), ..FindCoordinatorRequest::default() };
        connection.call(request_frame(Api::FindCoordinator, FIND_VERSION, 1, Some(CLIENT_ID), &find))?;
        let request = committer.request().map(|request| request.head).unwrap_or_default();
        let frame = connection.call(request)?;
        match committer.answer(&frame) {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(Instant::now() < patience_ends, "no coordinator serves: {error:#}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A consumer without a group's protocol that commits one rising offset after the other.
pub(crate) struct Committer {
    group: String,
    topic: String,
    partition: i32,
    offset: i64,
}

impl Committer {
    pub(crate) fn new(group: impl Into<String>, topic: &str, partition: i32) -> Committer {
        Committer { group: group.into(), topic: topic.to_owned(), partition, offset: 0 }
    }
}

impl Traffic for Committer {
    fn request(&mut self) -> Option<Request> {
        self.offset += 1;
        let partition = OffsetCommitPartition {
            partition_index: self.partition,
            committed_offset: self.offset,
            committed_metadata: Some(String::new()),
            ..OffsetCommitPartition::default()
        };
        let topic = OffsetCommitTopic { name: self.topic.clone(), partitions: vec![partition], ..Default::default() };
        let request =
            OffsetCommitRequest { group_id: self.group.clone(), topics: vec![topic], ..OffsetCommitRequest::default() };
        let head = request_frame(Api::OffsetCommit, COMMIT_VERSION, 1, Some(CLIENT_ID), &request);
        Some(Request { head, body: None })
    }

    fn answer(&mut self, frame: &[u8]) -> Result<Answer> {
        let (_, body_at) = parse_response(frame, Api::OffsetCommit, COMMIT_VERSION)?;
        let body = frame.get(body_at..).unwrap_or_default();
        let response = OffsetCommitResponse::from_bytes(body, COMMIT_VERSION)?;
        let results: Vec<_> = response.topics.iter().flat_map(|topic| &topic.partitions).collect();
        ensure!(results.len() == 1, "one partition was committed, {} were answered", results.len());
        for result in results {
            check(result.error_code, "commit")?;
        }
        Ok(Answer::default())
    }
}
