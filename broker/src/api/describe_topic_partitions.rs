//! DescribeTopicPartitions (key 75), version 0.
//!
//! - Topics in the order of their names, all if none is named; at most `response_partition_limit` partitions (2000), then a
//!   cursor from which the next request goes on.
//! - A topic that does not exist is 3, unless the request goes on from a cursor.

use std::collections::BTreeSet;

use crate::catalog::{Partition, Topic};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};

use super::operations;

/// Kafka's default of `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2000;

pub(crate) fn handle(node: &Node, body: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let catalog = node.catalog.borrow();
    let names: BTreeSet<String> = match body.topics.is_empty() {
        true => catalog.topics().map(|topic| topic.name.clone()).collect(),
        false => body.topics.into_iter().map(|topic| topic.name).collect(),
    };
    let from = body.cursor.map_or((String::new(), 0), |cursor| (cursor.topic_name, cursor.partition_index));
    let limit = usize::try_from(body.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    for name in names.into_iter().filter(|name| *name >= from.0) {
        let first = if name == from.0 { from.1 } else { 0 };
        let Some(topic) = catalog.topic_named(&name) else {
            response.topics.push(missing(name));
            continue;
        };
        if left == 0 {
            response.next_cursor = Some(cursor(topic, first));
            break;
        }
        let (described, rest) = described(topic, first, left);
        left -= described.partitions.len();
        response.topics.push(described);
        if let Some(next) = rest {
            response.next_cursor = Some(cursor(topic, next));
            break;
        }
    }
    response
}

/// The topic from one partition on, and the partition that did not fit.
fn described(topic: &Topic, first: i32, limit: usize) -> (DescribeTopicPartitionsResponseTopic, Option<i32>) {
    let mut rest = topic.partitions.range(first..);
    let partitions = rest.by_ref().take(limit).map(partition).collect();
    let described = DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions,
        topic_authorized_operations: operations::topic(true),
        ..DescribeTopicPartitionsResponseTopic::default()
    };
    (described, rest.next().map(|(index, _)| *index))
}

fn partition((index, partition): (&i32, &Partition)) -> DescribeTopicPartitionsResponsePartition {
    let error = match partition.leader {
        -1 => ErrorCode::LeaderNotAvailable,
        _ => ErrorCode::None,
    };
    DescribeTopicPartitionsResponsePartition {
        error_code: error.code(),
        partition_index: *index,
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.clone(),
        isr_nodes: partition.isr.clone(),
        eligible_leader_replicas: Some(partition.eligible_leader_replicas.clone()),
        last_known_elr: Some(partition.last_known_elr.clone()),
        offline_replicas: Vec::new(),
    }
}

fn cursor(topic: &Topic, partition_index: i32) -> Cursor {
    Cursor { topic_name: topic.name.clone(), partition_index }
}

fn missing(name: String) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
        name: Some(name),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

impl Outcome for DescribeTopicPartitionsResponse {
    fn has_error(&self) -> bool {
        any_error(self.topics.iter().map(|topic| topic.error_code))
    }
}
