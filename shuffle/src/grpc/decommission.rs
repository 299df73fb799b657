//! `rss.common.ShuffleServerInternal`: an operator takes a shard out of service, or back into it.
//!
//! A shard that leaves gets no new shuffle and serves what it has. It never ends by itself: whoever sees that nobody is left
//! stops the process. Invariant: the coordinator of this process knows before the call is answered.

use tonic::{Request, Response, Status};

use super::coordinator::{CoordinatorService, ServerPorts};
use super::shard_handle::ShardHandle;
use crate::wire::proto::shuffle_server_internal_server::ShuffleServerInternal;
use crate::wire::proto::*;

pub(super) struct DecommissionService {
    pub(super) coordinator: CoordinatorService,
    pub(super) told: ServerPorts,
    pub(super) shard: ShardHandle,
}

impl DecommissionService {
    /// Asking twice changes nothing.
    async fn set(&self, is_leaving: bool) -> Result<(), Status> {
        self.shard.call(move |shard| async move { shard.is_leaving.set(is_leaving) }).await?;
        self.coordinator.hear_shard(&self.told, &self.shard).await;
        tracing::info!(port = self.told.grpc, is_leaving, "a shard was told whether to leave");
        Ok(())
    }
}

#[tonic::async_trait]
impl ShuffleServerInternal for DecommissionService {
    async fn decommission(&self, _: Request<DecommissionRequest>) -> Result<Response<DecommissionResponse>, Status> {
        self.set(true).await?;
        Ok(Response::new(DecommissionResponse::default()))
    }

    async fn cancel_decommission(
        &self,
        _: Request<CancelDecommissionRequest>,
    ) -> Result<Response<CancelDecommissionResponse>, Status> {
        self.set(false).await?;
        Ok(Response::new(CancelDecommissionResponse::default()))
    }
}
