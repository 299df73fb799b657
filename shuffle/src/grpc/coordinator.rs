//! `rss.common.CoordinatorServer`: which server takes which partitions, and what clients are told to set.
//!
//! Owns the driver of the coordinator's machine: its clock, the requests that wait for a server, and the heartbeats of this
//! process's own shards, which need no wire. Answers of a server's errors are statuses, so that a client says them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tonic::{Request, Response, Status};
use watershed_core::units::Now;
use watershed_daemon::lifecycle::Readiness;

use super::shard_handle::ShardHandle;
use crate::coordinator::{
    Assigned, Assignment, AssignmentError, AssignmentRequest, Coordinator, CoordinatorConfig, Heartbeat, Registration,
    ServerAddress, ServerStatus as Health,
};
use crate::wire::proto::coordinator_server_server::CoordinatorServer;
use crate::wire::proto::*;

const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// What this version serves: both transports, and the tag of every client since 0.9.
const TAGS: [&str; 3] = ["ss_v5", "GRPC", "GRPC_NETTY"];
/// What clients are told to set, so that a user need not. A client puts `spark.` before it.
const CLIENT_CONF: [(&str, &str); 1] = [("rss.storage.type", "MEMORY_LOCALFILE")];

/// Where a shard is reached.
#[derive(Clone, Debug)]
pub(crate) struct ServerPorts {
    pub(crate) ip: String,
    pub(crate) grpc: u16,
    pub(crate) netty: u16,
}

impl ServerPorts {
    fn address(&self) -> ServerAddress {
        ServerAddress {
            id: format!("{}-{}-{}", self.ip, self.grpc, self.netty),
            ip: self.ip.clone(),
            grpc_port: self.grpc.into(),
            netty_port: self.netty.into(),
        }
    }
}

/// The coordinator of this process. Clones share it.
#[derive(Clone)]
pub(crate) struct CoordinatorService(Arc<Inner>);

struct Inner {
    machine: Mutex<Coordinator>,
    started: Instant,
    /// A server can take shuffles that could not before.
    came: Notify,
    readiness: Readiness,
}

impl CoordinatorService {
    pub(crate) fn new(readiness: Readiness) -> CoordinatorService {
        let client_conf = CLIENT_CONF.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let config = CoordinatorConfig { client_conf, ..CoordinatorConfig::default() };
        let machine = Mutex::new(Coordinator::new(config, Now::default()));
        CoordinatorService(Arc::new(Inner { machine, started: Instant::now(), came: Notify::new(), readiness }))
    }

    fn machine(&self) -> MutexGuard<'_, Coordinator> {
        self.0.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only the monotonic half: no machine of this service looks at the wall.
    fn now(&self) -> Now {
        let elapsed = self.0.started.elapsed().as_micros();
        Now { monotonic_us: u64::try_from(elapsed).unwrap_or(u64::MAX), wall_ms: 0 }
    }

    fn hear(&self, heartbeat: Heartbeat) {
        if self.machine().heartbeat(heartbeat, self.now()) {
            self.0.came.notify_waiters();
        }
    }

    /// Reports one of this process's shards; nothing if it has ended.
    pub(super) async fn hear_shard(&self, ports: &ServerPorts, shard: &ShardHandle) {
        let state = shard.call(|shard| async move { (shard.state(), shard.status()) }).await;
        let Ok(((usage, is_healthy), status)) = state else { return };
        self.show(ports, status);
        self.hear(Heartbeat {
            address: ports.address(),
            used_memory_bytes: usage.chunk_bytes.cast_signed(),
            pre_allocated_memory_bytes: usage.promised_bytes.cast_signed(),
            available_memory_bytes: usage.free_bytes().cast_signed(),
            flush_events_in_flight: 0,
            tags: TAGS.map(str::to_owned).into(),
            is_healthy,
            status: Some(status),
        });
    }

    /// A shard that leaves is a reason not to be ready.
    fn show(&self, ports: &ServerPorts, status: Health) {
        for (leaving, word) in
            [(Health::Decommissioning, "decommissioning"), (Health::Decommissioned, "decommissioned")]
        {
            let reason = format!("{word} (port {})", ports.grpc);
            match status == leaving {
                true => self.0.readiness.block(&reason),
                false => self.0.readiness.clear(&reason),
            }
        }
    }

    /// Reports this process's shards, for ever.
    pub(super) async fn hear_own(self, shards: Vec<(ServerPorts, ShardHandle)>) {
        loop {
            for (ports, shard) in &shards {
                self.hear_shard(ports, shard).await;
            }
            let gone = self.machine().expire(self.now());
            for application in gone {
                tracing::debug!(application, "no sign of life: the coordinator has forgotten it");
            }
            tokio::time::sleep(HEARTBEAT_EVERY).await;
        }
    }

    /// An assignment, as soon as there is a server for it.
    async fn assign(&self, request: &AssignmentRequest) -> Result<Assignment, AssignmentError> {
        loop {
            let came = self.0.came.notified();
            let assigned = self.machine().assign(request, self.now())?;
            let until_us = match assigned {
                Assigned::Ready(assignment) => return Ok(assignment),
                Assigned::Wait { until_us } => until_us,
            };
            let wait = Duration::from_micros(until_us.saturating_sub(self.now().monotonic_us));
            // Late or not, the machine says what is next.
            let _ = tokio::time::timeout(wait, came).await;
        }
    }
}

fn wire_id(address: &ServerAddress) -> ShuffleServerId {
    ShuffleServerId {
        id: address.id.clone(),
        ip: address.ip.clone(),
        port: address.grpc_port,
        netty_port: address.netty_port,
        jetty_port: 0,
    }
}

fn wire_ranges(assignment: &Assignment) -> Vec<PartitionRangeAssignment> {
    let range = |range: &crate::coordinator::RangeAssignment| PartitionRangeAssignment {
        start_partition: range.start,
        end_partition: range.end,
        server: range.servers.iter().filter_map(|place| assignment.servers.get(*place)).map(wire_id).collect(),
    };
    assignment.ranges.iter().map(range).collect()
}

fn health_of(status: ServerStatus) -> Health {
    match status {
        ServerStatus::Active => Health::Active,
        ServerStatus::Decommissioning => Health::Decommissioning,
        ServerStatus::Decommissioned => Health::Decommissioned,
        ServerStatus::Lost => Health::Lost,
        ServerStatus::Unhealthy => Health::Unhealthy,
        ServerStatus::Excluded => Health::Excluded,
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl CoordinatorServer for CoordinatorService {
    async fn get_shuffle_assignments(
        &self,
        request: Request<GetShuffleServerRequest>,
    ) -> Reply<GetShuffleAssignmentsResponse> {
        let asked = request.into_inner();
        let wanted = AssignmentRequest {
            application_id: asked.application_id,
            shuffle_id: asked.shuffle_id,
            partition_count: asked.partition_num,
            partitions_per_range: asked.partition_num_per_range,
            replica_count: asked.data_replica,
            required_tags: asked.require_tags.into_iter().collect(),
            server_count: usize::try_from(asked.assignment_shuffle_server_number).ok().filter(|count| *count > 0),
            faulty_server_ids: asked.faulty_server_ids.into_iter().collect(),
            asked_us: self.now().monotonic_us,
        };
        Ok(Response::new(match self.assign(&wanted).await {
            Ok(assignment) => GetShuffleAssignmentsResponse {
                assignments: wire_ranges(&assignment),
                ..GetShuffleAssignmentsResponse::default()
            },
            Err(error) => {
                tracing::warn!(application = wanted.application_id, shuffle = wanted.shuffle_id, "{error}");
                let status = StatusCode::InternalError.code();
                GetShuffleAssignmentsResponse { status, ret_msg: error.to_string(), assignments: Vec::new() }
            }
        }))
    }

    async fn register_application_info(
        &self,
        request: Request<ApplicationInfoRequest>,
    ) -> Reply<ApplicationInfoResponse> {
        let told = request.into_inner();
        let registration = Registration { user: told.user, version: told.version, git_commit_id: told.git_commit_id };
        self.machine().register_application(&told.app_id, registration, self.now());
        Ok(Response::new(ApplicationInfoResponse::default()))
    }

    async fn app_heartbeat(&self, request: Request<AppHeartBeatRequest>) -> Reply<AppHeartBeatResponse> {
        self.machine().application_heartbeat(&request.into_inner().app_id, self.now());
        Ok(Response::new(AppHeartBeatResponse::default()))
    }

    async fn fetch_client_conf(&self, _: Request<()>) -> Reply<FetchClientConfResponse> {
        let item = |(key, value): (&str, &str)| ClientConfItem { key: key.to_owned(), value: value.to_owned() };
        let client_conf = self.machine().client_conf().map(item).collect();
        Ok(Response::new(FetchClientConfResponse { client_conf, ..FetchClientConfResponse::default() }))
    }

    async fn fetch_client_conf_v2(&self, _: Request<FetchClientConfRequest>) -> Reply<FetchClientConfResponse> {
        self.fetch_client_conf(Request::new(())).await
    }

    /// Asked only for storage that is not ours.
    async fn fetch_remote_storage(&self, _: Request<FetchRemoteStorageRequest>) -> Reply<FetchRemoteStorageResponse> {
        Ok(Response::new(FetchRemoteStorageResponse::default()))
    }

    /// Everybody may use the cluster.
    async fn access_cluster(&self, _: Request<AccessClusterRequest>) -> Reply<AccessClusterResponse> {
        Ok(Response::new(AccessClusterResponse::default()))
    }

    async fn heartbeat(
        &self,
        request: Request<ShuffleServerHeartBeatRequest>,
    ) -> Reply<ShuffleServerHeartBeatResponse> {
        let told = request.into_inner();
        let status = told.status.map(|_| health_of(told.status()));
        let id = told.server_id.ok_or_else(|| Status::invalid_argument("a heartbeat names its server"))?;
        let address = ServerAddress { id: id.id, ip: id.ip, grpc_port: id.port, netty_port: id.netty_port };
        self.hear(Heartbeat {
            address,
            used_memory_bytes: told.used_memory,
            pre_allocated_memory_bytes: told.pre_allocated_memory,
            available_memory_bytes: told.available_memory,
            flush_events_in_flight: told.event_num_in_flush,
            tags: told.tags.into_iter().collect(),
            is_healthy: told.is_healthy.unwrap_or(true),
            status,
        });
        Ok(Response::new(ShuffleServerHeartBeatResponse::default()))
    }

    async fn get_shuffle_server_list(&self, _: Request<()>) -> Reply<GetShuffleServerListResponse> {
        let now = self.now();
        let servers = self.machine().servers(now).map(|server| wire_id(&server.heartbeat.address)).collect();
        Ok(Response::new(GetShuffleServerListResponse { servers }))
    }

    async fn get_shuffle_server_num(&self, _: Request<()>) -> Reply<GetShuffleServerNumResponse> {
        let now = self.now();
        let num = i32::try_from(self.machine().servers(now).count()).unwrap_or(i32::MAX);
        Ok(Response::new(GetShuffleServerNumResponse { num }))
    }

    async fn check_service_available(&self, _: Request<()>) -> Reply<CheckServiceAvailableResponse> {
        let now = self.now();
        let available = self.machine().servers(now).any(|server| matches!(server.status, Health::Active));
        Ok(Response::new(CheckServiceAvailableResponse { status: StatusCode::Success.code(), available }))
    }

    /// Nothing lies in storage of others.
    async fn get_shuffle_data_storage_info(&self, _: Request<()>) -> Reply<GetShuffleDataStorageInfoResponse> {
        Ok(Response::new(GetShuffleDataStorageInfoResponse::default()))
    }

    async fn report_client_operation(
        &self,
        _: Request<ReportShuffleClientOpRequest>,
    ) -> Reply<ReportShuffleClientOpResponse> {
        Ok(Response::new(ReportShuffleClientOpResponse::default()))
    }
}
