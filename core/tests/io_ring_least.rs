//! The suite on our own host, with a ring stepped down as on the oldest kernels: no deferred task work.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "io_suite/executor.rs"]
mod executor;
#[path = "io_suite/file.rs"]
mod file;
#[path = "io_suite/mesh.rs"]
mod mesh;
#[path = "io_suite/socket.rs"]
mod socket;

/// What the suite runs on.
mod setup {
    use watershed_core::io::executor::ExecutorConfig;
    use watershed_core::io::host::Host;
    use watershed_core::io::ring::RingSetup;
    use watershed_core::io::shards::{Placement, ShardsConfig};

    pub(crate) const HOST: Host = Host::Ring;
    pub(crate) const RING: RingSetup = RingSetup::LEAST;

    pub(crate) fn config() -> ExecutorConfig {
        ExecutorConfig { ring_setup: RING, ..ExecutorConfig::default() }
    }

    pub(crate) fn shards(placement: Placement) -> ShardsConfig {
        ShardsConfig { placement, host: HOST, ring_setup: RING }
    }
}
