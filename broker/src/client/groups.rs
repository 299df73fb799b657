//! Consumer groups as an administrator sees them: their members, and what they have committed.

use std::collections::BTreeMap;

use crate::wire::apis::Api;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use crate::wire::generated::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use crate::wire::generated::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::wire::generated::offset_commit::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
};
use crate::wire::generated::offset_delete::{
    OffsetDeletePartition, OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteTopic,
};
use crate::wire::generated::offset_fetch::{OffsetFetchGroup, OffsetFetchRequest, OffsetFetchResponse};

use super::error::check;
use super::{ClientError, Cluster, Place, Result, assignment};

const LIST_GROUPS: (i16, i16) = (0, 5);
const DESCRIBE_GROUPS: (i16, i16) = (0, 6);
const OFFSET_FETCH: (i16, i16) = (8, 9);
pub(super) const OFFSET_COMMIT: (i16, i16) = (2, 9);
const OFFSET_DELETE: (i16, i16) = (0, 0);
const DELETE_GROUPS: (i16, i16) = (0, 2);
/// The protocol type of consumers, whose assignments are known to be partitions.
pub(super) const CONSUMER: &str = "consumer";
const DEAD: &str = "Dead";

/// A group in a list.
#[derive(Clone, Debug)]
pub struct ListedGroup {
    pub group: String,
    pub protocol_type: String,
    /// Empty if the broker is too old to tell.
    pub state: String,
}

/// A group with its members.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    pub group: String,
    pub state: String,
    pub protocol_type: String,
    /// What its members agreed on; of consumers the assignor.
    pub protocol: String,
    pub coordinator: i32,
    pub members: Vec<GroupMember>,
}

#[derive(Clone, Debug)]
pub struct GroupMember {
    pub id: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub host: String,
    /// Of consumers.
    pub partitions: Vec<Place>,
}

/// What is committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    pub metadata: String,
}

impl Cluster {
    /// The groups of all brokers, by name.
    pub fn groups(&mut self) -> Result<Vec<ListedGroup>> {
        self.metadata(Some(&[]))?;
        let brokers: Vec<i32> = self.brokers().keys().copied().collect();
        let mut groups = Vec::new();
        for broker in brokers {
            let listed = self.retrying(|cluster| {
                let answer: ListGroupsResponse =
                    cluster.broker(broker)?.ask(Api::ListGroups, LIST_GROUPS, &ListGroupsRequest::default())?;
                check(answer.error_code, None, || format!("listing the groups of broker {broker}"))?;
                Ok(answer.groups)
            })?;
            groups.extend(listed.into_iter().map(|group| ListedGroup {
                group: group.group_id,
                protocol_type: group.protocol_type,
                state: group.group_state,
            }));
        }
        groups.sort_by(|one, other| one.group.cmp(&other.group));
        Ok(groups)
    }

    /// One group; a missing one is an error.
    pub fn group(&mut self, group: &str) -> Result<GroupInfo> {
        let request = DescribeGroupsRequest { groups: vec![group.to_owned()], ..DescribeGroupsRequest::default() };
        let refusal = |answer: &DescribeGroupsResponse| {
            answer
                .groups
                .iter()
                .try_for_each(|told| check(told.error_code, told.error_message.as_deref(), || format!("group {group}")))
        };
        let answer = self.ask_coordinator(group, Api::DescribeGroups, DESCRIBE_GROUPS, &request, refusal)?;
        let coordinator = self.coordinator(group)?;
        let missing = || ClientError::Missing(format!("there is no group {group}; `group list` shows what there is"));
        let told = answer.groups.into_iter().next().filter(|told| told.group_state != DEAD).ok_or_else(missing)?;
        let is_consumer = told.protocol_type == CONSUMER;
        let member = |member: crate::wire::generated::describe_groups::DescribedGroupMember| GroupMember {
            partitions: match is_consumer {
                true => assignment::places(&member.member_assignment).unwrap_or_default(),
                false => Vec::new(),
            },
            id: member.member_id,
            instance: member.group_instance_id,
            client_id: member.client_id,
            host: member.client_host,
        };
        Ok(GroupInfo {
            group: group.to_owned(),
            state: told.group_state,
            protocol_type: told.protocol_type,
            protocol: told.protocol_data,
            coordinator,
            members: told.members.into_iter().map(member).collect(),
        })
    }

    /// Whether somebody reads for this group now. One that does not exist has no members.
    pub fn has_members(&mut self, group: &str) -> Result<bool> {
        match self.group(group) {
            Ok(info) => Ok(!info.members.is_empty()),
            Err(ClientError::Missing(_)) => Ok(false),
            Err(ClientError::Refused { code, .. }) if code == ErrorCode::GroupIdNotFound.code() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Everything that a group has committed.
    pub fn committed(&mut self, group: &str) -> Result<BTreeMap<Place, Committed>> {
        let asked = OffsetFetchGroup { group_id: group.to_owned(), topics: None, ..OffsetFetchGroup::default() };
        let request = OffsetFetchRequest { groups: vec![asked], ..OffsetFetchRequest::default() };
        let what = || format!("what group {group} has committed");
        let refusal =
            |answer: &OffsetFetchResponse| answer.groups.iter().try_for_each(|told| check(told.error_code, None, what));
        let answer = self.ask_coordinator(group, Api::OffsetFetch, OFFSET_FETCH, &request, refusal)?;
        let mut committed = BTreeMap::new();
        for topic in answer.groups.into_iter().flat_map(|told| told.topics) {
            for part in topic.partitions {
                check(part.error_code, None, what)?;
                let metadata = part.metadata.unwrap_or_default();
                let value = Committed { offset: part.committed_offset, metadata };
                committed.insert((topic.name.clone(), part.partition_index), value);
            }
        }
        committed.retain(|_, value| value.offset >= 0);
        Ok(committed)
    }

    /// Commits for a group that has no members.
    pub fn commit(&mut self, group: &str, offsets: &BTreeMap<Place, i64>) -> Result<()> {
        let request = commit_request(group, -1, "", offsets);
        let refusal = |answer: &OffsetCommitResponse| {
            let mut parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
            parts.try_for_each(|part| check(part.error_code, None, || format!("committing for group {group}")))
        };
        self.ask_coordinator(group, Api::OffsetCommit, OFFSET_COMMIT, &request, refusal).map(|_| ())
    }

    pub fn delete_group(&mut self, group: &str) -> Result<()> {
        let request = DeleteGroupsRequest { groups_names: vec![group.to_owned()] };
        let refusal = |answer: &DeleteGroupsResponse| {
            answer
                .results
                .iter()
                .try_for_each(|told| check(told.error_code, None, || format!("deleting group {group}")))
        };
        self.ask_coordinator(group, Api::DeleteGroups, DELETE_GROUPS, &request, refusal).map(|_| ())
    }

    /// Takes back what a group has committed for these partitions.
    pub fn delete_offsets(&mut self, group: &str, places: &[Place]) -> Result<()> {
        let mut topics: BTreeMap<String, Vec<OffsetDeletePartition>> = BTreeMap::new();
        for (topic, partition_index) in places {
            let part = OffsetDeletePartition { partition_index: *partition_index };
            topics.entry(topic.clone()).or_default().push(part);
        }
        let request = OffsetDeleteRequest {
            group_id: group.to_owned(),
            topics: topics.into_iter().map(|(name, partitions)| OffsetDeleteTopic { name, partitions }).collect(),
        };
        let refusal = |answer: &OffsetDeleteResponse| {
            let what = || format!("deleting offsets of group {group}");
            check(answer.error_code, None, what)?;
            let parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
            parts.into_iter().try_for_each(|part| check(part.error_code, None, what))
        };
        self.ask_coordinator(group, Api::OffsetDelete, OFFSET_DELETE, &request, refusal).map(|_| ())
    }
}

/// A commit by a member of a group, or for one that has none: generation -1 and no id.
pub(super) fn commit_request(
    group: &str,
    generation: i32,
    member: &str,
    offsets: &BTreeMap<Place, i64>,
) -> OffsetCommitRequest {
    let mut topics: BTreeMap<String, Vec<OffsetCommitPartition>> = BTreeMap::new();
    for ((topic, partition_index), committed_offset) in offsets {
        topics.entry(topic.clone()).or_default().push(OffsetCommitPartition {
            partition_index: *partition_index,
            committed_offset: *committed_offset,
            committed_metadata: Some(String::new()),
            ..OffsetCommitPartition::default()
        });
    }
    let topic = |(name, partitions)| OffsetCommitTopic { name, partitions, ..OffsetCommitTopic::default() };
    OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: generation,
        member_id: member.to_owned(),
        topics: topics.into_iter().map(topic).collect(),
        ..OffsetCommitRequest::default()
    }
}
