//! The small requests of the Netty plane, each from its whole content, which stays borrowed.
//!
//! The caller has read the content within the limit of its header; lengths inside are held against what is there.
//! `lastBlockId` and the sizes come as they were sent: what they mean is for who answers.

use super::frame::FrameType;
use super::reader::{APP_ID_BYTES_MAX, Reader, Result, WireError};

/// A request for what one partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Index(LocalShuffleIndex<'a>),
    Data(LocalShuffleData<'a>),
    Memory(MemoryShuffleData<'a>),
}

/// Types 4, and the beginning of 5, 24 and 25.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalShuffleIndex<'a> {
    pub request_id: i64,
    pub app_id: &'a str,
    pub shuffle_id: i32,
    pub partition_id: i32,
    pub partition_num_per_range: i32,
    pub partition_num: i32,
}

/// Types 5, 24 and 25: a range of a partition's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalShuffleData<'a> {
    pub of: LocalShuffleIndex<'a>,
    pub offset: i64,
    pub length: i32,
    pub timestamp_ms: i64,
    /// From type 24 on.
    pub storage_id: Option<i32>,
}

/// Type 6: blocks that are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShuffleData<'a> {
    pub request_id: i64,
    pub app_id: &'a str,
    pub shuffle_id: i32,
    pub partition_id: i32,
    /// -1 asks from the start.
    pub last_block_id: i64,
    pub read_buffer_bytes: i32,
    pub timestamp_ms: i64,
    /// The task attempts that are asked for, see [`super::bitmap::attempt_filter`]; `None` is all.
    pub expected_task_ids: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// Reads the content of a frame of this type; blocks are for [`super::send`].
    pub fn parse(frame_type: FrameType, content: &'a [u8]) -> Result<Request<'a>> {
        let r = &mut Reader::new(content);
        let request = match frame_type {
            FrameType::GetLocalShuffleIndex => Request::Index(partition(r)?),
            FrameType::GetMemoryShuffleData => Request::Memory(memory(r)?),
            FrameType::GetLocalShuffleData => Request::Data(data(r, false)?),
            FrameType::GetLocalShuffleDataV2 => Request::Data(data(r, true)?),
            // What follows in version 3 is only a hint of what will be asked next.
            FrameType::GetLocalShuffleDataV3 => return data(r, true).map(Request::Data),
            other => return Err(WireError::NotARequest(other.code())),
        };
        r.finish()?;
        Ok(request)
    }

    pub fn request_id(&self) -> i64 {
        match self {
            Request::Index(index) => index.request_id,
            Request::Data(data) => data.of.request_id,
            Request::Memory(memory) => memory.request_id,
        }
    }
}

fn partition<'a>(r: &mut Reader<'a>) -> Result<LocalShuffleIndex<'a>> {
    Ok(LocalShuffleIndex {
        request_id: r.i64("requestId")?,
        app_id: r.str("appId", APP_ID_BYTES_MAX)?,
        shuffle_id: r.i32("shuffleId")?,
        partition_id: r.i32("partitionId")?,
        partition_num_per_range: r.i32("partitionNumPerRange")?,
        partition_num: r.i32("partitionNum")?,
    })
}

fn data<'a>(r: &mut Reader<'a>, has_storage: bool) -> Result<LocalShuffleData<'a>> {
    Ok(LocalShuffleData {
        of: partition(r)?,
        offset: r.i64("offset")?,
        length: r.i32("length")?,
        timestamp_ms: r.i64("timestamp")?,
        storage_id: if has_storage { Some(r.i32("storageId")?) } else { None },
    })
}

fn memory<'a>(r: &mut Reader<'a>) -> Result<MemoryShuffleData<'a>> {
    Ok(MemoryShuffleData {
        request_id: r.i64("requestId")?,
        app_id: r.str("appId", APP_ID_BYTES_MAX)?,
        shuffle_id: r.i32("shuffleId")?,
        partition_id: r.i32("partitionId")?,
        last_block_id: r.i64("lastBlockId")?,
        read_buffer_bytes: r.i32("readBufferSize")?,
        timestamp_ms: r.i64("timestamp")?,
        expected_task_ids: r.nullable_bytes("bitmap")?,
    })
}
