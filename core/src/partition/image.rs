//! A partition's state as numbers, for checkpoint images (rkyv). Owns the layout; never holds record bytes: the partial
//! tail block travels beside it.

use crate::partition::epochs::EpochStart;

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SegmentImage {
    pub base_offset: i64,
    pub end_offset: i64,
    pub file: u64,
    /// Where the last batch ends.
    pub end_position: u32,
    /// Where the next batch may begin: above the end after an aligned run.
    pub next_position: u32,
    /// Bytes below were written into the segment's file.
    pub drained_position: u32,
    pub batch_bytes_max: u32,
    pub first_timestamp: i64,
    pub max_timestamp: i64,
    pub max_timestamp_offset: i64,
    pub opened_wall_ms: i64,
    pub appended_wall_ms: i64,
    pub sealed: bool,
}

/// One of the last five batches of a producer.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ProducerBatchImage {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub end_offset: i64,
    pub append_time_ms: i64,
}

/// One idempotent producer.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ProducerImage {
    pub producer_id: i64,
    pub epoch: i16,
    pub appended_wall_ms: i64,
    /// Oldest first.
    pub batches: Vec<ProducerBatchImage>,
}

/// One partition. The stamp it was taken at is kept by the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PartitionImage {
    pub topic: [u8; 16],
    pub partition: i32,
    pub log_start: i64,
    pub log_end: i64,
    pub epochs: Vec<EpochStart>,
    pub segments: Vec<SegmentImage>,
    pub producers: Vec<ProducerImage>,
}
