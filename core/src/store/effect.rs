//! What a store asks its driver to do, and the numbers by which the driver reports it done.

use crate::journal::FramePlan;
use crate::units::{FileId, Slot};

/// Names an effect in its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// An effect. Each one with an `op` ends in exactly one `Store::complete`; a frame ends in `Store::frame_written`.
/// A driver may perform effects in any order and at once: what must wait is not handed out before.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Encode this frame now (`Store::encode_frame`) and write it durably to its place in the ring.
    WriteFrame(FramePlan),
    /// Create the ring's file `slot` full of zeroes; data, size and name durable.
    CreateRingFile {
        op: OpId,
        slot: u32,
    },
    /// Create a segment's file with room for `allocate_bytes`; size and name durable. With `write_zeroes` its extents are
    /// written once, so that later durable writes carry no metadata.
    CreateFile {
        op: OpId,
        file: FileId,
        allocate_bytes: u64,
        write_zeroes: bool,
    },
    /// Write a stretch of a segment from the memory that holds its tail; zeroes where nothing was placed.
    WriteSegment {
        op: OpId,
        slot: Slot,
        file: FileId,
        position: u64,
        length: u64,
        durable: bool,
    },
    /// Make the completed writes of a segment's file durable.
    FlushFile {
        op: OpId,
        file: FileId,
    },
    /// Make the names in the segments' directory durable.
    SyncSegments {
        op: OpId,
    },
    /// Write an image under its name in progress.
    WriteImage {
        op: OpId,
        image: u64,
        bytes: Vec<u8>,
    },
    FlushImage {
        op: OpId,
        image: u64,
    },
    /// Give the image its final name.
    RenameImage {
        op: OpId,
        image: u64,
    },
    /// Make the names in the journal's directory durable.
    SyncImages {
        op: OpId,
    },
    /// Write one of the anchor's two blocks durably.
    WriteAnchor {
        op: OpId,
        slot: u8,
        bytes: Vec<u8>,
    },
    RemoveImage {
        op: OpId,
        image: u64,
    },
    /// Call `Store::slice_image`, then go on.
    SliceImage,
    /// Nothing; there is more.
    Again,
    /// Remove a segment's file.
    RemoveFile {
        op: OpId,
        file: FileId,
    },
    /// No read will be planned and no write asked for from this file's memory again.
    ForgetFile {
        slot: Slot,
        file: FileId,
    },
    /// Bytes of this file below `position` are on disk: their memory is now a cache.
    Drained {
        slot: Slot,
        file: FileId,
        position: u64,
    },
}

/// How an effect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// No space left outside the ring: the only failure that is not fatal.
    NoSpace,
}
