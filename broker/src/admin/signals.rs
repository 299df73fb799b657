//! Signals: the first SIGTERM or SIGINT asks for a drain, the second ends the process at once.
//!
//! The second is safe: what was acknowledged is durable, only the clean checkpoint is missing.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::lifecycle::Shutdown;

/// The signals that end the process, registered from now on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from their default action. Inside a tokio runtime.
    pub(super) fn register() -> io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Turns signals into requests, for ever.
    pub(super) async fn obey(mut self, shutdown: Shutdown) {
        loop {
            let (name, number) = tokio::select! {
                _ = self.terminate.recv() => ("SIGTERM", 15),
                _ = self.interrupt.recv() => ("SIGINT", 2),
            };
            if shutdown.request(name) {
                tracing::info!(signal = name, "draining; a second signal ends the process at once");
            } else {
                tracing::warn!(signal = name, "second signal: ending without a clean checkpoint");
                std::process::exit(128 + number);
            }
        }
    }
}
