//! Addresses: `HOST:PORT` as people write it, what to bind for it and what to tell clients.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

/// A host name or address and a port, unresolved: what clients are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl HostPort {
    /// Parses `HOST:PORT` or `[IPv6]:PORT`; an empty host stays empty.
    pub fn parse(text: &str) -> Result<HostPort, String> {
        let refuse = || format!("'{text}' is not HOST:PORT");
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(refuse)?;
        let port = port.parse().map_err(|_| refuse())?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if bare.is_none() && host.contains([':', '/', ' ']) {
            return Err(refuse());
        }
        Ok(HostPort { host: host.to_owned(), port })
    }

    /// The address to bind; no host means every interface, the usual meaning of `:9092`.
    pub fn resolve(&self) -> Result<SocketAddr, String> {
        let host = match self.host.as_str() {
            "" => "0.0.0.0",
            host => host,
        };
        let addresses: Vec<SocketAddr> = (host, self.port)
            .to_socket_addrs()
            .map_err(|cause| format!("'{host}' does not resolve: {cause}"))?
            .collect();
        let four = addresses.iter().find(|address| address.is_ipv4());
        four.or(addresses.first()).copied().ok_or_else(|| format!("'{host}' does not resolve"))
    }

    /// What clients are told: what was asked for, else what was bound, with this machine's host name in place of a wildcard.
    pub fn advertised(asked: Option<&HostPort>, bound: SocketAddr) -> HostPort {
        match asked {
            Some(asked) if asked.port != 0 => asked.clone(),
            Some(asked) => HostPort { host: asked.host.clone(), port: bound.port() },
            None => HostPort::of_bound(bound),
        }
    }

    fn of_bound(bound: SocketAddr) -> HostPort {
        let host = match bound.ip().is_unspecified() {
            true => host_name(),
            false => bound.ip().to_string(),
        };
        HostPort { host, port: bound.port() }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["127.0.0.1:9092", "[::1]:9092", "broker.example:19092", ":9092"] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), text);
        }
        for text in ["9092", "host", "host:", "host:70000", "::1:9092", "a b:1", "PLAINTEXT://a:1"] {
            assert!(HostPort::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_host_is_every_interface() {
        let every = HostPort::parse(":9092").unwrap().resolve().unwrap();
        assert_eq!(every.to_string(), "0.0.0.0:9092");
        let told = HostPort::of_bound(every);
        assert!(!told.host.is_empty() && told.host != "0.0.0.0");
    }
}
