//! Listeners: our `HOST:PORT` and Kafka's `listeners` and `advertised.listeners` lists, down to one plaintext address.

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

    /// The address to bind; no host means every interface, as in Kafka.
    pub(super) fn resolve(&self) -> Result<SocketAddr, String> {
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

    /// The bound address, or this machine's host name if a wildcard was bound.
    pub(super) fn of_bound(bound: SocketAddr) -> HostPort {
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

/// The one plaintext address of a Kafka list like `PLAINTEXT://:9092,CONTROLLER://:9093`. Listeners named in
/// `controllers` are left out: the controller is built in. `protocols` maps listener names to security protocols.
pub(super) fn kafka_listener(list: &str, controllers: &str, protocols: &str) -> Result<HostPort, String> {
    let mut found = None;
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, address) = entry.split_once("://").ok_or_else(|| format!("'{entry}' is not NAME://HOST:PORT"))?;
        if named(controllers, name) {
            continue;
        }
        let protocol = protocol_of(name, protocols);
        if protocol != "PLAINTEXT" {
            return Err(format!("listener {name}: {protocol} is not served yet, only PLAINTEXT"));
        }
        if found.replace(HostPort::parse(address)?).is_some() {
            return Err(format!("'{list}' has several client listeners; one is served"));
        }
    }
    found.ok_or_else(|| format!("'{list}' has no client listener"))
}

fn named(list: &str, name: &str) -> bool {
    list.split(',').any(|entry| entry.trim().eq_ignore_ascii_case(name))
}

fn protocol_of(name: &str, protocols: &str) -> String {
    protocols
        .split(',')
        .filter_map(|pair| pair.split_once(':'))
        .find(|(listener, _)| listener.trim().eq_ignore_ascii_case(name))
        .map_or(name, |(_, protocol)| protocol.trim())
        .to_ascii_uppercase()
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

    #[test]
    fn the_client_listener_is_found_among_kafkas() {
        let stock = "PLAINTEXT://:9092,CONTROLLER://:9093";
        assert_eq!(kafka_listener(stock, "CONTROLLER", "").unwrap().to_string(), ":9092");
        let named = kafka_listener("INSIDE://10.0.0.1:9092", "", "INSIDE:PLAINTEXT,OUT:SSL");
        assert_eq!(named.unwrap().to_string(), "10.0.0.1:9092");
    }

    #[test]
    fn what_is_not_served_is_named() {
        let tls = kafka_listener("SSL://:9093", "", "").unwrap_err();
        assert!(tls.contains("SSL is not served yet"), "{tls}");
        assert!(kafka_listener("PLAINTEXT://:1,B://:2", "", "B:PLAINTEXT").unwrap_err().contains("several"));
        assert!(kafka_listener("CONTROLLER://:9093", "CONTROLLER", "").unwrap_err().contains("no client"));
        assert!(kafka_listener("localhost:9092", "", "").is_err());
    }
}
