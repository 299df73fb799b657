//! Record sets: what a client may send, what is inside a batch, and how to build one.
//!
//! [`check`] judges a client's record set by its header and checksum alone; [`Payload`] opens a batch and walks its records,
//! with a limit on what it may unpack to; [`recompress`] packs it anew; [`BatchBuilder`] writes batches. Bytes in the log are never
//! changed here.

mod builder;
mod check;
mod compression;
mod recompress;
mod walk;

pub use builder::{BatchBuilder, ControlKind};
pub use check::{BatchRefusal, check};
pub use compression::{Codec, Packing};
pub use recompress::recompress;
pub use walk::{Payload, Record, RecordHeader, RecordsError};

/// What a batch may unpack to while the broker looks inside.
pub const UNPACKED_BYTES_MAX: usize = 128 << 20;
