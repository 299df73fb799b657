//! A log's settings, under Kafka's names and with Kafka's defaults; only `flush.messages` differs (1: acknowledged means
//! flushed). Owns what the settings mean for one batch; never reads a configuration source.

use crate::limits::{CONTROL_REFERENCE_RUN_BYTES_MIN, REFERENCE_RUN_BYTES_MIN, SEGMENT_FILE_BYTES};

/// `message.timestamp.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// One topic's settings; shared by its partitions through an `Arc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `retention.ms`; `None` keeps for ever (Kafka's -1).
    pub retention_ms: Option<i64>,
    /// `retention.bytes`; `None` does not limit (Kafka's -1).
    pub retention_bytes: Option<u64>,
    /// `cleanup.policy` names `delete`.
    pub delete: bool,
    /// `cleanup.policy` names `compact`.
    pub compact: bool,
    /// `max.message.bytes`.
    pub max_message_bytes: u32,
    /// `flush.messages`; 1 is flush mode, anything else is relaxed; `None` is Kafka's own "never".
    pub flush_messages: Option<u64>,
    /// `flush.ms`; `None` is Kafka's own "never".
    pub flush_ms: Option<u64>,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `producer.id.expiration.ms`, a broker-wide setting.
    pub producer_expiration_ms: i64,
    /// The log of a controller or coordinator: it may use the journal's reserve and is written on a full disk too, so that
    /// deletes and commits go on.
    pub control: bool,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            delete: true,
            compact: false,
            max_message_bytes: (1 << 20) + 12,
            flush_messages: Some(1),
            flush_ms: None,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            index_interval_bytes: 4096,
            producer_expiration_ms: 24 * 3_600_000,
            control: false,
        }
    }
}

impl LogSettings {
    /// Whether a record is visible and acknowledged only once it is flushed.
    pub fn is_flush_mode(&self) -> bool {
        self.flush_messages == Some(1)
    }

    /// Where a segment ends at the latest: `segment.bytes`, but never beyond its file.
    pub fn segment_end_bytes(&self) -> u64 {
        self.segment_bytes.min(SEGMENT_FILE_BYTES)
    }

    /// Whether a run of this size is written straight into its segment.
    pub fn is_reference(&self, bytes: u32) -> bool {
        bytes >= if self.control { CONTROL_REFERENCE_RUN_BYTES_MIN } else { REFERENCE_RUN_BYTES_MIN }
    }

    /// Whether a record's timestamp lies within the bounds (Kafka 32 if not); log append time has no bounds.
    pub fn accepts_timestamp(&self, wall_ms: i64, timestamp: i64) -> bool {
        self.timestamp_type == TimestampType::LogAppendTime
            || (wall_ms.saturating_sub(timestamp) <= self.timestamp_before_max_ms
                && timestamp.saturating_sub(wall_ms) <= self.timestamp_after_max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_for_create_time_only() {
        let mut settings =
            LogSettings { timestamp_before_max_ms: 10, timestamp_after_max_ms: 5, ..LogSettings::default() };
        assert!(settings.accepts_timestamp(100, 90) && settings.accepts_timestamp(100, 105));
        assert!(!settings.accepts_timestamp(100, 89) && !settings.accepts_timestamp(100, 106));
        settings.timestamp_type = TimestampType::LogAppendTime;
        assert!(settings.accepts_timestamp(100, 10_000));
    }

    #[test]
    fn a_segment_never_outgrows_its_file() {
        let mut settings = LogSettings::default();
        assert_eq!(settings.segment_end_bytes(), SEGMENT_FILE_BYTES);
        settings.segment_bytes = 1 << 20;
        assert_eq!(settings.segment_end_bytes(), 1 << 20);
    }
}
