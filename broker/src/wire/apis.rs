//! The one table of what is served: keys, their names and versions.
//!
//! ApiVersions answers from it and dispatch looks up in it, so that nothing is advertised that is not served. The ranges
//! are those of Kafka 4.2, since some clients guess a release from them. The only lie: Produce is advertised from version
//! 0, because older librdkafka turns compression off otherwise; versions 0 to 2 are refused as in Kafka.

use super::generated as g;
use super::message::Message;

/// An API whose layout and place in the table are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub api: Api,
    pub key: i16,
    pub name: &'static str,
    pub version_min: i16,
    pub version_max: i16,
    /// What ApiVersions says instead of `version_min`.
    pub advertised_min: i16,
    /// The first version with compact lengths, whose headers carry tagged fields.
    pub flexible_from: i16,
}

/// Why a request cannot be dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("no API has key {0} here")]
    Key(i16),
    #[error("{api:?} has no version {version} here")]
    Version { api: Api, version: i16 },
}

macro_rules! apis {
    ($($api:ident $module:ident $request:ident $(, advertised from $lie:literal)?;)*) => {
        /// The APIs that are served.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Api {
            $($api,)*
        }

        /// Every served API, by rising key.
        pub const SERVED: &[Entry] = &[$(Entry {
            api: Api::$api,
            key: g::$module::$request::KEY,
            name: stringify!($api),
            version_min: g::$module::$request::VERSION_MIN,
            version_max: g::$module::$request::VERSION_MAX,
            advertised_min: apis!(@min g::$module::$request::VERSION_MIN $(, $lie)?),
            flexible_from: g::$module::$request::FLEXIBLE_FROM,
        },)*];

        impl Api {
            // Evaluated when compiled: a wrong index does not build.
            #[allow(clippy::indexing_slicing)]
            pub const fn entry(self) -> &'static Entry {
                match self {
                    $(Api::$api => const { &SERVED[Api::$api as usize] },)*
                }
            }
        }
    };
    (@min $min:expr) => { $min };
    (@min $min:expr, $lie:literal) => { $lie };
}

apis! {
    Produce produce ProduceRequest, advertised from 0;
    Fetch fetch FetchRequest;
    ListOffsets list_offsets ListOffsetsRequest;
    Metadata metadata MetadataRequest;
    OffsetCommit offset_commit OffsetCommitRequest;
    OffsetFetch offset_fetch OffsetFetchRequest;
    FindCoordinator find_coordinator FindCoordinatorRequest;
    JoinGroup join_group JoinGroupRequest;
    Heartbeat heartbeat HeartbeatRequest;
    LeaveGroup leave_group LeaveGroupRequest;
    SyncGroup sync_group SyncGroupRequest;
    DescribeGroups describe_groups DescribeGroupsRequest;
    ListGroups list_groups ListGroupsRequest;
    ApiVersions api_versions ApiVersionsRequest;
    CreateTopics create_topics CreateTopicsRequest;
    DeleteTopics delete_topics DeleteTopicsRequest;
    DeleteRecords delete_records DeleteRecordsRequest;
    InitProducerId init_producer_id InitProducerIdRequest;
    OffsetForLeaderEpoch offset_for_leader_epoch OffsetForLeaderEpochRequest;
    DescribeConfigs describe_configs DescribeConfigsRequest;
    AlterConfigs alter_configs AlterConfigsRequest;
    AlterReplicaLogDirs alter_replica_log_dirs AlterReplicaLogDirsRequest;
    DescribeLogDirs describe_log_dirs DescribeLogDirsRequest;
    CreatePartitions create_partitions CreatePartitionsRequest;
    DeleteGroups delete_groups DeleteGroupsRequest;
    ElectLeaders elect_leaders ElectLeadersRequest;
    IncrementalAlterConfigs incremental_alter_configs IncrementalAlterConfigsRequest;
    AlterPartitionReassignments alter_partition_reassignments AlterPartitionReassignmentsRequest;
    ListPartitionReassignments list_partition_reassignments ListPartitionReassignmentsRequest;
    OffsetDelete offset_delete OffsetDeleteRequest;
    DescribeClientQuotas describe_client_quotas DescribeClientQuotasRequest;
    AlterClientQuotas alter_client_quotas AlterClientQuotasRequest;
    DescribeUserScramCredentials describe_user_scram_credentials DescribeUserScramCredentialsRequest;
    DescribeQuorum describe_quorum DescribeQuorumRequest;
    DescribeCluster describe_cluster DescribeClusterRequest;
    DescribeProducers describe_producers DescribeProducersRequest;
    DescribeTransactions describe_transactions DescribeTransactionsRequest;
    ListTransactions list_transactions ListTransactionsRequest;
    ListConfigResources list_config_resources ListConfigResourcesRequest;
    DescribeTopicPartitions describe_topic_partitions DescribeTopicPartitionsRequest;
}

impl Api {
    pub fn key(self) -> i16 {
        self.entry().key
    }

    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.entry().flexible_from
    }

    pub fn serves(self, version: i16) -> bool {
        (self.entry().version_min..=self.entry().version_max).contains(&version)
    }

    pub fn from_key(key: i16) -> Option<Api> {
        let found = SERVED.iter().find(|entry| entry.key == key)?;
        Some(found.api)
    }
}

/// The API that serves this key and version.
pub fn lookup(key: i16, version: i16) -> Result<Api, Unsupported> {
    let api = Api::from_key(key).ok_or(Unsupported::Key(key))?;
    if api.serves(version) { Ok(api) } else { Err(Unsupported::Version { api, version }) }
}

/// The table as ApiVersions answers it.
pub fn advertised() -> Vec<g::api_versions::ApiVersion> {
    let row = |entry: &Entry| g::api_versions::ApiVersion {
        api_key: entry.key,
        min_version: entry.advertised_min,
        max_version: entry.version_max,
    };
    SERVED.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_finds_itself() {
        assert!(SERVED.is_sorted_by(|a, b| a.key < b.key));
        for entry in SERVED {
            assert_eq!(entry.api.entry(), entry);
            for version in entry.version_min..=entry.version_max {
                assert_eq!(lookup(entry.key, version), Ok(entry.api));
            }
        }
    }

    #[test]
    fn produce_is_advertised_from_zero_but_refused_below_three() {
        let produce = advertised().into_iter().find(|row| row.api_key == 0);
        assert_eq!(produce.map(|row| (row.min_version, row.max_version)), Some((0, 13)));
        let api = Api::Produce;
        assert_eq!(lookup(0, 2), Err(Unsupported::Version { api, version: 2 }));
        assert_eq!(lookup(3, 14).map_err(|_| ()), Err(()));
        assert_eq!(lookup(4, 0), Err(Unsupported::Key(4)));
    }
}
