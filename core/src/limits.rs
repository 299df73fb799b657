//! Limits that formats and machines share. Each relation that a proof needs is asserted at compile time.

use crate::units::BLOCK_BYTES;

/// Runs of at least this many bytes do not wait for a group: one durable write each.
pub const SOLO_RUN_BYTES_MIN: u32 = 64 << 10;
/// Runs of at least this many bytes are written once, into their segment, beside a frame that holds only their place.
pub const REFERENCE_RUN_BYTES_MIN: u32 = 64 << 10;
/// The same for the logs of controllers and coordinators, which go on while the disk has no room for such runs.
pub const CONTROL_REFERENCE_RUN_BYTES_MIN: u32 = 128 << 10;
/// Durable writes of one journal that may be under way at once.
pub const FRAMES_IN_FLIGHT_MAX: usize = 4;
/// A frame, header, directory and payload together.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Entries of one frame.
pub const FRAME_ENTRIES_MAX: usize = 4096;
/// A file of the journal's ring.
pub const RING_FILE_BYTES: u64 = 16 << 20;
/// A segment's file: a partition rolls at this size even if its `segment.bytes` is larger.
pub const SEGMENT_FILE_BYTES: u64 = 64 << 20;
/// The largest record batch that any configuration may allow.
pub const BATCH_BYTES_MAX: u32 = 32 << 20;

const _: () = assert!(RING_FILE_BYTES.is_multiple_of(BLOCK_BYTES) && SEGMENT_FILE_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () =
    assert!((FRAME_BYTES_MAX as u64).is_multiple_of(BLOCK_BYTES) && (FRAME_BYTES_MAX as u64) * 2 <= RING_FILE_BYTES);
const _: () = assert!(SOLO_RUN_BYTES_MIN <= REFERENCE_RUN_BYTES_MIN);
const _: () = assert!(
    REFERENCE_RUN_BYTES_MIN <= CONTROL_REFERENCE_RUN_BYTES_MIN && CONTROL_REFERENCE_RUN_BYTES_MIN < FRAME_BYTES_MAX
);
const _: () = assert!(BATCH_BYTES_MAX as u64 <= SEGMENT_FILE_BYTES / 2);
