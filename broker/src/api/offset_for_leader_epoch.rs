//! OffsetForLeaderEpoch (key 23), versions 2 to 4.
//!
//! - The end of the largest epoch that is not above the one asked for; epoch and end -1 if there is none.
//! - A current leader epoch that is not ours is 74 or 75.

use std::rc::Rc;

use watershed_core::units::TopicPartition;

use crate::server::calls::{Call, Reply};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};
use crate::wire::topic_ref::TopicRef;

use super::scatter::{Gathered, Scatter};

pub(crate) async fn handle(node: &Rc<Node>, body: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let mut scatter = Scatter::default();
    for topic in &body.topics {
        let id = node.topic_id(TopicRef::Name(&topic.topic));
        for asked in &topic.partitions {
            let ask = id.map(|topic| {
                let partition = asked.partition;
                let at = TopicPartition { topic, partition };
                (at, (at, asked.leader_epoch, asked.current_leader_epoch))
            });
            scatter.push(node, ask);
        }
    }
    let mut ends = scatter
        .gather(node, Call::EpochEnds, |reply| match reply {
            Reply::EpochEnds(ends) => Gathered::Each(ends),
            other => Gathered::failed(&other),
        })
        .await
        .into_iter();
    let mut answer =
        |asked: &OffsetForLeaderPartition| response(asked, ends.next().unwrap_or(Err(ErrorCode::UnknownServerError)));
    let topics = body.topics.iter().map(|topic| OffsetForLeaderTopicResult {
        topic: topic.topic.clone(),
        partitions: topic.partitions.iter().map(&mut answer).collect(),
    });
    OffsetForLeaderEpochResponse { topics: topics.collect(), ..OffsetForLeaderEpochResponse::default() }
}

fn response(asked: &OffsetForLeaderPartition, end: Result<(i32, i64), ErrorCode>) -> EpochEndOffset {
    let plain = EpochEndOffset { partition: asked.partition, ..EpochEndOffset::default() };
    match end {
        Ok((leader_epoch, end_offset)) => EpochEndOffset { leader_epoch, end_offset, ..plain },
        Err(error) => EpochEndOffset { error_code: error.code(), ..plain },
    }
}

impl Outcome for OffsetForLeaderEpochResponse {
    fn has_error(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        any_error(partitions.map(|partition| partition.error_code))
    }
}
