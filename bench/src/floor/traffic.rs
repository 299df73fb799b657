//! What the generator sends to the floor's server: frames of one size, of which half is random.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::server::Path;
use crate::load::{Answer, Request, Shared, Traffic};
use crate::payload::half_random;

pub(crate) struct FloorTraffic {
    head: Vec<u8>,
    body: Option<Shared>,
    answer_bytes: usize,
    bytes: u64,
}

impl FloorTraffic {
    /// Frames of `size` bytes, or requests for them.
    pub(crate) fn new(path: Path, size: usize) -> FloorTraffic {
        let request_bytes = if path == Path::Send { 8 } else { size };
        let mut head = (request_bytes as u32 - 4).to_be_bytes().to_vec();
        head.extend_from_slice(&[0; 4]);
        let body = (request_bytes > 8).then(|| Arc::from(half_random(request_bytes - 8, 1)));
        let answer_bytes = if path == Path::Send { size - 4 } else { 4 };
        FloorTraffic { head, body, answer_bytes, bytes: size as u64 }
    }
}

impl Traffic for FloorTraffic {
    fn request(&mut self) -> Option<Request> {
        Some(Request { head: self.head.clone(), body: self.body.clone() })
    }

    fn answer(&mut self, frame: &[u8]) -> Result<Answer> {
        ensure!(frame.len() == self.answer_bytes, "an answer of {} bytes", frame.len());
        Ok(Answer { bytes: self.bytes, ..Answer::default() })
    }
}
