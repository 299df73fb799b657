//! The broker: Kafka's wire protocol, coordinators and catalog on Watershed's engine.
pub mod catalog;
pub mod configs;
pub mod fetch_sessions;
pub mod groups;
pub mod metrics;
pub mod producer_ids;
pub mod quotas;
pub mod wire;

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
mod api;
#[cfg(feature = "server")]
pub mod broker;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod client;
#[cfg(feature = "server")]
pub mod lifecycle;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod settings;

#[cfg(feature = "server")]
pub use broker::Broker;

/// The broker in the words of what surrounds it.
#[cfg(feature = "server")]
pub const SERVICE: watershed_daemon::Service = watershed_daemon::Service {
    noun: "broker",
    program: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    mark: "watershed",
    own_file_prefix: Some("superblock"),
};
