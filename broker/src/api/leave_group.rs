//! LeaveGroup (key 13), versions 0 to 5.
//!
//! - Before version 3 one member leaves and the error is the answer's; later several do, each by member id or, with an empty
//!   one, by instance id, and each has its own error. A group that does not exist has no such members (25).
//! - Left out: `reason`.

use std::rc::Rc;

use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::server::groups::{GroupAsk, GroupTold};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::leave_group::{
    LeaveGroupMember, LeaveGroupMemberResult, LeaveGroupRequest, LeaveGroupResponse,
};

use super::coordinator;

/// The first version in which several members may leave.
const BATCH_FROM: i16 = 3;

pub(crate) async fn handle(node: &Rc<Node>, request: &Envelope, body: LeaveGroupRequest) -> LeaveGroupResponse {
    let members = match request.version >= BATCH_FROM {
        true => body.members,
        false => vec![LeaveGroupMember { member_id: body.member_id, ..LeaveGroupMember::default() }],
    };
    let leaving = members.iter().map(|member| (member.member_id.clone(), member.group_instance_id.clone())).collect();
    let results = match coordinator::ask(node, &body.group_id, GroupAsk::Leave(leaving)).await {
        Ok(GroupTold::Each(results)) => results,
        Ok(_) => return refused(ErrorCode::UnknownServerError),
        Err(error) => return refused(error),
    };
    let code = |result: &Result<(), ErrorCode>| result.map_or_else(ErrorCode::code, |()| ErrorCode::None.code());
    if request.version < BATCH_FROM {
        let error_code = results.first().map_or(ErrorCode::UnknownMemberId.code(), code);
        return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
    }
    let left = members.into_iter().zip(&results).map(|(member, result)| LeaveGroupMemberResult {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error_code: code(result),
    });
    LeaveGroupResponse { members: left.collect(), ..LeaveGroupResponse::default() }
}

fn refused(error: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse { error_code: error.code(), ..LeaveGroupResponse::default() }
}

impl Outcome for LeaveGroupResponse {
    fn has_error(&self) -> bool {
        any_error(self.members.iter().map(|member| member.error_code).chain([self.error_code]))
    }
}
