//! Stories of `/metrics` and of the log, told by a broker process under real requests.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod server_harness;

use server_harness::{Broker, Client, FETCH, PRODUCE, batch, fetch, now_ms, produce};
use watershed_broker::wire::apis::Api;
use watershed_broker::wire::generated::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, EntityData, EntryData, OpData,
};
use watershed_broker::wire::generated::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use watershed_broker::wire::generated::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use watershed_broker::wire::generated::fetch::FetchResponse;
use watershed_broker::wire::generated::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use watershed_broker::wire::generated::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use watershed_broker::wire::generated::join_group::{JoinGroupProtocol, JoinGroupRequest, JoinGroupResponse};
use watershed_broker::wire::generated::offset_commit::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
};
use watershed_broker::wire::generated::produce::ProduceResponse;

/// Commits from outside of any group.
fn commit(client: &mut Client, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    let partition = |(partition_index, committed_offset): &(i32, i64)| OffsetCommitPartition {
        partition_index: *partition_index,
        committed_offset: *committed_offset,
        ..OffsetCommitPartition::default()
    };
    let partitions = offsets.iter().map(partition).collect();
    let topic = OffsetCommitTopic { name: topic.to_owned(), partitions, ..OffsetCommitTopic::default() };
    let request =
        OffsetCommitRequest { group_id: group.to_owned(), topics: vec![topic], ..OffsetCommitRequest::default() };
    let answer: OffsetCommitResponse = client.ask(Api::OffsetCommit, 9, &request);
    assert!(answer.topics[0].partitions.iter().all(|partition| partition.error_code == 0), "{answer:?}");
}

/// Has the offsets topic made.
fn find(client: &mut Client, group: &str) {
    let keys = vec![group.to_owned()];
    let request = FindCoordinatorRequest { coordinator_keys: keys, ..FindCoordinatorRequest::default() };
    let found: FindCoordinatorResponse = client.ask(Api::FindCoordinator, 4, &request);
    assert_eq!(found.coordinators[0].error_code, 0);
}

fn delete(client: &mut Client, topic: &str) {
    let topic = DeleteTopicState { name: Some(topic.to_owned()), ..DeleteTopicState::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..DeleteTopicsRequest::default() };
    let answer: DeleteTopicsResponse = client.ask(Api::DeleteTopics, 6, &request);
    assert_eq!(answer.responses[0].error_code, 0);
}

/// Gives a topic partitions, `count` in all.
fn grow(client: &mut Client, topic: &str, count: i32) {
    let topic = CreatePartitionsTopic { name: topic.to_owned(), count, ..CreatePartitionsTopic::default() };
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
    let answer: CreatePartitionsResponse = client.ask(Api::CreatePartitions, 3, &request);
    assert_eq!(answer.results[0].error_code, 0, "{answer:?}");
}

fn configure(client: &mut Client, topic: &str, name: &str, value: &str) {
    let config = AlterableConfig { name: name.to_owned(), config_operation: 0, value: Some(value.to_owned()) };
    let resource = AlterConfigsResource { resource_type: 2, resource_name: topic.to_owned(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer: IncrementalAlterConfigsResponse = client.ask(Api::IncrementalAlterConfigs, 1, &request);
    assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
}

/// The samples of a metric: labels and value.
fn samples(text: &str, name: &str) -> Vec<(String, f64)> {
    let sample = |line: &str| {
        let (series, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let labels = series.strip_prefix('{')?.strip_suffix('}')?;
        Some((labels.to_owned(), value.parse().unwrap()))
    };
    text.lines().filter_map(sample).collect()
}

/// Lag by group, topic and partition as one word.
fn lags(broker: &Broker) -> Vec<(String, f64)> {
    let text = broker.metrics();
    assert!(text.contains("\nwatershed_group_lags_left_out 0\n"), "{text}");
    let mut lags = samples(&text, "watershed_group_lag_records");
    lags.sort_by(|one, other| one.0.cmp(&other.0));
    lags
}

fn lag_is_what_a_group_has_left_to_read(name: &str, shards: usize) {
    let broker = Broker::fresh(name, shards);
    let mut client = broker.client();
    client.topic("rivers");
    find(&mut client, "g");
    assert_eq!(lags(&broker), [], "nothing is committed");
    let ten = ["v"; 10];
    assert_eq!(client.produce("rivers", 0, batch(now_ms(), &ten)).error_code, 0);
    assert_eq!(client.produce("rivers", 5, batch(now_ms(), &ten[..4])).error_code, 0);
    commit(&mut client, "g", "rivers", &[(0, 3), (5, 4)]);
    commit(&mut client, "another", "rivers", &[(0, 10)]);
    let of = |group: &str, partition: i32| format!("group=\"{group}\",topic=\"rivers\",partition=\"{partition}\"");
    assert_eq!(lags(&broker), [(of("another", 0), 0.0), (of("g", 0), 7.0), (of("g", 5), 0.0)]);
    assert_eq!(client.produce("rivers", 5, batch(now_ms(), &ten[..2])).error_code, 0);
    commit(&mut client, "g", "rivers", &[(0, 9)]);
    assert_eq!(lags(&broker), [(of("another", 0), 0.0), (of("g", 0), 1.0), (of("g", 5), 2.0)]);
    assert_eq!(samples(&broker.metrics(), "watershed_groups"), [("state=\"Empty\"".to_owned(), 2.0)]);
    let broker = broker.kill_and_restart(shards);
    let mut client = broker.client();
    find(&mut client, "g");
    while lags(&broker).len() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(20)); // coordinators read their logs
    }
    delete(&mut client, "rivers");
    assert_eq!(lags(&broker), [], "a topic that is gone has no lag");
}

#[test]
fn lag_on_one_shard() {
    lag_is_what_a_group_has_left_to_read("metrics_lag_one", 1);
}

#[test]
fn lag_where_coordinators_and_partitions_are_on_different_shards() {
    lag_is_what_a_group_has_left_to_read("metrics_lag_three", 3);
}

#[test]
fn a_scrape_shows_ten_thousand_lags_and_counts_the_others() {
    const PARTITIONS: i32 = 2_100;
    let broker = Broker::fresh("metrics_lag_bound", 1);
    let mut client = broker.client();
    client.topic("rivers");
    find(&mut client, "g0");
    grow(&mut client, "rivers", PARTITIONS);
    let offsets: Vec<(i32, i64)> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    for number in 0..5 {
        commit(&mut client, &format!("g{number}"), "rivers", &offsets);
    }
    let text = broker.metrics();
    assert_eq!(samples(&text, "watershed_group_lag_records").len(), 10_000);
    assert!(text.contains("\nwatershed_group_lags_left_out 500\n"), "five times {PARTITIONS} are committed");
}

/// Observations of a phase of an API, and their sum in seconds.
fn phase(text: &str, api: &str, phase: &str) -> (f64, f64) {
    let labels = format!("api=\"{api}\",phase=\"{phase}\"");
    let of = |name: &str| samples(text, name).into_iter().find(|(found, _)| *found == labels).unwrap().1;
    let name = "watershed_request_phase_duration_seconds";
    (of(&format!("{name}_count")), of(&format!("{name}_sum")))
}

#[test]
fn a_long_poll_is_parked_and_a_produce_waits_for_the_disk() {
    let broker = Broker::with("metrics_phases", 1, &["slow_request=250ms"]);
    let mut client = broker.client();
    client.topic("rivers");
    for _ in 0..5 {
        client.produce("rivers", 0, batch(now_ms(), &["v"]));
    }
    client.fetch("rivers", 0, 0, 0);
    client.fetch("rivers", 0, 5, 400);
    let text = broker.metrics();
    let (count, seconds) = phase(&text, "Fetch", "parked");
    assert!(count == 1.0 && seconds >= 0.35, "{count} {seconds}");
    assert!(phase(&text, "Fetch", "wait").1 < seconds, "a wait that was asked for is none");
    for name in ["queue", "local", "wait", "send"] {
        assert_eq!(phase(&text, "Produce", name).0, 5.0, "{name}");
    }
    assert!(phase(&text, "Produce", "wait").1 > 0.0, "the journal's write takes time");
    let total = |name| samples(&text, name).iter().map(|(_, value)| value).sum::<f64>();
    assert!(total("watershed_journal_commit_duration_seconds_count") >= 5.0);
    assert!(total("watershed_journal_ring_bytes") >= total("watershed_journal_used_bytes"));
    assert!(total("watershed_disk_free_bytes") > 0.0 && total("watershed_memory_pool_limit_bytes") > 0.0);
    assert!(!broker.log().contains("a request was slow"), "a long poll is not slow:\n{}", broker.log());
}

#[test]
fn what_waits_behind_a_long_poll_is_not_slow() {
    let broker = Broker::with("metrics_behind", 1, &["slow_request=350ms"]);
    let mut client = broker.client();
    client.topic("rivers");
    for _ in 0..3 {
        client.send(Api::Fetch, FETCH, &fetch("rivers", 0, 0, 400));
    }
    for _ in 0..3 {
        client.receive::<FetchResponse>(Api::Fetch, FETCH);
    }
    let text = broker.metrics();
    let (queued, parked) = (phase(&text, "Fetch", "queue").1, phase(&text, "Fetch", "parked"));
    assert!(parked.0 == 3.0 && queued < parked.1 / 3.0, "{queued} {parked:?}");
    assert!(!broker.log().contains("a request was slow"), "{}", broker.log());
}

#[test]
fn what_an_operator_is_told() {
    let broker = Broker::with("metrics_log", 1, &["slow_request=0", "group.initial.rebalance.delay.ms=0"]);
    let mut client = broker.client();
    client.topic("rivers");
    client.produce("rivers", 0, batch(now_ms(), &["v"]));
    find(&mut client, "g");
    let protocol = JoinGroupProtocol { name: "range".to_owned(), metadata: Vec::new() };
    let join = JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    };
    let joined: JoinGroupResponse = client.ask(Api::JoinGroup, 3, &join);
    assert_eq!(joined.error_code, 0);
    grow(&mut client, "rivers", 8);
    configure(&mut client, "rivers", "retention.ms", "5000");
    delete(&mut client, "rivers");
    let log = broker.log();
    for told in [
        "topic created topic=\"rivers\" partitions=6",
        "partitions added to a topic topic=\"rivers\" added=2",
        "configuration changed resource=\"rivers\" name=\"retention.ms\" value=\"5000\"",
        "topic deleted topic=\"rivers\"",
        "a group rebalances group=\"g\" generation=0 members=1",
        "why=\"a member joined\"",
        "a request was slow api=",
        "client_id=\"test\"",
        "wait_us=",
    ] {
        assert!(log.contains(told), "{told} is missing in\n{log}");
    }
    let slow = log.lines().filter(|line| line.contains("a request was slow")).count();
    assert!(slow <= 3, "a line a second: {slow}");
    assert!(
        broker.metrics().lines().any(|line| line.starts_with("watershed_slow_requests_total") && !line.ends_with(" 0"))
    );
}

#[test]
fn waits_for_a_quota_are_counted() {
    let broker = Broker::fresh("metrics_throttled", 1);
    let mut client = broker.client();
    client.topic("rivers");
    let entity = vec![EntityData { entity_type: "client-id".to_owned(), entity_name: None }];
    let op = OpData { key: "producer_byte_rate".to_owned(), value: 1_000.0, remove: false };
    let request = AlterClientQuotasRequest { entries: vec![EntryData { entity, ops: vec![op] }], validate_only: false };
    let altered: AlterClientQuotasResponse = client.ask(Api::AlterClientQuotas, 1, &request);
    assert_eq!(altered.entries[0].error_code, 0);
    let request = produce("rivers", 0, -1, batch(now_ms(), &[&"x".repeat(11_000)]));
    let answer: ProduceResponse = client.ask(Api::Produce, PRODUCE, &request);
    assert!(answer.throttle_time_ms > 0);
    let text = broker.metrics();
    let of = |name: &str| samples(&text, name).iter().map(|(_, value)| value).sum::<f64>();
    assert_eq!(of("watershed_throttled_requests_total"), 1.0);
    let told_seconds = f64::from(answer.throttle_time_ms) / 1000.0;
    assert!((of("watershed_throttled_seconds_total") - told_seconds).abs() < 0.01, "{text}");
}
