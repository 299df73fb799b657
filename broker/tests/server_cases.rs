//! Cases that must never be, each by its id, against a broker process: three shards, so that owners are mostly elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod server_harness;
mod wire_schema;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use server_harness::{Broker, Client, FETCH, PRODUCE, batch, fetch, now_ms, produce, records};
use watershed_broker::wire::apis::{Api, SERVED};
use watershed_broker::wire::generated as g;
use watershed_broker::wire::generated::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use watershed_broker::wire::generated::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use watershed_broker::wire::generated::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use watershed_broker::wire::generated::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use watershed_broker::wire::generated::fetch::FetchResponse;
use watershed_broker::wire::generated::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use watershed_broker::wire::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use watershed_broker::wire::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use watershed_broker::wire::generated::produce::ProduceResponse;
use watershed_broker::wire::header;
use watershed_broker::wire::message::Message;
use watershed_broker::wire::records::BatchBuilder;
use wire_schema::values::{self, Fill};

const NONE: i16 = 0;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const CORRUPT_MESSAGE: i16 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TOPIC: i16 = 17;
const INVALID_CONFIG: i16 = 40;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const TOPIC: i8 = 2;

/// Creates a topic of one partition with these configurations.
fn create(client: &mut Client, name: &str, configs: &[(&str, &str)]) {
    let config =
        |(name, value): &(&str, &str)| CreatableTopicConfig { name: name.to_string(), value: Some(value.to_string()) };
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    let created: CreateTopicsResponse = client.ask(Api::CreateTopics, 7, &request);
    assert_eq!(created.topics[0].error_code, NONE, "{:?}", created.topics[0].error_message);
}

/// One change of one topic's configuration: operations are set 0, delete 1, append 2, subtract 3.
fn alter(client: &mut Client, topic: &str, config: &str, operation: i8, value: Option<&str>) -> i16 {
    let config =
        AlterableConfig { name: config.to_owned(), config_operation: operation, value: value.map(str::to_owned) };
    let resource =
        AlterConfigsResource { resource_type: TOPIC, resource_name: topic.to_owned(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let altered: IncrementalAlterConfigsResponse = client.ask(Api::IncrementalAlterConfigs, 1, &request);
    altered.responses[0].error_code
}

fn configs(client: &mut Client, topic: &str) -> BTreeMap<String, Option<String>> {
    let resource =
        DescribeConfigsResource { resource_type: TOPIC, resource_name: topic.to_owned(), configuration_keys: None };
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let described: DescribeConfigsResponse = client.ask(Api::DescribeConfigs, 4, &request);
    assert_eq!(described.results[0].error_code, NONE);
    described.results[0].configs.iter().map(|config| (config.name.clone(), config.value.clone())).collect()
}

/// Everything from `offset` to the end, by as many fetches as it takes.
fn read_on(client: &mut Client, topic: &str, mut offset: i64) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    loop {
        let part = client.fetch(topic, 0, offset, 0);
        assert_eq!(part.error_code, NONE, "a fetch from {offset}");
        let read = records(&part.records.unwrap_or_default());
        let Some((last, _)) = read.last() else { return found };
        let next = last + 1;
        found.extend(read.into_iter().filter(|(at, _)| *at >= offset));
        offset = next;
    }
}

#[test]
fn c5_every_acknowledged_offset_is_the_records_own() {
    let broker = Broker::fresh("cases_c5", 3);
    create(&mut broker.client(), "c5", &[]);
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let mut client = broker.client();
            std::thread::spawn(move || {
                let sent: Vec<String> = (0..60).map(|n| format!("{writer}-{n}")).collect();
                for value in &sent {
                    client.send(Api::Produce, PRODUCE, &produce("c5", 0, -1, batch(now_ms(), &[value])));
                }
                let mut offsets = Vec::new();
                for value in sent {
                    let (_, answer) = client.receive::<ProduceResponse>(Api::Produce, PRODUCE);
                    let written = &answer.responses[0].partition_responses[0];
                    assert_eq!(written.error_code, NONE);
                    offsets.push((written.base_offset, value));
                }
                offsets
            })
        })
        .collect();
    let mut told: Vec<(i64, String)> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    told.sort();
    assert_eq!(read_on(&mut broker.client(), "c5", 0), told);
}

#[test]
fn c9_a_reader_neither_skips_nor_goes_back_while_records_come() {
    let broker = Broker::fresh("cases_c9", 3);
    create(&mut broker.client(), "c9", &[]);
    let mut client = broker.client();
    let writer = std::thread::spawn(move || {
        for n in 0..300 {
            let values = vec!["v"; 1 + n % 4];
            assert_eq!(client.produce("c9", 0, batch(now_ms(), &values)).error_code, NONE);
        }
        client.offset("c9", 0, -1).0
    });
    let mut reader = broker.client();
    let mut next = 0;
    while !writer.is_finished() || next < reader.offset("c9", 0, -1).0 {
        let found = reader.fetch("c9", 0, next, 100);
        assert_eq!(found.error_code, NONE);
        let from = next;
        for (offset, _) in records(&found.records.unwrap_or_default()).into_iter().filter(|(at, _)| *at >= from) {
            assert_eq!(offset, next, "skipped or gone back");
            next += 1;
        }
    }
    assert_eq!(next, writer.join().unwrap());
}

#[test]
fn c12_a_wrong_leader_epoch_has_its_own_error_and_the_place_is_kept() {
    let broker = Broker::fresh("cases_c12", 3);
    let mut client = broker.client();
    create(&mut client, "c12", &[]);
    client.produce("c12", 0, batch(now_ms(), &["a", "b"]));
    let listed = |client: &mut Client, epoch: i32| {
        let asked =
            ListOffsetsPartition { timestamp: -1, current_leader_epoch: epoch, ..ListOffsetsPartition::default() };
        let topic = ListOffsetsTopic { name: "c12".to_owned(), partitions: vec![asked] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
        let answer: ListOffsetsResponse = client.ask(Api::ListOffsets, 7, &request);
        (answer.topics[0].partitions[0].error_code, answer.topics[0].partitions[0].offset)
    };
    let current = client.topic("c12").topics[0].partitions[0].leader_epoch;
    let (ok, end) = listed(&mut client, current);
    assert_eq!((ok, end), (NONE, 2));
    assert_eq!(listed(&mut client, current + 7).0, UNKNOWN_LEADER_EPOCH);
    let mut request = fetch("c12", 0, 1, 0);
    request.topics[0].partitions[0].current_leader_epoch = current + 7;
    let answer: FetchResponse = client.ask(Api::Fetch, FETCH, &request);
    let found = &answer.responses[0].partitions[0];
    assert_eq!(found.error_code, UNKNOWN_LEADER_EPOCH, "never OFFSET_OUT_OF_RANGE, which would reset the client");
    assert_eq!(found.diverging_epoch, g::fetch::EpochEndOffset::default(), "nothing diverged");
    assert_eq!(records(&client.fetch("c12", 0, 1, 0).records.unwrap()).len(), 2, "the place is as good as before");
}

#[test]
fn c13_what_was_readable_before_a_kill_is_in_range_after_it() {
    let mut broker = Broker::fresh("cases_c13", 3);
    let mut client = broker.client();
    create(&mut client, "c13", &[]);
    for n in 0..20 {
        assert_eq!(client.produce("c13", 0, batch(now_ms(), &["a", "b"])).base_offset, 2 * n);
    }
    let cut = DeleteRecordsPartition { partition_index: 0, offset: 7 };
    let topic = DeleteRecordsTopic { name: "c13".to_owned(), partitions: vec![cut] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 };
    let deleted: DeleteRecordsResponse = client.ask(Api::DeleteRecords, 2, &request);
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 7);
    for shards in [3, 1, 2] {
        broker = broker.kill_and_restart(shards);
        let mut client = broker.client();
        assert_eq!((client.offset("c13", 0, -2).0, client.offset("c13", 0, -1).0), (7, 40));
        for offset in 7..=40 {
            assert_eq!(client.fetch("c13", 0, offset, 0).error_code, NONE, "offset {offset} with {shards} shards");
        }
        for offset in [6, 41] {
            assert_eq!(client.fetch("c13", 0, offset, 0).error_code, OFFSET_OUT_OF_RANGE, "offset {offset}");
        }
    }
}

#[test]
fn c14_a_send_that_succeeded_is_told_so_however_often_it_is_sent() {
    let mut broker = Broker::fresh("cases_c14", 3);
    let mut client = broker.client();
    create(&mut client, "c14", &[]);
    let id: InitProducerIdResponse = client.ask(Api::InitProducerId, 4, &InitProducerIdRequest::default());
    let numbered = |sequence: i32| {
        let mut batch = BatchBuilder::new(now_ms()).producer(id.producer_id, id.producer_epoch, sequence);
        batch.push(now_ms(), None, Some(b"once"));
        batch.build()
    };
    for sequence in 0..5 {
        let written = client.produce("c14", 0, numbered(sequence));
        assert_eq!((written.error_code, written.base_offset), (NONE, i64::from(sequence)));
    }
    for round in 0..3 {
        for sequence in 0..5 {
            let again = client.produce("c14", 0, numbered(sequence));
            assert_eq!((again.error_code, again.base_offset), (NONE, i64::from(sequence)), "round {round}");
        }
        broker = broker.kill_and_restart(3 - round);
        client = broker.client();
    }
    assert_eq!(client.offset("c14", 0, -1).0, 5, "and is there once");
}

#[test]
fn c21_max_message_bytes_holds_from_the_moment_it_is_set() {
    let broker = Broker::fresh("cases_c21", 3);
    let mut client = broker.client();
    create(&mut client, "c21", &[("max.message.bytes", "1000")]);
    let of_bytes = |bytes: usize| batch(now_ms(), &[&"x".repeat(bytes - batch(0, &[""]).len() - 2)]);
    assert_eq!((of_bytes(1000).len(), of_bytes(1001).len()), (1000, 1001), "the limit is of the whole batch");
    assert_eq!(client.produce("c21", 0, of_bytes(1000)).error_code, NONE);
    assert_eq!(client.produce("c21", 0, of_bytes(1001)).error_code, MESSAGE_TOO_LARGE);
    assert_eq!(alter(&mut client, "c21", "max.message.bytes", 0, Some("2000")), NONE);
    assert_eq!(client.produce("c21", 0, of_bytes(1001)).base_offset, 1);
    assert_eq!(client.produce("c21", 0, of_bytes(2001)).error_code, MESSAGE_TOO_LARGE);
    assert_eq!(alter(&mut client, "c21", "max.message.bytes", 1, None), NONE);
    assert_eq!(client.produce("c21", 0, of_bytes(2001)).base_offset, 2, "back to the default");
}

#[test]
fn c22_configurations_are_told_whole() {
    let broker = Broker::fresh("cases_c22", 3);
    let mut client = broker.client();
    create(&mut client, "c22", &[("retention.ms", "12345")]);
    let told = configs(&mut client, "c22");
    assert!(told.len() > 25, "{} configurations", told.len());
    let value = |name: &str| told[name].as_deref();
    assert_eq!((value("retention.ms"), value("cleanup.policy")), (Some("12345"), Some("delete")));
}

#[test]
fn c23_no_change_of_a_configuration_ends_the_broker() {
    let broker = Broker::fresh("cases_c23", 3);
    let mut client = broker.client();
    create(&mut client, "c23", &[]);
    let before = configs(&mut client, "c23");
    for (config, value) in [("cleanup.policy", "delete"), ("retention.ms", "5"), ("no.such", "x"), ("", "")] {
        for operation in [2, 3, 4, 100, -1] {
            let error = alter(&mut client, "c23", config, operation, Some(value));
            let is_for_lists = config == "cleanup.policy" && matches!(operation, 2 | 3);
            assert_eq!(error == NONE, is_for_lists, "{config} {operation}: {error}");
            assert_ne!(alter(&mut client, "c23", config, operation, None), NONE, "{config} {operation} null");
        }
    }
    assert_eq!(alter(&mut client, "c23", "cleanup.policy", 1, None), NONE);
    for (config, value) in [
        ("retention.ms", "many"),
        ("retention.ms", "-2"),
        ("retention.ms", "99999999999999999999"),
        ("segment.bytes", "-1"),
        ("cleanup.policy", "burn"),
        ("max.message.bytes", ""),
        ("message.timestamp.type", "Yesterday"),
    ] {
        assert_eq!(alter(&mut client, "c23", config, 0, Some(value)), INVALID_CONFIG, "{config}={value}");
    }
    assert_eq!(alter(&mut client, "c/23", "retention.ms", 0, Some("5")), INVALID_TOPIC);
    assert_eq!(configs(&mut client, "c23"), before, "what was refused changed nothing");
    assert_eq!(client.produce("c23", 0, batch(now_ms(), &["alive"])).error_code, NONE);
}

/// Whether the body is a whole response of this version.
fn is_response(api: Api, version: i16, body: &[u8]) -> bool {
    macro_rules! read {
        ($($api:ident $module:ident $response:ident;)*) => {
            match api {
                $(Api::$api => g::$module::$response::from_bytes(body, version).is_ok(),)*
            }
        };
    }
    read! {
        Produce produce ProduceResponse;
        Fetch fetch FetchResponse;
        ListOffsets list_offsets ListOffsetsResponse;
        Metadata metadata MetadataResponse;
        OffsetCommit offset_commit OffsetCommitResponse;
        OffsetFetch offset_fetch OffsetFetchResponse;
        FindCoordinator find_coordinator FindCoordinatorResponse;
        JoinGroup join_group JoinGroupResponse;
        Heartbeat heartbeat HeartbeatResponse;
        LeaveGroup leave_group LeaveGroupResponse;
        SyncGroup sync_group SyncGroupResponse;
        DescribeGroups describe_groups DescribeGroupsResponse;
        ListGroups list_groups ListGroupsResponse;
        ApiVersions api_versions ApiVersionsResponse;
        CreateTopics create_topics CreateTopicsResponse;
        DeleteTopics delete_topics DeleteTopicsResponse;
        DeleteRecords delete_records DeleteRecordsResponse;
        InitProducerId init_producer_id InitProducerIdResponse;
        OffsetForLeaderEpoch offset_for_leader_epoch OffsetForLeaderEpochResponse;
        DescribeConfigs describe_configs DescribeConfigsResponse;
        CreatePartitions create_partitions CreatePartitionsResponse;
        DeleteGroups delete_groups DeleteGroupsResponse;
        IncrementalAlterConfigs incremental_alter_configs IncrementalAlterConfigsResponse;
        OffsetDelete offset_delete OffsetDeleteResponse;
        DescribeCluster describe_cluster DescribeClusterResponse;
        DescribeTopicPartitions describe_topic_partitions DescribeTopicPartitionsResponse;
        AlterConfigs alter_configs AlterConfigsResponse;
        AlterReplicaLogDirs alter_replica_log_dirs AlterReplicaLogDirsResponse;
        DescribeLogDirs describe_log_dirs DescribeLogDirsResponse;
        ElectLeaders elect_leaders ElectLeadersResponse;
        AlterPartitionReassignments alter_partition_reassignments AlterPartitionReassignmentsResponse;
        ListPartitionReassignments list_partition_reassignments ListPartitionReassignmentsResponse;
        DescribeClientQuotas describe_client_quotas DescribeClientQuotasResponse;
        AlterClientQuotas alter_client_quotas AlterClientQuotasResponse;
        DescribeUserScramCredentials describe_user_scram_credentials DescribeUserScramCredentialsResponse;
        DescribeQuorum describe_quorum DescribeQuorumResponse;
        DescribeProducers describe_producers DescribeProducersResponse;
        DescribeTransactions describe_transactions DescribeTransactionsResponse;
        ListTransactions list_transactions ListTransactionsResponse;
        ListConfigResources list_config_resources ListConfigResourcesResponse;
    }
}

#[test]
fn t10_every_advertised_version_is_answered() {
    let broker = Broker::fresh("cases_t10", 3);
    let mut client = broker.client();
    let versions: ApiVersionsResponse = client.ask(Api::ApiVersions, 0, &ApiVersionsRequest::default());
    assert_eq!(versions.api_keys.len(), SERVED.len());
    let messages = wire_schema::messages();
    for row in &versions.api_keys {
        let api = Api::from_key(row.api_key).unwrap();
        let name = format!("{}Request", api.entry().name);
        let message = messages.iter().find(|message| message.root.name == name).unwrap();
        // The lie that old librdkafka needs, see the table.
        let lowest = if api == Api::Produce { 3 } else { row.min_version };
        for version in lowest..=row.max_version {
            let mut frame = Vec::new();
            header::write_request(&mut frame, api, version, 9, Some("t10"));
            match api {
                // Bare it asks for no answer.
                Api::Produce => frame.extend(produce("absent", 0, 1, batch(now_ms(), &["x"])).to_bytes(version)),
                _ => frame.extend(values::encode(&messages, message, version, Fill::Bare, 1)),
            }
            client.raw(&u32::try_from(frame.len()).unwrap().to_be_bytes());
            client.raw(&frame);
            let answer = client.frame().unwrap_or_else(|| panic!("{api:?} version {version} ended the connection"));
            let (correlation_id, body_at) = header::parse_response(&answer, api, version).unwrap();
            assert_eq!(correlation_id, 9);
            let body = &answer[body_at..];
            let says_otherwise = api == Api::ApiVersions && body[..2] == 35i16.to_be_bytes();
            assert!(is_response(api, version, body) && !says_otherwise, "{api:?} version {version}: {body:?}");
        }
    }
}

#[test]
fn t12_a_batch_whose_checksum_is_wrong_is_refused_and_its_client_named() {
    let broker = Broker::fresh("cases_t12", 3);
    let mut client = broker.client();
    let named = ApiVersionsRequest {
        client_software_name: "apache-kafka-java".to_owned(),
        client_software_version: "3.9.1".to_owned(),
    };
    let _: ApiVersionsResponse = client.ask(Api::ApiVersions, 3, &named);
    create(&mut client, "t12", &[]);
    let mut damaged = batch(now_ms(), &["sent to another topic"]);
    let last = damaged.len() - 2;
    damaged[last] ^= 1;
    assert_eq!(client.produce("t12", 0, damaged).error_code, CORRUPT_MESSAGE);
    assert_eq!(client.offset("t12", 0, -1).0, 0, "nothing was appended");
    let log = broker.log();
    assert!(log.lines().any(|line| line.contains("apache-kafka-java 3.9.1") && line.contains("checksum")), "{log}");
}

#[test]
fn half_a_header_and_half_a_request_end_with_the_idle_time_and_nothing_else_does() {
    let broker = Broker::with("cases_idle", 1, &["connections.max.idle.ms=1000"]);
    let request = header::request_frame(Api::Metadata, 12, 1, Some("slow"), &g::metadata::MetadataRequest::default());
    let mut held: Vec<Client> = [0, 2, 4, 9, request.len() - 1]
        .into_iter()
        .map(|bytes| {
            let mut client = broker.client();
            client.raw(&request[..bytes]);
            client
        })
        .collect();
    let mut waiting = broker.client();
    create(&mut waiting, "idle", &[]);
    waiting.send(Api::Fetch, FETCH, &fetch("idle", 0, 0, 12_000));
    let mut busy = broker.client();
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        assert_eq!(busy.offset("idle", 0, -1).0, 0);
        std::thread::sleep(Duration::from_millis(200));
    }
    for (number, client) in held.iter_mut().enumerate() {
        assert_eq!(client.frame(), None, "connection {number}");
    }
    let (_, answer) = waiting.receive::<FetchResponse>(Api::Fetch, FETCH);
    assert_eq!(answer.responses[0].partitions[0].error_code, NONE, "a fetch may wait for longer than that");
}
