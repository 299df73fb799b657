//! Responses: the frame of one reply as pieces that lie where they are, for one gathered send.
//!
//! Record bytes are never copied here: a piece is a header that we wrote, a slice of this core's memory, or one that
//! another core lends. Invariant: the first four bytes count all that follow, in all pieces.

use watershed_core::io::buffers::Piece;

use crate::wire::header;
use crate::wire::message::Message;

use super::envelope::Envelope;

/// What is sent for one request.
pub(crate) struct Response {
    pub(crate) pieces: Vec<Piece>,
    /// Some part of it is an error; for the metrics.
    pub(crate) failed: bool,
    /// How long the client asked to be kept waiting, and was.
    pub(crate) parked_us: u64,
}

impl Response {
    /// A whole generated message.
    pub(crate) fn of<M: Message>(request: &Envelope, body: &M, failed: bool) -> Response {
        let frame = header::response_frame(request.api, request.version, request.correlation_id, body);
        Response { pieces: vec![Piece::Bytes(frame)], failed, parked_us: 0 }
    }

    /// Bytes on the wire.
    pub(crate) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}
