//! One partition on its owner: its log's offsets and places, watermarks, leader epochs, segments and producers.
//!
//! A machine: it moves numbers, never bytes. It must not know the journal, the files or the memory that hold the bytes: it
//! says where they go and what to read. `log` is the entry; the other modules each keep one part of its state.

pub mod epochs;
pub mod image;
pub mod index;
pub mod log;
pub mod producers;
pub mod read_plan;
pub mod replay;
pub mod retention;
pub mod segments;
pub mod settings;
pub mod walk;
pub mod watermarks;

pub use log::{Appended, LogStart, Padding, Partition, Rolled, Sealed};
pub use producers::{ActiveProducer, Verdict};
pub use read_plan::{Extent, IndexScan, Planned, ReadLimit, ReadPlan, ScanPlan, TimestampPlan};
pub use replay::{Change, Misfit};
pub use retention::ClockGuard;
pub use settings::{LogSettings, TimestampType};
