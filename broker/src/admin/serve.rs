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

use super::signals::Signals;
use super::{AdminState, exposition};

/// The running admin thread; it ends with the process.
pub struct Admin {
    /// The address that was bound; `None` if admin HTTP is off.
    pub address: Option<SocketAddr>,
}

/// Binds `address`, if any, takes the signals over and starts the thread.
pub fn start(address: Option<SocketAddr>, state: AdminState) -> io::Result<Admin> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = address.map(bind).transpose()?;
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let (listener, signals) = {
        let _inside = runtime.enter();
        (listener.map(tokio::net::TcpListener::from_std).transpose()?, Signals::register()?)
    };
    thread::Builder::new().name("admin".to_owned()).spawn(move || runtime.block_on(run(listener, signals, state)))?;
    Ok(Admin { address })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn run(listener: Option<tokio::net::TcpListener>, signals: Signals, state: AdminState) {
    let shutdown = state.shutdown.clone();
    if let Some(listener) = listener {
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes(state)).await {
                tracing::error!(%error, "admin HTTP stopped");
            }
        });
    }
    signals.obey(shutdown).await;
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
