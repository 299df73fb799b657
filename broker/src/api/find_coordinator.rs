//! FindCoordinator (key 10), versions 0 to 6.
//!
//! - A group's coordinator is this broker; the offsets topic is created when it is first asked for.
//! - From version 4 several keys are asked for at once; the type of the keys is one for all.
//! - Left out: coordinators of transactions and shares, answered with COORDINATOR_NOT_AVAILABLE so that clients try again.

use std::rc::Rc;

use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};

use super::coordinator;

const NO_NODE: i32 = -1;
const NO_PORT: i32 = -1;
/// The key type of groups.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) async fn handle(
    node: &Rc<Node>,
    request: &Envelope,
    body: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let found = match body.key_type {
        GROUP => coordinator::ensure(node).await,
        TRANSACTION => Err(ErrorCode::CoordinatorNotAvailable),
        _ => Err(ErrorCode::InvalidRequest),
    };
    if request.version >= 4 {
        let coordinators = body.coordinator_keys.into_iter().map(|key| answer(node, key, found));
        return FindCoordinatorResponse { coordinators: coordinators.collect(), ..FindCoordinatorResponse::default() };
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } = answer(node, body.key, found);
    FindCoordinatorResponse { node_id, host, port, error_code, error_message, ..FindCoordinatorResponse::default() }
}

fn answer(node: &Node, key: String, found: Result<(), ErrorCode>) -> Coordinator {
    let cluster = node.cluster();
    match found {
        Ok(()) => Coordinator {
            key,
            node_id: cluster.node_id,
            host: cluster.host.clone(),
            port: i32::from(cluster.port),
            error_message: Some(String::new()),
            ..Coordinator::default()
        },
        Err(error) => Coordinator {
            key,
            node_id: NO_NODE,
            port: NO_PORT,
            error_code: error.code(),
            error_message: Some(error.message().to_owned()),
            ..Coordinator::default()
        },
    }
}

impl Outcome for FindCoordinatorResponse {
    fn has_error(&self) -> bool {
        any_error(self.coordinators.iter().map(|coordinator| coordinator.error_code).chain([self.error_code]))
    }
}
