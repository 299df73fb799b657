//! Heartbeat (key 12), versions 0 to 4.
//!
//! - Keeps the member's session. While the group waits for its members to join again the answer is 27.

use std::rc::Rc;

use crate::groups::Speaker;
use crate::server::dispatch::{Outcome, any_error};
use crate::server::groups::GroupAsk;
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::coordinator;

pub(crate) async fn handle(node: &Rc<Node>, body: HeartbeatRequest) -> HeartbeatResponse {
    let speaker =
        Speaker { member_id: body.member_id, instance: body.group_instance_id, generation: body.generation_id };
    let told = coordinator::ask(node, &body.group_id, GroupAsk::Heartbeat(speaker)).await;
    let error_code = told.map_or_else(ErrorCode::code, |_| ErrorCode::None.code());
    HeartbeatResponse { error_code, ..HeartbeatResponse::default() }
}

impl Outcome for HeartbeatResponse {
    fn has_error(&self) -> bool {
        any_error([self.error_code])
    }
}
