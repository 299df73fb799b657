//! The shuffle: Apache Uniffle's server and coordinator on Watershed's engine.

pub mod coordinator;
pub mod wire;
