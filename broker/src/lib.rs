//! The broker: Kafka's wire protocol, coordinators and catalog on Watershed's engine.
pub mod metrics;
pub mod wire;

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod lifecycle;
#[cfg(feature = "server")]
pub mod settings;
