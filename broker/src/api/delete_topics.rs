//! DeleteTopics (key 20), versions 1 to 6.
//!
//! - By name, from version 6 also by id. The answer leaves when every owner's drop is durable; files go to the pool later.
//! - A topic that is named twice, or by name and id at once, is refused. Left out: `timeout_ms`.

use std::rc::Rc;

use crate::catalog::{DeletedTopic, Reply, Request, TopicRef};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};

use super::{controller, mutations};

/// The first version that names topics in structures.
const STATES_FROM: i16 = 6;
/// The first version of clients that understand THROTTLING_QUOTA_EXCEEDED.
const STRICT_FROM: i16 = 5;

pub(crate) async fn handle(node: &Rc<Node>, request: &Envelope, body: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let topics: Vec<TopicRef> = match request.version >= STATES_FROM {
        true => body
            .topics
            .into_iter()
            .map(|topic| topic.name.map_or(TopicRef::Id(topic.topic_id), TopicRef::Name))
            .collect(),
        false => body.topic_names.into_iter().map(TopicRef::Name).collect(),
    };
    let partitions = topics.iter().map(|topic| partitions(node, topic));
    let admitted = mutations::admitted(request, STRICT_FROM, partitions).await;
    let all = topics;
    let topics = mutations::those(all.iter().cloned(), &admitted);
    let responses = match controller::submit(node, Request::DeleteTopics(topics.clone())).await {
        Ok(Reply::DeletedTopics(deleted)) => deleted.into_iter().map(result).collect(),
        Ok(_) => topics.into_iter().map(|topic| failed(topic, ErrorCode::UnknownServerError)).collect(),
        Err(error) => topics.into_iter().map(|topic| failed(topic, error)).collect(),
    };
    let refusals = all.into_iter().map(|topic| failed(topic, ErrorCode::ThrottlingQuotaExceeded));
    let responses = mutations::merged(&admitted, responses, refusals);
    DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }
}

/// How many partitions go with the topic.
fn partitions(node: &Node, topic: &TopicRef) -> usize {
    let catalog = node.catalog.borrow();
    let found = match topic {
        TopicRef::Name(name) => catalog.topic_named(name),
        TopicRef::Id(id) => catalog.topic(*id),
    };
    found.map_or(0, |topic| topic.partitions.len())
}

fn result(topic: DeletedTopic) -> DeletableTopicResult {
    let (error_code, error_message) = controller::code_and_message(&topic.result);
    DeletableTopicResult { name: topic.name, topic_id: topic.id, error_code, error_message }
}

fn failed(topic: TopicRef, error: ErrorCode) -> DeletableTopicResult {
    let plain = DeletableTopicResult {
        error_code: error.code(),
        error_message: Some(error.message().to_owned()),
        ..DeletableTopicResult::default()
    };
    match topic {
        TopicRef::Name(name) => DeletableTopicResult { name: Some(name), ..plain },
        TopicRef::Id(topic_id) => DeletableTopicResult { topic_id, ..plain },
    }
}

impl Outcome for DeleteTopicsResponse {
    fn has_error(&self) -> bool {
        any_error(self.responses.iter().map(|topic| topic.error_code))
    }
}
