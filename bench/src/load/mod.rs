//! The load generator: blocking threads on one core that keep length-prefixed requests under way and count the answers.
//!
//! Knows frames (a big-endian length, then that many bytes) and time, nothing of what is inside: a [`Traffic`] writes the
//! requests and judges the answers. Answers come in the order of the requests. A wrong answer ends the run.

mod connection;
mod run;
mod schedule;

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

pub(crate) use connection::{Connection, Request};
pub(crate) use run::{Load, Measured, Stream, measure, once, pin};

/// What an answer was worth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) bytes: u64,
    /// Records or requests; an answer that brought nothing counts for nothing.
    pub(crate) is_empty: bool,
    /// Where the latency begins, if not when the request was due.
    pub(crate) began: Option<Instant>,
}

/// One connection's requests and answers.
pub(crate) trait Traffic: Send {
    /// The next request; `None` ends the stream once all are answered.
    fn request(&mut self) -> Option<Request>;
    /// Judges an answer (without its length).
    fn answer(&mut self, frame: &[u8]) -> Result<Answer>;
}

/// Bytes that many requests share.
pub(crate) type Shared = Arc<[u8]>;
