//! The catalog: which topics, partitions, configurations, brokers and producer id blocks exist.
//!
//! Kafka's metadata records are its only input: [`Catalog::replay`] is the one way in which it changes, at the controller,
//! on every shard and at recovery. The solo [`Controller`] turns a request into records and a reply; whoever drives it
//! writes the records, waits until they are durable and applied on every shard, and only then sends the reply.
//! Nothing here reads a clock, a file, a socket or a random source.

mod alter;
mod controller;
mod create;
mod delete;
mod image;
mod names;
mod partitions;
mod quotas;
mod rebuild;
mod record;
mod rejection;

pub use alter::{AlterOp, AlterResource, Altered};
pub use controller::{Controller, Format, RegisterBroker, Reply, Request};
#[cfg(feature = "server")]
pub(crate) use create::check_brokers;
pub use create::{Assignment, Created, CreatedTopic, NewTopic, TopicCreation};
pub use delete::{DeletedTopic, TopicRef};
pub use image::{Catalog, Change, ClientQuota, Partition, ReplayError, Resource, Topic};
#[cfg(feature = "server")]
pub(crate) use names::check as check_topic_name;
pub use names::is_internal;
pub use partitions::{GrownTopic, NewPartitions};
pub use quotas::{
    AlterQuota, AlteredQuota, CLIENT_ID, CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, PRODUCER_BYTE_RATE, QuotaEntity,
    QuotaFilter, QuotaMatch, REQUEST_PERCENTAGE, USER,
};
pub use rebuild::{Rebuild, Rebuilt};
pub use record::*;
pub use rejection::Rejection;

/// Ids in a block that the controller hands out.
pub const PRODUCER_ID_BLOCK_COUNT: i64 = 1000;
/// `metadata.version` of a directory formatted by this version: Kafka's 4.2-IV1
pub const METADATA_VERSION: i16 = 29;
/// The feature whose level is `metadata.version`.
pub const METADATA_VERSION_FEATURE: &str = "metadata.version";
/// Partitions that one request may create, as in Kafka.
pub const REQUEST_PARTITIONS_MAX: usize = 10_000;
