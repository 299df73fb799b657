//! The deterministic simulator: another driver of the same machines, with a disk that may lose what was not flushed.
//!
//! One seed is one history: workload, order of completions, faults and crashes. [`run`] plays it and says what broke.

pub mod disk;
pub mod faults;
mod memory;
pub mod model;
pub mod random;
pub mod record;
mod workload;
mod world;

pub use crate::store::planted::Bug;
pub use faults::{Counts, Mode};
pub use workload::{Outline, Violation, run};
