//! Envelopes: what is known of a request before its body is opened.

use std::rc::Rc;

use crate::wire::apis::Api;
use crate::wire::header::RequestHeader;

use super::node::Node;
use super::quotas::Usage;

/// One request on its way.
#[derive(Clone)]
pub(crate) struct Envelope {
    pub(crate) api: Api,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<Box<str>>,
    /// Where the body begins in the frame.
    pub(crate) body_at: usize,
    /// When its last byte was received.
    pub(crate) received_us: u64,
    /// While quotas exist.
    pub(crate) usage: Option<Rc<Usage>>,
}

impl Envelope {
    pub(crate) fn of(node: &Rc<Node>, header: &RequestHeader<'_>) -> Envelope {
        Envelope {
            api: header.api,
            version: header.version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.map(Box::from),
            body_at: header.body_at,
            received_us: node.now_us(),
            usage: Usage::begin(node, header.client_id),
        }
    }

    /// How long the client has to wait, once everything that it used is charged.
    pub(crate) async fn settle(&self) -> i32 {
        match &self.usage {
            Some(usage) => usage.settle().await,
            None => 0,
        }
    }
}
