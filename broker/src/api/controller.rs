//! Changes of the catalog: from a handler to the metadata host and back. The reply comes when every shard has applied it.

use std::rc::Rc;

use crate::catalog::{Rejection, Reply, Request};
use crate::server::calls::{self, Call};
use crate::server::metadata::HOST;
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;

/// Hands the request to the controller; an error if there is none to answer.
pub(crate) async fn submit(node: &Rc<Node>, request: Request) -> Result<Reply, ErrorCode> {
    match node.call(HOST, Call::Submit(Box::new(request))).await {
        calls::Reply::Submitted(reply) => Ok(*reply),
        calls::Reply::Failed(error) => Err(error),
        _ => Err(ErrorCode::UnknownServerError),
    }
}

/// Code and message of one part's result.
pub(crate) fn code_and_message<T>(result: &Result<T, Rejection>) -> (i16, Option<String>) {
    match result {
        Ok(_) => (ErrorCode::None.code(), None),
        Err(rejection) => (rejection.code.code(), Some(rejection.message.clone())),
    }
}
