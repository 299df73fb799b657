//! Kafka's wire protocol: bytes to values and back, nothing else.
//!
//! Owns every layout and the table of what is served ([`apis`]). It never reads a socket, allocates by an unchecked number
//! or panics on a client's bytes. Hot messages ([`produce`], [`fetch`]) are written by hand over the receive buffer; all
//! others are generated from the tables in `schema` into [`generated`].

pub mod apis;
pub mod error_code;
pub mod fetch;
pub mod generated;
pub mod header;
pub mod message;
pub mod produce;
pub mod reader;
pub mod records;
pub mod topic_ref;
pub mod writer;
