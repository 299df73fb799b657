//! OffsetCommit (key 8), versions 2 to 10.
//!
//! - Answered once the offsets are durable. The member must be of the group's generation; without one (-1) the group must
//!   have no members. While the group waits for its assignment: 27.
//! - A partition that does not exist is 3 (from version 10, by topic id: 100); metadata beyond `offset.metadata.max.bytes` 12.
//! - Versions 2 to 4 may say how long the offsets are to be kept.

use std::rc::Rc;

use watershed_core::units::TopicPartition;

use crate::groups::{Commit, CommitPart, Speaker};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::server::groups::{GroupAsk, GroupTold};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::offset_commit::{
    OffsetCommitPartition, OffsetCommitPartitionResult, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
    OffsetCommitTopicResult,
};
use crate::wire::topic_ref::TopicRef;

use super::coordinator;

/// The first version that names topics by id.
const IDS_FROM: i16 = 10;

pub(crate) async fn handle(node: &Rc<Node>, request: &Envelope, body: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut parts = Vec::new();
    let mut refusals = Vec::new();
    for topic in &body.topics {
        let name = name_of(node, request.version, topic);
        for partition in &topic.partitions {
            let part = name.clone().and_then(|(name, missing)| part(node, &name, missing, partition));
            refusals.push(part.as_ref().err().copied());
            parts.extend(part);
        }
    }
    let commit = Commit {
        speaker: Speaker {
            member_id: body.member_id,
            instance: body.group_instance_id,
            generation: body.generation_id_or_member_epoch,
        },
        retention_ms: Some(body.retention_time_ms).filter(|retention_ms| *retention_ms >= 0),
        parts,
    };
    let mut committed = match coordinator::ask(node, &body.group_id, GroupAsk::Commit(commit)).await {
        Ok(GroupTold::Each(results)) => Ok(results.into_iter()),
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(error) => Err(error),
    };
    let mut refusals = refusals.into_iter();
    let mut code = || {
        let result = match (refusals.next().flatten(), &mut committed) {
            (Some(error), _) => Err(error),
            (None, Ok(results)) => results.next().unwrap_or(Err(ErrorCode::UnknownServerError)),
            (None, Err(error)) => Err(*error),
        };
        result.map_or_else(ErrorCode::code, |()| ErrorCode::None.code())
    };
    let topics = body.topics.into_iter().map(|topic| OffsetCommitTopicResult {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitPartitionResult {
                partition_index: partition.partition_index,
                error_code: code(),
            })
            .collect(),
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}

/// The topic's name, and what to say of a partition that it does not have.
fn name_of(node: &Node, version: i16, topic: &OffsetCommitTopic) -> Result<(String, ErrorCode), ErrorCode> {
    if version < IDS_FROM {
        return Ok((topic.name.clone(), ErrorCode::UnknownTopicOrPartition));
    }
    let catalog = node.catalog.borrow();
    let found = catalog.topic(topic.topic_id).ok_or(ErrorCode::UnknownTopicId)?;
    Ok((found.name.clone(), ErrorCode::UnknownTopicOrPartition))
}

fn part(node: &Node, name: &str, missing: ErrorCode, asked: &OffsetCommitPartition) -> Result<CommitPart, ErrorCode> {
    let topic = node.topic_id(TopicRef::Name(name))?;
    let partition = asked.partition_index;
    node.owner(TopicPartition { topic, partition }).map_err(|_| missing)?;
    Ok(CommitPart {
        topic: name.to_owned(),
        partition,
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata: asked.committed_metadata.clone().unwrap_or_default(),
    })
}

impl Outcome for OffsetCommitResponse {
    fn has_error(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        any_error(partitions.map(|partition| partition.error_code))
    }
}
