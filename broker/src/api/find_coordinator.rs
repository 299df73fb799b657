//! FindCoordinator (key 10), versions 0 to 6.
//!
//! - Every key is answered with COORDINATOR_NOT_AVAILABLE, in the single form and, from version 4, in the batch form.
//!   Clients try again: a consumer with a group waits instead of failing.
//! - Left out: coordinators of groups, transactions and shares.

use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};

const NO_NODE: i32 = -1;
const NO_PORT: i32 = -1;

pub(crate) fn handle(request: &Envelope, body: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let error = ErrorCode::CoordinatorNotAvailable;
    if request.version < 4 {
        return FindCoordinatorResponse {
            error_code: error.code(),
            error_message: Some(error.message().to_owned()),
            node_id: NO_NODE,
            port: NO_PORT,
            ..FindCoordinatorResponse::default()
        };
    }
    FindCoordinatorResponse {
        coordinators: body.coordinator_keys.into_iter().map(absent).collect(),
        ..FindCoordinatorResponse::default()
    }
}

fn absent(key: String) -> Coordinator {
    let error = ErrorCode::CoordinatorNotAvailable;
    Coordinator {
        key,
        node_id: NO_NODE,
        port: NO_PORT,
        error_code: error.code(),
        error_message: Some(error.message().to_owned()),
        ..Coordinator::default()
    }
}

impl Outcome for FindCoordinatorResponse {
    fn has_error(&self) -> bool {
        any_error(self.coordinators.iter().map(|coordinator| coordinator.error_code).chain([self.error_code]))
    }
}
