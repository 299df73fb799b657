//! OffsetFetch (key 9), versions 1 to 10.
//!
//! - What a group has committed, of the partitions that are asked for (-1 where there is nothing) or, with null topics, all.
//!   Answered once everything that was committed before is durable.
//! - From version 8 several groups at once, each with its own error; before that the error is each partition's too.
//! - From version 10 topics are named by id (100 if unknown).
//! - `require_stable` has nothing to wait for without transactions. Left out: member epochs of newer groups.

use std::collections::BTreeMap;
use std::rc::Rc;

use watershed_core::units::TopicId;

use crate::groups::OffsetCommitValue;
use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::server::groups::{GroupAsk, GroupTold};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::offset_fetch::{
    OffsetFetchGroup, OffsetFetchGroupPartition, OffsetFetchGroupResult, OffsetFetchGroupTopic,
    OffsetFetchGroupTopicResult, OffsetFetchPartitionResult, OffsetFetchRequest, OffsetFetchResponse,
    OffsetFetchTopicResult,
};

use super::coordinator;

/// The first versions with several groups and with topic ids.
const GROUPS_FROM: i16 = 8;
const IDS_FROM: i16 = 10;

pub(crate) async fn handle(node: &Rc<Node>, request: &Envelope, body: OffsetFetchRequest) -> OffsetFetchResponse {
    if request.version < GROUPS_FROM {
        return single(node, request, body).await;
    }
    let mut groups = Vec::with_capacity(body.groups.len());
    for group in body.groups {
        groups.push(of_group(node, request.version, group).await);
    }
    OffsetFetchResponse { groups, ..OffsetFetchResponse::default() }
}

/// The form of one group, as the same question in the form of several.
async fn single(node: &Rc<Node>, request: &Envelope, body: OffsetFetchRequest) -> OffsetFetchResponse {
    let topics = body.topics.map(|topics| {
        let asked = topics.into_iter().map(|topic| OffsetFetchGroupTopic {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchGroupTopic::default()
        });
        asked.collect()
    });
    let group = OffsetFetchGroup { group_id: body.group_id, topics, ..OffsetFetchGroup::default() };
    let result = of_group(node, request.version, group).await;
    let topics = result.topics.into_iter().map(|topic| OffsetFetchTopicResult {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(plain).collect(),
    });
    OffsetFetchResponse { topics: topics.collect(), error_code: result.error_code, ..OffsetFetchResponse::default() }
}

fn plain(partition: OffsetFetchGroupPartition) -> OffsetFetchPartitionResult {
    OffsetFetchPartitionResult {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    }
}

async fn of_group(node: &Rc<Node>, version: i16, group: OffsetFetchGroup) -> OffsetFetchGroupResult {
    let topics = group.topics.map(|topics| named(node, version, topics));
    let parts = topics.as_ref().map(|topics| {
        let known = topics.iter().filter_map(|(name, topic)| Some((name.as_ref()?, topic)));
        let each = known.flat_map(|(name, topic)| topic.partition_indexes.iter().map(|part| (name.clone(), *part)));
        each.collect()
    });
    let (committed, error) = match coordinator::ask(node, &group.group_id, GroupAsk::Committed(parts)).await {
        Ok(GroupTold::Committed(committed)) => (committed, ErrorCode::None),
        Ok(_) => (Vec::new(), ErrorCode::UnknownServerError),
        Err(error) => (Vec::new(), error),
    };
    let topics = match topics {
        _ if error != ErrorCode::None && version >= GROUPS_FROM => Vec::new(),
        None => all(node, version, committed),
        Some(topics) => asked(topics, committed, error),
    };
    OffsetFetchGroupResult { group_id: group.group_id, topics, error_code: error.code() }
}

/// Each topic with its name; `None` if its id is unknown.
fn named(
    node: &Node,
    version: i16,
    topics: Vec<OffsetFetchGroupTopic>,
) -> Vec<(Option<String>, OffsetFetchGroupTopic)> {
    let catalog = node.catalog.borrow();
    let name = |topic: &OffsetFetchGroupTopic| match version {
        ..IDS_FROM => Some(topic.name.clone()),
        _ => catalog.topic(topic.topic_id).map(|found| found.name.clone()),
    };
    topics.into_iter().map(|topic| (name(&topic), topic)).collect()
}

/// What was asked for, in its order.
fn asked(
    topics: Vec<(Option<String>, OffsetFetchGroupTopic)>,
    committed: Vec<(String, i32, OffsetCommitValue)>,
    error: ErrorCode,
) -> Vec<OffsetFetchGroupTopicResult> {
    let mut committed: BTreeMap<(String, i32), OffsetCommitValue> =
        committed.into_iter().map(|(topic, partition, value)| ((topic, partition), value)).collect();
    let mut result = |(name, topic): (Option<String>, OffsetFetchGroupTopic)| {
        let error = if name.is_some() { error } else { ErrorCode::UnknownTopicId };
        let name = name.unwrap_or_default();
        let partitions = topic.partition_indexes.iter().map(|index| {
            let value = committed.remove(&(name.clone(), *index));
            partition(*index, value, error)
        });
        OffsetFetchGroupTopicResult { partitions: partitions.collect(), name: topic.name, topic_id: topic.topic_id }
    };
    topics.into_iter().map(&mut result).collect()
}

/// Everything, topic by topic. By id only topics that still exist can be named.
fn all(
    node: &Node,
    version: i16,
    committed: Vec<(String, i32, OffsetCommitValue)>,
) -> Vec<OffsetFetchGroupTopicResult> {
    let catalog = node.catalog.borrow();
    let mut by_topic: BTreeMap<String, Vec<OffsetFetchGroupPartition>> = BTreeMap::new();
    for (topic, index, value) in committed {
        by_topic.entry(topic).or_default().push(partition(index, Some(value), ErrorCode::None));
    }
    let result = |(name, partitions): (String, Vec<OffsetFetchGroupPartition>)| {
        let topic_id = catalog.topic_named(&name).map(|topic| topic.id);
        match version {
            ..IDS_FROM => Some(OffsetFetchGroupTopicResult { name, partitions, topic_id: TopicId::ZERO }),
            _ => topic_id.map(|topic_id| OffsetFetchGroupTopicResult { name, partitions, topic_id }),
        }
    };
    by_topic.into_iter().filter_map(result).collect()
}

fn partition(index: i32, value: Option<OffsetCommitValue>, error: ErrorCode) -> OffsetFetchGroupPartition {
    let nothing = OffsetCommitValue { offset: -1, ..OffsetCommitValue::default() };
    let value = value.unwrap_or(nothing);
    OffsetFetchGroupPartition {
        partition_index: index,
        committed_offset: value.offset,
        committed_leader_epoch: value.leader_epoch,
        metadata: Some(value.metadata),
        error_code: error.code(),
    }
}

impl Outcome for OffsetFetchResponse {
    fn has_error(&self) -> bool {
        let single = self.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        let groups = self.groups.iter().flat_map(|group| {
            let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.error_code).chain([group.error_code])
        });
        any_error(single.chain(groups).chain([self.error_code]))
    }
}
