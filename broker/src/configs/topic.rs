//! A topic's configurations: rows, checks and the value that holds.

use std::collections::BTreeMap;

use watershed_core::spelling::nearest;

use super::broker::BrokerConfigs;
use super::topic_table::TOPIC_ROWS;
use super::value::{ConfigType, Served, Valid, check_value, parts, same_value};

/// One topic configuration.
#[derive(Clone, Copy, Debug)]
pub struct TopicRow {
    pub name: &'static str,
    pub kind: ConfigType,
    pub default: &'static str,
    pub valid: Valid,
    pub served: Served,
    /// The broker properties that give its default, the strongest first, and how many of our units one of theirs is.
    pub synonyms: &'static [(&'static str, i64)],
    pub documentation: &'static str,
}

/// The row of this name.
pub fn topic_row(name: &str) -> Option<&'static TopicRow> {
    TOPIC_ROWS.binary_search_by(|row| row.name.cmp(name)).ok().and_then(|at| TOPIC_ROWS.get(at))
}

impl TopicRow {
    /// Checks one value. The error is a whole sentence for the client.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let invalid = |why: String| format!("Invalid value {value} for configuration {}: {why}", self.name);
        check_value(self.kind, self.valid, value).map_err(invalid)?;
        match self.served {
            Served::DefaultOnly(why) if !same_value(self.kind, value, self.default) => Err(invalid(why.into())),
            _ if self.name == "cleanup.policy" => policy(value).map_err(invalid),
            _ => Ok(()),
        }
    }
}

fn policy(value: &str) -> Result<(), String> {
    match parts(value).any(|policy| policy == "compact") {
        true => Err("compaction is not served yet".into()),
        false => Ok(()),
    }
}

/// Checks a topic's overrides, each alone and together. The error is a sentence for the client.
pub fn validate_topic(overrides: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in overrides {
        let row = topic_row(name).ok_or_else(|| unknown(name))?;
        row.check(value)?;
    }
    Ok(())
}

fn unknown(name: &str) -> String {
    let names = TOPIC_ROWS.iter().map(|row| row.name);
    match nearest(name, names) {
        Some(meant) => format!("Unknown topic config name: {name} (did you mean {meant}?)"),
        None => format!("Unknown topic config name: {name}"),
    }
}

/// The value that holds for a topic: its own, or what the broker's properties say, or the default.
pub fn topic_value(row: &TopicRow, overrides: &BTreeMap<String, String>, broker: &BrokerConfigs<'_>) -> String {
    match overrides.get(row.name) {
        Some(value) => value.clone(),
        None => broker.topic_default(row),
    }
}
