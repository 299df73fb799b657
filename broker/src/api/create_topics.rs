//! CreateTopics (key 19), versions 2 to 7.
//!
//! - Each topic is created or refused by itself; the answer leaves when those that were created exist on every shard.
//! - Partitions and replication factor -1 take the broker's defaults; a replica assignment may name this broker only.
//! - From version 5 the answer holds the topic's configurations; from 7 its id. `validate_only` changes nothing.
//! - A client over its quota on mutations: THROTTLING_QUOTA_EXCEEDED for what is left from version 6, a longer wait before.
//! - Left out: `timeout_ms` (the answer waits for what was begun).

use std::rc::Rc;

use crate::catalog::{Assignment, CreatedTopic, NewTopic, Reply, Request, TopicCreation};
use crate::configs::ConfigEntry;
use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};

use super::{controller, mutations};

/// The first version of clients that understand THROTTLING_QUOTA_EXCEEDED.
const STRICT_FROM: i16 = 6;

pub(crate) async fn handle(node: &Rc<Node>, request: &Envelope, body: CreateTopicsRequest) -> CreateTopicsResponse {
    let all: Vec<String> = body.topics.iter().map(|topic| topic.name.clone()).collect();
    let partitions = body.topics.iter().map(|topic| if body.validate_only { 0 } else { partitions(node, topic) });
    let admitted = mutations::admitted(request, STRICT_FROM, partitions).await;
    let topics = mutations::those(body.topics.into_iter().map(new_topic), &admitted);
    let names = mutations::those(all.iter().cloned(), &admitted);
    let creation = TopicCreation { topics, validate_only: body.validate_only };
    let topics = match controller::submit(node, Request::CreateTopics(creation)).await {
        Ok(Reply::CreatedTopics(created)) => created.into_iter().map(result).collect(),
        Ok(_) => names.into_iter().map(|name| failed(name, ErrorCode::UnknownServerError)).collect(),
        Err(error) => names.into_iter().map(|name| failed(name, error)).collect(),
    };
    let refusals = all.into_iter().map(|name| failed(name, ErrorCode::ThrottlingQuotaExceeded));
    let topics = mutations::merged(&admitted, topics, refusals);
    CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }
}

/// How many partitions the topic would have.
fn partitions(node: &Node, topic: &CreatableTopic) -> usize {
    let default = || usize::try_from(node.cluster().properties.number("num.partitions")).unwrap_or(1);
    match topic.assignments.len() {
        0 => usize::try_from(topic.num_partitions).unwrap_or_else(|_| default()),
        assigned => assigned,
    }
}

fn new_topic(topic: CreatableTopic) -> NewTopic {
    NewTopic {
        name: topic.name,
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .into_iter()
            .map(|assignment| Assignment { partition: assignment.partition_index, brokers: assignment.broker_ids })
            .collect(),
        configs: topic.configs.into_iter().map(|config| (config.name, config.value)).collect(),
    }
}

fn result(topic: CreatedTopic) -> CreatableTopicResult {
    let (error_code, error_message) = controller::code_and_message(&topic.result);
    let plain = CreatableTopicResult { name: topic.name, error_code, error_message, ..CreatableTopicResult::default() };
    match topic.result {
        Ok(created) => CreatableTopicResult {
            topic_id: created.id,
            num_partitions: created.partition_count,
            replication_factor: created.replication_factor,
            configs: Some(created.configs.iter().map(config).collect()),
            ..plain
        },
        Err(_) => plain,
    }
}

fn config(entry: &ConfigEntry) -> CreatableTopicConfigs {
    CreatableTopicConfigs {
        name: entry.name.to_owned(),
        value: entry.value.clone(),
        read_only: entry.read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.sensitive,
    }
}

fn failed(name: String, error: ErrorCode) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: error.code(),
        error_message: Some(error.message().to_owned()),
        ..CreatableTopicResult::default()
    }
}

impl Outcome for CreateTopicsResponse {
    fn has_error(&self) -> bool {
        any_error(self.topics.iter().map(|topic| topic.error_code))
    }
}
