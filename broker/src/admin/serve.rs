//! Serve: the admin thread, its routes and their answers.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::sync::oneshot;

use super::{AdminState, exposition};

/// The running admin thread; it ends when this is dropped.
pub struct Admin {
    /// The address that was bound; `None` if admin HTTP is off.
    pub address: Option<SocketAddr>,
    /// Nothing is ever sent: the thread ends when it is gone.
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.end.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the admin thread had panicked");
        }
    }
}

/// Binds `address`, if any, and starts the thread.
pub fn start(address: Option<SocketAddr>, state: AdminState) -> io::Result<Admin> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = address.map(bind).transpose()?;
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let listener = {
        let _inside = runtime.enter();
        listener.map(tokio::net::TcpListener::from_std).transpose()?
    };
    let (end, ended) = oneshot::channel();
    let body = move || runtime.block_on(run(listener, ended, state));
    let thread = thread::Builder::new().name("admin".to_owned()).spawn(body)?;
    Ok(Admin { address, end: Some(end), thread: Some(thread) })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn run(listener: Option<tokio::net::TcpListener>, ended: oneshot::Receiver<()>, state: AdminState) {
    if let Some(listener) = listener {
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes(state)).await {
                tracing::error!(%error, "admin HTTP stopped");
            }
        });
    }
    // Never a value, only the end.
    let _ = ended.await;
}

fn routes(state: AdminState) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/dashboard", get(dashboard))
        .route("/version", get(version))
        .with_state(state)
}

async fn live() -> &'static str {
    "live\n"
}

async fn ready(State(state): State<AdminState>) -> Response {
    let reasons = state.reasons();
    let status = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, as_json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn version() -> Response {
    as_json(json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "kafka_protocol": "4.2",
    }))
}

async fn metrics(State(state): State<AdminState>) -> Response {
    let (shards, missing) = state.scrape().await;
    let snapshot = exposition::Snapshot::new(shards, missing, state.reasons().is_empty());
    match exposition::render(snapshot) {
        Ok(text) => ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// For Grafana, over the names of `/metrics`.
async fn dashboard() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("../../grafana.json")).into_response()
}

fn as_json(value: serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}
