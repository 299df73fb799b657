//! From configurations to what the engine's logs work with, and to how batches are packed on their way there.

use std::collections::BTreeMap;

use watershed_core::partition::{LogSettings, TimestampType};

use super::broker::BrokerConfigs;
use super::topic::{topic_row, topic_value};
use super::value::parts;
use crate::wire::records::{Codec, Packing};

/// What a topic's configurations say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    pub log: LogSettings,
    pub compression: CompressionSettings,
}

/// `compression.type` and its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressionSettings {
    /// `None` keeps what the producer sent.
    pub codec: Option<Codec>,
    pub gzip_level: i32,
    pub zstd_level: i32,
}

impl CompressionSettings {
    /// How a batch of this codec has to be packed anew; `None` if it may stay as it is.
    pub fn repacking(&self, sent: Codec) -> Option<Packing> {
        let codec = self.codec.filter(|codec| *codec != sent)?;
        Some(match codec {
            Codec::Gzip => Packing { codec, level: self.gzip_level },
            Codec::Zstd => Packing { codec, level: self.zstd_level },
            Codec::None | Codec::Snappy | Codec::Lz4 => Packing::from(codec),
        })
    }
}

/// The settings of a topic: its overrides over the broker's configurations over the defaults. Values were checked
/// when they were set.
pub fn effective_topic_settings(overrides: &BTreeMap<String, String>, broker: &BrokerConfigs<'_>) -> TopicSettings {
    let values = Values { overrides, broker };
    TopicSettings { log: log_settings(&values), compression: compression_settings(&values) }
}

fn compression_settings(values: &Values<'_>) -> CompressionSettings {
    let level = |name| i32::try_from(values.number(name)).unwrap_or_default();
    CompressionSettings {
        codec: match values.text("compression.type").trim() {
            "uncompressed" => Some(Codec::None),
            "gzip" => Some(Codec::Gzip),
            "snappy" => Some(Codec::Snappy),
            "lz4" => Some(Codec::Lz4),
            "zstd" => Some(Codec::Zstd),
            _ => None,
        },
        gzip_level: level("compression.gzip.level"),
        zstd_level: level("compression.zstd.level"),
    }
}

fn log_settings(values: &Values<'_>) -> LogSettings {
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
        producer_expiration_ms: values.broker.number("producer.id.expiration.ms"),
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
