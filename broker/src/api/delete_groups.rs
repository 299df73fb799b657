//! DeleteGroups (key 42), versions 0 to 2.
//!
//! - Forgets a group and all that it has committed. A group with members is 68, one that does not exist 69.

use std::rc::Rc;

use crate::server::dispatch::{Outcome, any_error};
use crate::server::groups::GroupAsk;
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::delete_groups::{DeleteGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};

use super::coordinator;

pub(crate) async fn handle(node: &Rc<Node>, body: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(body.groups_names.len());
    for group_id in body.groups_names {
        let told = coordinator::ask(node, &group_id, GroupAsk::Delete).await;
        let error_code = told.map_or_else(ErrorCode::code, |_| ErrorCode::None.code());
        results.push(DeleteGroupResult { group_id, error_code });
    }
    DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }
}

impl Outcome for DeleteGroupsResponse {
    fn has_error(&self) -> bool {
        any_error(self.results.iter().map(|result| result.error_code))
    }
}
