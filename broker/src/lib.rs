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
pub mod cpu_lock;
#[cfg(feature = "server")]
pub mod directory_lock;
#[cfg(feature = "server")]
pub mod lifecycle;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod service_manager;
#[cfg(feature = "server")]
pub mod settings;

#[cfg(feature = "server")]
pub use broker::Broker;
