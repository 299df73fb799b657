//! From configurations to what the engine's logs work with.

use std::collections::BTreeMap;

use watershed_core::partition::{LogSettings, TimestampType};

use super::broker::BrokerConfigs;
use super::topic::{topic_row, topic_value};
use super::value::parts;

/// The settings of a topic's logs: its overrides over the broker's configurations over the defaults. Values were checked
/// when they were set.
pub fn effective_topic_settings(overrides: &BTreeMap<String, String>, broker: &BrokerConfigs<'_>) -> LogSettings {
    let values = Values { overrides, broker };
    let policy = values.text("cleanup.policy");
    let has = |wanted| parts(&policy).any(|part| part == wanted);
    let append_time = values.text("message.timestamp.type").trim() == "LogAppendTime";
    LogSettings {
        segment_bytes: values.count("segment.bytes"),
        segment_ms: values.number("segment.ms"),
        retention_ms: values.unless_negative("retention.ms"),
        retention_bytes: values.unless_negative("retention.bytes").map(i64::cast_unsigned),
        delete: has("delete"),
        compact: has("compact"),
        max_message_bytes: u32::try_from(values.number("max.message.bytes")).unwrap_or(u32::MAX),
        flush_messages: values.unless_max("flush.messages"),
        flush_ms: values.unless_max("flush.ms"),
        timestamp_type: match append_time {
            true => TimestampType::LogAppendTime,
            false => TimestampType::CreateTime,
        },
        timestamp_before_max_ms: values.number("message.timestamp.before.max.ms"),
        timestamp_after_max_ms: values.number("message.timestamp.after.max.ms"),
        index_interval_bytes: u32::try_from(values.number("index.interval.bytes")).unwrap_or(u32::MAX),
        producer_expiration_ms: broker.number("producer.id.expiration.ms"),
        control: false,
    }
}

struct Values<'a> {
    overrides: &'a BTreeMap<String, String>,
    broker: &'a BrokerConfigs<'a>,
}

impl Values<'_> {
    fn text(&self, name: &str) -> String {
        let row = topic_row(name).expect("a name in the table");
        topic_value(row, self.overrides, self.broker)
    }

    fn number(&self, name: &str) -> i64 {
        let text = self.text(name);
        text.trim().parse().expect("a whole number, checked when it was set")
    }

    fn count(&self, name: &str) -> u64 {
        u64::try_from(self.number(name)).unwrap_or_default()
    }

    /// Kafka's -1 is "none".
    fn unless_negative(&self, name: &str) -> Option<i64> {
        Some(self.number(name)).filter(|&number| number >= 0)
    }

    /// Kafka's largest number is "never".
    fn unless_max(&self, name: &str) -> Option<u64> {
        Some(self.count(name)).filter(|&count| count != i64::MAX.cast_unsigned())
    }
}
