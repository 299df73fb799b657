//! ElectLeaders (key 43), versions 0 to 2.
//!
//! - With one broker every partition is led by its only replica, so no election is ever needed: ELECTION_NOT_NEEDED for each
//!   partition that is named, nothing for those that are not (null asks for all).
//! - An election type that is neither preferred (0) nor unclean (1) is INVALID_REQUEST.

use watershed_core::units::TopicPartition;

use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult, TopicPartitions,
};

const UNCLEAN: i8 = 1;

pub(crate) fn handle(node: &Node, body: ElectLeadersRequest) -> ElectLeadersResponse {
    if !(0..=UNCLEAN).contains(&body.election_type) {
        let error_code = ErrorCode::InvalidRequest.code();
        return ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() };
    }
    let named = body.topic_partitions.unwrap_or_default();
    let replica_election_results = named.into_iter().map(|topic| elect(node, topic)).collect();
    ElectLeadersResponse { replica_election_results, ..ElectLeadersResponse::default() }
}

fn elect(node: &Node, asked: TopicPartitions) -> ReplicaElectionResult {
    let catalog = node.catalog.borrow();
    let topic = catalog.topic_named(&asked.topic).map(|topic| topic.id);
    let judge = |partition: i32| match topic {
        None => (ErrorCode::UnknownTopicOrPartition, format!("No such topic as {}", asked.topic)),
        Some(topic) if catalog.partition(TopicPartition { topic, partition }).is_none() => {
            (ErrorCode::UnknownTopicOrPartition, format!("No such partition as {}-{partition}", asked.topic))
        }
        Some(_) => (ErrorCode::ElectionNotNeeded, ErrorCode::ElectionNotNeeded.message().to_owned()),
    };
    let result = |partition_id: i32| {
        let (error, message) = judge(partition_id);
        PartitionResult { partition_id, error_code: error.code(), error_message: Some(message) }
    };
    ReplicaElectionResult {
        partition_result: asked.partitions.iter().copied().map(result).collect(),
        topic: asked.topic.clone(),
    }
}

impl Outcome for ElectLeadersResponse {
    fn has_error(&self) -> bool {
        any_error([self.error_code])
    }
}
