//! AlterPartitionReassignments (key 45), versions 0 to 1.
//!
//! - A partition can only be assigned to the broker that has it already, which is done at once; other brokers are
//!   INVALID_REPLICA_ASSIGNMENT. A null assignment cancels: NO_REASSIGNMENT_IN_PROGRESS.

use watershed_core::units::TopicPartition;

use crate::catalog::{Catalog, Rejection, check_brokers};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopic, ReassignableTopicResponse,
};

use super::controller;

pub(crate) fn handle(node: &Node, body: AlterPartitionReassignmentsRequest) -> AlterPartitionReassignmentsResponse {
    let responses = body.topics.iter().map(|topic| ReassignableTopicResponse {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(|asked| reassign(node, topic, asked)).collect(),
    });
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: body.allow_replication_factor_change,
        responses: responses.collect(),
        ..AlterPartitionReassignmentsResponse::default()
    }
}

fn reassign(node: &Node, topic: &ReassignableTopic, asked: &ReassignablePartition) -> ReassignablePartitionResponse {
    let judged = judge(&node.catalog.borrow(), node.cluster().node_id, &topic.name, asked);
    let (error_code, error_message) = controller::code_and_message(&judged);
    ReassignablePartitionResponse { partition_index: asked.partition_index, error_code, error_message }
}

fn judge(catalog: &Catalog, node_id: i32, topic: &str, asked: &ReassignablePartition) -> Result<(), Rejection> {
    let refuse = |code, message: String| Err(Rejection { code, message });
    let partition = asked.partition_index;
    let Some(found) = catalog.topic_named(topic) else {
        return refuse(ErrorCode::UnknownTopicOrPartition, format!("Unable to find a topic named {topic}."));
    };
    if catalog.partition(TopicPartition { topic: found.id, partition }).is_none() {
        return refuse(ErrorCode::UnknownTopicOrPartition, format!("Unable to find partition {topic}:{partition}."));
    }
    match &asked.replicas {
        None => refuse(ErrorCode::NoReassignmentInProgress, ErrorCode::NoReassignmentInProgress.message().to_owned()),
        Some(brokers) => check_brokers(node_id, brokers),
    }
}

impl Outcome for AlterPartitionReassignmentsResponse {
    fn has_error(&self) -> bool {
        let partitions = self.responses.iter().flat_map(|topic| &topic.partitions);
        any_error(partitions.map(|partition| partition.error_code))
    }
}
