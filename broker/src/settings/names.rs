//! Names: our settings, the Kafka properties that mean the same, and the nearest name to one that does not exist.

/// One of our settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    DataDir,
    Listen,
    Advertise,
    Admin,
    Cores,
    Memory,
    NodeId,
    Insecure,
    LogFormat,
    LogLevel,
}

impl Key {
    /// Every setting, in the order in which they are printed.
    pub const ALL: [Key; 10] = [
        Key::DataDir,
        Key::Listen,
        Key::Advertise,
        Key::Admin,
        Key::Cores,
        Key::Memory,
        Key::NodeId,
        Key::Insecure,
        Key::LogFormat,
        Key::LogLevel,
    ];

    /// The name in TOML and in `--set`.
    pub const fn name(self) -> &'static str {
        match self {
            Key::DataDir => "data_dir",
            Key::Listen => "listen",
            Key::Advertise => "advertise",
            Key::Admin => "admin",
            Key::Cores => "cores",
            Key::Memory => "memory",
            Key::NodeId => "node_id",
            Key::Insecure => "insecure",
            Key::LogFormat => "log_format",
            Key::LogLevel => "log_level",
        }
    }

    /// The flag, without its dashes.
    pub const fn flag(self) -> &'static str {
        match self {
            Key::DataDir => "data-dir",
            Key::NodeId => "node-id",
            Key::LogFormat => "log-format",
            Key::LogLevel => "log-level",
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

/// Kafka's names that [`Key::of_kafka`] knows.
pub(super) const KAFKA_NAMES: [&str; 6] =
    ["advertised.listeners", "broker.id", "listeners", "log.dir", "log.dirs", "node.id"];

/// The known name that is closest to `wrong`, if one is close enough to have been meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let flat = |name: &str| name.to_ascii_lowercase().replace(['-', '.'], "_");
    let wrong = flat(wrong);
    known
        .into_iter()
        .map(|name| (distance(&wrong, &flat(name)), name))
        .min()
        .filter(|(away, name)| *away <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

/// Levenshtein's distance in bytes.
fn distance(one: &str, two: &str) -> usize {
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (above, left) in one.bytes().enumerate() {
        let mut diagonal = above;
        let mut last = above + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(two.bytes()) {
            let changed = diagonal + usize::from(left != right);
            diagonal = *cell;
            last = changed.min(diagonal + 1).min(last + 1);
            *cell = last;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or(one.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (one, two, away) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(one, two), away, "{one} {two}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["listen", "data_dir", "num.partitions"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("data-dirs", known), Some("data_dir"));
        assert_eq!(nearest("num.partition", known), Some("num.partitions"));
        assert_eq!(nearest("zookeeper.connect", known), None);
    }

    #[test]
    fn every_name_finds_its_key() {
        for key in Key::ALL {
            assert_eq!(Key::of(key.name()), Some(key));
            assert_eq!(Key::of(key.flag()), Some(key));
        }
        assert!(KAFKA_NAMES.iter().all(|name| Key::of_kafka(name).is_some()));
    }
}
