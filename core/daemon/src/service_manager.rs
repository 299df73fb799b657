//! The service manager that started this process, as it asked to be told: ready, stopping, and still alive.
//!
//! Owns a datagram socket to `NOTIFY_SOCKET` (systemd's protocol). Says that the process lives only when every shard has
//! just answered. A message that cannot be sent is logged and never stops the service. Used by command lines only: a
//! service inside another program leaves that program's manager alone.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::lifecycle::Shutdown;

/// How often the watchdog is fed within its period: two feeds may be late before it bites.
const FEEDS_PER_PERIOD: u32 = 3;

/// What the environment says of the manager.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// `NOTIFY_SOCKET`
    pub(crate) socket: Option<OsString>,
    /// `WATCHDOG_USEC`
    pub(crate) watchdog_usec: Option<String>,
    /// `WATCHDOG_PID`
    pub(crate) watchdog_pid: Option<String>,
}

impl Asked {
    /// Reads the environment.
    pub(crate) fn of_environment() -> Asked {
        Asked {
            socket: std::env::var_os("NOTIFY_SOCKET"),
            watchdog_usec: std::env::var("WATCHDOG_USEC").ok(),
            watchdog_pid: std::env::var("WATCHDOG_PID").ok(),
        }
    }

    /// The watchdog's period, if one watches this very process.
    fn watchdog(&self) -> Option<Duration> {
        let own = |pid: &String| pid.parse() == Ok(std::process::id());
        let usec: u64 = self.watchdog_usec.as_ref()?.parse().ok()?;
        (usec > 0 && self.watchdog_pid.as_ref().is_none_or(own)).then(|| Duration::from_micros(usec))
    }
}

/// A manager that listens. Clones speak to the same one.
#[derive(Clone)]
pub(crate) struct ServiceManager(Arc<Inner>);

struct Inner {
    socket: UnixDatagram,
    to: SocketAddr,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The manager that asked to be told; `None` if none did.
    pub(crate) fn connect(asked: &Asked) -> io::Result<Option<ServiceManager>> {
        let Some(name) = asked.socket.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let (socket, to) = (UnixDatagram::unbound()?, address(name)?);
        Ok(Some(ServiceManager(Arc::new(Inner { socket, to, watchdog: asked.watchdog() }))))
    }

    /// The service serves.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// The service drains: from here on the manager waits for its end and for no sign of life.
    pub(crate) fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// A sentence for whoever asks the manager.
    pub(crate) fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", one_line(status)));
    }

    /// Feeds the watchdog, if there is one, from a thread of its own until a shutdown is requested: whenever `pulse` finds
    /// within the time that it is given that every shard lives.
    pub(crate) fn feed(
        &self,
        shutdown: &Shutdown,
        pulse: impl Fn(Duration) -> bool + Send + 'static,
    ) -> io::Result<()> {
        let Some(period) = self.0.watchdog else {
            return Ok(());
        };
        let every = period / FEEDS_PER_PERIOD;
        let (until, ended) = mpsc::channel::<()>();
        shutdown.subscribe(move || drop(until));
        let manager = self.clone();
        let body = move || {
            let mut was_alive = true;
            loop {
                let is_alive = pulse(every);
                if is_alive {
                    manager.tell("WATCHDOG=1");
                } else if was_alive {
                    tracing::error!(within_ms = every.as_millis(), "a shard does not answer; the watchdog is not fed");
                }
                was_alive = is_alive;
                if ended.recv_timeout(every) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        };
        thread::Builder::new().name("watchdog".to_owned()).spawn(body).map(drop)
    }

    fn tell(&self, message: &str) {
        if let Err(error) = self.0.socket.send_to_addr(message.as_bytes(), &self.0.to) {
            tracing::warn!(%error, message, "the service manager was not told");
        }
    }
}

/// A path, or after an `@` a name in the abstract namespace.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_of_another_process_is_not_fed() {
        let asked = |usec: &str, pid: Option<u32>| Asked {
            watchdog_usec: Some(usec.to_owned()),
            watchdog_pid: pid.map(|pid| pid.to_string()),
            ..Asked::default()
        };
        assert_eq!(asked("3000000", None).watchdog(), Some(Duration::from_secs(3)));
        assert_eq!(asked("3000000", Some(std::process::id())).watchdog(), Some(Duration::from_secs(3)));
        assert_eq!(asked("3000000", Some(1)).watchdog(), None);
        assert_eq!(asked("0", None).watchdog(), None);
        assert_eq!(asked("soon", None).watchdog(), None);
    }

    #[test]
    fn nobody_is_told_when_nobody_asked() {
        assert!(ServiceManager::connect(&Asked::default()).unwrap().is_none());
        let far = Asked { socket: Some("/".repeat(200).into()), ..Asked::default() };
        assert!(ServiceManager::connect(&far).is_err());
    }

    #[test]
    fn a_status_is_one_line() {
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(b"watershed-status").unwrap()).unwrap();
        let asked = Asked { socket: Some("@watershed-status".into()), ..Asked::default() };
        ServiceManager::connect(&asked).unwrap().unwrap().ready("a\nREADY=0");
        let mut message = [0; 100];
        let length = socket.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1\nSTATUS=a READY=0");
    }
}
