//! A small blocking client of any Kafka: what the command line's `topic`, `group`, `produce`, `consume` and `config` are made of.
//!
//! Speaks the broker's own wire messages over plain sockets, in the highest version that both sides know. Finds leaders and
//! coordinators, and tries again what Kafka calls retriable until its time is over. Every error names what was asked, of
//! whom, and what to do. No thread, no state that outlives the process; it never prints.

mod admin;
mod assignment;
mod cluster;
mod connection;
mod error;
mod fetch;
mod groups;
mod member;
mod murmur;
mod produce;

pub use admin::{ConfigChange, ConfigEntry, NewTopic, PartitionInfo, Resource, TopicInfo};
pub use cluster::Cluster;
pub use connection::Connection;
pub use error::ClientError;
pub use fetch::{Consumed, Consumer, Headers};
pub use groups::{Committed, GroupInfo, GroupMember, ListedGroup};
pub use member::Member;
pub use produce::{Outgoing, Producer, ProducerOptions};

/// The result of whatever is asked of a cluster.
pub type Result<T> = std::result::Result<T, ClientError>;

/// A partition by its topic's name.
pub type Place = (String, i32);
