//! Settings that every service has, taken out of its layers in the same form and with the same refusals.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::{Cores, HostPort, Layers, Machine, SettingKey, Source, memory, quantity};
use crate::Service;
use crate::logging::{self, LogFormat};

impl<K: SettingKey> Layers<K> {
    /// The data directory: by default one of the service's name in this user's data home.
    pub fn data_dir(
        &mut self,
        key: K,
        service: &Service,
        machine: &Machine,
        parse: impl FnOnce(&str) -> Result<PathBuf, String>,
    ) -> PathBuf {
        if self.is_given(key) {
            return self.take(key, PathBuf::new(), parse);
        }
        let Some((home, variable)) = &machine.data_home else {
            self.mistake("neither XDG_DATA_HOME nor HOME is set: say --data-dir");
            return PathBuf::new();
        };
        self.decided_by(key, Source::Environment(variable));
        home.join("watershed").join(service.noun)
    }

    /// What to bind: by default `port` on loopback.
    pub fn listen(&mut self, key: K, port: u16, parse: impl FnOnce(&str) -> Result<HostPort, String>) -> SocketAddr {
        self.take(key, loopback(port), |text| parse(text)?.resolve())
    }

    /// What clients are told to connect to, if something was given.
    pub fn advertise(&mut self, key: K, parse: impl FnOnce(&str) -> Result<HostPort, String>) -> Option<HostPort> {
        self.take(key, None, |text| {
            let told = parse(text)?;
            match told.host.as_str() {
                "" | "0.0.0.0" | "::" => Err(format!("'{text}' names no host that a client could reach")),
                _ => Ok(Some(told)),
            }
        })
    }

    /// Where admin HTTP is bound, by default `port` on loopback; `None` when switched off.
    pub fn admin(&mut self, key: K, port: u16) -> Option<SocketAddr> {
        self.take(key, Some(loopback(port)), |text| match text {
            "none" => Ok(None),
            address => Ok(Some(HostPort::parse(address)?.resolve()?)),
        })
    }

    /// The shards and where they run: by default one on every CPU.
    pub fn cores(&mut self, key: K, machine: &Machine) -> Cores {
        let allowed = &machine.allowed_cpus;
        let cores = self.take(key, Cores::Pinned(allowed.clone()), |text| Cores::parse(text, allowed));
        if matches!(cores, Cores::Unbound(_)) {
            self.warn("shards are not pinned to CPUs (cores unbound)");
        }
        self.decided_by(key, Source::Machine("every CPU allowed to this process".to_owned()));
        cores
    }

    /// The budget of the whole process, to be split over shards, each of which needs `shard_bytes_min`, and pools.
    pub fn memory(&mut self, key: K, machine: &Machine, shards: usize, shard_bytes_min: u64) -> u64 {
        let least = memory::minimum(shards, shard_bytes_min);
        let (limit, by) = match &machine.memory {
            Some(limit) => (limit.bytes, limit.by),
            None => (u64::MAX, "unknown limit"),
        };
        let derived = memory::default_budget(limit).max(least);
        let budget = self.take(key, derived, quantity::parse_bytes);
        let (show, about) = (quantity::show_bytes, quantity::about_bytes(limit));
        if budget < least {
            let (budget, least) = (show(budget), show(least));
            self.mistake(format!("memory {budget} is too little for {shards} shards: at least {least}"));
        } else if budget > limit {
            self.mistake(format!("memory {} exceeds the {by}, {about}", show(budget)));
        }
        self.decided_by(key, Source::Machine(format!("25 % of the {by}, {about}, at most 8 GiB")));
        budget
    }

    /// Whether it is switched on; by default it is not.
    pub fn switch(&mut self, key: K) -> bool {
        self.take(key, false, |text| match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("'{text}' is neither true nor false")),
        })
    }

    /// The form of the log.
    pub fn log_format(&mut self, key: K) -> LogFormat {
        self.take(key, LogFormat::Human, LogFormat::parse)
    }

    /// A level (`info`) or directives of tracing (`info,watershed_core=debug`).
    pub fn log_level(&mut self, key: K) -> String {
        self.take(key, "info".to_owned(), logging::parse_level)
    }

    /// Refuses plaintext off loopback unless it was accepted, and one address for both.
    pub fn check_exposure(&mut self, insecure: bool, listen: SocketAddr, admin: Option<SocketAddr>) {
        for (name, address) in [("listen", Some(listen)), ("admin", admin)] {
            let Some(address) = address.filter(|address| !address.ip().is_loopback()) else {
                continue;
            };
            let what =
                format!("{name} {address} is reachable from other machines in plain text and without authentication");
            match insecure {
                true => self.warn(what),
                false => self.mistake(format!(
                    "{what}: whoever reaches it can read and delete everything. Accept that with --insecure, or use a loopback address such as 127.0.0.1"
                )),
            }
        }
        if admin == Some(listen) && listen.port() != 0 {
            self.mistake(format!("listen and admin are both {listen}"));
        }
    }
}

/// The directory that `text` names, made absolute.
pub fn parse_directory(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("no directory is named".to_owned()),
        path => std::path::absolute(path).map_err(|cause| cause.to_string()),
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
