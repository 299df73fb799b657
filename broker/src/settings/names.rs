//! Names: our settings, and the Kafka properties that mean the same.

/// One of our settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    DataDir,
    Listen,
    Advertise,
    Admin,
    Cores,
    Runtime,
    Memory,
    NodeId,
    Insecure,
    LogFormat,
    LogLevel,
    SlowRequest,
}

impl Key {
    /// Every setting, in the order in which they are printed.
    pub const ALL: [Key; 12] = [
        Key::DataDir,
        Key::Listen,
        Key::Advertise,
        Key::Admin,
        Key::Cores,
        Key::Runtime,
        Key::Memory,
        Key::NodeId,
        Key::Insecure,
        Key::LogFormat,
        Key::LogLevel,
        Key::SlowRequest,
    ];

    /// The name in TOML and in `--set`.
    pub const fn name(self) -> &'static str {
        match self {
            Key::DataDir => "data_dir",
            Key::Listen => "listen",
            Key::Advertise => "advertise",
            Key::Admin => "admin",
            Key::Cores => "cores",
            Key::Runtime => "runtime",
            Key::Memory => "memory",
            Key::NodeId => "node_id",
            Key::Insecure => "insecure",
            Key::LogFormat => "log_format",
            Key::LogLevel => "log_level",
            Key::SlowRequest => "slow_request",
        }
    }

    /// The flag, without its dashes.
    pub const fn flag(self) -> &'static str {
        match self {
            Key::DataDir => "data-dir",
            Key::NodeId => "node-id",
            Key::LogFormat => "log-format",
            Key::LogLevel => "log-level",
            Key::SlowRequest => "slow-request",
            other => other.name(),
        }
    }

    /// The setting of this name; dashes pass for underscores.
    pub fn of(name: &str) -> Option<Key> {
        let name = name.replace('-', "_");
        Key::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The setting that Kafka calls so.
    pub fn of_kafka(name: &str) -> Option<Key> {
        match name {
            "log.dirs" | "log.dir" => Some(Key::DataDir),
            "listeners" => Some(Key::Listen),
            "advertised.listeners" => Some(Key::Advertise),
            "node.id" | "broker.id" => Some(Key::NodeId),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_key() {
        for key in Key::ALL {
            assert_eq!(Key::of(key.name()), Some(key));
            assert_eq!(Key::of(key.flag()), Some(key));
        }
    }
}
