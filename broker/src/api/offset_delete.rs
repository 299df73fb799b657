//! OffsetDelete (key 47), version 0.
//!
//! - Forgets committed offsets. A topic that a member subscribes to is 86; a group of another kind with members is 68; a
//!   group that does not exist 69; a partition that does not exist 3.

use std::rc::Rc;

use watershed_core::units::TopicPartition;

use crate::server::dispatch::{Outcome, any_error};
use crate::server::groups::{GroupAsk, GroupTold};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::offset_delete::{
    OffsetDeletePartitionResult, OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteTopicResult,
};
use crate::wire::topic_ref::TopicRef;

use super::coordinator;

pub(crate) async fn handle(node: &Rc<Node>, body: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let asked = || {
        let each = |topic: usize| {
            let topic = body.topics.get(topic);
            topic
                .into_iter()
                .flat_map(|topic| topic.partitions.iter().map(move |part| (&topic.name, part.partition_index)))
        };
        (0..body.topics.len()).flat_map(each)
    };
    let exists = |name: &str, partition: i32| {
        let topic = node.topic_id(TopicRef::Name(name));
        topic.is_ok_and(|topic| node.owner(TopicPartition { topic, partition }).is_ok())
    };
    let known = asked().filter(|(name, partition)| exists(name, *partition));
    let parts: Vec<(String, i32)> = known.map(|(name, partition)| (name.clone(), partition)).collect();
    let mut results = match coordinator::ask(node, &body.group_id, GroupAsk::DeleteOffsets(parts.clone())).await {
        Ok(GroupTold::Each(results)) => parts.into_iter().zip(results).collect::<std::collections::BTreeMap<_, _>>(),
        Ok(_) => return refused(ErrorCode::UnknownServerError),
        Err(error) => return refused(error),
    };
    let mut code = |name: &str, partition: i32| {
        let result = results.remove(&(name.to_owned(), partition));
        let result = result.unwrap_or(Err(ErrorCode::UnknownTopicOrPartition));
        result.map_or_else(ErrorCode::code, |()| ErrorCode::None.code())
    };
    let topics = body.topics.iter().map(|topic| OffsetDeleteTopicResult {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|part| OffsetDeletePartitionResult {
                partition_index: part.partition_index,
                error_code: code(&topic.name, part.partition_index),
            })
            .collect(),
    });
    OffsetDeleteResponse { topics: topics.collect(), ..OffsetDeleteResponse::default() }
}

fn refused(error: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse { error_code: error.code(), ..OffsetDeleteResponse::default() }
}

impl Outcome for OffsetDeleteResponse {
    fn has_error(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        any_error(partitions.map(|partition| partition.error_code).chain([self.error_code]))
    }
}
