//! Configurations as DescribeConfigs and CreateTopics tell them: every value with its source and what it overrides.

use std::collections::BTreeMap;

use super::broker::{BrokerConfigs, BrokerRow};
use super::broker_table::BROKER_ROWS;
use super::topic::{TopicRow, topic_value};
use super::topic_table::TOPIC_ROWS;
use super::value::ConfigType;

/// Where a value comes from. The numbers are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    DynamicTopic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    DynamicGroup = 8,
}

impl ConfigSource {
    pub const fn code(self) -> i8 {
        self as i8
    }
}

/// A value at one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    /// `None` if it is null or secret.
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// One configuration of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: &'static str,
    /// `None` if it is null or secret.
    pub value: Option<String>,
    pub read_only: bool,
    pub source: ConfigSource,
    pub sensitive: bool,
    /// Every layer that has a value, the one that holds first.
    pub synonyms: Vec<Synonym>,
    pub kind: ConfigType,
    pub documentation: &'static str,
}

/// Every configuration of a topic with these overrides, in the order of names.
pub fn describe_topic(overrides: &BTreeMap<String, String>, broker: &BrokerConfigs<'_>) -> Vec<ConfigEntry> {
    let entry = |row: &'static TopicRow| {
        let synonyms = topic_synonyms(row, overrides, broker);
        ConfigEntry {
            name: row.name,
            value: Some(topic_value(row, overrides, broker)),
            read_only: false,
            source: strongest(&synonyms),
            sensitive: false,
            synonyms,
            kind: row.kind,
            documentation: row.documentation,
        }
    };
    TOPIC_ROWS.iter().map(entry).collect()
}

/// Every property of the broker, in the order of names.
pub fn describe_broker(broker: &BrokerConfigs<'_>) -> Vec<ConfigEntry> {
    let entry = |row: &'static BrokerRow| {
        let sensitive = row.kind == ConfigType::Password;
        let mut synonyms = broker_synonyms(row, broker);
        if sensitive {
            synonyms.iter_mut().for_each(|synonym| synonym.value = None);
        }
        ConfigEntry {
            name: row.name,
            value: synonyms.first().and_then(|first| first.value.clone()),
            read_only: !row.is_dynamic(),
            source: strongest(&synonyms),
            sensitive,
            synonyms,
            kind: row.kind,
            documentation: row.documentation,
        }
    };
    BROKER_ROWS.iter().map(entry).collect()
}

/// What was set on all brokers, in the order of names.
pub fn describe_broker_defaults(broker: &BrokerConfigs<'_>) -> Vec<ConfigEntry> {
    let mut entries = describe_broker(broker);
    entries.retain(|entry| broker.dynamic_default.contains_key(entry.name));
    for entry in &mut entries {
        entry.synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
        entry.source = ConfigSource::DynamicDefaultBroker;
        entry.value = entry.synonyms.first().and_then(|first| first.value.clone());
    }
    entries
}

fn strongest(synonyms: &[Synonym]) -> ConfigSource {
    synonyms.first().map_or(ConfigSource::Default, |first| first.source)
}

fn topic_synonyms(
    row: &'static TopicRow,
    overrides: &BTreeMap<String, String>,
    broker: &BrokerConfigs<'_>,
) -> Vec<Synonym> {
    let own = overrides.get(row.name).map(|value| Synonym {
        name: row.name,
        value: Some(value.clone()),
        source: ConfigSource::DynamicTopic,
    });
    let mut synonyms: Vec<Synonym> = own.into_iter().collect();
    let names = || row.synonyms.iter().map(|(name, _)| *name);
    for (layer, source) in layers(broker) {
        synonyms.extend(names().filter_map(|name| at_layer(name, layer, source)));
    }
    synonyms.extend(names().filter_map(default_of));
    synonyms
}

/// The property's own values, and behind them those of properties that say the same in another unit. What stands before
/// its first own value is not told, as in Kafka.
fn broker_synonyms(row: &'static BrokerRow, broker: &BrokerConfigs<'_>) -> Vec<Synonym> {
    let units = TOPIC_ROWS.iter().find(|topic| topic.synonyms.iter().any(|(name, _)| *name == row.name));
    let names: Vec<&'static str> =
        units.map_or(vec![row.name], |topic| topic.synonyms.iter().map(|(name, _)| *name).collect());
    let mut synonyms: Vec<Synonym> = Vec::new();
    for (layer, source) in layers(broker) {
        synonyms.extend(names.iter().filter_map(|name| at_layer(name, layer, source)));
    }
    synonyms.extend(names.iter().filter_map(|name| default_of(name)));
    synonyms.into_iter().skip_while(|synonym| synonym.name != row.name).collect()
}

fn layers<'a>(broker: &BrokerConfigs<'a>) -> [(&'a BTreeMap<String, String>, ConfigSource); 3] {
    [
        (broker.dynamic, ConfigSource::DynamicBroker),
        (broker.dynamic_default, ConfigSource::DynamicDefaultBroker),
        (broker.properties.given(), ConfigSource::StaticBroker),
    ]
}

fn at_layer(name: &'static str, layer: &BTreeMap<String, String>, source: ConfigSource) -> Option<Synonym> {
    let value = Some(layer.get(name)?.clone());
    Some(Synonym { name, value, source })
}

fn default_of(name: &'static str) -> Option<Synonym> {
    let value = super::broker::property(name)?.default?.to_owned();
    Some(Synonym { name, value: Some(value), source: ConfigSource::Default })
}
