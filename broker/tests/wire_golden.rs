//! Golden requests: whole frames (without length prefix), one file per API, one line per version.
//!
//! `golden/wire` was written once from the schema (`REGENERATE=1` writes it anew, which should only ever add versions).
//! `golden/recorded` holds frames that the Java client's own classes wrote, as `ci/clients/java/RecordRequests.java` records
//! them: two for each version, one of them without all that may be absent. They may hold versions that are not served.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod wire_schema;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use watershed_broker::wire::apis::{Api, SERVED};
use watershed_broker::wire::generated as g;
use watershed_broker::wire::header;
use watershed_broker::wire::message::Message;
use wire_schema::values::{self, Fill};

/// Whose recorded requests these are.
const JAVA: &str = "java-4.2.1";

/// Reads a frame and writes it back.
fn rewritten(frame: &[u8]) -> Vec<u8> {
    let head = header::parse(frame).unwrap();
    let body = &frame[head.body_at..];
    macro_rules! rewrite {
        ($($api:ident $module:ident $request:ident;)*) => {
            match head.api {
                $(Api::$api => {
                    let request = g::$module::$request::from_bytes(body, head.version).unwrap();
                    let (version, id) = (head.version, head.correlation_id);
                    header::request_frame(head.api, version, id, head.client_id, &request)
                })*
            }
        };
    }
    let whole = rewrite! {
        Produce produce ProduceRequest;
        Fetch fetch FetchRequest;
        ListOffsets list_offsets ListOffsetsRequest;
        Metadata metadata MetadataRequest;
        OffsetCommit offset_commit OffsetCommitRequest;
        OffsetFetch offset_fetch OffsetFetchRequest;
        JoinGroup join_group JoinGroupRequest;
        Heartbeat heartbeat HeartbeatRequest;
        LeaveGroup leave_group LeaveGroupRequest;
        SyncGroup sync_group SyncGroupRequest;
        DescribeGroups describe_groups DescribeGroupsRequest;
        ListGroups list_groups ListGroupsRequest;
        DeleteGroups delete_groups DeleteGroupsRequest;
        OffsetDelete offset_delete OffsetDeleteRequest;
        FindCoordinator find_coordinator FindCoordinatorRequest;
        ApiVersions api_versions ApiVersionsRequest;
        CreateTopics create_topics CreateTopicsRequest;
        DeleteTopics delete_topics DeleteTopicsRequest;
        DeleteRecords delete_records DeleteRecordsRequest;
        InitProducerId init_producer_id InitProducerIdRequest;
        OffsetForLeaderEpoch offset_for_leader_epoch OffsetForLeaderEpochRequest;
        DescribeConfigs describe_configs DescribeConfigsRequest;
        CreatePartitions create_partitions CreatePartitionsRequest;
        IncrementalAlterConfigs incremental_alter_configs IncrementalAlterConfigsRequest;
        DescribeCluster describe_cluster DescribeClusterRequest;
        DescribeTopicPartitions describe_topic_partitions DescribeTopicPartitionsRequest;
        AlterConfigs alter_configs AlterConfigsRequest;
        AlterReplicaLogDirs alter_replica_log_dirs AlterReplicaLogDirsRequest;
        DescribeLogDirs describe_log_dirs DescribeLogDirsRequest;
        ElectLeaders elect_leaders ElectLeadersRequest;
        AlterPartitionReassignments alter_partition_reassignments AlterPartitionReassignmentsRequest;
        ListPartitionReassignments list_partition_reassignments ListPartitionReassignmentsRequest;
        DescribeClientQuotas describe_client_quotas DescribeClientQuotasRequest;
        AlterClientQuotas alter_client_quotas AlterClientQuotasRequest;
        DescribeUserScramCredentials describe_user_scram_credentials DescribeUserScramCredentialsRequest;
        DescribeQuorum describe_quorum DescribeQuorumRequest;
        DescribeProducers describe_producers DescribeProducersRequest;
        DescribeTransactions describe_transactions DescribeTransactionsRequest;
        ListTransactions list_transactions ListTransactionsRequest;
        ListConfigResources list_config_resources ListConfigResourcesRequest;
    };
    whole[4..].to_vec()
}

#[test]
fn every_advertised_version_has_its_golden_request() {
    for entry in SERVED {
        let path = folder("wire").join(format!("{}.txt", entry.name));
        let text = golden_text(entry.api);
        if std::env::var_os("REGENERATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap();
        assert_eq!(found, text, "{}", entry.name);
        let frames = frames(&found);
        assert_eq!(frames.len(), (entry.version_min..=entry.version_max).count());
        for frame in frames {
            assert_eq!(rewritten(&frame), frame, "{}", entry.name);
        }
    }
}

#[test]
fn every_advertised_version_is_read_as_the_java_client_writes_it() {
    for entry in SERVED {
        let path = folder("recorded").join(format!("{JAVA}-{}.txt", entry.name));
        let frames = frames(&std::fs::read_to_string(&path).unwrap());
        for version in entry.version_min..=entry.version_max {
            let of_version = |frame: &&Vec<u8>| frame[..4] == [entry.key.to_be_bytes(), version.to_be_bytes()].concat();
            let recorded: Vec<&Vec<u8>> = frames.iter().filter(of_version).collect();
            assert_eq!(recorded.len(), 2, "{} version {version} is not recorded", entry.name);
            for frame in recorded {
                assert_eq!(&rewritten(frame), frame, "{} version {version}", entry.name);
            }
        }
    }
}

fn golden_text(api: Api) -> String {
    let entry = api.entry();
    let messages = wire_schema::messages();
    let name = format!("{}Request", entry.name);
    let message = messages.iter().find(|message| message.root.name == name).unwrap();
    let mut text = format!("# {} requests (key {}): version, frame without length prefix.\n", entry.name, entry.key);
    for version in entry.version_min..=entry.version_max {
        let mut frame = Vec::new();
        header::write_request(&mut frame, api, version, 1000 + i32::from(version), Some("golden"));
        frame.extend(values::encode(&messages, message, version, Fill::Full, 42));
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{version} {hex}").unwrap();
    }
    text
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The frames of a file; the version in front is for people.
fn frames(text: &str) -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once(' ').unwrap().1.trim().as_bytes().chunks(2).map(byte).collect())
        .collect()
}
