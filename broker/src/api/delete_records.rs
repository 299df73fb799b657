//! DeleteRecords (key 21), versions 0 to 2.
//!
//! - Moves the log start to the offset; -1 means the high watermark. Beyond it is OFFSET_OUT_OF_RANGE.
//! - Answered with the low watermark once the move is durable. No file is rewritten; segments below it go.
//! - An internal topic is INVALID_TOPIC_EXCEPTION.

use std::rc::Rc;

use watershed_core::units::TopicPartition;

use crate::catalog::is_internal;
use crate::server::calls::{Call, Reply};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use crate::wire::topic_ref::TopicRef;

use super::scatter::{Gathered, Scatter};

pub(crate) async fn handle(node: &Rc<Node>, body: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut scatter = Scatter::default();
    for topic in &body.topics {
        let id = match is_internal(&topic.name) {
            true => Err(ErrorCode::InvalidTopic),
            false => node.topic_id(TopicRef::Name(&topic.name)),
        };
        for asked in &topic.partitions {
            let ask = id.map(|topic| {
                let partition = asked.partition_index;
                let at = TopicPartition { topic, partition };
                (at, (at, asked.offset))
            });
            scatter.push(node, ask);
        }
    }
    let mut deleted = scatter
        .gather(node, Call::DeleteRecords, |reply| match reply {
            Reply::Deleted(deleted) => Gathered::Each(deleted),
            other => Gathered::failed(&other),
        })
        .await
        .into_iter();
    let mut answer = |asked: &DeleteRecordsPartition| {
        let result = deleted.next().unwrap_or(Err(ErrorCode::UnknownServerError));
        DeleteRecordsPartitionResult {
            partition_index: asked.partition_index,
            low_watermark: result.unwrap_or(-1),
            error_code: result.map_or_else(ErrorCode::code, |_| ErrorCode::None.code()),
        }
    };
    let topics = body.topics.iter().map(|topic| DeleteRecordsTopicResult {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(&mut answer).collect(),
    });
    DeleteRecordsResponse { topics: topics.collect(), ..DeleteRecordsResponse::default() }
}

impl Outcome for DeleteRecordsResponse {
    fn has_error(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        any_error(partitions.map(|partition| partition.error_code))
    }
}
