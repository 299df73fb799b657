//! Stories of administration as a client sees them: what is told of logs, producers and the quorum, configurations that act
//! without a restart, and quotas. Three shards, so that owners and counters are mostly elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod server_harness;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use server_harness::{Broker, Client, FETCH, PRODUCE, batch, fetch, now_ms, produce, records};
use watershed_broker::wire::apis::Api;
use watershed_broker::wire::generated as g;
use watershed_broker::wire::generated::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, EntityData, EntryData, OpData,
};
use watershed_broker::wire::generated::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResponse, AlterableConfig,
};
use watershed_broker::wire::generated::alter_partition_reassignments as reassign;
use watershed_broker::wire::generated::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse,
};
use watershed_broker::wire::generated::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use watershed_broker::wire::generated::describe_client_quotas::{
    DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use watershed_broker::wire::generated::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
};
use watershed_broker::wire::generated::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsRequest, DescribeLogDirsResponse,
};
use watershed_broker::wire::generated::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, TopicRequest,
};
use watershed_broker::wire::generated::describe_quorum::{DescribeQuorumRequest, DescribeQuorumResponse};
use watershed_broker::wire::generated::describe_user_scram_credentials as scram;
use watershed_broker::wire::generated::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse, TopicPartitions};
use watershed_broker::wire::generated::fetch::FetchResponse;
use watershed_broker::wire::generated::incremental_alter_configs as incremental;
use watershed_broker::wire::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use watershed_broker::wire::generated::list_config_resources::{
    ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use watershed_broker::wire::generated::list_transactions::{ListTransactionsRequest, ListTransactionsResponse};
use watershed_broker::wire::generated::produce::ProduceResponse;
use watershed_broker::wire::records::BatchBuilder;

const NONE: i16 = 0;
const UNKNOWN_TOPIC: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TOPIC: i16 = 17;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_ASSIGNMENT: i16 = 39;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const LOG_DIR_NOT_FOUND: i16 = 57;
const ELECTION_NOT_NEEDED: i16 = 84;
const NO_REASSIGNMENT: i16 = 85;
const QUOTA_EXCEEDED: i16 = 89;
const NOT_FOUND: i16 = 91;
const DUPLICATE: i16 = 92;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;
const DYNAMIC_BROKER: i8 = 2;
const DYNAMIC_DEFAULT: i8 = 3;
const STATIC: i8 = 4;

fn create(client: &mut Client, name: &str, partitions: i32) -> (i16, i32) {
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    let created: CreateTopicsResponse = client.ask(Api::CreateTopics, 7, &request);
    (created.topics[0].error_code, created.throttle_time_ms)
}

/// Sets (or, with `None`, deletes) one configuration of a resource.
fn alter(client: &mut Client, kind: i8, name: &str, config: &str, value: Option<&str>) -> (i16, Option<String>) {
    let config = incremental::AlterableConfig {
        name: config.to_owned(),
        config_operation: if value.is_some() { 0 } else { 1 },
        value: value.map(str::to_owned),
    };
    let resource = incremental::AlterConfigsResource {
        resource_type: kind,
        resource_name: name.to_owned(),
        configs: vec![config],
    };
    let request = incremental::IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let altered: incremental::IncrementalAlterConfigsResponse = client.ask(Api::IncrementalAlterConfigs, 1, &request);
    (altered.responses[0].error_code, altered.responses[0].error_message.clone())
}

fn set(client: &mut Client, kind: i8, name: &str, config: &str, value: Option<&str>) {
    let (error, message) = alter(client, kind, name, config, value);
    assert_eq!(error, NONE, "{config}={value:?}: {message:?}");
}

fn described(client: &mut Client, kind: i8, name: &str) -> BTreeMap<String, DescribeConfigsResourceResult> {
    let resource =
        DescribeConfigsResource { resource_type: kind, resource_name: name.to_owned(), configuration_keys: None };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        ..DescribeConfigsRequest::default()
    };
    let described: DescribeConfigsResponse = client.ask(Api::DescribeConfigs, 4, &request);
    assert_eq!(described.results[0].error_code, NONE);
    described.results[0].configs.iter().map(|config| (config.name.clone(), config.clone())).collect()
}

#[test]
fn log_directories_hold_what_was_written_wherever_its_owner_is() {
    let broker = Broker::fresh("admin_log_dirs", 3);
    let mut client = broker.client();
    assert_eq!(create(&mut client, "sized", 6).0, NONE);
    let mut written = [0; 6];
    for (partition, bytes) in written.iter_mut().enumerate() {
        let batch = batch(now_ms(), &vec!["value"; 10 * (partition + 1)]);
        *bytes = batch.len() as i64;
        assert_eq!(client.produce("sized", partition as i32, batch).error_code, NONE);
    }
    let all: DescribeLogDirsResponse = client.ask(Api::DescribeLogDirs, 4, &DescribeLogDirsRequest::default());
    let [dir] = &all.results[..] else { panic!("one directory: {all:?}") };
    assert!(dir.log_dir.ends_with("admin_log_dirs"), "{}", dir.log_dir);
    assert!(dir.total_bytes > dir.usable_bytes && dir.usable_bytes > 0, "{dir:?}");
    let sized = dir.topics.iter().find(|topic| topic.name == "sized").unwrap();
    let sizes: Vec<i64> = sized.partitions.iter().map(|partition| partition.partition_size).collect();
    assert_eq!(sizes, written);
    let some = DescribableLogDirTopic { topic: "sized".to_owned(), partitions: vec![4, 99] };
    let absent = DescribableLogDirTopic { topic: "absent".to_owned(), partitions: vec![0] };
    let request = DescribeLogDirsRequest { topics: Some(vec![some, absent]) };
    let asked: DescribeLogDirsResponse = client.ask(Api::DescribeLogDirs, 3, &request);
    let topics = &asked.results[0].topics;
    assert_eq!((topics.len(), topics[0].partitions.len(), topics[0].partitions[0].partition_index), (1, 1, 4));
}

#[test]
fn a_replica_may_stay_in_the_one_directory_and_go_to_no_other() {
    let broker = Broker::fresh("admin_move_dirs", 3);
    let mut client = broker.client();
    create(&mut client, "t", 2);
    let described: DescribeLogDirsResponse = client.ask(Api::DescribeLogDirs, 4, &DescribeLogDirsRequest::default());
    let here = described.results[0].log_dir.clone();
    let long = "x".repeat(220);
    let topic = |name: &str, partitions: &[i32]| AlterReplicaLogDirTopic {
        name: name.to_owned(),
        partitions: partitions.to_vec(),
    };
    let stay = vec![topic("t", &[0, 1, 9]), topic("absent", &[0]), topic(&long, &[0])];
    let dirs = vec![
        AlterReplicaLogDir { path: here, topics: stay },
        AlterReplicaLogDir { path: "/elsewhere".to_owned(), topics: vec![topic("t", &[1]), topic("other", &[0])] },
    ];
    for version in 1..=2 {
        let request = AlterReplicaLogDirsRequest { dirs: dirs.clone() };
        let answer: AlterReplicaLogDirsResponse = client.ask(Api::AlterReplicaLogDirs, version, &request);
        let told: Vec<(&str, Vec<(i32, i16)>)> = answer
            .results
            .iter()
            .map(|topic| {
                let codes = topic.partitions.iter().map(|told| (told.partition_index, told.error_code));
                (topic.topic_name.as_str(), codes.collect())
            })
            .collect();
        assert_eq!(
            told,
            [
                ("absent", vec![(0, UNKNOWN_TOPIC)]),
                ("other", vec![(0, LOG_DIR_NOT_FOUND)]),
                ("t", vec![(0, NONE), (1, LOG_DIR_NOT_FOUND), (9, UNKNOWN_TOPIC)]),
                (long.as_str(), vec![(0, INVALID_TOPIC)]),
            ]
        );
    }
}

#[test]
fn producers_are_told_by_the_owners_of_their_partitions() {
    let mut broker = Broker::fresh("admin_producers", 3);
    let mut client = broker.client();
    assert_eq!(create(&mut client, "p", 6).0, NONE);
    let id: InitProducerIdResponse = client.ask(Api::InitProducerId, 4, &InitProducerIdRequest::default());
    let written_ms = now_ms() - 86_400_000;
    for partition in [1, 4] {
        for sequence in 0..=partition {
            let mut batch = BatchBuilder::new(written_ms).producer(id.producer_id, id.producer_epoch, sequence);
            batch.push(written_ms + i64::from(sequence), None, Some(b"v"));
            assert_eq!(client.produce("p", partition, batch.build()).error_code, NONE);
        }
    }
    for shards in [3, 2] {
        let partition_indexes = vec![0, 1, 4, 6];
        let request =
            DescribeProducersRequest { topics: vec![TopicRequest { name: "p".to_owned(), partition_indexes }] };
        let told: DescribeProducersResponse = client.ask(Api::DescribeProducers, 0, &request);
        let [none, first, second, absent] = &told.topics[0].partitions[..] else { panic!("{told:?}") };
        assert!(none.active_producers.is_empty());
        assert_eq!(absent.error_code, UNKNOWN_TOPIC);
        for (partition, sequence) in [(first, 1), (second, 4)] {
            let [producer] = &partition.active_producers[..] else { panic!("{partition:?}") };
            assert_eq!((producer.producer_id, producer.producer_epoch), (id.producer_id, 0));
            assert_eq!((producer.last_sequence, producer.current_txn_start_offset), (sequence, -1));
            assert_eq!(producer.last_timestamp, written_ms + i64::from(sequence));
        }
        broker = broker.kill_and_restart(shards);
        client = broker.client();
    }
}

#[test]
fn one_broker_elects_moves_and_lists_as_kafka_with_one_broker_does() {
    let broker = Broker::fresh("admin_one", 3);
    let mut client = broker.client();
    create(&mut client, "t", 2);
    let named = |topic: &str| TopicPartitions { topic: topic.to_owned(), partitions: vec![0, 9] };
    let request =
        ElectLeadersRequest { topic_partitions: Some(vec![named("t"), named("no")]), ..ElectLeadersRequest::default() };
    let elected: ElectLeadersResponse = client.ask(Api::ElectLeaders, 2, &request);
    let codes = |topic: usize| {
        let results = &elected.replica_election_results[topic].partition_result;
        results.iter().map(|result| result.error_code).collect::<Vec<_>>()
    };
    assert_eq!((codes(0), codes(1)), (vec![ELECTION_NOT_NEEDED, UNKNOWN_TOPIC], vec![UNKNOWN_TOPIC, UNKNOWN_TOPIC]));

    let asked = |partition_index: i32, replicas: Option<Vec<i32>>| reassign::ReassignablePartition {
        partition_index,
        replicas,
    };
    let partitions = vec![asked(0, Some(vec![1])), asked(1, Some(vec![2])), asked(0, None), asked(7, Some(vec![1]))];
    let topic = reassign::ReassignableTopic { name: "t".to_owned(), partitions };
    let request = reassign::AlterPartitionReassignmentsRequest {
        topics: vec![topic],
        ..reassign::AlterPartitionReassignmentsRequest::default()
    };
    let moved: reassign::AlterPartitionReassignmentsResponse =
        client.ask(Api::AlterPartitionReassignments, 1, &request);
    let codes: Vec<i16> = moved.responses[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes, [NONE, INVALID_ASSIGNMENT, NO_REASSIGNMENT, UNKNOWN_TOPIC]);

    let partition = g::describe_quorum::PartitionData { partition_index: 0 };
    let topic =
        |name: &str| g::describe_quorum::TopicData { topic_name: name.to_owned(), partitions: vec![partition.clone()] };
    let request = DescribeQuorumRequest { topics: vec![topic("__cluster_metadata"), topic("t")] };
    let quorum: DescribeQuorumResponse = client.ask(Api::DescribeQuorum, 2, &request);
    let [metadata, other] = &quorum.topics[..] else { panic!("{quorum:?}") };
    let told = &metadata.partitions[0];
    assert_eq!((told.error_code, told.leader_id, told.current_voters.len()), (NONE, 1, 1));
    assert!(told.high_watermark > 0 && told.current_voters[0].log_end_offset >= told.high_watermark, "{told:?}");
    assert_eq!(other.partitions[0].error_code, UNKNOWN_TOPIC);
    assert_eq!(quorum.nodes[0].listeners[0].port, broker.address.port());

    let request = ListTransactionsRequest {
        state_filters: vec!["Ongoing".to_owned(), "Sleeping".to_owned()],
        ..ListTransactionsRequest::default()
    };
    let listed: ListTransactionsResponse = client.ask(Api::ListTransactions, 2, &request);
    assert_eq!((listed.unknown_state_filters, listed.transaction_states.len()), (vec!["Sleeping".to_owned()], 0));

    let users = ["u", "v", "v"].map(|name| scram::UserName { name: name.to_owned() });
    let mut credentials = |users| -> Vec<i16> {
        let request = scram::DescribeUserScramCredentialsRequest { users };
        let told: scram::DescribeUserScramCredentialsResponse =
            client.ask(Api::DescribeUserScramCredentials, 0, &request);
        told.results.iter().map(|result| result.error_code).collect()
    };
    assert_eq!((credentials(None), credentials(Some(users.to_vec()))), (vec![], vec![NOT_FOUND, DUPLICATE]));

    let mut resources = |resource_types: Vec<i8>| {
        let request = ListConfigResourcesRequest { resource_types };
        let listed: ListConfigResourcesResponse = client.ask(Api::ListConfigResources, 1, &request);
        let pair = |resource: &g::list_config_resources::ConfigResource| {
            (resource.resource_type, resource.resource_name.clone())
        };
        (listed.error_code, listed.config_resources.iter().map(pair).collect::<Vec<_>>())
    };
    assert_eq!(resources(vec![TOPIC]), (NONE, vec![(TOPIC, "t".to_owned())]));
    assert_eq!(resources(vec![]).1, [(TOPIC, "t"), (BROKER, "1")].map(|(kind, name)| (kind, name.to_owned())));
    assert_ne!(resources(vec![77]).0, NONE);
}

#[test]
fn alter_configs_leaves_exactly_what_it_names() {
    let broker = Broker::fresh("admin_alter", 3);
    let mut client = broker.client();
    create(&mut client, "t", 1);
    set(&mut client, TOPIC, "t", "retention.ms", Some("1000"));
    set(&mut client, TOPIC, "t", "segment.ms", Some("2000"));
    let mut replace = |value: &str, validate_only: bool| {
        let config = AlterableConfig { name: "segment.ms".to_owned(), value: Some(value.to_owned()) };
        let resource =
            AlterConfigsResource { resource_type: TOPIC, resource_name: "t".to_owned(), configs: vec![config] };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only };
        let altered: AlterConfigsResponse = client.ask(Api::AlterConfigs, 2, &request);
        altered.responses[0].error_code
    };
    assert_eq!((replace("3000", true), replace("many", false)), (NONE, INVALID_CONFIG));
    let mut other = broker.client();
    let mut values = || {
        let told = described(&mut other, TOPIC, "t");
        ["retention.ms", "segment.ms"].map(|name| told[name].value.clone().unwrap())
    };
    assert_eq!(values(), ["1000", "2000"]);
    assert_eq!(replace("3000", false), NONE);
    assert_eq!(values(), ["604800000", "3000"]);
}

#[test]
fn a_broker_configuration_acts_at_once_is_told_with_its_source_and_survives() {
    let mut broker = Broker::with("admin_dynamic", 3, &["message.max.bytes=5000"]);
    let mut client = broker.client();
    create(&mut client, "t", 1);
    let of_bytes = |bytes: usize| batch(now_ms(), &[&"x".repeat(bytes)]);
    assert_eq!(client.produce("t", 0, of_bytes(6000)).error_code, MESSAGE_TOO_LARGE);
    set(&mut client, BROKER, "", "message.max.bytes", Some("7000"));
    assert_eq!(client.produce("t", 0, of_bytes(6000)).error_code, NONE);
    set(&mut client, BROKER, "1", "message.max.bytes", Some("2000"));
    assert_eq!(client.produce("t", 0, of_bytes(3000)).error_code, MESSAGE_TOO_LARGE);
    broker = broker.kill_and_restart(2);
    client = broker.client();
    let told = described(&mut client, BROKER, "1");
    let layers: Vec<(i8, &str)> = told["message.max.bytes"]
        .synonyms
        .iter()
        .map(|synonym| (synonym.source, synonym.value.as_deref().unwrap()))
        .collect();
    assert_eq!(layers[..3], [(DYNAMIC_BROKER, "2000"), (DYNAMIC_DEFAULT, "7000"), (STATIC, "5000")]);
    let defaults = described(&mut client, BROKER, "");
    assert_eq!(defaults.keys().collect::<Vec<_>>(), ["message.max.bytes"]);
    assert_eq!(defaults["message.max.bytes"].value.as_deref(), Some("7000"));
    assert_eq!(client.produce("t", 0, of_bytes(3000)).error_code, MESSAGE_TOO_LARGE);
    for layer in ["1", ""] {
        set(&mut client, BROKER, layer, "message.max.bytes", None);
    }
    assert_eq!(client.produce("t", 0, of_bytes(4000)).error_code, NONE);
    let (error, message) = alter(&mut client, BROKER, "1", "num.partitions", Some("3"));
    assert_eq!(error, INVALID_REQUEST, "{message:?}");
    let (error, message) = alter(&mut client, GROUP, "g", "consumer.session.timeout.ms", Some("50000"));
    assert!(error == INVALID_CONFIG && message.as_ref().unwrap().contains("its members"), "{message:?}");
    assert_eq!(described(&mut client, GROUP, "g")["consumer.session.timeout.ms"].value.as_deref(), Some("45000"));
}

#[test]
fn configurations_of_a_topic_act_without_a_restart() {
    let broker = Broker::with("admin_topic", 3, &["log.retention.check.interval.ms=100"]);
    let mut client = broker.client();
    create(&mut client, "t", 1);
    let old = now_ms() - 3_600_000;
    let first = client.produce("t", 0, batch(old, &["a"]));
    assert_eq!((first.error_code, first.log_append_time_ms), (NONE, -1));
    set(&mut client, TOPIC, "t", "message.timestamp.before.max.ms", Some("60000"));
    assert_eq!(client.produce("t", 0, batch(old, &["b"])).error_code, INVALID_TIMESTAMP);
    set(&mut client, TOPIC, "t", "message.timestamp.type", Some("LogAppendTime"));
    let stamped = client.produce("t", 0, batch(old, &["c"]));
    assert!(stamped.error_code == NONE && stamped.log_append_time_ms > old, "{stamped:?}");
    set(&mut client, TOPIC, "t", "flush.messages", Some("1000"));
    assert_eq!(client.produce("t", 0, batch(now_ms(), &["d"])).base_offset, 2);
    set(&mut client, TOPIC, "t", "retention.ms", Some("1"));
    let until = Instant::now() + Duration::from_secs(20);
    while client.offset("t", 0, -2).0 < 3 {
        assert!(Instant::now() < until, "nothing is deleted by age");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn limits_of_groups_act_without_a_restart() {
    let broker = Broker::fresh("admin_groups", 3);
    let mut client = broker.client();
    let key = vec!["g".to_owned()];
    let find = g::find_coordinator::FindCoordinatorRequest {
        coordinator_keys: key,
        ..g::find_coordinator::FindCoordinatorRequest::default()
    };
    let _: g::find_coordinator::FindCoordinatorResponse = client.ask(Api::FindCoordinator, 4, &find);
    let join = |session_timeout_ms: i32| {
        let protocol = g::join_group::JoinGroupProtocol {
            name: "range".to_owned(),
            ..g::join_group::JoinGroupProtocol::default()
        };
        let request = g::join_group::JoinGroupRequest {
            group_id: "g".to_owned(),
            session_timeout_ms,
            rebalance_timeout_ms: session_timeout_ms,
            protocol_type: "consumer".to_owned(),
            protocols: vec![protocol],
            ..g::join_group::JoinGroupRequest::default()
        };
        let mut joining = broker.client();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let joined: g::join_group::JoinGroupResponse = joining.ask(Api::JoinGroup, 5, &request);
            if !matches!(joined.error_code, 14..=16) || Instant::now() > until {
                return joined.error_code;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let member_id_required = 79;
    assert_eq!((join(10_000), join(1000)), (member_id_required, INVALID_SESSION_TIMEOUT));
    set(&mut client, BROKER, "1", "group.min.session.timeout.ms", Some("500"));
    set(&mut client, BROKER, "", "group.max.session.timeout.ms", Some("9000"));
    assert_eq!((join(10_000), join(1000)), (INVALID_SESSION_TIMEOUT, member_id_required));
}

/// Sets (or removes) a quota of a client id; `None` is the default of all.
fn quota(client: &mut Client, client_id: Option<&str>, key: &str, value: Option<f64>) -> i16 {
    let entity = vec![EntityData { entity_type: "client-id".to_owned(), entity_name: client_id.map(str::to_owned) }];
    let op = OpData { key: key.to_owned(), value: value.unwrap_or_default(), remove: value.is_none() };
    let request = AlterClientQuotasRequest { entries: vec![EntryData { entity, ops: vec![op] }], validate_only: false };
    let altered: AlterClientQuotasResponse = client.ask(Api::AlterClientQuotas, 1, &request);
    altered.entries[0].error_code
}

fn quotas(client: &mut Client) -> Vec<(Option<String>, String, f64)> {
    let told: DescribeClientQuotasResponse =
        client.ask(Api::DescribeClientQuotas, 1, &DescribeClientQuotasRequest::default());
    let entries = told.entries.unwrap().into_iter();
    entries
        .flat_map(|entry| {
            let name = entry.entity[0].entity_name.clone();
            entry.values.into_iter().map(move |value| (name.clone(), value.key, value.value))
        })
        .collect()
}

#[test]
fn a_producer_over_its_quota_is_told_and_then_muted_on_whatever_shard() {
    let mut broker = Broker::fresh("admin_produce_quota", 3);
    let mut client = broker.client();
    create(&mut client, "t", 1);
    assert_eq!(quota(&mut client, Some("test"), "no_such_rate", Some(1.0)), INVALID_REQUEST);
    assert_eq!(quota(&mut client, None, "producer_byte_rate", Some(10_000.0)), NONE);
    assert_eq!(quota(&mut client, Some("test"), "consumer_byte_rate", Some(1e9)), NONE);
    broker = broker.kill_and_restart(3);
    // One connection for each shard: what they send counts together.
    let mut clients = [broker.client(), broker.client(), broker.client()];
    let expected = vec![
        (None, "producer_byte_rate".to_owned(), 10_000.0),
        (Some("test".to_owned()), "consumer_byte_rate".to_owned(), 1e9),
    ];
    assert_eq!(quotas(&mut clients[0]), expected);
    let value = "x".repeat(36_000);
    let mut told = Vec::new();
    for client in &mut clients {
        let request = produce("t", 0, -1, batch(now_ms(), &[&value]));
        let answer: ProduceResponse = client.ask(Api::Produce, PRODUCE, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, NONE);
        told.push(answer.throttle_time_ms);
    }
    assert_eq!(told[..2], [0, 0], "ten seconds' worth at once");
    assert!((300..2500).contains(&told[2]), "{told:?}");
    let since = Instant::now();
    clients[2].offset("t", 0, -1);
    let muted_ms = since.elapsed().as_millis() as i32;
    assert!(muted_ms >= told[2] * 8 / 10, "muted for {muted_ms} of {told:?}");
    let since = Instant::now();
    clients[0].offset("t", 0, -1);
    assert!(since.elapsed() < Duration::from_millis(300), "who was not told is not muted");
    assert_eq!(quota(&mut clients[0], None, "producer_byte_rate", None), NONE);
    let request = produce("t", 0, -1, batch(now_ms(), &[&value]));
    let answer: ProduceResponse = clients[1].ask(Api::Produce, PRODUCE, &request);
    assert_eq!(answer.throttle_time_ms, 0, "without the quota");
}

#[test]
fn a_consumer_over_its_quota_gets_nothing_until_it_has_waited() {
    let broker = Broker::fresh("admin_fetch_quota", 3);
    let mut client = broker.client();
    create(&mut client, "t", 1);
    for _ in 0..2 {
        client.produce("t", 0, batch(now_ms(), &[&"x".repeat(60_000)]));
    }
    assert_eq!(quota(&mut client, Some("test"), "consumer_byte_rate", Some(10_000.0)), NONE);
    let mut read = |offset: i64| -> (i32, usize) {
        let answer: FetchResponse = client.ask(Api::Fetch, FETCH, &fetch("t", 0, offset, 0));
        let found = &answer.responses[0].partitions[0];
        assert_eq!((found.error_code, found.high_watermark), (NONE, 2));
        (answer.throttle_time_ms, records(found.records.as_deref().unwrap_or_default()).len())
    };
    assert_eq!(read(0), (0, 1), "an answer holds no more than the window");
    let (throttle_ms, count) = read(1);
    assert!(count == 0 && (500..4000).contains(&throttle_ms), "{count} records and {throttle_ms} ms");
    let until = Instant::now() + Duration::from_secs(15);
    while read(1).1 == 0 {
        assert!(Instant::now() < until, "it never gets the rest");
    }
}

#[test]
fn mutations_beyond_the_quota_are_refused_by_name_and_time_is_charged() {
    let broker = Broker::fresh("admin_mutation_quota", 3);
    let mut client = broker.client();
    assert_eq!(quota(&mut client, Some("test"), "controller_mutation_rate", Some(1.0)), NONE);
    assert_eq!(create(&mut client, "large", 20), (NONE, 9000));
    let mut other = broker.client();
    let (error, throttle_ms) = create(&mut other, "more", 1);
    assert!(error == QUOTA_EXCEEDED && (7000..=9000).contains(&throttle_ms), "{error} {throttle_ms}");
    let mut third = broker.client();
    assert!(!third.all_topics().contains(&"more".to_owned()));
    assert_eq!(quota(&mut third, Some("test"), "controller_mutation_rate", None), NONE);
    assert_eq!(create(&mut third, "more", 1), (NONE, 0));
    assert_eq!(quota(&mut third, Some("test"), "request_percentage", Some(0.000_001)), NONE);
    let (_, throttle_ms) = create(&mut third, "slow", 1);
    assert_eq!(throttle_ms, 1000, "a second at most");
}
