//! DescribeGroups (key 15), versions 0 to 6.
//!
//! - Members with their metadata and assignment; without metadata unless the group is stable.
//! - A group that does not exist is Dead, from version 6 with GROUP_ID_NOT_FOUND.

use std::rc::Rc;

use crate::groups::{Described, DescribedMember};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::server::groups::{GroupAsk, GroupTold};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};

use super::{coordinator, operations};

pub(crate) async fn handle(node: &Rc<Node>, request: &Envelope, body: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let authorized_operations = operations::group(body.include_authorized_operations);
    let mut groups = Vec::with_capacity(body.groups.len());
    for group_id in body.groups {
        let described = match coordinator::ask(node, &group_id, GroupAsk::Describe).await {
            Ok(GroupTold::Described(Some(described))) => found(described),
            Ok(_) => absent(request.version, &group_id),
            Err(error) => DescribedGroup { error_code: error.code(), ..DescribedGroup::default() },
        };
        groups.push(DescribedGroup { group_id, authorized_operations, ..described });
    }
    DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }
}

fn found(group: Described) -> DescribedGroup {
    DescribedGroup {
        group_state: group.state.to_owned(),
        protocol_type: group.protocol_type,
        protocol_data: group.protocol,
        members: group.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}

fn member(member: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: member.id,
        group_instance_id: member.instance,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}

fn absent(version: i16, group: &str) -> DescribedGroup {
    let dead = DescribedGroup { group_state: "Dead".to_owned(), ..DescribedGroup::default() };
    match version {
        ..6 => dead,
        _ => DescribedGroup {
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some(format!("Group {group} not found.")),
            ..dead
        },
    }
}

impl Outcome for DescribeGroupsResponse {
    fn has_error(&self) -> bool {
        any_error(self.groups.iter().map(|group| group.error_code))
    }
}
