//! Every generated message in every version: round trips, agreement with an independent codec, and hostile bytes.
//!
//! Bytes come from the schema by an encoder of the tests' own; ours must read and write them back unchanged, and so must the
//! crate `kafka-protocol` wherever it has the version. The crate never sees bytes that we did not make.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod wire_schema;

use std::collections::BTreeSet;

use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use watershed_broker::wire::apis::SERVED;
use watershed_broker::wire::error_code::ErrorCode;
use watershed_broker::wire::generated as ours;
use watershed_broker::wire::header;
use watershed_broker::wire::message::Message;
use watershed_broker::wire::reader::WireError;
use wire_schema::values::{self, Fill, Numbers};

const MIXED_SEEDS: u64 = 12;

/// Calls `$check!(ours, theirs)` or `$check!(ours)` for every message.
macro_rules! each_message {
    ($check:ident) => {
        $check!(ours::produce::ProduceRequest, theirs::ProduceRequest);
        $check!(ours::produce::ProduceResponse, theirs::ProduceResponse);
        $check!(ours::fetch::FetchRequest, theirs::FetchRequest);
        $check!(ours::fetch::FetchResponse, theirs::FetchResponse);
        $check!(ours::list_offsets::ListOffsetsRequest, theirs::ListOffsetsRequest);
        $check!(ours::list_offsets::ListOffsetsResponse, theirs::ListOffsetsResponse);
        $check!(ours::metadata::MetadataRequest, theirs::MetadataRequest);
        $check!(ours::metadata::MetadataResponse, theirs::MetadataResponse);
        $check!(ours::find_coordinator::FindCoordinatorRequest, theirs::FindCoordinatorRequest);
        $check!(ours::find_coordinator::FindCoordinatorResponse, theirs::FindCoordinatorResponse);
        $check!(ours::api_versions::ApiVersionsRequest, theirs::ApiVersionsRequest);
        $check!(ours::api_versions::ApiVersionsResponse, theirs::ApiVersionsResponse);
        $check!(ours::create_topics::CreateTopicsRequest, theirs::CreateTopicsRequest);
        $check!(ours::create_topics::CreateTopicsResponse, theirs::CreateTopicsResponse);
        $check!(ours::delete_topics::DeleteTopicsRequest, theirs::DeleteTopicsRequest);
        $check!(ours::delete_topics::DeleteTopicsResponse, theirs::DeleteTopicsResponse);
        $check!(ours::delete_records::DeleteRecordsRequest, theirs::DeleteRecordsRequest);
        $check!(ours::delete_records::DeleteRecordsResponse, theirs::DeleteRecordsResponse);
        $check!(ours::init_producer_id::InitProducerIdRequest, theirs::InitProducerIdRequest);
        $check!(ours::init_producer_id::InitProducerIdResponse, theirs::InitProducerIdResponse);
        $check!(ours::offset_for_leader_epoch::OffsetForLeaderEpochRequest, theirs::OffsetForLeaderEpochRequest);
        $check!(ours::offset_for_leader_epoch::OffsetForLeaderEpochResponse, theirs::OffsetForLeaderEpochResponse);
        $check!(ours::describe_configs::DescribeConfigsRequest, theirs::DescribeConfigsRequest);
        $check!(ours::describe_configs::DescribeConfigsResponse, theirs::DescribeConfigsResponse);
        $check!(ours::create_partitions::CreatePartitionsRequest, theirs::CreatePartitionsRequest);
        $check!(ours::create_partitions::CreatePartitionsResponse, theirs::CreatePartitionsResponse);
        $check!(
            ours::incremental_alter_configs::IncrementalAlterConfigsRequest,
            theirs::IncrementalAlterConfigsRequest
        );
        $check!(
            ours::incremental_alter_configs::IncrementalAlterConfigsResponse,
            theirs::IncrementalAlterConfigsResponse
        );
        $check!(ours::describe_cluster::DescribeClusterRequest, theirs::DescribeClusterRequest);
        $check!(ours::describe_cluster::DescribeClusterResponse, theirs::DescribeClusterResponse);
        $check!(
            ours::describe_topic_partitions::DescribeTopicPartitionsRequest,
            theirs::DescribeTopicPartitionsRequest
        );
        $check!(
            ours::describe_topic_partitions::DescribeTopicPartitionsResponse,
            theirs::DescribeTopicPartitionsResponse
        );
        $check!(ours::offset_commit::OffsetCommitRequest, theirs::OffsetCommitRequest);
        $check!(ours::offset_commit::OffsetCommitResponse, theirs::OffsetCommitResponse);
        $check!(ours::offset_fetch::OffsetFetchRequest, theirs::OffsetFetchRequest);
        $check!(ours::offset_fetch::OffsetFetchResponse, theirs::OffsetFetchResponse);
        $check!(ours::join_group::JoinGroupRequest, theirs::JoinGroupRequest);
        $check!(ours::join_group::JoinGroupResponse, theirs::JoinGroupResponse);
        $check!(ours::heartbeat::HeartbeatRequest, theirs::HeartbeatRequest);
        $check!(ours::heartbeat::HeartbeatResponse, theirs::HeartbeatResponse);
        $check!(ours::leave_group::LeaveGroupRequest, theirs::LeaveGroupRequest);
        $check!(ours::leave_group::LeaveGroupResponse, theirs::LeaveGroupResponse);
        $check!(ours::sync_group::SyncGroupRequest, theirs::SyncGroupRequest);
        $check!(ours::sync_group::SyncGroupResponse, theirs::SyncGroupResponse);
        $check!(ours::describe_groups::DescribeGroupsRequest, theirs::DescribeGroupsRequest);
        $check!(ours::describe_groups::DescribeGroupsResponse, theirs::DescribeGroupsResponse);
        $check!(ours::list_groups::ListGroupsRequest, theirs::ListGroupsRequest);
        $check!(ours::list_groups::ListGroupsResponse, theirs::ListGroupsResponse);
        $check!(ours::delete_groups::DeleteGroupsRequest, theirs::DeleteGroupsRequest);
        $check!(ours::delete_groups::DeleteGroupsResponse, theirs::DeleteGroupsResponse);
        $check!(ours::offset_delete::OffsetDeleteRequest, theirs::OffsetDeleteRequest);
        $check!(ours::offset_delete::OffsetDeleteResponse, theirs::OffsetDeleteResponse);
        $check!(ours::alter_configs::AlterConfigsRequest, theirs::AlterConfigsRequest);
        $check!(ours::alter_configs::AlterConfigsResponse, theirs::AlterConfigsResponse);
        $check!(ours::alter_replica_log_dirs::AlterReplicaLogDirsRequest, theirs::AlterReplicaLogDirsRequest);
        $check!(ours::alter_replica_log_dirs::AlterReplicaLogDirsResponse, theirs::AlterReplicaLogDirsResponse);
        $check!(ours::describe_log_dirs::DescribeLogDirsRequest, theirs::DescribeLogDirsRequest);
        $check!(ours::describe_log_dirs::DescribeLogDirsResponse, theirs::DescribeLogDirsResponse);
        $check!(ours::elect_leaders::ElectLeadersRequest, theirs::ElectLeadersRequest);
        $check!(ours::elect_leaders::ElectLeadersResponse, theirs::ElectLeadersResponse);
        $check!(
            ours::alter_partition_reassignments::AlterPartitionReassignmentsRequest,
            theirs::AlterPartitionReassignmentsRequest
        );
        $check!(
            ours::alter_partition_reassignments::AlterPartitionReassignmentsResponse,
            theirs::AlterPartitionReassignmentsResponse
        );
        $check!(
            ours::list_partition_reassignments::ListPartitionReassignmentsRequest,
            theirs::ListPartitionReassignmentsRequest
        );
        $check!(
            ours::list_partition_reassignments::ListPartitionReassignmentsResponse,
            theirs::ListPartitionReassignmentsResponse
        );
        $check!(ours::describe_client_quotas::DescribeClientQuotasRequest, theirs::DescribeClientQuotasRequest);
        $check!(ours::describe_client_quotas::DescribeClientQuotasResponse, theirs::DescribeClientQuotasResponse);
        $check!(ours::alter_client_quotas::AlterClientQuotasRequest, theirs::AlterClientQuotasRequest);
        $check!(ours::alter_client_quotas::AlterClientQuotasResponse, theirs::AlterClientQuotasResponse);
        $check!(
            ours::describe_user_scram_credentials::DescribeUserScramCredentialsRequest,
            theirs::DescribeUserScramCredentialsRequest
        );
        $check!(
            ours::describe_user_scram_credentials::DescribeUserScramCredentialsResponse,
            theirs::DescribeUserScramCredentialsResponse
        );
        $check!(ours::describe_quorum::DescribeQuorumRequest, theirs::DescribeQuorumRequest);
        $check!(ours::describe_quorum::DescribeQuorumResponse, theirs::DescribeQuorumResponse);
        $check!(ours::describe_producers::DescribeProducersRequest, theirs::DescribeProducersRequest);
        $check!(ours::describe_producers::DescribeProducersResponse, theirs::DescribeProducersResponse);
        $check!(ours::describe_transactions::DescribeTransactionsRequest, theirs::DescribeTransactionsRequest);
        $check!(ours::describe_transactions::DescribeTransactionsResponse, theirs::DescribeTransactionsResponse);
        $check!(ours::list_transactions::ListTransactionsRequest, theirs::ListTransactionsRequest);
        $check!(ours::list_transactions::ListTransactionsResponse, theirs::ListTransactionsResponse);
        $check!(ours::list_config_resources::ListConfigResourcesRequest, theirs::ListConfigResourcesRequest);
        $check!(ours::list_config_resources::ListConfigResourcesResponse, theirs::ListConfigResourcesResponse);
        $check!(ours::offset_commit_key::OffsetCommitKey);
        $check!(ours::offset_commit_value::OffsetCommitValue);
        $check!(ours::group_metadata_key::GroupMetadataKey);
        $check!(ours::group_metadata_value::GroupMetadataValue);
        // The crate takes the field `version` of this one for the version of its layout.
        $check!(ours::leader_change::LeaderChange);
        $check!(ours::snapshot_header::SnapshotHeader, theirs::SnapshotHeaderRecord);
        $check!(ours::snapshot_footer::SnapshotFooter, theirs::SnapshotFooterRecord);
        $check!(ours::register_broker_record::RegisterBrokerRecord);
        $check!(ours::topic_record::TopicRecord);
        $check!(ours::partition_record::PartitionRecord);
        $check!(ours::config_record::ConfigRecord);
        $check!(ours::partition_change_record::PartitionChangeRecord);
        $check!(ours::remove_topic_record::RemoveTopicRecord);
        $check!(ours::feature_level_record::FeatureLevelRecord);
        $check!(ours::client_quota_record::ClientQuotaRecord);
        $check!(ours::producer_ids_record::ProducerIdsRecord);
        $check!(ours::broker_registration_change_record::BrokerRegistrationChangeRecord);
        $check!(ours::no_op_record::NoOpRecord);
    };
}

/// Calls `check` with the bytes of every version in every manner of filling.
fn each_sample<M: Message>(mut check: impl FnMut(i16, &[u8])) {
    let messages = wire_schema::messages();
    let message = messages.iter().find(|message| message.root.name == M::NAME).unwrap();
    for version in M::VERSION_MIN..=M::VERSION_MAX {
        check(version, &values::encode(&messages, message, version, Fill::Bare, 1));
        check(version, &values::encode(&messages, message, version, Fill::Full, 1));
        for seed in 0..MIXED_SEEDS {
            check(version, &values::encode(&messages, message, version, Fill::Mixed, seed));
        }
    }
}

#[test]
fn the_list_above_is_complete() {
    let mut named = BTreeSet::new();
    macro_rules! name {
        ($ours:ty $(, $theirs:ty)?) => {
            named.insert(<$ours>::NAME.to_owned());
        };
    }
    each_message!(name);
    let all = wire_schema::messages().into_iter().map(|message| message.root.name).collect();
    assert_eq!(named, all);
}

fn round_trip<M: Message>() {
    each_sample::<M>(|version, bytes| {
        let message = M::from_bytes(bytes, version).unwrap_or_else(|error| panic!("{} {version}: {error}", M::NAME));
        assert_eq!(message.to_bytes(version), bytes, "{} {version}", M::NAME);
    });
}

#[test]
fn every_message_is_read_and_written_back_unchanged() {
    macro_rules! check {
        ($ours:ty $(, $theirs:ty)?) => {
            round_trip::<$ours>();
        };
    }
    each_message!(check);
}

/// Versions compared, so that a test can say that they were many.
fn agree<M: Message, T: Decodable + Encodable + kafka_protocol::protocol::Message>() -> BTreeSet<i16> {
    let mut compared = BTreeSet::new();
    each_sample::<M>(|version, bytes| {
        if !(T::VERSIONS.min..=T::VERSIONS.max).contains(&version) {
            return;
        }
        let mut input = bytes::Bytes::copy_from_slice(bytes);
        let message = T::decode(&mut input, version).unwrap_or_else(|error| panic!("{} {version}: {error}", M::NAME));
        assert!(input.is_empty(), "{} {version}: they leave bytes", M::NAME);
        let mut written = bytes::BytesMut::new();
        message.encode(&mut written, version).unwrap();
        let read = M::from_bytes(&written, version).unwrap();
        assert_eq!(read.to_bytes(version), written, "{} {version}", M::NAME);
        assert_eq!(written, bytes, "{} {version}", M::NAME);
        compared.insert(version);
    });
    compared
}

#[test]
fn an_independent_codec_agrees_on_every_version_that_it_has() {
    let mut missing = Vec::new();
    macro_rules! check {
        ($ours:ty, $theirs:ty) => {
            let compared = agree::<$ours, $theirs>();
            for version in <$ours>::VERSION_MIN..=<$ours>::VERSION_MAX {
                if !compared.contains(&version) {
                    missing.push((<$ours>::NAME, version));
                }
            }
        };
        ($ours:ty) => {};
    }
    each_message!(check);
    // What the crate lacks; recordings of the Java client stand in for it (tests/golden/recorded).
    let lacking = ["ListOffsetsRequest", "ListOffsetsResponse"].map(|name| (name, 11));
    let without_topic_ids = ["OffsetCommitRequest", "OffsetFetchRequest"].map(|name| (name, 10));
    assert_eq!(missing, [lacking, without_topic_ids].concat());
}

fn survives_damage<M: Message>() {
    let mut numbers = Numbers(7);
    each_sample::<M>(|version, bytes| {
        for end in 0..bytes.len() {
            assert!(M::from_bytes(&bytes[..end], version).is_err(), "{} {version} cut at {end}", M::NAME);
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(M::from_bytes(&longer, version).err(), Some(WireError::TrailingBytes { at: bytes.len() }));
        for _ in 0..16 {
            let mut flipped = bytes.to_vec();
            for _ in 0..=numbers.below(3) {
                let Some(end) = std::num::NonZeroU64::new(flipped.len() as u64) else { break };
                flipped[numbers.below(end.get()) as usize] ^= 1 << numbers.below(8);
            }
            // Whatever is read can be written; what it says is not ours to judge.
            if let Ok(message) = M::from_bytes(&flipped, version) {
                let written = message.to_bytes(version);
                assert!(M::from_bytes(&written, version).is_ok(), "{} {version}", M::NAME);
            }
        }
    });
}

#[test]
fn cut_lengthened_and_flipped_messages_are_errors_or_values_but_never_panics() {
    macro_rules! check {
        ($ours:ty $(, $theirs:ty)?) => {
            survives_damage::<$ours>();
        };
    }
    each_message!(check);
}

fn refuses_bombs<M: Message>() -> usize {
    let messages = wire_schema::messages();
    let message = messages.iter().find(|message| message.root.name == M::NAME).unwrap();
    let mut refused = 0;
    for version in M::VERSION_MIN..=M::VERSION_MAX {
        for bomb in 0..values::arrays_count(&messages, message, version) {
            let bytes = values::encode(&messages, message, version, Fill::Bomb(bomb), 1);
            let error = M::from_bytes(&bytes, version).err();
            assert!(matches!(error, Some(WireError::BadLength { .. })), "{} {version}: {error:?}", M::NAME);
            refused += 1;
        }
    }
    refused
}

#[test]
fn a_count_that_the_bytes_cannot_hold_is_refused_at_the_count() {
    let mut refused = 0;
    macro_rules! check {
        ($ours:ty $(, $theirs:ty)?) => {
            refused += refuses_bombs::<$ours>();
        };
    }
    each_message!(check);
    assert!(refused > 500, "only {refused} arrays were tried");
}

#[test]
fn versions_outside_of_the_range_are_refused() {
    macro_rules! check {
        ($ours:ty $(, $theirs:ty)?) => {
            for version in [<$ours>::VERSION_MIN - 1, <$ours>::VERSION_MAX + 1] {
                let name = <$ours>::NAME;
                let refused = <$ours>::from_bytes(&[0; 64], version);
                assert_eq!(refused.err(), Some(WireError::UnsupportedVersion { name, version }));
            }
        };
    }
    each_message!(check);
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let known = ours::api_versions::ApiVersionsRequest {
        client_software_name: "a".to_owned(),
        client_software_version: "b".to_owned(),
    };
    let mut bytes = known.to_bytes(4);
    assert_eq!(bytes.pop(), Some(0));
    bytes.extend([2, 5, 1, 0xaa, 0x80, 0x01, 2, 0xbb, 0xcc]);
    assert_eq!(ours::api_versions::ApiVersionsRequest::from_bytes(&bytes, 4), Ok(known));
}

/// Headers of another codec, whose choice of header version is its own.
#[test]
fn headers_agree_with_an_independent_codec() {
    for entry in SERVED {
        let key = theirs::ApiKey::try_from(entry.key).unwrap();
        let versions = key.valid_versions();
        for version in entry.version_min.max(versions.min)..=entry.version_max.min(versions.max) {
            for client_id in [None, Some("me")] {
                let request = theirs::RequestHeader::default()
                    .with_request_api_key(entry.key)
                    .with_request_api_version(version)
                    .with_correlation_id(9)
                    .with_client_id(client_id.map(StrBytes::from_static_str));
                let mut expected = bytes::BytesMut::new();
                request.encode(&mut expected, key.request_header_version(version)).unwrap();
                let mut written = Vec::new();
                header::write_request(&mut written, entry.api, version, 9, client_id);
                assert_eq!(written, expected, "{} {version}", entry.name);
                let read = header::parse(&written).unwrap();
                assert_eq!((read.api, read.version, read.correlation_id), (entry.api, version, 9));
                assert_eq!((read.client_id, read.body_at), (client_id, written.len()));
            }
            let mut expected = bytes::BytesMut::new();
            let response = theirs::ResponseHeader::default().with_correlation_id(9);
            response.encode(&mut expected, key.response_header_version(version)).unwrap();
            let mut written = Vec::new();
            header::write_response(&mut written, entry.api, version, 9);
            assert_eq!(written, expected, "{} {version}", entry.name);
            assert_eq!(header::parse_response(&written, entry.api, version), Ok((9, written.len())));
        }
    }
}

#[test]
fn error_codes_are_those_of_kafka() {
    let mut found = 0;
    for line in include_str!("golden/kafka-4.2.1-errors.txt").lines().filter(|line| !line.starts_with('#')) {
        let [code, name, retriable] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let Some(ours) = ErrorCode::from_code(code.parse().unwrap()) else { continue };
        assert_eq!((ours.name(), ours.is_retriable().to_string().as_str()), (name, retriable));
        found += 1;
    }
    assert_eq!(found, ErrorCode::ALL.len());
}
