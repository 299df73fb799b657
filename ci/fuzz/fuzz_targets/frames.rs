//! Requests as they come from a socket: header, then the body of every API that is served, at the version that it names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watershed_broker::wire::apis::SERVED;
use watershed_broker::wire::fetch::FetchRequest;
use watershed_broker::wire::generated as messages;
use watershed_broker::wire::header;
use watershed_broker::wire::message::Message;
use watershed_broker::wire::produce::ProduceRequest;

fuzz_target!(|data: &[u8]| {
    let Ok(parsed) = header::parse(data) else { return };
    let (version, body_at) = (parsed.version, parsed.body_at);
    let body = &data[body_at..];
    let key = parsed.api.entry().key;
    match key {
        0 => _ = ProduceRequest::parse(data, 0..0, body_at, version),
        1 => _ = FetchRequest::parse(body, version),
        _ => {}
    }
    decode(key, version, body);
});

/// Reads a message; what was read is written as something that reads and writes as the same.
fn read<M: Message>(body: &[u8], version: i16) {
    if let Ok(message) = M::from_bytes(body, version) {
        let written = message.to_bytes(version);
        let again = M::from_bytes(&written, version).expect("a message that was read is written as one that reads");
        assert_eq!(again.to_bytes(version), written);
    }
}

macro_rules! requests {
    ($($module:ident $request:ident,)*) => {
        const KEYS: &[i16] = &[$(messages::$module::$request::KEY,)*];

        fn decode(key: i16, version: i16, body: &[u8]) {
            match key {
                $(messages::$module::$request::KEY => read::<messages::$module::$request>(body, version),)*
                _ => unreachable!("api key {key} has no line here"),
            }
        }
    };
}

requests! {
    produce ProduceRequest,
    fetch FetchRequest,
    list_offsets ListOffsetsRequest,
    metadata MetadataRequest,
    offset_commit OffsetCommitRequest,
    offset_fetch OffsetFetchRequest,
    find_coordinator FindCoordinatorRequest,
    join_group JoinGroupRequest,
    heartbeat HeartbeatRequest,
    leave_group LeaveGroupRequest,
    sync_group SyncGroupRequest,
    describe_groups DescribeGroupsRequest,
    list_groups ListGroupsRequest,
    api_versions ApiVersionsRequest,
    create_topics CreateTopicsRequest,
    delete_topics DeleteTopicsRequest,
    delete_records DeleteRecordsRequest,
    init_producer_id InitProducerIdRequest,
    offset_for_leader_epoch OffsetForLeaderEpochRequest,
    describe_configs DescribeConfigsRequest,
    alter_configs AlterConfigsRequest,
    alter_replica_log_dirs AlterReplicaLogDirsRequest,
    describe_log_dirs DescribeLogDirsRequest,
    create_partitions CreatePartitionsRequest,
    delete_groups DeleteGroupsRequest,
    elect_leaders ElectLeadersRequest,
    incremental_alter_configs IncrementalAlterConfigsRequest,
    alter_partition_reassignments AlterPartitionReassignmentsRequest,
    list_partition_reassignments ListPartitionReassignmentsRequest,
    offset_delete OffsetDeleteRequest,
    describe_client_quotas DescribeClientQuotasRequest,
    alter_client_quotas AlterClientQuotasRequest,
    describe_user_scram_credentials DescribeUserScramCredentialsRequest,
    describe_quorum DescribeQuorumRequest,
    describe_cluster DescribeClusterRequest,
    describe_producers DescribeProducersRequest,
    describe_transactions DescribeTransactionsRequest,
    list_transactions ListTransactionsRequest,
    list_config_resources ListConfigResourcesRequest,
    describe_topic_partitions DescribeTopicPartitionsRequest,
}

const _: () = assert!(KEYS.len() == SERVED.len(), "every API that is served is fuzzed");
