//! Settings: everything a start is told, parsed once, with where each value came from. The layers are `watershed_daemon`'s.

use std::net::SocketAddr;
use std::path::PathBuf;

use watershed_daemon::logging::LogFormat;
use watershed_daemon::settings::{
    Cores, HostPort, Layers, Machine, Row, SettingKey, SettingsError, Sources, parse_directory, show_bytes,
};

use crate::SERVICE;
use crate::service::SHARD_BYTES_MIN;

const LISTEN_PORT: u16 = 19999;
const ADMIN_PORT: u16 = 19998;

/// What the command line gave, as text.
pub type Asked = watershed_daemon::settings::Asked<Key>;

/// One of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    DataDir,
    Listen,
    Advertise,
    Admin,
    Cores,
    Memory,
    Insecure,
    LogFormat,
    LogLevel,
}

impl SettingKey for Key {
    const ALL: &'static [Key] = &[
        Key::DataDir,
        Key::Listen,
        Key::Advertise,
        Key::Admin,
        Key::Cores,
        Key::Memory,
        Key::Insecure,
        Key::LogFormat,
        Key::LogLevel,
    ];

    fn name(self) -> &'static str {
        match self {
            Key::DataDir => "data_dir",
            Key::Listen => "listen",
            Key::Advertise => "advertise",
            Key::Admin => "admin",
            Key::Cores => "cores",
            Key::Memory => "memory",
            Key::Insecure => "insecure",
            Key::LogFormat => "log_format",
            Key::LogLevel => "log_level",
        }
    }
}

/// What one start runs with. Immutable: a change needs a new start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    /// The coordinator and the first shard's gRPC. Shard n has its gRPC 2n ports above and its Netty port one above that;
    /// port 0 takes any free ports.
    pub listen: SocketAddr,
    /// The host that clients are told; `None`: see [`Settings::advertised`].
    pub advertise: Option<String>,
    /// The admin HTTP address; `None` when switched off.
    pub admin: Option<SocketAddr>,
    pub cores: Cores,
    /// The budget of the whole process, to be split over shards.
    pub memory_bytes: u64,
    pub insecure: bool,
    pub log_format: LogFormat,
    pub log_level: String,
    /// What the operator should know before the first request.
    pub warnings: Vec<String>,
    pub(crate) sources: Sources<Key>,
}

/// The settings that `asked` means on `machine`, or every mistake in it.
pub fn resolve(asked: &Asked, machine: &Machine) -> Result<Settings, SettingsError> {
    let mut layers = Layers::read(asked, |layers, item| layers.unknown(&item, []))?;
    let data_dir = layers.data_dir(Key::DataDir, &SERVICE, machine, parse_directory);
    let listen = layers.listen(Key::Listen, LISTEN_PORT, HostPort::parse);
    let advertise = layers.take(Key::Advertise, None, |text| host(text).map(Some));
    let admin = layers.admin(Key::Admin, ADMIN_PORT);
    let cores = layers.cores(Key::Cores, machine);
    let memory_bytes = layers.memory(Key::Memory, machine, cores.shards(), SHARD_BYTES_MIN);
    let insecure = layers.switch(Key::Insecure);
    let log_format = layers.log_format(Key::LogFormat);
    let log_level = layers.log_level(Key::LogLevel);
    layers.check_exposure(insecure, listen, admin);
    let (sources, warnings) = layers.finish()?;
    Ok(Settings {
        data_dir,
        listen,
        advertise,
        admin,
        cores,
        memory_bytes,
        insecure,
        log_format,
        log_level,
        warnings,
        sources,
    })
}

fn host(text: &str) -> Result<String, String> {
    match text {
        "" | "0.0.0.0" | "::" => Err(format!("'{text}' names no host that a client could reach")),
        host if host.contains([':', '/', ' ']) && host.parse::<std::net::Ipv6Addr>().is_err() => {
            Err(format!("'{host}' is no host: the ports follow from those that are bound"))
        }
        host => Ok(host.to_owned()),
    }
}

impl Settings {
    /// The host that clients are told: `--advertise`, else the bound address, with this machine's host name in place of a
    /// wildcard.
    pub fn advertised(&self) -> String {
        self.advertise.clone().unwrap_or_else(|| HostPort::advertised(None, self.listen).host)
    }

    /// Every setting as `watershed-shuffle settings` prints it: name, value, source.
    pub fn rows(&self) -> Vec<Row> {
        let row = |&key: &Key| Row {
            name: key.name().to_owned(),
            value: self.shown(key),
            source: self.sources.of(key).clone(),
        };
        Key::ALL.iter().map(row).collect()
    }

    pub(crate) fn shown(&self, key: Key) -> String {
        match key {
            Key::DataDir => self.data_dir.display().to_string(),
            Key::Listen => self.listen.to_string(),
            Key::Advertise => self.advertised(),
            Key::Admin => self.admin.map_or_else(|| "none".to_owned(), |at| at.to_string()),
            Key::Cores => self.cores.to_string(),
            Key::Memory => show_bytes(self.memory_bytes),
            Key::Insecure => self.insecure.to_string(),
            Key::LogFormat => self.log_format.to_string(),
            Key::LogLevel => self.log_level.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[&str]) -> Result<Settings, SettingsError> {
        let set = set.iter().map(|pair| (*pair).to_owned()).collect();
        resolve(&Asked { set, ..Asked::default() }, &Machine::probe())
    }

    #[test]
    fn a_start_without_a_word_serves_on_loopback() {
        let settings = with(&["data_dir=/tmp/a"]).unwrap();
        assert_eq!(
            (settings.listen.to_string(), settings.advertised()),
            ("127.0.0.1:19999".into(), "127.0.0.1".into())
        );
    }

    #[test]
    fn mistakes_name_their_place() {
        let wrong = with(&["data_dir=/tmp/a", "advertise=host:1", "cores=unbound:4", "memory=100MiB", "adress=x"]);
        let wrong = wrong.unwrap_err().to_string();
        for part in
            ["--set: advertise: 'host:1'", "memory 100 MiB is too little for 4 shards", "unknown setting adress"]
        {
            assert!(wrong.contains(part), "{part}: {wrong}");
        }
    }
}
