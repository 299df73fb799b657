//! Kafka's broker properties: which names a start accepts, and which of them have no effect here and why.

/// What an accepted property does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Real,
    /// Accepted so that a `server.properties` of Kafka works, with the reason why nothing follows from it.
    None(&'static str),
}

/// Why a property is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    Unknown,
    Value(String),
}

const THREADS: &str = "one pinned thread per core does the work of all of Kafka's pools";
const CONTROLLER: &str = "the controller is built in";
const BUFFERS: &str = "the kernel sizes socket buffers itself";

/// Properties about processes and threads: they end here, no topic or coordinator sees them.
const WITHOUT_EFFECT: [(&str, &str); 14] = [
    ("background.threads", THREADS),
    ("num.io.threads", THREADS),
    ("num.network.threads", THREADS),
    ("num.recovery.threads.per.data.dir", THREADS),
    ("num.replica.fetchers", THREADS),
    ("controller.quorum.bootstrap.servers", CONTROLLER),
    ("controller.quorum.voters", CONTROLLER),
    ("inter.broker.listener.name", "there is one broker"),
    ("metadata.log.dir", CONTROLLER),
    ("security.inter.broker.protocol", "there is one broker"),
    ("socket.receive.buffer.bytes", BUFFERS),
    ("socket.send.buffer.bytes", BUFFERS),
    ("log.flush.scheduler.interval.ms", "a flush is part of every commit"),
    ("log.retention.check.interval.ms", "retention is checked as segments age, not by a scan"),
];

/// Properties that the listeners are read with.
const LISTENER_COMPANIONS: [&str; 2] = ["controller.listener.names", "listener.security.protocol.map"];

/// Judges one property.
pub(super) fn check(name: &str, value: &str) -> Result<Effect, Mistake> {
    if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(known, _)| *known == name) {
        return Ok(Effect::None(why));
    }
    if LISTENER_COMPANIONS.contains(&name) {
        return Ok(Effect::Real);
    }
    match name {
        "process.roles" => roles(value),
        _ => Err(Mistake::Unknown),
    }
}

/// Every name that [`check`] knows, for the nearest one to a mistake.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let without = WITHOUT_EFFECT.iter().map(|(name, _)| *name);
    without.chain(LISTENER_COMPANIONS).chain(["process.roles"])
}

fn roles(value: &str) -> Result<Effect, Mistake> {
    let mut roles: Vec<&str> = value.split(',').map(str::trim).collect();
    roles.sort_unstable();
    match roles.as_slice() {
        ["broker", "controller"] => Ok(Effect::None(CONTROLLER)),
        _ => Err(Mistake::Value(format!(
            "'{value}' is not served: this is broker and controller in one (broker,controller)"
        ))),
    }
}
