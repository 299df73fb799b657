//! Watershed's storage engine: one pinned core owns its partitions, its journal, its memory and its connections.
//!
//! Everything outside `io` is a *machine*: a plain struct whose methods take inputs and the time, change state
//! synchronously and return effects as data. A machine never sees a file, a socket, a clock, a random source or a future.
//! Modules may import those listed before them, never those after:
//! `units limits error checksum spelling batch` → machines → `io`.

pub mod batch;
pub mod budget;
pub mod checkpoint;
pub mod checksum;
pub mod error;
pub mod inspect;
pub mod journal;
mod le;
pub mod limits;
pub mod owners;
pub mod partition;
pub mod paths;
pub mod pipeline;
pub mod read_ahead;
pub mod records;
pub mod spelling;
pub mod superblock;
pub mod tail_cache;
pub mod units;

#[cfg(feature = "io")]
pub mod io;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod store;
