//! JoinGroup (key 11), versions 0 to 9.
//!
//! - Answered when the generation begins; a member that is in it already, and asks for nothing new, at once.
//! - Version 0 has one timeout for session and rebalance. From version 4 a new member without an instance id is first told
//!   its id (79). From version 5 members may have instance ids. From version 9 a leader may be told to assign nothing.
//! - A client that leaves while it waits keeps its place until its session ends. Left out: `reason`.

use std::rc::Rc;

use crate::groups::{Answer, Join, Joined};
use crate::server::connection::Connection;
use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::server::groups::GroupAsk;
use crate::server::random;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::join_group::{JoinGroupMember, JoinGroupRequest, JoinGroupResponse};

use super::coordinator;

pub(crate) async fn handle(
    connection: &Rc<Connection>,
    request: &Envelope,
    body: JoinGroupRequest,
) -> JoinGroupResponse {
    let (group, member_id) = (body.group_id.clone(), body.member_id.clone());
    let join = Box::new(join(connection, request, body));
    let joined = match coordinator::wait(connection, &group, |waiter| GroupAsk::Join(join, waiter)).await {
        Ok(Answer::Joined(joined)) => joined,
        Ok(Answer::Synced(_)) => Joined::refused(ErrorCode::UnknownServerError, member_id),
        Err(error) => Joined::refused(error, member_id),
    };
    response(request.version, joined)
}

fn join(connection: &Connection, request: &Envelope, body: JoinGroupRequest) -> Join {
    Join {
        member_id: body.member_id,
        instance: body.group_instance_id,
        client_id: request.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: format!("/{}", connection.stream.peer().ip()),
        session_timeout_ms: body.session_timeout_ms,
        rebalance_timeout_ms: match request.version {
            0 => body.session_timeout_ms,
            _ => body.rebalance_timeout_ms,
        },
        protocol_type: body.protocol_type,
        protocols: body.protocols.into_iter().map(|protocol| (protocol.name, protocol.metadata)).collect(),
        unique: random::uuid_text(),
        needs_known_id: request.version >= 4,
        may_skip_assignment: request.version >= 9,
    }
}

fn response(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|(member_id, group_instance_id, metadata)| JoinGroupMember {
        member_id,
        group_instance_id,
        metadata,
    });
    JoinGroupResponse {
        error_code: joined.error.code(),
        generation_id: joined.generation,
        protocol_type: joined.protocol_type,
        protocol_name: match version {
            ..7 => Some(joined.protocol.unwrap_or_default()),
            _ => joined.protocol,
        },
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

impl Outcome for JoinGroupResponse {
    fn has_error(&self) -> bool {
        any_error([self.error_code])
    }
}
