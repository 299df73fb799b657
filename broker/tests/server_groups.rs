//! Stories of groups as a client sees them: a process over an empty directory, and raw requests. Three shards, so that
//! coordinators are mostly elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod server_harness;

use std::time::{Duration, Instant};

use server_harness::{Broker, Client};
use watershed_broker::wire::apis::Api;
use watershed_broker::wire::generated::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use watershed_broker::wire::generated::join_group::{JoinGroupProtocol, JoinGroupRequest, JoinGroupResponse};
use watershed_broker::wire::generated::offset_commit::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
};
use watershed_broker::wire::generated::offset_fetch::{
    OffsetFetchGroup, OffsetFetchGroupTopic, OffsetFetchRequest, OffsetFetchResponse,
};
use watershed_broker::wire::generated::sync_group::{SyncGroupAssignment, SyncGroupRequest, SyncGroupResponse};

const NONE: i16 = 0;
const LOADING: i16 = 14;
const MEMBER_ID_REQUIRED: i16 = 79;

fn find(client: &mut Client, group: &str) {
    let request =
        FindCoordinatorRequest { coordinator_keys: vec![group.to_owned()], ..FindCoordinatorRequest::default() };
    let found: FindCoordinatorResponse = client.ask(Api::FindCoordinator, 4, &request);
    assert_eq!((found.coordinators[0].error_code, found.coordinators[0].node_id), (NONE, 1));
}

/// Commits from outside of any group.
fn commit(client: &mut Client, group: &str, offset: i64, metadata: &str) -> i16 {
    let partition = OffsetCommitPartition {
        committed_offset: offset,
        committed_metadata: Some(metadata.to_owned()),
        ..OffsetCommitPartition::default()
    };
    let topic = OffsetCommitTopic { name: "t".to_owned(), partitions: vec![partition], ..OffsetCommitTopic::default() };
    let request =
        OffsetCommitRequest { group_id: group.to_owned(), topics: vec![topic], ..OffsetCommitRequest::default() };
    let answer: OffsetCommitResponse = client.ask(Api::OffsetCommit, 9, &request);
    answer.topics[0].partitions[0].error_code
}

/// What the group has committed, once its coordinator has read its log.
fn committed(client: &mut Client, group: &str) -> i64 {
    let topic =
        OffsetFetchGroupTopic { name: "t".to_owned(), partition_indexes: vec![0], ..OffsetFetchGroupTopic::default() };
    let group =
        OffsetFetchGroup { group_id: group.to_owned(), topics: Some(vec![topic]), ..OffsetFetchGroup::default() };
    let request = OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() };
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let answer: OffsetFetchResponse = client.ask(Api::OffsetFetch, 8, &request);
        let group = &answer.groups[0];
        if group.error_code != LOADING || Instant::now() > until {
            assert_eq!(group.error_code, NONE);
            return group.topics[0].partitions[0].committed_offset;
        }
    }
}

fn join(client: &mut Client, member_id: &str) -> JoinGroupResponse {
    let protocol = JoinGroupProtocol { name: "range".to_owned(), metadata: vec![0, 0, 0, 0, 0, 0] };
    let request = JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member_id.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    };
    client.ask(Api::JoinGroup, 7, &request)
}

#[test]
fn t8_commits_of_many_groups_are_there_after_a_kill_and_with_another_number_of_shards() {
    let broker = Broker::fresh("groups_kill", 3);
    let mut client = broker.client();
    client.topic("t");
    find(&mut client, "g0");
    for number in 0..40 {
        assert_eq!(commit(&mut client, &format!("g{number}"), number, "m"), NONE);
    }
    let broker = broker.kill_and_restart(3).kill_and_restart(2);
    let mut client = broker.client();
    for number in 0..40 {
        assert_eq!(committed(&mut client, &format!("g{number}")), number);
    }
    assert_eq!(committed(&mut client, "another"), -1);
}

#[test]
fn a_member_goes_on_after_a_kill() {
    let broker = Broker::fresh("groups_member", 3);
    let mut client = broker.client();
    client.topic("t");
    find(&mut client, "g");
    let asked = join(&mut client, "");
    assert_eq!(asked.error_code, MEMBER_ID_REQUIRED);
    let joined = join(&mut client, &asked.member_id);
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (NONE, 1, 1));
    let sync = SyncGroupRequest {
        group_id: "g".to_owned(),
        generation_id: 1,
        member_id: joined.member_id.clone(),
        assignments: vec![SyncGroupAssignment { member_id: joined.member_id.clone(), assignment: vec![1, 2, 3] }],
        ..SyncGroupRequest::default()
    };
    let synced: SyncGroupResponse = client.ask(Api::SyncGroup, 4, &sync);
    assert_eq!((synced.error_code, synced.assignment), (NONE, vec![1, 2, 3]));
    let broker = broker.kill_and_restart(3);
    let mut client = broker.client();
    assert_eq!(committed(&mut client, "g"), -1, "its coordinator has read the log");
    let synced: SyncGroupResponse =
        client.ask(Api::SyncGroup, 4, &SyncGroupRequest { assignments: Vec::new(), ..sync });
    assert_eq!((synced.error_code, synced.assignment), (NONE, vec![1, 2, 3]), "the same generation");
}

#[test]
fn the_log_of_offsets_stays_short_and_true() {
    let broker = Broker::fresh("groups_short", 1);
    let mut client = broker.client();
    client.topic("t");
    find(&mut client, "g");
    let metadata = "x".repeat(4000);
    let partition = (0..50)
        .find(|partition| {
            assert_eq!(commit(&mut client, "g", 0, &metadata), NONE);
            client.offset("__consumer_offsets", *partition, -1).0 > 0
        })
        .unwrap();
    let mut last = 0;
    let until = Instant::now() + Duration::from_secs(60);
    while client.offset("__consumer_offsets", partition, -2).0 == 0 {
        assert!(Instant::now() < until, "the log's start does not move, after {last} commits");
        last += 1;
        assert_eq!(commit(&mut client, "g", last, &metadata), NONE);
    }
    assert!(last > 200, "it is not written anew for every few commits: {last}");
    let broker = broker.kill_and_restart(1);
    assert_eq!(committed(&mut broker.client(), "g"), last);
}
