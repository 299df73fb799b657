//! Client quotas as a machine (KIP-13, KIP-124, KIP-219, KIP-599): whose quota a request counts against, how much was used,
//! and how long its client has to wait.
//!
//! Two parts. [`QuotaTable`], on every shard, is what the catalog says; it tells which quota holds for a client and under
//! which [`MeterKey`] its use is counted. [`Meters`] count, for each key on one shard only: a client's connections lie on
//! many shards, and shares of a quota for each would hold back a client with few connections, while usage that is
//! exchanged later would let one with many through. So a request of a client that has a quota charges the key's shard by
//! one call before its answer leaves; without quotas nothing is called and nothing is counted.
//! Nothing here reads a clock; a charge is never refused for use that is older than the window.

mod meter;
mod table;

pub use meter::{Charge, Meters, Verdict};
pub use table::{ANONYMOUS, Limit, MeterKey, Quantity, QuotaTable};

/// Samples in the window of a rate, as Kafka's `quota.window.num`.
pub const SAMPLES_COUNT: u64 = 11;
/// The length of one, as Kafka's `quota.window.size.seconds`.
pub const SAMPLE_US: u64 = 1_000_000;
