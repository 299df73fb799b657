//! Envelopes: what is known of a request before its body is opened.

use crate::wire::apis::Api;
use crate::wire::header::RequestHeader;

/// One request on its way.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) api: Api,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<Box<str>>,
    /// Where the body begins in the frame.
    pub(crate) body_at: usize,
    /// When its last byte was received.
    pub(crate) received_us: u64,
}

impl Envelope {
    pub(crate) fn of(header: &RequestHeader<'_>, received_us: u64) -> Envelope {
        Envelope {
            api: header.api,
            version: header.version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.map(Box::from),
            body_at: header.body_at,
            received_us,
        }
    }
}
