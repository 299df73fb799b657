//! The broker: Kafka's wire protocol, coordinators and catalog on Watershed's engine.
pub mod wire;
