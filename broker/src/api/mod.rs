//! The handlers: one file per API key, each opening with its versions, its behaviour and what is left out.
//!
//! A handler gets a decoded request and gives a response. It reads this shard's catalog, asks owners by calls, and hands
//! changes of the catalog to the metadata host; it never touches a socket.

pub(crate) mod api_versions;
mod auto_create;
mod controller;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_topic_partitions;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_for_leader_epoch;
mod operations;
pub(crate) mod produce;
mod scatter;
mod topic_name;
