//! Moments on the command line: `2026-11-24T12:30:00Z`, milliseconds since 1970, or a duration that is over (`-1 h`).

use std::time::{SystemTime, UNIX_EPOCH};

use crate::settings::parse_duration_ms;

const DAY_MS: i64 = 86_400_000;

/// The time now.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The moment that `text` says, in milliseconds since 1970.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    parse_at(text, now_ms())
}

fn parse_at(text: &str, now_ms: i64) -> Result<i64, String> {
    let text = text.trim();
    if let Some(ago) = text.strip_prefix('-') {
        let ago_ms = i64::try_from(parse_duration_ms(ago)?).map_err(|_| format!("'{text}' is too long ago"))?;
        return Ok(now_ms.saturating_sub(ago_ms));
    }
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    date_time(text).ok_or_else(|| {
        format!("'{text}' is no time like 2026-11-24T12:30:00Z, 1764000000000 (ms) or '-1 h' (an hour ago)")
    })
}

/// A date, or a date and a time with an offset; without one it is UTC.
fn date_time(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let is_date = parts.next().is_none() && (1970..=9999).contains(&year) && (1..=12).contains(&month);
    if !is_date || !(1..=31).contains(&day) {
        return None;
    }
    let (clock, offset_ms) = split_offset(time)?;
    Some(days(year, month, day) * DAY_MS + clock_ms(clock)? - offset_ms)
}

fn split_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix('Z') {
        return Some((clock, 0));
    }
    let Some(at) = time.rfind(['+', '-']) else { return Some((time, 0)) };
    let (clock, offset) = time.split_at_checked(at)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    Some((clock, sign * clock_ms(offset.get(1..)?)?))
}

/// `HH:MM[:SS[.mmm]]`
fn clock_ms(clock: &str) -> Option<i64> {
    let mut parts = clock.split(':');
    let whole = |part: Option<&str>, below: i64| part?.parse::<i64>().ok().filter(|value| (0..below).contains(value));
    let (hours, minutes) = (whole(parts.next(), 24)?, whole(parts.next(), 60)?);
    let seconds = match parts.next() {
        Some(text) => text.parse::<f64>().ok().filter(|value| (0.0..60.0).contains(value))?,
        None => 0.0,
    };
    let rest_ms = (seconds * 1000.0).round() as i64;
    parts.next().is_none().then_some((hours * 60 + minutes) * 60_000 + rest_ms)
}

/// Days since 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_milliseconds_since_1970() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("1970-01-02T00:00:00Z", DAY_MS),
            ("2000-02-29T12:00Z", 951_825_600_000),
            ("2026-11-24T12:30:00.250Z", 1_795_523_400_250),
            ("2026-11-24T13:30:00.250+01:00", 1_795_523_400_250),
            ("2026-11-24 07:30:00.25-05:00", 1_795_523_400_250),
            ("1764000000000", 1_764_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn a_duration_counts_back_from_now() {
        assert_eq!(parse_at("-1 h", 3_600_001), Ok(1));
        assert!(parse("-soon").is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "yesterday", "2026-13-01", "2026-11-24T25:00", "2026-11-24T12:00:00Q", "2026-11", "12:00"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
