//! Signals: the first SIGTERM or SIGINT asks for a drain, the second ends the process at once.
//!
//! The second is safe: what was acknowledged is durable, only the clean checkpoint is missing. Only a command line does
//! this; a service inside another program leaves that program's signals alone.

use std::io;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::lifecycle::Shutdown;

/// Takes the signals over from their default action, for as long as the process lives.
pub fn obey(shutdown: Shutdown) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (terminate, interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let body = move || runtime.block_on(turn_into_requests(terminate, interrupt, shutdown));
    thread::Builder::new().name("signals".to_owned()).spawn(body).map(drop)
}

async fn turn_into_requests(mut terminate: Signal, mut interrupt: Signal, shutdown: Shutdown) {
    loop {
        let (name, number) = tokio::select! {
            _ = terminate.recv() => ("SIGTERM", 15),
            _ = interrupt.recv() => ("SIGINT", 2),
        };
        if shutdown.request(name) {
            tracing::info!(signal = name, "draining; a second signal ends the process at once");
        } else {
            tracing::warn!(signal = name, "second signal: ending without a clean checkpoint");
            std::process::exit(128 + number);
        }
    }
}
