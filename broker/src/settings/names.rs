//! Names: our settings, and the Kafka properties that mean the same.

use super::SettingKey;

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

impl SettingKey for Key {
    const ALL: &'static [Key] = &[
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
    const FOREIGN_TABLE: Option<&'static str> = Some("kafka");

    fn name(self) -> &'static str {
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

    fn of_foreign(name: &str) -> Option<Key> {
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
        for &key in Key::ALL {
            assert_eq!(Key::of(key.name()), Some(key));
            assert_eq!(Key::of(&key.name().replace('_', "-")), Some(key));
        }
    }
}
