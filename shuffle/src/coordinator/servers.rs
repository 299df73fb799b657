//! Servers as their heartbeats describe them.
//!
//! A server is its id: address and ports. One that was not heard for too long is lost, whatever it said last; its own word
//! decides otherwise. Several servers with one address are the cores of one host.

use std::collections::BTreeSet;

use watershed_core::units::Now;

use super::placement::Candidate;

/// `ip-grpcPort` or `ip-grpcPort-nettyPort`, as the server writes it.
pub type ServerId = String;

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerAddress {
    pub id: ServerId,
    pub ip: String,
    pub grpc_port: i32,
    /// 0 if it speaks gRPC only.
    pub netty_port: i32,
}

/// How a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerStatus {
    Active,
    /// It takes no new shuffle, and stays until its data is read or given up.
    Decommissioning,
    Decommissioned,
    /// It was not heard for too long.
    Lost,
    Unhealthy,
    /// An operator forbade it.
    Excluded,
}

/// What a server says of itself every few seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub address: ServerAddress,
    pub used_memory_bytes: i64,
    pub pre_allocated_memory_bytes: i64,
    pub available_memory_bytes: i64,
    pub flush_events_in_flight: i32,
    pub tags: BTreeSet<String>,
    pub is_healthy: bool,
    /// Absent from old servers, which are then active.
    pub status: Option<ServerStatus>,
}

/// A server as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerView<'a> {
    pub heartbeat: &'a Heartbeat,
    pub status: ServerStatus,
    pub heard_us: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) heartbeat: Heartbeat,
    pub(super) heard_us: u64,
    /// Ranges given to it lately: half of them are taken for seen in its figures at each heartbeat.
    pub(super) assigned: u64,
}

impl Server {
    pub(super) fn is_silent_for(&self, us: u64, now: Now) -> bool {
        now.monotonic_us.saturating_sub(self.heard_us) > us
    }

    pub(super) fn status(&self, lost_us: u64, now: Now) -> ServerStatus {
        if self.is_silent_for(lost_us, now) {
            return ServerStatus::Lost;
        }
        match self.heartbeat.status {
            None | Some(ServerStatus::Active) if !self.heartbeat.is_healthy => ServerStatus::Unhealthy,
            said => said.unwrap_or(ServerStatus::Active),
        }
    }

    pub(super) fn is_active(&self, lost_us: u64, now: Now) -> bool {
        self.status(lost_us, now) == ServerStatus::Active
    }

    /// It takes nothing now, but has not said farewell.
    pub(super) fn may_return(&self, lost_us: u64, now: Now) -> bool {
        matches!(self.status(lost_us, now), ServerStatus::Lost | ServerStatus::Unhealthy)
    }

    pub(super) fn has_tags(&self, tags: &BTreeSet<String>) -> bool {
        tags.is_subset(&self.heartbeat.tags)
    }

    pub(super) fn view(&self, lost_us: u64, now: Now) -> ServerView<'_> {
        ServerView { heartbeat: &self.heartbeat, status: self.status(lost_us, now), heard_us: self.heard_us }
    }

    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate {
            address: &self.heartbeat.address,
            available_bytes: u64::try_from(self.heartbeat.available_memory_bytes).unwrap_or(0),
            assigned: self.assigned,
        }
    }
}
