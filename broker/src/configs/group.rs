//! The configurations of groups in Kafka 4.2. All belong to group protocols that are not served: a classic group's timeouts
//! come from its members. So each has its default, may be set to it, and is refused with the reason otherwise.

use std::collections::BTreeMap;

use watershed_core::spelling::nearest;

use super::describe::{ConfigEntry, ConfigSource, Synonym};
use super::value::{ConfigType, Valid, check_value, same_value};

const NO_CONSUMER: &str =
    "the new group protocol is not served yet, and a classic group's timeouts come from its members";
const NO_SHARE: &str = "share groups are not served yet";
const NO_STREAMS: &str = "streams groups are not served yet";

/// One group configuration.
#[derive(Clone, Copy, Debug)]
pub struct GroupRow {
    pub name: &'static str,
    pub kind: ConfigType,
    pub default: &'static str,
    pub valid: Valid,
    /// Why only the default is served.
    pub why: &'static str,
    pub documentation: &'static str,
}

macro_rules! rows {
    ($($name:literal $kind:ident = $default:literal, $valid:expr, $why:expr, $doc:literal;)*) => {
        /// Every group configuration, in the order of names.
        pub const GROUP_ROWS: &[GroupRow] = &[$(GroupRow {
            name: $name,
            kind: ConfigType::$kind,
            default: $default,
            valid: $valid,
            why: $why,
            documentation: $doc,
        }),*];
    };
}

rows! {
    "consumer.heartbeat.interval.ms" Int = "5000", Valid::AtLeast(1), NO_CONSUMER, "How often a member of a consumer group sends a heartbeat.";
    "consumer.session.timeout.ms" Int = "45000", Valid::AtLeast(1), NO_CONSUMER, "How long a member of a consumer group may be silent.";
    "share.auto.offset.reset" String = "latest", Valid::Any, NO_SHARE, "Where a share group begins to read.";
    "share.heartbeat.interval.ms" Int = "5000", Valid::AtLeast(1), NO_SHARE, "How often a member of a share group sends a heartbeat.";
    "share.isolation.level" String = "read_uncommitted", Valid::OneOf(&["read_committed", "read_uncommitted"]), NO_SHARE, "Whether a share group reads records of open transactions.";
    "share.record.lock.duration.ms" Int = "30000", Valid::AtLeast(1000), NO_SHARE, "How long a record belongs to the member that took it.";
    "share.session.timeout.ms" Int = "45000", Valid::AtLeast(1), NO_SHARE, "How long a member of a share group may be silent.";
    "streams.heartbeat.interval.ms" Int = "5000", Valid::AtLeast(1), NO_STREAMS, "How often a member of a streams group sends a heartbeat.";
    "streams.initial.rebalance.delay.ms" Int = "3000", Valid::AtLeast(0), NO_STREAMS, "How long a new streams group waits for more members.";
    "streams.num.standby.replicas" Int = "0", Valid::AtLeast(0), NO_STREAMS, "Standby copies of each stateful task.";
    "streams.session.timeout.ms" Int = "45000", Valid::AtLeast(1), NO_STREAMS, "How long a member of a streams group may be silent.";
}

/// The row of this name.
pub fn group_row(name: &str) -> Option<&'static GroupRow> {
    GROUP_ROWS.iter().find(|row| row.name == name)
}

/// Checks what is set on a group. The error is a sentence for the client.
pub fn validate_group(overrides: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in overrides {
        let Some(row) = group_row(name) else {
            let meant = nearest(name, GROUP_ROWS.iter().map(|row| row.name));
            let meant = meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
            return Err(format!("Unknown group config name: {name}{meant}"));
        };
        let invalid = |why: String| format!("Invalid value {value} for configuration {name}: {why}");
        check_value(row.kind, row.valid, value).map_err(invalid)?;
        if !same_value(row.kind, value, row.default) {
            return Err(invalid(row.why.to_owned()));
        }
    }
    Ok(())
}

/// Every configuration of a group, in the order of names.
pub fn describe_group(overrides: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    let entry = |row: &'static GroupRow| {
        let own = overrides.get(row.name);
        let synonym = |value: &str, source| Synonym { name: row.name, value: Some(value.to_owned()), source };
        let set = own.map(|value| synonym(value, ConfigSource::DynamicGroup));
        ConfigEntry {
            name: row.name,
            value: Some(own.map_or(row.default, String::as_str).to_owned()),
            read_only: false,
            source: set.as_ref().map_or(ConfigSource::Default, |set| set.source),
            sensitive: false,
            synonyms: set.into_iter().chain([synonym(row.default, ConfigSource::Default)]).collect(),
            kind: row.kind,
            documentation: row.documentation,
        }
    };
    GROUP_ROWS.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_may_be_set_and_all_else_has_its_reason() {
        let set = |name: &str, value: &str| validate_group(&BTreeMap::from([(name.to_owned(), value.to_owned())]));
        for row in GROUP_ROWS {
            assert_eq!(set(row.name, row.default), Ok(()), "{}", row.name);
        }
        assert!(set("consumer.session.timeout.ms", "46000").is_err_and(|why| why.contains("its members")));
        assert!(set("consumer.session.timeout.ms", "many").is_err_and(|why| why.contains("many")));
        assert!(set("consumer.session.timeout", "1").is_err_and(|why| why.contains("did you mean")));
    }
}
