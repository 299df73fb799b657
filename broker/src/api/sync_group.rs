//! SyncGroup (key 14), versions 0 to 5.
//!
//! - The leader brings everyone's assignment; each member is answered with its own once that is durable.
//! - From version 5 a member says which protocol it means, and another one is 23.

use std::rc::Rc;

use crate::groups::{Answer, Speaker, Sync, Synced};
use crate::server::connection::Connection;
use crate::server::dispatch::{Outcome, any_error};
use crate::server::groups::GroupAsk;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::coordinator;

pub(crate) async fn handle(connection: &Rc<Connection>, body: SyncGroupRequest) -> SyncGroupResponse {
    let sync = Sync {
        speaker: Speaker {
            member_id: body.member_id,
            instance: body.group_instance_id,
            generation: body.generation_id,
        },
        protocol_type: body.protocol_type,
        protocol: body.protocol_name,
        assignments: body.assignments.into_iter().map(|given| (given.member_id, given.assignment)).collect(),
    };
    let synced = match coordinator::wait(connection, &body.group_id, |waiter| GroupAsk::Sync(sync, waiter)).await {
        Ok(Answer::Synced(synced)) => synced,
        Ok(Answer::Joined(_)) => Synced::refused(ErrorCode::UnknownServerError),
        Err(error) => Synced::refused(error),
    };
    SyncGroupResponse {
        error_code: synced.error.code(),
        protocol_type: synced.protocol_type,
        protocol_name: synced.protocol,
        assignment: synced.assignment,
        ..SyncGroupResponse::default()
    }
}

impl Outcome for SyncGroupResponse {
    fn has_error(&self) -> bool {
        any_error([self.error_code])
    }
}
