//! Replies of the Netty plane: header and content as one small buffer, which the body's bytes follow.
//!
//! The body is the caller's: it only names its length here, and sends exactly that many bytes after it. Only types that every
//! client from 0.9 on can read are written. Strings longer than the format's lengths cannot occur.

use super::frame::{FrameHeader, FrameType, HEADER_BYTES};
use super::status::StatusCode;

/// What every reply says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    pub request_id: i64,
    /// One that every client reads, see `status`.
    pub status: StatusCode,
    pub message: &'a str,
}

/// One block in the body of a memory reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySegment {
    pub block_id: i64,
    /// In this body.
    pub offset: i32,
    pub length: i32,
    pub uncompress_length: i32,
    pub crc: i64,
    pub task_attempt_id: i64,
}

/// The bytes of a [`MemorySegment`] in a reply.
pub const MEMORY_SEGMENT_BYTES: usize = 36;

impl<'a> Answer<'a> {
    /// That all went well, in the words of the Java server.
    pub const fn ok(request_id: i64) -> Answer<'static> {
        Answer { request_id, status: StatusCode::Success, message: "OK" }
    }

    /// Type 0, for sent blocks.
    pub fn sent(&self) -> Vec<u8> {
        self.content(0).frame(FrameType::RpcResponse, 0)
    }

    /// Type 14: an index of `body_bytes` follows, over a file of `data_file_bytes`.
    pub fn index(&self, data_file_bytes: i64, body_bytes: u32) -> Vec<u8> {
        let mut content = self.content(8);
        content.i64(data_file_bytes);
        content.frame(FrameType::LocalShuffleIndexResponse, body_bytes)
    }

    /// Type 15: `body_bytes` of data follow.
    pub fn data(&self, body_bytes: u32) -> Vec<u8> {
        self.content(0).frame(FrameType::LocalShuffleDataResponse, body_bytes)
    }

    /// Type 16: the bytes of these blocks follow, `body_bytes` in all.
    pub fn memory(&self, segments: &[MemorySegment], body_bytes: u32) -> Vec<u8> {
        let mut content = self.content(4 + segments.len() * MEMORY_SEGMENT_BYTES);
        content.length(segments.len());
        for segment in segments {
            content.i64(segment.block_id);
            content.i32(segment.offset);
            content.i32(segment.length);
            content.i32(segment.uncompress_length);
            content.i64(segment.crc);
            content.i64(segment.task_attempt_id);
        }
        content.frame(FrameType::MemoryShuffleDataResponse, body_bytes)
    }

    fn content(&self, more_bytes: usize) -> Frame {
        let mut frame = Frame(Vec::with_capacity(HEADER_BYTES + 16 + self.message.len() + more_bytes));
        frame.0.extend_from_slice(&[0; HEADER_BYTES]);
        frame.i64(self.request_id);
        frame.i32(self.status.code());
        frame.length(self.message.len());
        frame.0.extend_from_slice(self.message.as_bytes());
        frame
    }
}

/// A frame whose header is still to be filled in.
struct Frame(Vec<u8>);

impl Frame {
    fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn length(&mut self, length: usize) {
        self.i32(i32::try_from(length).expect("a reply's parts are far below 2 GiB"));
    }

    fn frame(mut self, frame_type: FrameType, body_bytes: u32) -> Vec<u8> {
        let content_bytes = u32::try_from(self.0.len() - HEADER_BYTES).expect("a reply's content is far below 2 GiB");
        let header = FrameHeader { frame_type, content_bytes, body_bytes };
        if let Some(place) = self.0.first_chunk_mut() {
            *place = header.to_bytes();
        }
        self.0
    }
}
