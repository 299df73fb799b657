//! The deterministic simulator: another driver of the same machines, with a disk that may lose what was not flushed.

pub mod disk;
pub mod random;
