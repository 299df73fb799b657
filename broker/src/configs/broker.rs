//! The broker's properties: what it was started with, and what was set while it runs.

use std::collections::BTreeMap;

use watershed_core::spelling::nearest;

use super::broker_table::BROKER_ROWS;
use super::topic::TopicRow;
use super::topic_table::TOPIC_ROWS;
use super::value::{ConfigType, Served, Valid, boolean, check_value, same_value};

/// One of Kafka's server properties.
#[derive(Clone, Copy, Debug)]
pub struct BrokerRow {
    pub name: &'static str,
    pub kind: ConfigType,
    /// `None` is Kafka's null: another property decides.
    pub default: Option<&'static str>,
    pub valid: Valid,
    pub served: Served,
    pub documentation: &'static str,
}

/// Why a property is refused at the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertyMistake {
    /// With the name that was probably meant.
    #[error("unknown property {name}{}", .meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default())]
    Unknown { name: String, meant: Option<&'static str> },
    #[error("Invalid value {value} for configuration {name}: {why}")]
    Value { name: String, value: String, why: String },
}

/// The row of this name.
pub fn property(name: &str) -> Option<&'static BrokerRow> {
    BROKER_ROWS.iter().find(|row| row.name == name)
}

/// Properties that may be set while the broker runs besides the defaults of topics. Kafka reads all of them but
/// `producer.id.expiration.ms` at its start only; a limit of groups is nothing to restart a broker for.
const DYNAMIC: [&str; 7] = [
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "offset.metadata.max.bytes",
    "offsets.retention.minutes",
    "producer.id.expiration.ms",
];

impl BrokerRow {
    /// Whether it may be set while the broker runs: it is the default of a topic configuration, in the same unit, or
    /// one that is looked up whenever it is needed.
    pub fn is_dynamic(&self) -> bool {
        DYNAMIC.contains(&self.name) || self.is_topic_default()
    }

    fn is_topic_default(&self) -> bool {
        let synonyms = || TOPIC_ROWS.iter().flat_map(|row| row.synonyms);
        synonyms().any(|(name, scale)| *name == self.name && *scale == 1)
    }

    /// Checks one value. The error is the end of a sentence.
    pub fn check(&self, value: &str) -> Result<(), String> {
        check_value(self.kind, self.valid, value)?;
        let is_default = || {
            let default = self.default.unwrap_or_default();
            same_value(self.kind, value, default)
        };
        match self.served {
            Served::DefaultOnly(why) if !is_default() => Err(why.into()),
            _ => Ok(()),
        }
    }
}

/// The properties that a broker was started with: checked, and never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerProperties {
    given: BTreeMap<String, String>,
}

impl BrokerProperties {
    /// Checks everything and reports every mistake.
    pub fn new(given: BTreeMap<String, String>) -> Result<BrokerProperties, Vec<PropertyMistake>> {
        let mistakes: Vec<_> =
            given.iter().filter_map(|(name, value)| BrokerProperties::check(name, value).err()).collect();
        match mistakes.is_empty() {
            true => Ok(BrokerProperties { given }),
            false => Err(mistakes),
        }
    }

    /// Checks one property.
    pub fn check(name: &str, value: &str) -> Result<&'static BrokerRow, PropertyMistake> {
        let Some(row) = property(name) else {
            let name = name.to_owned();
            let meant = nearest(&name, BROKER_ROWS.iter().map(|row| row.name));
            return Err(PropertyMistake::Unknown { name, meant });
        };
        let mistake = |why| PropertyMistake::Value { name: name.to_owned(), value: value.to_owned(), why };
        row.check(value).map(|()| row).map_err(mistake)
    }

    /// What was given, by Kafka's names.
    pub fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }

    /// The value that holds, given or default; `None` is Kafka's null.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.given.get(name) {
            Some(value) => Some(value.trim()),
            None => property(name)?.default,
        }
    }

    /// A whole number that has a default. Asking for another kind of property is a bug.
    pub fn number(&self, name: &str) -> i64 {
        self.text(name)
            .and_then(|value| value.parse().ok())
            .expect("a whole number with a default, checked when it was given")
    }

    /// A switch. Asking for another kind of property is a bug.
    pub fn is_on(&self, name: &str) -> bool {
        self.text(name)
            .and_then(|value| boolean(value).ok())
            .expect("a boolean with a default, checked when it was given")
    }
}

/// The layers of a broker's configurations, the strongest first: set on it, set on all, given at the start, default.
#[derive(Clone, Copy, Debug)]
pub struct BrokerConfigs<'a> {
    pub dynamic: &'a BTreeMap<String, String>,
    pub dynamic_default: &'a BTreeMap<String, String>,
    pub properties: &'a BrokerProperties,
}

impl BrokerConfigs<'_> {
    /// A whole number that has a default, from the strongest layer that says one. Asking for another kind of property is
    /// a bug.
    pub fn number(&self, name: &str) -> i64 {
        let set = [self.dynamic, self.dynamic_default].into_iter().find_map(|layer| layer.get(name));
        match set {
            Some(value) => value.trim().parse().expect("a whole number, checked when it was set"),
            None => self.properties.number(name),
        }
    }

    /// The value of a topic configuration for topics that do not set it, in the topic's unit.
    pub(super) fn topic_default(&self, row: &TopicRow) -> String {
        let layers = [self.dynamic, self.dynamic_default, self.properties.given()];
        let set = layers
            .iter()
            .find_map(|layer| row.synonyms.iter().find_map(|(name, scale)| Some(scaled(layer.get(*name)?, *scale))));
        set.unwrap_or_else(|| row.default.to_owned())
    }
}

/// A number in a coarser unit as one of ours; -1 stays "none", and what overflows is the largest number.
fn scaled(value: &str, scale: i64) -> String {
    match value.trim().parse::<i64>() {
        Ok(number) if scale != 1 && number >= 0 => number.saturating_mul(scale).to_string(),
        Ok(number) if scale != 1 => number.to_string(),
        _ => value.to_owned(),
    }
}
