//! Quantities: sizes ("64 MiB", "1g", "512k", "1048576"), durations ("5 s", "250ms", "7 d") and whole numbers.
//!
//! Units of sizes are powers of 1024 whatever their spelling, as in Kafka and Java; a bare number is bytes, or
//! milliseconds. Nothing overflows in silence.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

const SIZE_UNITS: [(&str, u64); 16] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1 << 30),
    ("gib", 1 << 30),
    ("t", 1 << 40),
    ("tb", 1 << 40),
    ("tib", 1 << 40),
    ("byte", 1),
    ("bytes", 1),
];

const DURATION_UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("ms", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("hours", 3_600_000),
    ("d", 86_400_000),
    ("days", 86_400_000),
];

/// The bytes that `text` says.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    parse(text, &SIZE_UNITS, "a size like 64 MiB, 1g or 1048576")
}

/// The milliseconds that `text` says.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    parse(text, &DURATION_UNITS, "a duration like 5 s, 250 ms or 7 d")
}

/// The number that `text` says, if it lies within `range`.
pub fn parse_whole<T: FromStr + PartialOrd + Display>(text: &str, range: RangeInclusive<T>) -> Result<T, String> {
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("'{text}' is not a whole number from {} to {}", range.start(), range.end()))
}

fn parse(text: &str, units: &[(&str, u64)], wanted: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let refuse = || format!("'{text}' is not {wanted}");
    let number: u64 = number.replace('_', "").parse().map_err(|_| refuse())?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
    number.checked_mul(*factor).ok_or_else(|| format!("'{text}' is too large"))
}

/// `bytes` in the largest unit that divides them, as the settings accept it again.
pub fn show_bytes(bytes: u64) -> String {
    let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift);
    match unit {
        Some((name, shift)) => format!("{} {name}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// `bytes` for people: one decimal of the largest unit.
pub(super) fn about_bytes(bytes: u64) -> String {
    let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)].into_iter().find(|(_, shift)| bytes >= 1 << shift);
    match unit {
        Some((name, shift)) => format!("{:.1} {name}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_however_spelt() {
        for (text, bytes) in [
            ("64 MiB", 64 << 20),
            ("64MB", 64 << 20),
            ("1g", 1 << 30),
            ("512 k", 512 << 10),
            ("1_048_576", 1 << 20),
            (" 7 ", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn durations_default_to_milliseconds() {
        for (text, ms) in [("5 s", 5_000), ("250ms", 250), ("7 d", 604_800_000), ("9", 9)] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        for text in ["", "MiB", "-1", "1.5g", "5 parsecs", "18446744073709551615k"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert!(parse_bytes("99999999999 t").unwrap_err().contains("too large"));
        assert!(parse_duration_ms("5 kib").is_err());
    }

    #[test]
    fn a_shown_size_parses_to_itself() {
        for bytes in [0, 1, 1023, 1024, 1536, 1 << 20, (1 << 30) + 1, 5 << 30, 3 << 40] {
            assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes));
        }
    }
}
