//! Faults and refusals. A refusal is a value with the protocol's own meaning; a fault is an I/O error, damage or a
//! lack of space and names its place; a bug is an assertion and ends the process.

use crate::units::TopicPartition;

/// What a request was refused for. Each service maps these to its protocol's codes in one exhaustive match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This shard does not own the partition, or it was deleted.
    UnknownPartition,
    /// The sequence does not follow the last one (Kafka 45).
    OutOfOrderSequence,
    /// A duplicate older than the five batches that are remembered (Kafka 46).
    DuplicateSequence,
    /// A newer epoch of the producer has written (Kafka 47).
    InvalidProducerEpoch,
    /// The offset lies outside the log (Kafka 1).
    OffsetOutOfRange,
    /// The client's leader epoch is older than ours (Kafka 74).
    FencedLeaderEpoch,
    /// The client's leader epoch is newer than ours (Kafka 75).
    UnknownLeaderEpoch,
    /// The disk is too full for new records (Kafka 56, retriable).
    DiskFull,
    /// The partition failed closed after damage (Kafka 56).
    Damaged,
    /// Too many bytes wait for this owner (Kafka 7, retriable).
    Overloaded,
    /// The batch is larger than the log's settings allow (Kafka 10).
    TooLarge,
}

/// What went wrong below the protocol.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    #[error("{operation} of {file} at {position}: {cause}")]
    Io {
        operation: &'static str,
        file: String,
        position: u64,
        /// The operating system's error number, or 0.
        errno: i32,
        cause: String,
    },
    #[error("{file} is damaged at {position}: {what}")]
    Corrupt { file: String, position: u64, what: &'static str },
    #[error("no space left for {what}")]
    NoSpace { what: &'static str },
    #[error("{partition} failed closed: {what}")]
    Closed { partition: TopicPartition, what: &'static str },
    #[error(
        "format version {found} of {file} is not one that this version reads ({known}); start the version that wrote it"
    )]
    Version { file: String, found: u32, known: u32 },
    #[error("{0}")]
    Refused(String),
}
