//! CreatePartitions (key 37), versions 0 to 3.
//!
//! - `count` is the number that the topic shall have in all; it may only grow. Every topic of the request has its answer.
//! - Left out: `timeout_ms` (the answer waits for what was begun).

use std::rc::Rc;

use crate::catalog::{GrownTopic, NewPartitions, Reply, Request};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};

use super::{controller, mutations};

/// The first version of clients that understand THROTTLING_QUOTA_EXCEEDED.
const STRICT_FROM: i16 = 3;

pub(crate) async fn handle(
    node: &Rc<Node>,
    request: &Envelope,
    body: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let all: Vec<String> = body.topics.iter().map(|topic| topic.name.clone()).collect();
    let added = body.topics.iter().map(|topic| if body.validate_only { 0 } else { added(node, topic) });
    let admitted = mutations::admitted(request, STRICT_FROM, added).await;
    let topics = mutations::those(body.topics.into_iter().map(new_partitions), &admitted);
    let names = mutations::those(all.iter().cloned(), &admitted);
    let request = Request::CreatePartitions { topics, validate_only: body.validate_only };
    let results = match controller::submit(node, request).await {
        Ok(Reply::CreatedPartitions(grown)) => grown.into_iter().map(result).collect(),
        Ok(_) => names.into_iter().map(|name| failed(name, ErrorCode::UnknownServerError)).collect(),
        Err(error) => names.into_iter().map(|name| failed(name, error)).collect(),
    };
    let refusals = all.into_iter().map(|name| failed(name, ErrorCode::ThrottlingQuotaExceeded));
    let results = mutations::merged(&admitted, results, refusals);
    CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
}

/// How many partitions the topic would get.
fn added(node: &Node, topic: &CreatePartitionsTopic) -> usize {
    let catalog = node.catalog.borrow();
    let current = catalog.topic_named(&topic.name).map_or(0, |topic| topic.partitions.len());
    usize::try_from(topic.count).unwrap_or_default().saturating_sub(current)
}

fn new_partitions(topic: CreatePartitionsTopic) -> NewPartitions {
    let brokers = |assignments: Vec<_>| assignments.into_iter().map(brokers_of).collect();
    NewPartitions { name: topic.name, count: topic.count, assignments: topic.assignments.map(brokers) }
}

fn brokers_of(assignment: crate::wire::generated::create_partitions::CreatePartitionsAssignment) -> Vec<i32> {
    assignment.broker_ids
}

fn result(topic: GrownTopic) -> CreatePartitionsTopicResult {
    let (error_code, error_message) = controller::code_and_message(&topic.result);
    CreatePartitionsTopicResult { name: topic.name, error_code, error_message }
}

fn failed(name: String, error: ErrorCode) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult { name, error_code: error.code(), error_message: Some(error.message().to_owned()) }
}

impl Outcome for CreatePartitionsResponse {
    fn has_error(&self) -> bool {
        any_error(self.results.iter().map(|topic| topic.error_code))
    }
}
