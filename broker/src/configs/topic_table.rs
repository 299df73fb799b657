//! The table of topic configurations of Kafka 4.2. Only `flush.messages` has another default: 1, acknowledged means flushed.

use watershed_core::limits::BATCH_BYTES_MAX;

use super::topic::TopicRow;
use super::value::{ConfigType, Served, Valid};

const NO_COMPACTION: Served = Served::DefaultOnly("compaction is not served yet");
const NO_TIERING: Served = Served::DefaultOnly("tiered storage is not served");
const ONE_LZ4: Served = Served::DefaultOnly("lz4 has one level here");
const NO_THROTTLE: Served = Served::Ignored("there is one replica, so no replication to throttle");
const POLICIES: Valid = Valid::ListOf(&["compact", "delete"]);

macro_rules! rows {
    ($($name:literal $kind:ident = $default:literal, $valid:expr, $served:expr, [$($synonym:literal * $scale:literal),*], $doc:literal;)*) => {
        /// Every topic configuration, in the order of names.
        pub const TOPIC_ROWS: &[TopicRow] = &[$(TopicRow {
            name: $name,
            kind: ConfigType::$kind,
            default: $default,
            valid: $valid,
            served: $served,
            synonyms: &[$(($synonym, $scale)),*],
            documentation: $doc,
        }),*];
    };
}

rows! {
    "cleanup.policy" List = "delete", POLICIES, Served::Effective, ["log.cleanup.policy" * 1],
        "What becomes of old records: 'delete' drops whole segments by age and size, 'compact' keeps the last record of each key.";
    "compression.gzip.level" Int = "-1", Valid::BetweenOr(1, 9, -1), Served::Effective, ["compression.gzip.level" * 1],
        "The gzip level when the broker compresses; -1 is the library's own.";
    "compression.lz4.level" Int = "9", Valid::Between(1, 17), ONE_LZ4, ["compression.lz4.level" * 1],
        "The lz4 level when the broker compresses.";
    "compression.type" String = "producer", Valid::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), Served::Effective, ["compression.type" * 1],
        "The codec in which batches are kept; 'producer' keeps them as they were sent.";
    "compression.zstd.level" Int = "3", Valid::Between(-131072, 22), Served::Effective, ["compression.zstd.level" * 1],
        "The zstd level when the broker compresses.";
    "delete.retention.ms" Long = "86400000", Valid::AtLeast(0), NO_COMPACTION, ["log.cleaner.delete.retention.ms" * 1],
        "How long a deletion mark stays in a compacted topic.";
    "file.delete.delay.ms" Long = "60000", Valid::AtLeast(0), Served::Ignored("a segment file is reused once no reader holds it"), ["log.segment.delete.delay.ms" * 1],
        "How long a dropped segment's file stays before it is deleted.";
    "flush.messages" Long = "1", Valid::AtLeast(1), Served::Effective, ["log.flush.interval.messages" * 1],
        "1: records are acknowledged and visible once they are flushed to disk. More: once written, and flushed within this many records.";
    "flush.ms" Long = "9223372036854775807", Valid::AtLeast(0), Served::Effective, ["log.flush.interval.ms" * 1],
        "Where flush.messages is above 1: the longest time from write to flush.";
    "follower.replication.throttled.replicas" List = "", Valid::ThrottledReplicas, NO_THROTTLE, [],
        "Replicas whose replication is throttled at the follower.";
    "index.interval.bytes" Int = "4096", Valid::AtLeast(0), Served::Effective, ["log.index.interval.bytes" * 1],
        "Bytes of log between two entries of the offset index.";
    "leader.replication.throttled.replicas" List = "", Valid::ThrottledReplicas, NO_THROTTLE, [],
        "Replicas whose replication is throttled at the leader.";
    "local.retention.bytes" Long = "-2", Valid::AtLeast(-2), NO_TIERING, ["log.local.retention.bytes" * 1],
        "Bytes kept on local disk of a tiered partition; -2 follows retention.bytes.";
    "local.retention.ms" Long = "-2", Valid::AtLeast(-2), NO_TIERING, ["log.local.retention.ms" * 1],
        "How long a tiered segment stays on local disk; -2 follows retention.ms.";
    "max.compaction.lag.ms" Long = "9223372036854775807", Valid::AtLeast(1), NO_COMPACTION, ["log.cleaner.max.compaction.lag.ms" * 1],
        "The longest time that a record may stay uncompacted.";
    "max.message.bytes" Int = "1048588", Valid::Between(0, BATCH_BYTES_MAX as i64), Served::Effective, ["message.max.bytes" * 1],
        "The largest record batch, as compressed.";
    "message.timestamp.after.max.ms" Long = "3600000", Valid::AtLeast(0), Served::Effective, ["log.message.timestamp.after.max.ms" * 1],
        "How far a record's timestamp may lie in the broker's future, under CreateTime.";
    "message.timestamp.before.max.ms" Long = "9223372036854775807", Valid::AtLeast(0), Served::Effective, ["log.message.timestamp.before.max.ms" * 1],
        "How far a record's timestamp may lie in the broker's past, under CreateTime.";
    "message.timestamp.type" String = "CreateTime", Valid::OneOf(&["CreateTime", "LogAppendTime"]), Served::Effective, ["log.message.timestamp.type" * 1],
        "Whether a record keeps its producer's timestamp or gets the broker's at the append.";
    "min.cleanable.dirty.ratio" Double = "0.5", Valid::Fraction(0.0, 1.0), NO_COMPACTION, ["log.cleaner.min.cleanable.ratio" * 1],
        "The part of a log that must be uncompacted before it is compacted.";
    "min.compaction.lag.ms" Long = "0", Valid::AtLeast(0), NO_COMPACTION, ["log.cleaner.min.compaction.lag.ms" * 1],
        "The shortest time that a record stays uncompacted.";
    "min.insync.replicas" Int = "1", Valid::AtLeast(1), Served::Ignored("never more than the replicas that exist are asked for, and there is one"), ["min.insync.replicas" * 1],
        "Replicas that must hold a record before a producer with acks=all gets its answer.";
    "preallocate" Boolean = "false", Valid::Any, Served::Ignored("segment files come from a pool that is written ahead"), ["log.preallocate" * 1],
        "Whether a new segment's file is allocated at once.";
    "remote.log.copy.disable" Boolean = "false", Valid::Any, NO_TIERING, [],
        "Whether a tiered topic stops to copy segments away.";
    "remote.log.delete.on.disable" Boolean = "false", Valid::Any, NO_TIERING, [],
        "Whether tiered data is deleted when tiering is switched off.";
    "remote.storage.enable" Boolean = "false", Valid::Any, NO_TIERING, [],
        "Whether sealed segments are copied to remote storage.";
    "retention.bytes" Long = "-1", Valid::AtLeast(-1), Served::Effective, ["log.retention.bytes" * 1],
        "Bytes that a partition keeps under the 'delete' policy; -1 does not limit them.";
    "retention.ms" Long = "604800000", Valid::AtLeast(-1), Served::Effective, ["log.retention.ms" * 1, "log.retention.minutes" * 60_000, "log.retention.hours" * 3_600_000],
        "How long a segment is kept under the 'delete' policy; -1 keeps it for ever.";
    "segment.bytes" Int = "1073741824", Valid::AtLeast(1 << 20), Served::Effective, ["log.segment.bytes" * 1],
        "The size at which a segment is sealed; here at the latest at the size of a segment file.";
    "segment.index.bytes" Int = "10485760", Valid::AtLeast(4), Served::Ignored("an index is as large as its segment needs"), ["log.index.size.max.bytes" * 1],
        "The largest size of a segment's index.";
    "segment.jitter.ms" Long = "0", Valid::AtLeast(0), Served::DefaultOnly("segments roll without jitter"), ["log.roll.jitter.ms" * 1, "log.roll.jitter.hours" * 3_600_000],
        "The largest random time taken off segment.ms, so that not all segments roll at once.";
    "segment.ms" Long = "604800000", Valid::AtLeast(1), Served::Effective, ["log.roll.ms" * 1, "log.roll.hours" * 3_600_000],
        "The age at which a segment is sealed even if it is not full.";
    "unclean.leader.election.enable" Boolean = "false", Valid::Any, Served::Ignored("there is one replica, so no replica out of sync could lead"), ["unclean.leader.election.enable" * 1],
        "Whether a replica that is not in sync may lead, at the price of lost records.";
}
