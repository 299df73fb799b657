//! Uniffle's coordinator as one machine: which servers there are, which applications, and who gets which partitions.
//!
//! Nothing here is durable: servers and applications tell it again every few seconds. It never says "no servers" while one may
//! still come: a client that hears so waits for more than a minute. Every partition of an assignment is covered exactly as
//! often as replicas were asked for, each time on another host. Times are the monotonic ones of [`Now`].

mod applications;
mod placement;
mod servers;

use std::collections::{BTreeMap, BTreeSet};

use watershed_core::units::Now;

pub use applications::{Application, Registration};
pub use placement::{Assignment, RangeAssignment};
pub use servers::{Heartbeat, ServerAddress, ServerId, ServerStatus, ServerView};

use applications::Applications;
use placement::{Candidate, Wish};
use servers::Server;

/// More partitions than any client's block ids can name by default; an assignment lists them all.
pub const PARTITION_COUNT_MAX: i32 = 1 << 20;

/// What a coordinator is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// A server that was not heard for longer is lost.
    pub server_lost_us: u64,
    /// A lost server is forgotten after this time.
    pub server_forgotten_us: u64,
    /// An application that was not heard for longer is gone.
    pub application_expiry_us: u64,
    /// How long after the start servers may still be on their way.
    pub start_us: u64,
    /// How long one assignment may wait for a server.
    pub assignment_wait_us: u64,
    /// How many servers one shuffle is spread over, unless its client asks for another number.
    pub servers_per_shuffle_max: usize,
    /// What clients are told to set, by key.
    pub client_conf: BTreeMap<String, String>,
}

impl Default for CoordinatorConfig {
    fn default() -> CoordinatorConfig {
        CoordinatorConfig {
            server_lost_us: 30_000_000,
            server_forgotten_us: 600_000_000,
            application_expiry_us: 120_000_000,
            start_us: 30_000_000,
            assignment_wait_us: 60_000_000,
            servers_per_shuffle_max: 32,
            client_conf: BTreeMap::new(),
        }
    }
}

/// What a client asks of an assignment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignmentRequest {
    pub application_id: String,
    pub shuffle_id: i32,
    pub partition_count: i32,
    pub partitions_per_range: i32,
    pub replica_count: i32,
    /// A server must have all of these.
    pub required_tags: BTreeSet<String>,
    /// At most so many servers; `None` leaves it to the coordinator.
    pub server_count: Option<usize>,
    pub faulty_server_ids: BTreeSet<ServerId>,
    /// When the request came: a driver asks again for a parked one, and its patience counts from here.
    pub asked_us: u64,
}

/// What becomes of a request for an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assigned {
    Ready(Assignment),
    /// Ask again when a server has come, and at this time at the latest.
    Wait {
        until_us: u64,
    },
}

/// Why there is no assignment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    #[error("{0} partitions cannot be assigned")]
    BadPartitionCount(i32),
    #[error("{0} replicas cannot be assigned")]
    BadReplicaCount(i32),
    #[error("no server can take the shuffle: {known} known, {serving} of them active, none with all the tags {tags:?}")]
    NoServers { known: usize, serving: usize, tags: Vec<String> },
    #[error("{replicas} replicas need as many hosts, and only {hosts} can take the shuffle")]
    TooFewHosts { replicas: usize, hosts: usize },
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Coordinator {
    config: CoordinatorConfig,
    started_us: u64,
    servers: BTreeMap<ServerId, Server>,
    applications: Applications,
}

impl Coordinator {
    pub fn new(config: CoordinatorConfig, now: Now) -> Coordinator {
        let applications = Applications::new(config.application_expiry_us);
        Coordinator { config, started_us: now.monotonic_us, servers: BTreeMap::new(), applications }
    }

    /// A server reports. Says whether it can take shuffles now and could not before: parked requests are worth asking again.
    pub fn heartbeat(&mut self, heartbeat: Heartbeat, now: Now) -> bool {
        let lost_us = self.config.server_lost_us;
        let id = heartbeat.address.id.clone();
        let was_active = self.servers.get(&id).is_some_and(|server| server.is_active(lost_us, now));
        let assigned = self.servers.get(&id).map_or(0, |server| server.assigned / 2);
        let server = Server { heartbeat, heard_us: now.monotonic_us, assigned };
        let is_active = server.is_active(lost_us, now);
        self.servers.insert(id, server);
        is_active && !was_active
    }

    /// All servers that are not forgotten, by id.
    pub fn servers(&self, now: Now) -> impl Iterator<Item = ServerView<'_>> {
        self.servers.values().map(move |server| server.view(self.config.server_lost_us, now))
    }

    /// An application says who it is.
    pub fn register_application(&mut self, id: &str, registration: Registration, now: Now) {
        self.applications.register(id, registration, now);
    }

    /// An application is alive.
    pub fn application_heartbeat(&mut self, id: &str, now: Now) {
        self.applications.touch(id, now);
    }

    pub fn application(&self, id: &str) -> Option<&Application> {
        self.applications.get(id)
    }

    pub fn applications(&self) -> impl Iterator<Item = (&str, &Application)> {
        self.applications.iter()
    }

    /// What clients are told to set.
    pub fn client_conf(&self) -> impl Iterator<Item = (&str, &str)> {
        self.config.client_conf.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Forgets who was not heard for too long, and names the applications among them.
    pub fn expire(&mut self, now: Now) -> Vec<String> {
        let forgotten_us = self.config.server_forgotten_us;
        self.servers.retain(|_, server| !server.is_silent_for(forgotten_us, now));
        self.applications.expire(now)
    }

    /// Spreads the partitions of a shuffle over the servers that can take them.
    pub fn assign(&mut self, request: &AssignmentRequest, now: Now) -> Result<Assigned, AssignmentError> {
        let wish = self.wish(request)?;
        self.applications.touch(&request.application_id, now);
        let candidates = self.candidates(request, now);
        match placement::place(&wish, &candidates) {
            Some(placed) => Ok(Assigned::Ready(self.take(placed))),
            None => self.shortage(request, wish.replica_count, now),
        }
    }

    fn wish(&self, request: &AssignmentRequest) -> Result<Wish, AssignmentError> {
        let partition_count = request.partition_count;
        if !(1..=PARTITION_COUNT_MAX).contains(&partition_count) {
            return Err(AssignmentError::BadPartitionCount(partition_count));
        }
        let replica_count = match request.replica_count {
            // The wire's default, which can only mean one.
            0 => 1,
            count => usize::try_from(count).map_err(|_| AssignmentError::BadReplicaCount(count))?,
        };
        Ok(Wish {
            partition_count,
            partitions_per_range: request.partitions_per_range.clamp(1, PARTITION_COUNT_MAX),
            replica_count,
            server_count_max: request.server_count.unwrap_or(self.config.servers_per_shuffle_max).max(1),
        })
    }

    fn candidates(&self, request: &AssignmentRequest, now: Now) -> Vec<Candidate<'_>> {
        let lost_us = self.config.server_lost_us;
        let able = self.servers.values().filter(|server| {
            server.is_active(lost_us, now)
                && server.has_tags(&request.required_tags)
                && !request.faulty_server_ids.contains(&server.heartbeat.address.id)
        });
        able.map(Server::candidate).collect()
    }

    /// Counts what was given away, until the servers' own figures show it.
    fn take(&mut self, assignment: Assignment) -> Assignment {
        for range in &assignment.ranges {
            for address in range.servers.iter().filter_map(|&place| assignment.servers.get(place)) {
                if let Some(server) = self.servers.get_mut(&address.id) {
                    server.assigned += 1;
                }
            }
        }
        assignment
    }

    /// There are too few servers: more may come, or the answer is final.
    fn shortage(&self, request: &AssignmentRequest, replicas: usize, now: Now) -> Result<Assigned, AssignmentError> {
        let patience_us = request.asked_us.saturating_add(self.config.assignment_wait_us);
        let until_us = match self.is_away(request, now) {
            true => patience_us,
            false => patience_us.min(self.started_us.saturating_add(self.config.start_us)),
        };
        if now.monotonic_us < until_us {
            return Ok(Assigned::Wait { until_us });
        }
        let hosts =
            self.candidates(request, now).iter().map(|server| server.address.ip.clone()).collect::<BTreeSet<_>>();
        if !hosts.is_empty() {
            return Err(AssignmentError::TooFewHosts { replicas, hosts: hosts.len() });
        }
        let lost_us = self.config.server_lost_us;
        Err(AssignmentError::NoServers {
            known: self.servers.len(),
            serving: self.servers.values().filter(|server| server.is_active(lost_us, now)).count(),
            tags: request.required_tags.iter().cloned().collect(),
        })
    }

    /// Whether a server that would do was here and may return.
    fn is_away(&self, request: &AssignmentRequest, now: Now) -> bool {
        let lost_us = self.config.server_lost_us;
        self.servers.values().any(|server| server.may_return(lost_us, now) && server.has_tags(&request.required_tags))
    }
}
