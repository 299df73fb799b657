//! The control thread: gRPC for clients, one port per shard, the coordinator on the first.
//!
//! Owns the thread and its listeners. Control and data calls share a client's connection, so a shard's gRPC port serves
//! both: what a call asks of a shard is done there, and whole buffers cross between the threads, lent or moved, never copied
//! for the crossing.

mod coordinator;
mod decommission;
mod shard_handle;
mod shuffle_server;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use watershed_daemon::lifecycle::Readiness;

use crate::wire::proto::coordinator_server_server::CoordinatorServerServer;
use crate::wire::proto::shuffle_server_internal_server::ShuffleServerInternalServer;
use crate::wire::proto::shuffle_server_server::ShuffleServerServer;

pub(crate) use coordinator::{CoordinatorService, ServerPorts};
use decommission::DecommissionService;
pub(crate) use shard_handle::{Job, ShardHandle};
use shuffle_server::ShuffleService;

/// A send group has 16 MB by default, and its messages some more.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// How much a client may send before it is told that there is room: a whole send group.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
const FRAME_BYTES: u32 = 1 << 20;

/// A shard's port, bound.
pub(crate) struct Port {
    pub(crate) listener: TcpListener,
    pub(crate) shard: ShardHandle,
    /// What clients are told.
    pub(crate) told: ServerPorts,
}

/// The thread; dropped, it ends.
pub(crate) struct ControlThread {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Binds a port without serving it yet.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl ControlThread {
    /// Serves all ports; the first also the coordinator. Shards that leave are reasons in `readiness`.
    pub(crate) fn start(ports: Vec<Port>, readiness: Readiness) -> io::Result<ControlThread> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let body = move || {
            runtime.block_on(async move {
                let coordinator = CoordinatorService::new(readiness);
                let own = ports.iter().map(|port| (port.told.clone(), port.shard.clone())).collect();
                tokio::spawn(coordinator.clone().hear_own(own));
                let mut serving = Vec::new();
                for (place, port) in ports.into_iter().enumerate() {
                    serving.push(tokio::spawn(serve(port, coordinator.clone(), place == 0, stopped.clone())));
                }
                for server in serving {
                    if let Ok(Err(error)) = server.await {
                        tracing::error!(%error, "a gRPC port is served no more");
                    }
                }
            });
        };
        let thread = std::thread::Builder::new().name("grpc".to_owned()).spawn(body)?;
        Ok(ControlThread { stop, thread: Some(thread) })
    }

    /// Ends it from any thread, without waiting: shards have no more work from it.
    pub(crate) fn stopper(&self) -> impl FnOnce() + Send + 'static {
        let stop = self.stop.clone();
        move || {
            // Nobody listens any more if the thread has ended.
            let _ = stop.send(true);
        }
    }
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        // Nobody listens any more if the thread has ended.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the control thread only serves");
        }
    }
}

async fn serve(
    port: Port,
    coordinator: CoordinatorService,
    is_coordinator: bool,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(port.listener)?).with_nodelay(Some(true));
    let own = is_coordinator.then(|| CoordinatorServerServer::new(coordinator.clone()));
    let decommission = DecommissionService { coordinator, told: port.told, shard: port.shard.clone() };
    let shuffle = ShuffleServerServer::new(ShuffleService::new(port.shard))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let mut server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES);
    let routes = server.add_service(shuffle).add_service(ShuffleServerInternalServer::new(decommission));
    let routes = routes.add_optional_service(own);
    let until = async move {
        // An error is the sender's end, which also says stop.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    tokio::select! {
        served = routes.serve_with_incoming(incoming) => served?,
        () = until => {}
    }
    Ok(())
}
