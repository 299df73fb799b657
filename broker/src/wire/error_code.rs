//! Kafka's error codes: those that this broker answers, with their names and whether a client may try again.

macro_rules! error_codes {
    ($($name:ident $code:literal $kafka:literal $retriable:ident $message:literal)*) => {
        /// An error code of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $name = $code,)*
        }

        impl ErrorCode {
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)*];

            pub const fn code(self) -> i16 {
                self as i16
            }

            /// `None` for a code that this broker never answers.
            pub const fn from_code(code: i16) -> Option<ErrorCode> {
                match code {
                    $($code => Some(ErrorCode::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name of the code, as clients print it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $kafka,)*
                }
            }

            /// Whether clients try again by themselves.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(ErrorCode::$name => error_codes!($retriable),)*
                }
            }

            /// What to say when there is nothing more exact.
            pub const fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $message,)*
                }
            }
        }
    };
    (retriable) => { true };
    (lasting) => { false };
}

error_codes! {
    UnknownServerError -1 "UNKNOWN_SERVER_ERROR" lasting "the broker failed in a way that has no code"
    None 0 "NONE" lasting "no error"
    OffsetOutOfRange 1 "OFFSET_OUT_OF_RANGE" lasting "the log does not hold this offset"
    CorruptMessage 2 "CORRUPT_MESSAGE" retriable "the records do not fit their checksum or layout"
    UnknownTopicOrPartition 3 "UNKNOWN_TOPIC_OR_PARTITION" retriable "this broker has no such topic or partition"
    InvalidFetchSize 4 "INVALID_FETCH_SIZE" lasting "the fetch size is not valid"
    LeaderNotAvailable 5 "LEADER_NOT_AVAILABLE" retriable "the partition has no leader at present"
    NotLeaderOrFollower 6 "NOT_LEADER_OR_FOLLOWER" retriable "this broker does not lead the partition"
    RequestTimedOut 7 "REQUEST_TIMED_OUT" retriable "the request was not complete in time"
    MessageTooLarge 10 "MESSAGE_TOO_LARGE" lasting "the record batch is larger than the topic allows"
    OffsetMetadataTooLarge 12 "OFFSET_METADATA_TOO_LARGE" lasting "the metadata of the offset is too long"
    CoordinatorLoadInProgress 14 "COORDINATOR_LOAD_IN_PROGRESS" retriable "the coordinator still loads its state"
    CoordinatorNotAvailable 15 "COORDINATOR_NOT_AVAILABLE" retriable "there is no coordinator at present"
    NotCoordinator 16 "NOT_COORDINATOR" retriable "this broker is not the coordinator"
    InvalidTopic 17 "INVALID_TOPIC_EXCEPTION" lasting "the topic's name is not valid or the topic is not for clients"
    RecordListTooLarge 18 "RECORD_LIST_TOO_LARGE" lasting "the record batch is larger than a segment"
    NotEnoughReplicas 19 "NOT_ENOUGH_REPLICAS" retriable "fewer replicas are in sync than the topic requires"
    NotEnoughReplicasAfterAppend 20 "NOT_ENOUGH_REPLICAS_AFTER_APPEND" retriable "written, but to fewer replicas than the topic requires"
    InvalidRequiredAcks 21 "INVALID_REQUIRED_ACKS" lasting "acks must be -1, 0 or 1"
    IllegalGeneration 22 "ILLEGAL_GENERATION" lasting "the generation is not the group's"
    InconsistentGroupProtocol 23 "INCONSISTENT_GROUP_PROTOCOL" lasting "the member shares no protocol with its group"
    InvalidGroupId 24 "INVALID_GROUP_ID" lasting "the group's id is not valid"
    UnknownMemberId 25 "UNKNOWN_MEMBER_ID" lasting "the group has no such member"
    InvalidSessionTimeout 26 "INVALID_SESSION_TIMEOUT" lasting "the session timeout is outside of the allowed range"
    RebalanceInProgress 27 "REBALANCE_IN_PROGRESS" lasting "the group rebalances: join again"
    InvalidCommitOffsetSize 28 "INVALID_COMMIT_OFFSET_SIZE" lasting "the commit is too large"
    TopicAuthorizationFailed 29 "TOPIC_AUTHORIZATION_FAILED" lasting "not authorized for the topic"
    GroupAuthorizationFailed 30 "GROUP_AUTHORIZATION_FAILED" lasting "not authorized for the group"
    ClusterAuthorizationFailed 31 "CLUSTER_AUTHORIZATION_FAILED" lasting "not authorized for the cluster"
    InvalidTimestamp 32 "INVALID_TIMESTAMP" lasting "the record's timestamp is outside of the allowed range"
    UnsupportedSaslMechanism 33 "UNSUPPORTED_SASL_MECHANISM" lasting "this SASL mechanism is not enabled"
    IllegalSaslState 34 "ILLEGAL_SASL_STATE" lasting "the request does not fit the state of the login"
    UnsupportedVersion 35 "UNSUPPORTED_VERSION" lasting "this version of the API is not served"
    TopicAlreadyExists 36 "TOPIC_ALREADY_EXISTS" lasting "the topic exists already"
    InvalidPartitions 37 "INVALID_PARTITIONS" lasting "the number of partitions is not valid"
    InvalidReplicationFactor 38 "INVALID_REPLICATION_FACTOR" lasting "the replication factor is not valid for this cluster"
    InvalidReplicaAssignment 39 "INVALID_REPLICA_ASSIGNMENT" lasting "the assignment of replicas is not valid"
    InvalidConfig 40 "INVALID_CONFIG" lasting "the configuration is not valid"
    NotController 41 "NOT_CONTROLLER" retriable "this broker is not the controller"
    InvalidRequest 42 "INVALID_REQUEST" lasting "the request contradicts itself or its protocol"
    UnsupportedForMessageFormat 43 "UNSUPPORTED_FOR_MESSAGE_FORMAT" lasting "the format of the records does not allow this"
    PolicyViolation 44 "POLICY_VIOLATION" lasting "a policy of the cluster forbids this"
    OutOfOrderSequenceNumber 45 "OUT_OF_ORDER_SEQUENCE_NUMBER" lasting "the sequence does not follow the producer's last"
    DuplicateSequenceNumber 46 "DUPLICATE_SEQUENCE_NUMBER" lasting "the sequence was written before and is remembered no longer"
    InvalidProducerEpoch 47 "INVALID_PRODUCER_EPOCH" lasting "a newer epoch of the producer has written"
    InvalidTxnState 48 "INVALID_TXN_STATE" lasting "the transaction's state does not allow this"
    InvalidProducerIdMapping 49 "INVALID_PRODUCER_ID_MAPPING" lasting "the producer id does not belong to the transactional id"
    InvalidTransactionTimeout 50 "INVALID_TRANSACTION_TIMEOUT" lasting "the transaction timeout is larger than allowed"
    ConcurrentTransactions 51 "CONCURRENT_TRANSACTIONS" retriable "the producer's last transaction is not complete yet"
    TransactionCoordinatorFenced 52 "TRANSACTION_COORDINATOR_FENCED" lasting "a newer transaction coordinator has written"
    TransactionalIdAuthorizationFailed 53 "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" lasting "not authorized for the transactional id"
    SecurityDisabled 54 "SECURITY_DISABLED" lasting "security is not enabled"
    OperationNotAttempted 55 "OPERATION_NOT_ATTEMPTED" lasting "not tried, since another part of the request failed"
    KafkaStorageError 56 "KAFKA_STORAGE_ERROR" retriable "the disk failed or is full"
    LogDirNotFound 57 "LOG_DIR_NOT_FOUND" lasting "there is no such data directory"
    SaslAuthenticationFailed 58 "SASL_AUTHENTICATION_FAILED" lasting "the login failed"
    UnknownProducerId 59 "UNKNOWN_PRODUCER_ID" lasting "nothing is known of the producer any longer"
    ReassignmentInProgress 60 "REASSIGNMENT_IN_PROGRESS" lasting "the partition is being reassigned"
    NonEmptyGroup 68 "NON_EMPTY_GROUP" lasting "the group has members"
    GroupIdNotFound 69 "GROUP_ID_NOT_FOUND" lasting "there is no such group"
    FetchSessionIdNotFound 70 "FETCH_SESSION_ID_NOT_FOUND" retriable "there is no such fetch session"
    InvalidFetchSessionEpoch 71 "INVALID_FETCH_SESSION_EPOCH" retriable "the fetch session's epoch does not follow the last"
    ListenerNotFound 72 "LISTENER_NOT_FOUND" retriable "the leader has no such listener"
    TopicDeletionDisabled 73 "TOPIC_DELETION_DISABLED" lasting "the deletion of topics is turned off"
    FencedLeaderEpoch 74 "FENCED_LEADER_EPOCH" retriable "the leader epoch is older than the broker's"
    UnknownLeaderEpoch 75 "UNKNOWN_LEADER_EPOCH" retriable "the leader epoch is newer than the broker's"
    UnsupportedCompressionType 76 "UNSUPPORTED_COMPRESSION_TYPE" lasting "this version of the request does not know the compression"
    StaleBrokerEpoch 77 "STALE_BROKER_EPOCH" lasting "the broker's epoch is not the current one"
    OffsetNotAvailable 78 "OFFSET_NOT_AVAILABLE" retriable "the high watermark has not reached this leader's start yet"
    MemberIdRequired 79 "MEMBER_ID_REQUIRED" lasting "join again with the member id given here"
    GroupMaxSizeReached 81 "GROUP_MAX_SIZE_REACHED" lasting "the group has as many members as it may"
    FencedInstanceId 82 "FENCED_INSTANCE_ID" lasting "another member has taken this instance id"
    ElectionNotNeeded 84 "ELECTION_NOT_NEEDED" retriable "the partition has its leader already"
    NoReassignmentInProgress 85 "NO_REASSIGNMENT_IN_PROGRESS" lasting "the partition is not being reassigned"
    GroupSubscribedToTopic 86 "GROUP_SUBSCRIBED_TO_TOPIC" lasting "a member of the group still subscribes to the topic"
    InvalidRecord 87 "INVALID_RECORD" lasting "a record or its batch breaks a rule of the log"
    UnstableOffsetCommit 88 "UNSTABLE_OFFSET_COMMIT" retriable "an open transaction may still change the offset"
    ThrottlingQuotaExceeded 89 "THROTTLING_QUOTA_EXCEEDED" retriable "the quota is used up for now"
    ProducerFenced 90 "PRODUCER_FENCED" lasting "a newer producer has taken this transactional id"
    ResourceNotFound 91 "RESOURCE_NOT_FOUND" lasting "there is no such resource"
    DuplicateResource 92 "DUPLICATE_RESOURCE" lasting "the resource is named more than once"
    UnknownTopicId 100 "UNKNOWN_TOPIC_ID" retriable "this broker has no topic of this id"
    DuplicateBrokerRegistration 101 "DUPLICATE_BROKER_REGISTRATION" lasting "another broker of this id is registered"
    InconsistentTopicId 103 "INCONSISTENT_TOPIC_ID" retriable "the topic's id is not that of the log"
    TransactionalIdNotFound 105 "TRANSACTIONAL_ID_NOT_FOUND" lasting "there is no such transactional id"
    FetchSessionTopicIdError 106 "FETCH_SESSION_TOPIC_ID_ERROR" retriable "the session began with names, not ids, or the reverse"
    FencedMemberEpoch 110 "FENCED_MEMBER_EPOCH" lasting "the member's epoch is not the coordinator's"
    UnreleasedInstanceId 111 "UNRELEASED_INSTANCE_ID" lasting "another member still holds the instance id"
    UnsupportedAssignor 112 "UNSUPPORTED_ASSIGNOR" lasting "there is no such assignor"
    StaleMemberEpoch 113 "STALE_MEMBER_EPOCH" lasting "the member's epoch is older than the coordinator's"
    MismatchedEndpointType 114 "MISMATCHED_ENDPOINT_TYPE" lasting "the request belongs to another kind of endpoint"
    UnsupportedEndpointType 115 "UNSUPPORTED_ENDPOINT_TYPE" lasting "there is no such kind of endpoint"
    UnknownControllerId 116 "UNKNOWN_CONTROLLER_ID" lasting "there is no such controller"
    TransactionAbortable 120 "TRANSACTION_ABORTABLE" lasting "the transaction failed and can be aborted"
    InvalidRegularExpression 128 "INVALID_REGULAR_EXPRESSION" lasting "the regular expression is not valid"
}

impl From<watershed_core::error::Refusal> for ErrorCode {
    fn from(refusal: watershed_core::error::Refusal) -> ErrorCode {
        use watershed_core::error::Refusal;
        match refusal {
            Refusal::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            Refusal::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
            Refusal::DuplicateSequence => ErrorCode::DuplicateSequenceNumber,
            Refusal::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
            Refusal::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
            Refusal::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
            Refusal::UnknownLeaderEpoch => ErrorCode::UnknownLeaderEpoch,
            Refusal::DiskFull | Refusal::Damaged => ErrorCode::KafkaStorageError,
            Refusal::Overloaded => ErrorCode::RequestTimedOut,
            Refusal::TooLarge => ErrorCode::MessageTooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_distinct_and_found_again() {
        let mut names = std::collections::BTreeSet::new();
        for &error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.code()), Some(error));
            assert!(names.insert(error.name()));
        }
        assert_eq!(ErrorCode::from_code(11), None);
    }
}
