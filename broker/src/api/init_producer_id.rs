//! InitProducerId (key 22), versions 0 to 5.
//!
//! - Without a transactional id: a new producer id with epoch 0. A current id and epoch (from version 3) ask for a new
//!   epoch; as in Kafka a producer without a transactional id gets a new producer id instead.
//! - With a transactional id: COORDINATOR_NOT_AVAILABLE, which is what FindCoordinator says as well. Producers try again
//!   until their own timeout; no code that a client takes for "transactions failed for good" would be true for ever.
//! - Ids come from blocks; while a new block is committed the request waits.

use std::rc::Rc;
use std::time::Duration;

use watershed_core::io::executor;

use crate::catalog::{Reply, Request};
use crate::producer_ids::Block;
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::controller;

/// How long a request waits for a block.
const BLOCK_WAIT: Duration = Duration::from_secs(10);

pub(crate) async fn handle(node: &Rc<Node>, body: InitProducerIdRequest) -> InitProducerIdResponse {
    match body.transactional_id.as_deref() {
        None => {}
        Some("") => return refused(ErrorCode::InvalidRequest),
        Some(_) => return refused(ErrorCode::CoordinatorNotAvailable),
    }
    match executor::until(executor::now() + BLOCK_WAIT, take(node)).await {
        Some(Ok(producer_id)) => InitProducerIdResponse { producer_id, ..InitProducerIdResponse::default() },
        Some(Err(error)) => refused(error),
        None => refused(ErrorCode::CoordinatorLoadInProgress),
    }
}

/// Takes an id, and waits for a block if there is none.
async fn take(node: &Rc<Node>) -> Result<i64, ErrorCode> {
    loop {
        let count = node.granted.count();
        let taken = node.producer_ids.borrow_mut().take();
        if taken.ask {
            executor::spawn(ask(Rc::clone(node)));
        }
        if let Some(id) = taken.id {
            return Ok(id);
        }
        node.granted.after(count).await;
    }
}

/// Asks the controller for a block.
async fn ask(node: Rc<Node>) {
    match block(&node).await {
        Ok(block) => node.producer_ids.borrow_mut().granted(block),
        Err(error) => {
            tracing::warn!(error = error.name(), "no producer ids were granted");
            node.producer_ids.borrow_mut().refused();
        }
    }
    node.granted.ring();
}

async fn block(node: &Rc<Node>) -> Result<Block, ErrorCode> {
    let cluster = node.cluster();
    let request = Request::AllocateProducerIds { broker_id: cluster.node_id, broker_epoch: cluster.broker_epoch };
    match controller::submit(node, request).await? {
        Reply::ProducerIds(Ok(block)) => Ok(block),
        Reply::ProducerIds(Err(rejection)) => Err(rejection.code),
        _ => Err(ErrorCode::UnknownServerError),
    }
}

fn refused(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code: error.code(), producer_epoch: -1, ..InitProducerIdResponse::default() }
}

impl Outcome for InitProducerIdResponse {
    fn has_error(&self) -> bool {
        any_error([self.error_code])
    }
}
