//! Settings: everything a start is told, parsed once into an immutable [`Settings`] that knows where each value came from.
//!
//! Owns the broker's names, Kafka's names for the same, and what Kafka's properties mean; the layers are
//! `watershed_daemon`'s. Nothing here opens a socket or writes a file, and nothing is guessed: an unknown key, a bad unit or
//! a setting without effect is an error that names its place and, where one is close, the name that was meant.

mod listeners;
mod names;
mod resolve;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use watershed_core::io::host::Host;
use watershed_daemon::settings::{Sources, show_bytes};

use crate::configs::{BrokerProperties, ConfigType, property};

pub use names::Key;
pub use resolve::resolve;
pub use watershed_daemon::logging::LogFormat;
pub use watershed_daemon::settings::{
    Cores, Given, HostPort, Machine, Row, SettingKey, SettingsError, Source, parse_bytes, parse_duration_ms,
};

/// What the command line gave, as text.
pub type Asked = watershed_daemon::settings::Asked<Key>;

/// What one start of the broker runs with. Immutable: a change needs a new start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    /// Where Kafka clients connect to; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// What Metadata tells clients to connect to; `None`: see [`Settings::advertised`].
    pub advertise: Option<HostPort>,
    /// The admin HTTP address; `None` when switched off.
    pub admin: Option<SocketAddr>,
    /// The shards and where they run.
    pub cores: Cores,
    /// What the shards' tasks run in.
    pub runtime: Host,
    /// The budget of the whole process, to be split over shards and pools.
    pub memory_bytes: u64,
    pub node_id: i32,
    /// Plaintext off loopback was asked for.
    pub insecure: bool,
    pub log_format: LogFormat,
    /// A level (`info`) or directives of tracing (`info,watershed_core=debug`); checked.
    pub log_level: String,
    /// Requests that took this long are logged with their phases; `None`: none is.
    pub slow_request_ms: Option<u64>,
    /// Kafka's broker properties that were given, by Kafka's name; defaults are those of the catalog's table.
    pub kafka: BTreeMap<String, Given>,
    /// What the operator should know before the first request; printed at the start.
    pub warnings: Vec<String>,
    sources: Sources<Key>,
}

impl Settings {
    /// Where the value of `key` came from.
    pub fn source(&self, key: Key) -> &Source {
        self.sources.of(key)
    }

    /// The address that clients are told, given the one that was bound: `--advertise`, else the bound address, with this
    /// machine's host name in place of a wildcard.
    pub fn advertised(&self, bound: SocketAddr) -> HostPort {
        HostPort::advertised(self.advertise.as_ref(), bound)
    }

    /// The broker's properties by Kafka's names: those given, and those that our own settings mean.
    pub fn broker_properties(&self) -> BrokerProperties {
        let mut given: BTreeMap<String, String> =
            self.kafka.iter().map(|(name, given)| (name.clone(), given.value.clone())).collect();
        given.insert("listeners".to_owned(), format!("PLAINTEXT://{}", self.listen));
        given.insert("log.dirs".to_owned(), self.data_dir.display().to_string());
        given.insert("node.id".to_owned(), self.node_id.to_string());
        given.insert("broker.id".to_owned(), self.node_id.to_string());
        if let Some(told) = &self.advertise {
            given.insert("advertised.listeners".to_owned(), format!("PLAINTEXT://{told}"));
        }
        BrokerProperties::new(given).expect("each was checked when it was resolved")
    }

    /// Every setting as `watershed-broker settings` prints it: name, value, source.
    pub fn rows(&self) -> Vec<Row> {
        let own = Key::ALL.iter().map(|&key| Row {
            name: key.name().to_owned(),
            value: self.shown(key),
            source: self.source(key).clone(),
        });
        let kafka = self.kafka.iter().map(|(name, given)| Row {
            name: name.clone(),
            value: match property(name).is_some_and(|row| row.kind == ConfigType::Password) {
                true => "[hidden]".to_owned(),
                false => given.value.clone(),
            },
            source: given.source.clone(),
        });
        own.chain(kafka).collect()
    }

    pub(crate) fn shown(&self, key: Key) -> String {
        match key {
            Key::DataDir => self.data_dir.display().to_string(),
            Key::Listen => self.listen.to_string(),
            Key::Advertise => self.advertised(self.listen).to_string(),
            Key::Admin => self.admin.map_or_else(|| "none".to_owned(), |at| at.to_string()),
            Key::Cores => self.cores.to_string(),
            Key::Runtime => self.runtime.name().to_owned(),
            Key::Memory => show_bytes(self.memory_bytes),
            Key::NodeId => self.node_id.to_string(),
            Key::Insecure => self.insecure.to_string(),
            Key::LogFormat => self.log_format.to_string(),
            Key::LogLevel => self.log_level.clone(),
            Key::SlowRequest => self.slow_request_ms.map_or_else(|| "none".to_owned(), |ms| format!("{ms} ms")),
        }
    }
}
