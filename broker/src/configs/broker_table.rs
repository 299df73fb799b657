//! The table of Kafka's server properties that a person may bring along: what each does here, or why it does nothing.
//!
//! A property that is in no row is a mistake; one that asks for what is not served is refused by its row.

use watershed_core::limits::BATCH_BYTES_MAX;

use super::broker::BrokerRow;
use super::value::{ConfigType, Served, Valid};

const POOLS: Served = Served::Ignored("one pinned thread per core does the work of all of Kafka's pools");
const SOLO: Served = Served::Ignored("broker and controller are one process");
const ONE_BROKER: Served = Served::DefaultOnly("there is one broker, so one replica");
const KERNEL: Served = Served::Ignored("the kernel sizes socket buffers itself");
const NO_SHARES: Served = Served::Ignored("share groups are not served yet");
const NO_TRANSACTIONS: Served = Served::Ignored("transactions are not served yet");
const NO_COMPACTION: Served = Served::DefaultOnly("compaction is not served yet");
const NO_TIERING: Served = Served::DefaultOnly("tiered storage is not served");
const ONE_LZ4: Served = Served::DefaultOnly("lz4 has one level here");
const NO_SECURITY: Served = Served::DefaultOnly("security is not served yet");
const COMMITTED: Served = Served::Ignored("a flush is part of every commit");
const OWN_METADATA: Served = Served::Ignored("the metadata log is part of the journal");
const NO_JITTER: Served = Served::DefaultOnly("segments roll without jitter");
const ON: Served = Served::Effective;
const CODECS: Valid = Valid::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);

macro_rules! rows {
    ($($name:literal $kind:ident = $default:expr, $valid:expr, $served:expr, $doc:literal;)*) => {
        /// Every known server property, in the order of names.
        pub const BROKER_ROWS: &[BrokerRow] = &[$(BrokerRow {
            name: $name,
            kind: ConfigType::$kind,
            default: $default,
            valid: $valid,
            served: $served,
            documentation: $doc,
        }),*];
    };
}

rows! {
    "advertised.listeners" String = None, Valid::Any, ON, "The addresses that clients are told to connect to.";
    "auto.create.topics.enable" Boolean = Some("true"), Valid::Any, ON, "Whether a topic that a client asks for by name is created.";
    "auto.leader.rebalance.enable" Boolean = Some("true"), Valid::Any, SOLO, "Whether leadership moves back to preferred replicas.";
    "background.threads" Int = Some("10"), Valid::AtLeast(1), POOLS, "Threads for background work.";
    "broker.id" Int = Some("1"), Valid::AtLeast(0), ON, "An older name of node.id.";
    "broker.rack" String = None, Valid::Any, ON, "The rack that this broker tells clients.";
    "compression.gzip.level" Int = Some("-1"), Valid::BetweenOr(1, 9, -1), ON, "The gzip level when the broker compresses.";
    "compression.lz4.level" Int = Some("9"), Valid::Between(1, 17), ONE_LZ4, "The lz4 level when the broker compresses.";
    "compression.type" String = Some("producer"), CODECS, ON, "The codec in which batches are kept.";
    "compression.zstd.level" Int = Some("3"), Valid::Between(-131072, 22), ON, "The zstd level when the broker compresses.";
    "connections.max.idle.ms" Long = Some("600000"), Valid::Any, ON, "How long a connection may be silent before it is closed.";
    "controlled.shutdown.enable" Boolean = Some("true"), Valid::Any, SOLO, "Whether a stop moves leadership away first.";
    "controller.listener.names" List = Some(""), Valid::Any, SOLO, "The listeners of the controller.";
    "controller.quorum.bootstrap.servers" List = Some(""), Valid::Any, SOLO, "Where to find the controllers.";
    "controller.quorum.voters" List = Some(""), Valid::Any, SOLO, "The controllers of the quorum.";
    "default.replication.factor" Int = Some("1"), Valid::AtLeast(1), ONE_BROKER, "Replicas of a topic that does not say how many.";
    "delete.topic.enable" Boolean = Some("true"), Valid::Any, ON, "Whether topics may be deleted.";
    "fetch.max.bytes" Int = Some("57671680"), Valid::AtLeast(1024), ON, "The most bytes of one answer to a fetch.";
    "group.initial.rebalance.delay.ms" Int = Some("3000"), Valid::Any, ON, "How long a new group waits for more members.";
    "group.max.session.timeout.ms" Int = Some("1800000"), Valid::Any, ON, "The longest session timeout of a member.";
    "group.max.size" Int = Some("2147483647"), Valid::AtLeast(1), ON, "Members that a group may have.";
    "group.min.session.timeout.ms" Int = Some("6000"), Valid::Any, ON, "The shortest session timeout of a member.";
    "inter.broker.listener.name" String = None, Valid::Any, SOLO, "The listener between brokers.";
    "listener.security.protocol.map" String = Some("PLAINTEXT:PLAINTEXT"), Valid::Any, ON, "The security protocol of each listener.";
    "listeners" String = Some("PLAINTEXT://127.0.0.1:9092"), Valid::Any, ON, "The addresses that the broker listens on.";
    "log.cleaner.delete.retention.ms" Long = Some("86400000"), Valid::AtLeast(0), NO_COMPACTION, "How long deletion marks stay in compacted topics.";
    "log.cleaner.enable" Boolean = Some("true"), Valid::Any, Served::Ignored("compaction is not served yet"), "Whether compacted topics are compacted.";
    "log.cleaner.max.compaction.lag.ms" Long = Some("9223372036854775807"), Valid::AtLeast(1), NO_COMPACTION, "The longest time that a record may stay uncompacted.";
    "log.cleaner.min.cleanable.ratio" Double = Some("0.5"), Valid::Fraction(0.0, 1.0), NO_COMPACTION, "The part of a log that must be uncompacted before it is compacted.";
    "log.cleaner.min.compaction.lag.ms" Long = Some("0"), Valid::AtLeast(0), NO_COMPACTION, "The shortest time that a record stays uncompacted.";
    "log.cleaner.threads" Int = Some("1"), Valid::AtLeast(0), POOLS, "Threads that compact.";
    "log.cleanup.policy" List = Some("delete"), Valid::ListOf(&["compact", "delete"]), NO_COMPACTION, "What becomes of old records.";
    "log.dir" String = None, Valid::Any, ON, "The data directory.";
    "log.dirs" List = None, Valid::Any, ON, "The data directory; more than one is not served yet.";
    "log.flush.interval.messages" Long = Some("1"), Valid::AtLeast(1), ON, "1: records are acknowledged once they are flushed. More: once written, and flushed within this many.";
    "log.flush.interval.ms" Long = None, Valid::AtLeast(0), ON, "The longest time from write to flush where acknowledgements do not wait for it.";
    "log.flush.offset.checkpoint.interval.ms" Int = Some("60000"), Valid::AtLeast(0), COMMITTED, "How often the flushed end is written down.";
    "log.flush.scheduler.interval.ms" Long = Some("9223372036854775807"), Valid::Any, COMMITTED, "How often a thread looks for logs to flush.";
    "log.index.interval.bytes" Int = Some("4096"), Valid::AtLeast(0), ON, "Bytes of log between two entries of the offset index.";
    "log.index.size.max.bytes" Int = Some("10485760"), Valid::AtLeast(4), Served::Ignored("an index is as large as its segment needs"), "The largest size of a segment's index.";
    "log.local.retention.bytes" Long = Some("-2"), Valid::AtLeast(-2), NO_TIERING, "Bytes kept on local disk of a tiered partition.";
    "log.local.retention.ms" Long = Some("-2"), Valid::AtLeast(-2), NO_TIERING, "How long a tiered segment stays on local disk.";
    "log.message.timestamp.after.max.ms" Long = Some("3600000"), Valid::AtLeast(0), ON, "How far a record's timestamp may lie in the future.";
    "log.message.timestamp.before.max.ms" Long = Some("9223372036854775807"), Valid::AtLeast(0), ON, "How far a record's timestamp may lie in the past.";
    "log.message.timestamp.type" String = Some("CreateTime"), Valid::OneOf(&["CreateTime", "LogAppendTime"]), ON, "Whether a record keeps its producer's timestamp.";
    "log.preallocate" Boolean = Some("false"), Valid::Any, Served::Ignored("segment files come from a pool that is written ahead"), "Whether a new segment's file is allocated at once.";
    "log.retention.bytes" Long = Some("-1"), Valid::AtLeast(-1), ON, "Bytes that a partition keeps; -1 does not limit them.";
    "log.retention.check.interval.ms" Long = Some("300000"), Valid::AtLeast(1), Served::Effective, "How often retention is checked.";
    "log.retention.hours" Int = Some("168"), Valid::Any, ON, "How long a segment is kept, in hours; weaker than minutes and milliseconds.";
    "log.retention.minutes" Int = None, Valid::Any, ON, "How long a segment is kept, in minutes; weaker than milliseconds.";
    "log.retention.ms" Long = None, Valid::AtLeast(-1), ON, "How long a segment is kept; -1 keeps it for ever.";
    "log.roll.hours" Int = Some("168"), Valid::AtLeast(1), ON, "The age at which a segment is sealed, in hours; weaker than milliseconds.";
    "log.roll.jitter.hours" Int = Some("0"), Valid::AtLeast(0), NO_JITTER, "The largest random time taken off the age, in hours.";
    "log.roll.jitter.ms" Long = None, Valid::AtLeast(0), NO_JITTER, "The largest random time taken off the age.";
    "log.roll.ms" Long = None, Valid::AtLeast(1), ON, "The age at which a segment is sealed.";
    "log.segment.bytes" Int = Some("1073741824"), Valid::AtLeast(1 << 20), ON, "The size at which a segment is sealed; here at the latest at the size of a segment file.";
    "log.segment.delete.delay.ms" Long = Some("60000"), Valid::AtLeast(0), Served::Ignored("a segment file is reused once no reader holds it"), "How long a dropped segment's file stays.";
    "max.connections" Int = Some("2147483647"), Valid::AtLeast(0), Served::Ignored("connections are bounded by memory and by the open files of the process"), "Connections at one time.";
    "max.incremental.fetch.session.cache.slots" Int = Some("1000"), Valid::AtLeast(0), ON, "Fetch sessions that are remembered.";
    "message.max.bytes" Int = Some("1048588"), Valid::Between(0, BATCH_BYTES_MAX as i64), ON, "The largest record batch, as compressed.";
    "metadata.log.dir" String = None, Valid::Any, OWN_METADATA, "Where the metadata log lies.";
    "min.insync.replicas" Int = Some("1"), Valid::AtLeast(1), Served::Ignored("never more than the replicas that exist are asked for, and there is one"), "Replicas that must hold a record before acks=all is answered.";
    "node.id" Int = Some("1"), Valid::AtLeast(0), ON, "This broker's number.";
    "num.io.threads" Int = Some("8"), Valid::AtLeast(1), POOLS, "Threads that serve requests.";
    "num.network.threads" Int = Some("3"), Valid::AtLeast(1), POOLS, "Threads that read and write sockets.";
    "num.partitions" Int = Some("1"), Valid::AtLeast(1), ON, "Partitions of a topic that does not say how many.";
    "num.recovery.threads.per.data.dir" Int = Some("2"), Valid::AtLeast(1), POOLS, "Threads that recover logs at the start.";
    "num.replica.fetchers" Int = Some("1"), Valid::Any, POOLS, "Threads that fetch from each leader.";
    "offset.metadata.max.bytes" Int = Some("4096"), Valid::AtLeast(0), ON, "The longest text beside a committed offset.";
    "offsets.retention.check.interval.ms" Long = Some("600000"), Valid::AtLeast(1), ON, "How often offsets that have expired are looked for.";
    "offsets.retention.minutes" Int = Some("10080"), Valid::AtLeast(1), ON, "How long offsets outlive their group.";
    "offsets.topic.num.partitions" Int = Some("50"), Valid::AtLeast(1), ON, "Partitions of the offsets topic.";
    "offsets.topic.replication.factor" Short = Some("1"), Valid::AtLeast(1), ONE_BROKER, "Replicas of the offsets topic.";
    "process.roles" List = Some("broker,controller"), Valid::ListOf(&["broker", "controller"]), SOLO, "What this process is.";
    "producer.id.expiration.check.interval.ms" Int = Some("600000"), Valid::AtLeast(1), Served::Ignored("producers expire as they age, not by a scan"), "How often silent producers are looked for.";
    "producer.id.expiration.ms" Int = Some("86400000"), Valid::AtLeast(1), ON, "How long a silent producer's sequence is remembered.";
    "queued.max.requests" Int = Some("500"), Valid::AtLeast(1), POOLS, "Requests that wait for a thread.";
    "remote.log.storage.system.enable" Boolean = Some("false"), Valid::Any, NO_TIERING, "Whether tiered storage is on.";
    "replica.lag.time.max.ms" Long = Some("30000"), Valid::Any, SOLO, "How far behind a replica in sync may be.";
    "sasl.enabled.mechanisms" List = Some("GSSAPI"), Valid::Any, NO_SECURITY, "The SASL mechanisms that clients may use.";
    "security.inter.broker.protocol" String = Some("PLAINTEXT"), Valid::Any, NO_SECURITY, "The security protocol between brokers.";
    "share.coordinator.state.topic.min.isr" Short = Some("2"), Valid::AtLeast(1), NO_SHARES, "In-sync replicas of the share groups' topic.";
    "share.coordinator.state.topic.replication.factor" Short = Some("3"), Valid::AtLeast(1), NO_SHARES, "Replicas of the share groups' topic.";
    "socket.listen.backlog.size" Int = Some("50"), Valid::AtLeast(1), Served::Ignored("the kernel's limit holds"), "Connections that wait to be accepted.";
    "socket.receive.buffer.bytes" Int = Some("102400"), Valid::Any, KERNEL, "The receive buffer of a socket.";
    "socket.request.max.bytes" Int = Some("104857600"), Valid::AtLeast(1), ON, "The largest request.";
    "socket.send.buffer.bytes" Int = Some("102400"), Valid::Any, KERNEL, "The send buffer of a socket.";
    "ssl.keystore.location" String = None, Valid::Any, NO_SECURITY, "The broker's certificate.";
    "ssl.keystore.password" Password = None, Valid::Any, NO_SECURITY, "The password of the certificate's store.";
    "transaction.max.timeout.ms" Int = Some("900000"), Valid::AtLeast(1), NO_TRANSACTIONS, "The longest transaction timeout.";
    "transaction.state.log.min.isr" Int = Some("1"), Valid::AtLeast(1), NO_TRANSACTIONS, "In-sync replicas of the transactions' topic.";
    "transaction.state.log.num.partitions" Int = Some("50"), Valid::AtLeast(1), NO_TRANSACTIONS, "Partitions of the transactions' topic.";
    "transaction.state.log.replication.factor" Short = Some("1"), Valid::AtLeast(1), NO_TRANSACTIONS, "Replicas of the transactions' topic.";
    "transactional.id.expiration.ms" Int = Some("604800000"), Valid::AtLeast(1), NO_TRANSACTIONS, "How long a silent transactional id is remembered.";
    "unclean.leader.election.enable" Boolean = Some("false"), Valid::Any, Served::Ignored("there is one replica, so no replica out of sync could lead"), "Whether a replica that is not in sync may lead.";
}
