//! What moves the log start: retention by time and size, and DeleteRecords.
//!
//! Never removes a record at or above the high watermark, never removes on a clock that jumped. A timestamp from the future
//! does not pin a segment beyond its append time. The active segment may go too; the next append opens one.

use crate::error::Refusal;
use crate::partition::log::{LogStart, Partition};
use crate::partition::segments::Segment;
use crate::units::Now;

/// DeleteRecords up to the high watermark.
pub const TO_HIGH_WATERMARK: i64 = -1;

/// A jump of the wall clock beyond this suspends retention.
const JUMP_MS_MAX: i64 = 3_600_000;
/// How long a jumped clock must run steadily before it is believed.
const STEADY_US_MIN: u64 = 24 * 3_600_000_000;

/// Watches the wall clock against the monotonic one; one per shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockGuard {
    believed: Option<Now>,
    jumped: Option<Now>,
}

impl ClockGuard {
    /// Looks at the clock; call it at least before every round of retention. Returns whether deletes are allowed.
    pub fn observe(&mut self, now: Now) -> bool {
        let Some(believed) = self.believed else {
            self.believed = Some(now);
            return true;
        };
        if drift_ms(believed, now).abs() <= JUMP_MS_MAX {
            self.believed = Some(now);
            self.jumped = None;
            return true;
        }
        match self.jumped {
            Some(since) if drift_ms(since, now).abs() <= JUMP_MS_MAX => {
                if now.monotonic_us.saturating_sub(since.monotonic_us) >= STEADY_US_MIN {
                    self.trust(now);
                }
            }
            _ => self.jumped = Some(now),
        }
        self.jumped.is_none()
    }

    /// An operator vouches for the clock.
    pub fn trust(&mut self, now: Now) {
        self.believed = Some(now);
        self.jumped = None;
    }

    pub fn is_suspended(&self) -> bool {
        self.jumped.is_some()
    }
}

fn drift_ms(from: Now, to: Now) -> i64 {
    let elapsed_us = to.monotonic_us.saturating_sub(from.monotonic_us);
    let elapsed_ms = i64::try_from(elapsed_us / 1000).unwrap_or(i64::MAX);
    to.wall_ms.saturating_sub(from.wall_ms).saturating_sub(elapsed_ms)
}

impl Partition {
    /// DeleteRecords: moves the log start to `offset` (-1: the high watermark) and drops whole segments below it. An offset
    /// below the log start changes nothing.
    pub fn delete_records(&mut self, offset: i64) -> Result<LogStart, Refusal> {
        self.check_open()?;
        let target = match offset {
            TO_HIGH_WATERMARK => self.high_watermark(),
            offset => offset,
        };
        if target < 0 || target > self.high_watermark() {
            return Err(Refusal::OffsetOutOfRange);
        }
        Ok(self.start_at(target))
    }

    /// Where retention moves the log start to, if anywhere: apply it with `retain_from`. The caller asks its `ClockGuard`.
    pub fn retention(&self, now: Now) -> Option<i64> {
        if !self.settings.delete || self.is_closed() {
            return None;
        }
        let by_time = self.expired_by_time(now);
        by_time.max(self.expired_by_size())
    }

    /// Applies what `retention` returned.
    pub fn retain_from(&mut self, offset: i64) -> LogStart {
        assert!(offset <= self.high_watermark(), "retention stays below the high watermark");
        self.start_at(offset)
    }

    fn expired_by_time(&self, now: Now) -> Option<i64> {
        let retention_ms = self.settings.retention_ms?;
        self.removable()
            .take_while(|segment| now.wall_ms.saturating_sub(segment.retention_timestamp()) > retention_ms)
            .last()
            .map(|segment| segment.end_offset)
    }

    fn expired_by_size(&self) -> Option<i64> {
        let mut excess = self.bytes().checked_sub(self.settings.retention_bytes?)?;
        let mut end = None;
        for segment in self.removable() {
            let Some(rest) = excess.checked_sub(segment.end_position()) else {
                break;
            };
            excess = rest;
            end = Some(segment.end_offset);
        }
        end
    }

    /// Segments that hold something, all of it below the high watermark.
    fn removable(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().take_while(|segment| {
            segment.base_offset < segment.end_offset && segment.end_offset <= self.high_watermark()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn at(monotonic_ms: i64, wall_ms: i64) -> Now {
        Now { monotonic_us: monotonic_ms as u64 * 1000, wall_ms }
    }

    #[test]
    fn a_jump_suspends_deletes_until_it_is_undone() {
        let mut guard = ClockGuard::default();
        assert!(guard.observe(at(0, 0)));
        assert!(guard.observe(at(1000, 1000 + HOUR_MS)), "an hour is tolerated");
        assert!(!guard.observe(at(2000, 3 * HOUR_MS)));
        assert!(guard.is_suspended() && !guard.observe(at(3000, 1000 + 3 * HOUR_MS)));
        assert!(guard.observe(at(4000, 4000 + HOUR_MS)));
    }

    #[test]
    fn a_clock_that_was_set_is_believed_after_a_steady_day_or_by_order() {
        let mut guard = ClockGuard::default();
        guard.observe(at(0, 0));
        assert!(!guard.observe(at(1, 100 * HOUR_MS)));
        assert!(!guard.observe(at(23 * HOUR_MS, 123 * HOUR_MS)));
        assert!(guard.observe(at(25 * HOUR_MS, 125 * HOUR_MS)));
        assert!(!guard.observe(at(25 * HOUR_MS, 0)));
        guard.trust(at(25 * HOUR_MS, 0));
        assert!(guard.observe(at(26 * HOUR_MS, HOUR_MS)));
    }
}
