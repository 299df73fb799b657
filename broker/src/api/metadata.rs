//! Metadata (key 3), versions 0 to 13.
//!
//! - `topics` null means all, empty means none; in version 0 empty means all.
//! - From version 12 a topic may be asked for by id (100 if unknown); in 10 and 11 ids are answered only.
//! - A topic that does not exist is created if the request and `auto.create.topics.enable` allow it, and the answer waits
//!   until it exists on every shard; else error 3. A name that cannot be is 17.
//! - Operations of topics and cluster: everything, if they are asked for.
//! - Left out: offline replicas (there is one replica, and it is here).

use std::rc::Rc;

use crate::catalog::{Partition, Topic};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use watershed_core::units::TopicId;

use super::{auto_create, operations};

pub(crate) async fn handle(node: &Rc<Node>, request: &Envelope, body: MetadataRequest) -> MetadataResponse {
    let asked = match body.topics {
        None => None,
        Some(topics) if topics.is_empty() && request.version == 0 => None,
        Some(topics) => Some(topics),
    };
    if let Some(topics) = &asked
        && body.allow_auto_topic_creation
    {
        auto_create::missing(node, names(topics)).await;
    }
    let operations = operations::topic(body.include_topic_authorized_operations);
    let topics = match asked {
        None => all(node, operations),
        Some(topics) => topics.into_iter().map(|topic| one(node, request.version, topic, operations)).collect(),
    };
    let cluster = node.cluster();
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: cluster.node_id,
            host: cluster.host.clone(),
            port: i32::from(cluster.port),
            rack: cluster.rack(),
        }],
        cluster_id: Some(cluster.cluster_id.clone()),
        controller_id: cluster.node_id,
        topics,
        cluster_authorized_operations: operations::cluster(body.include_cluster_authorized_operations),
        ..MetadataResponse::default()
    }
}

/// The names among the topics that were asked for.
fn names(topics: &[MetadataRequestTopic]) -> impl Iterator<Item = &str> {
    let named = topics.iter().filter(|topic| topic.topic_id == TopicId::ZERO);
    named.filter_map(|topic| topic.name.as_deref())
}

fn all(node: &Node, operations: i32) -> Vec<MetadataResponseTopic> {
    let catalog = node.catalog.borrow();
    let topics = catalog.topics();
    topics.map(|topic| found(topic, operations)).collect()
}

fn one(node: &Node, version: i16, asked: MetadataRequestTopic, operations: i32) -> MetadataResponseTopic {
    let catalog = node.catalog.borrow();
    let by_id = asked.topic_id != TopicId::ZERO;
    let topic = match (&asked.name, by_id) {
        (_, true) if version >= 12 => catalog.topic(asked.topic_id),
        (Some(name), _) => catalog.topic_named(name),
        (None, _) => None,
    };
    match topic {
        Some(topic) => found(topic, operations),
        None => missing(asked, by_id, operations),
    }
}

fn found(topic: &Topic, operations: i32) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: topic.partitions.iter().map(partition).collect(),
        topic_authorized_operations: operations,
        ..MetadataResponseTopic::default()
    }
}

fn partition((index, partition): (&i32, &Partition)) -> MetadataResponsePartition {
    let error = match partition.leader {
        -1 => ErrorCode::LeaderNotAvailable,
        _ => ErrorCode::None,
    };
    MetadataResponsePartition {
        error_code: error.code(),
        partition_index: *index,
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.clone(),
        isr_nodes: partition.isr.clone(),
        offline_replicas: Vec::new(),
    }
}

fn missing(asked: MetadataRequestTopic, by_id: bool, operations: i32) -> MetadataResponseTopic {
    let error = match &asked.name {
        None if by_id => ErrorCode::UnknownTopicId,
        None => ErrorCode::InvalidTopic,
        Some(name) if !auto_create::is_possible_name(name) => ErrorCode::InvalidTopic,
        Some(_) => ErrorCode::UnknownTopicOrPartition,
    };
    MetadataResponseTopic {
        error_code: error.code(),
        name: asked.name,
        topic_id: asked.topic_id,
        topic_authorized_operations: operations,
        ..MetadataResponseTopic::default()
    }
}

impl Outcome for MetadataResponse {
    fn has_error(&self) -> bool {
        any_error(self.topics.iter().map(|topic| topic.error_code))
    }
}
