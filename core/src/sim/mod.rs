//! The deterministic simulator: another driver of the same machines, with a disk that may lose what was not flushed.

pub mod disk;
pub mod random;

/// A fault planted in the store, to prove that the simulator finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Watermarks move before the journal is durable.
    EarlyWatermark,
}
