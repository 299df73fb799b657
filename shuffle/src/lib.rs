//! The shuffle: Apache Uniffle's server and coordinator on Watershed's engine.

pub mod coordinator;
pub mod metrics;
pub mod store;
pub mod wire;

#[cfg(feature = "server")]
mod admin;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
mod grpc;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
pub mod service;
#[cfg(feature = "server")]
pub mod settings;

/// What a shuffle service is called.
#[cfg(feature = "server")]
pub const SERVICE: watershed_daemon::Service = watershed_daemon::Service {
    noun: "shuffle",
    program: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    mark: "watershed-shuffle",
    own_file_prefix: None,
};
