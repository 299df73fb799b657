//! ListGroups (key 16), versions 0 to 5.
//!
//! - The groups of every shard. From version 4 filtered by state, from version 5 by type (all are classic), without regard
//!   to case; an empty filter lets everything pass.

use std::rc::Rc;

use crate::groups::Listed;
use crate::server::calls::{Call, Reply};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

const CLASSIC: &str = "classic";

pub(crate) async fn handle(node: &Rc<Node>, body: ListGroupsRequest) -> ListGroupsResponse {
    let passes = |filter: &[String], what: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(what))
    };
    let listed = match listed(node).await {
        Ok(listed) => listed,
        Err(error) => {
            return ListGroupsResponse { error_code: error.code(), ..ListGroupsResponse::default() };
        }
    };
    let is_wanted = |group: &Listed| passes(&body.states_filter, group.state) && passes(&body.types_filter, CLASSIC);
    let groups = listed.into_iter().filter(is_wanted).map(|group| ListedGroup {
        group_id: group.group,
        protocol_type: group.protocol_type,
        group_state: group.state.to_owned(),
        group_type: CLASSIC.to_owned(),
    });
    ListGroupsResponse { groups: groups.collect(), ..ListGroupsResponse::default() }
}

async fn listed(node: &Rc<Node>) -> Result<Vec<Listed>, ErrorCode> {
    let mut pending = Vec::new();
    for shard in node.peers.all() {
        pending.push(node.begin(shard, Call::ListGroups).await);
    }
    let mut listed = Vec::new();
    for reply in pending {
        match reply.await {
            Reply::Groups(groups) => listed.extend(groups?),
            _ => return Err(ErrorCode::UnknownServerError),
        }
    }
    Ok(listed)
}

impl Outcome for ListGroupsResponse {
    fn has_error(&self) -> bool {
        any_error([self.error_code])
    }
}
