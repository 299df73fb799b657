//! Admin HTTP: `/live`, `/ready`, `/metrics`, `/version` and a service's own pages on one ordinary thread with tokio.
//!
//! It changes nothing, and a failure of this thread never stops the service.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use crate::Service;
use crate::lifecycle::{Readiness, Shutdown};

/// OpenMetrics text, which Prometheus reads.
const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What `/metrics` and a service's own views say; asked anew for each request, on the admin thread, which must not be blocked.
pub trait Exposition: Send + Sync + 'static {
    /// OpenMetrics text. `is_ready` is what `/ready` says at this moment.
    fn text(&self, is_ready: bool) -> impl Future<Output = Result<String, fmt::Error>> + Send;

    /// What one of [`Site::views`] shows at this moment.
    fn view(&self, _path: &'static str) -> impl Future<Output = serde_json::Value> + Send {
        async { serde_json::Value::Null }
    }
}

/// A page that never changes.
pub struct Page {
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: &'static str,
}

/// What the admin thread may see and say.
pub struct Site<E> {
    pub service: Service,
    /// What `/version` says beside name and version.
    pub versions: &'static [(&'static str, &'static str)],
    pub pages: &'static [Page],
    /// Paths of pages in JSON that are made anew for each request.
    pub views: &'static [&'static str],
    pub readiness: Readiness,
    pub shutdown: Shutdown,
    pub exposition: E,
}

impl<E> Site<E> {
    /// Why the service does not serve; empty when ready.
    fn reasons(&self) -> Vec<String> {
        let draining = self.shutdown.reason().map(|reason| format!("draining ({reason})"));
        self.readiness.reasons().into_iter().chain(draining).collect()
    }
}

/// The running admin thread; it ends when this is dropped.
pub struct Admin {
    /// The address that was bound.
    pub address: SocketAddr,
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

/// Binds `address` and starts the thread.
pub fn start<E: Exposition>(address: SocketAddr, site: Site<E>) -> io::Result<Admin> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let (end, ended) = oneshot::channel();
    let body = move || runtime.block_on(run(listener, ended, site));
    let thread = thread::Builder::new().name("admin".to_owned()).spawn(body)?;
    Ok(Admin { address, end: Some(end), thread: Some(thread) })
}

async fn run<E: Exposition>(listener: tokio::net::TcpListener, ended: oneshot::Receiver<()>, site: Site<E>) {
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes(site)).await {
            tracing::error!(%error, "admin HTTP stopped");
        }
    });
    // Never a value, only the end.
    let _ = ended.await;
}

fn routes<E: Exposition>(site: Site<E>) -> Router {
    let routes = Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready::<E>))
        .route("/metrics", get(metrics::<E>))
        .route("/version", get(version::<E>));
    let own = |routes: Router<Arc<Site<E>>>, page: &'static Page| {
        routes.route(page.path, get(move || async move { ([(header::CONTENT_TYPE, page.content_type)], page.body) }))
    };
    let view = |routes: Router<Arc<Site<E>>>, &path: &&'static str| {
        let show = move |State(site): State<Arc<Site<E>>>| async move { as_json(site.exposition.view(path).await) };
        routes.route(path, get(show))
    };
    let routes = site.pages.iter().fold(routes, own);
    site.views.iter().fold(routes, view).with_state(Arc::new(site))
}

async fn ready<E: Exposition>(State(site): State<Arc<Site<E>>>) -> Response {
    let reasons = site.reasons();
    let status = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, as_json(serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn version<E: Exposition>(State(site): State<Arc<Site<E>>>) -> Response {
    let service = [("name", site.service.program), ("version", site.service.version)];
    let fields = service.iter().chain(site.versions).map(|&(name, value)| (name.to_owned(), value.into()));
    as_json(serde_json::Value::Object(fields.collect()))
}

async fn metrics<E: Exposition>(State(site): State<Arc<Site<E>>>) -> Response {
    match site.exposition.text(site.reasons().is_empty()).await {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn as_json(value: serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}
