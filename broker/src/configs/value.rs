//! What a configuration's value may be, whatever carries it.

/// A configuration's type. The numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

impl ConfigType {
    /// The number in DescribeConfigs.
    pub const fn code(self) -> i8 {
        self as i8
    }

    const fn name(self) -> &'static str {
        match self {
            ConfigType::Boolean => "BOOLEAN",
            ConfigType::String => "STRING",
            ConfigType::Int => "INT",
            ConfigType::Short => "SHORT",
            ConfigType::Long => "LONG",
            ConfigType::Double => "DOUBLE",
            ConfigType::List => "LIST",
            ConfigType::Class => "CLASS",
            ConfigType::Password => "PASSWORD",
        }
    }

    /// The range of a whole number of this type.
    const fn range(self) -> Option<(i64, i64)> {
        match self {
            ConfigType::Int => Some((i32::MIN as i64, i32::MAX as i64)),
            ConfigType::Short => Some((i16::MIN as i64, i16::MAX as i64)),
            ConfigType::Long => Some((i64::MIN, i64::MAX)),
            _ => None,
        }
    }
}

/// Which values of its type a configuration allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Valid {
    Any,
    AtLeast(i64),
    /// Both ends are allowed.
    Between(i64, i64),
    /// Between these, or the last.
    BetweenOr(i64, i64, i64),
    /// A fraction, both ends allowed.
    Fraction(f64, f64),
    OneOf(&'static [&'static str]),
    /// A list of these.
    ListOf(&'static [&'static str]),
    /// A list of `partition:broker`, or `*`.
    ThrottledReplicas,
}

/// What a configuration does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It does what Kafka says.
    Effective,
    /// Accepted and kept; the reason says why nothing has to follow from it.
    Ignored(&'static str),
    /// Only the default is accepted; the reason says why.
    DefaultOnly(&'static str),
}

/// Checks `value` against type and bounds. The error is the end of a sentence.
pub fn check_value(kind: ConfigType, valid: Valid, value: &str) -> Result<(), String> {
    let value = value.trim();
    match (kind, valid) {
        (ConfigType::Boolean, _) => boolean(value).map(drop),
        (ConfigType::Double, _) => fraction(valid, value),
        (ConfigType::List, _) => list(valid, value),
        (_, Valid::OneOf(allowed)) => one_of(allowed, value),
        _ if kind.range().is_some() => whole(kind, valid, value).map(drop),
        _ => Ok(()),
    }
}

/// A boolean as Kafka reads it: any case.
pub(super) fn boolean(value: &str) -> Result<bool, String> {
    match value.trim() {
        word if word.eq_ignore_ascii_case("true") => Ok(true),
        word if word.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("Expected value to be either true or false".into()),
    }
}

fn whole(kind: ConfigType, valid: Valid, value: &str) -> Result<i64, String> {
    let within = |(low, high): (i64, i64), n: &i64| (low..=high).contains(n);
    let number = value
        .parse()
        .ok()
        .filter(|number| kind.range().is_some_and(|range| within(range, number)))
        .ok_or_else(|| format!("Not a number of type {}", kind.name()))?;
    match valid {
        Valid::AtLeast(low) | Valid::Between(low, _) if number < low => Err(format!("Value must be at least {low}")),
        Valid::Between(_, high) if number > high => Err(format!("Value must be no more than {high}")),
        Valid::BetweenOr(low, high, other) if number != other && !(low..=high).contains(&number) => {
            Err(format!("Value must be between {low} and {high} or equal to {other}"))
        }
        _ => Ok(number),
    }
}

fn fraction(valid: Valid, value: &str) -> Result<(), String> {
    let number: f64 = value.parse().map_err(|_| "Not a number of type DOUBLE".to_owned())?;
    match valid {
        Valid::Fraction(low, high) if !(low..=high).contains(&number) => {
            Err(format!("Value must be between {low} and {high}"))
        }
        _ => Ok(()),
    }
}

fn one_of(allowed: &[&str], value: &str) -> Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(format!("String must be one of: {}", allowed.join(", ")))
}

fn list(valid: Valid, value: &str) -> Result<(), String> {
    for (place, part) in parts(value).enumerate() {
        match valid {
            Valid::ListOf(allowed) => one_of(allowed, part)?,
            Valid::ThrottledReplicas => throttled(place, part, value)?,
            _ => {}
        }
        if parts(value).take(place).any(|earlier| earlier == part) {
            return Err(format!("'{part}' is named more than once"));
        }
    }
    Ok(())
}

fn throttled(place: usize, part: &str, whole: &str) -> Result<(), String> {
    let alone = place == 0 && whole.trim() == "*";
    let pair = part
        .split_once(':')
        .is_some_and(|(partition, broker)| [partition, broker].iter().all(|n| n.parse::<u32>().is_ok()));
    match alone || pair {
        true => Ok(()),
        false => Err("Must be '*' or a list of partition:broker".into()),
    }
}

/// The parts of a list; an empty text is an empty list.
pub(crate) fn parts(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Whether two texts are the same value of a type.
pub(super) fn same_value(kind: ConfigType, one: &str, two: &str) -> bool {
    let (one, two) = (one.trim(), two.trim());
    match kind {
        ConfigType::Boolean => one.eq_ignore_ascii_case(two),
        ConfigType::Double => one.parse::<f64>().ok() == two.parse::<f64>().ok(),
        ConfigType::List => parts(one).eq(parts(two)),
        _ if kind.range().is_some() => one.parse::<i64>().ok() == two.parse::<i64>().ok(),
        _ => one == two,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_bounds() {
        let int = |valid, value| check_value(ConfigType::Int, valid, value).is_ok();
        assert!(int(Valid::AtLeast(1), "1") && !int(Valid::AtLeast(1), "0"));
        assert!(int(Valid::Between(0, 5), " 5 ") && !int(Valid::Between(0, 5), "6"));
        assert!(int(Valid::BetweenOr(1, 9, -1), "-1") && !int(Valid::BetweenOr(1, 9, -1), "0"));
        assert!(int(Valid::Any, "2147483647") && !int(Valid::Any, "2147483648"));
        for bad in ["", "1.5", "ten", "0x10"] {
            assert!(!int(Valid::Any, bad), "{bad}");
        }
        let long = check_value(ConfigType::Long, Valid::Any, "9223372036854775808");
        assert_eq!(long, Err("Not a number of type LONG".into()));
    }

    #[test]
    fn fractions_booleans_and_words() {
        let half = |value| check_value(ConfigType::Double, Valid::Fraction(0.0, 1.0), value);
        assert!(half("0.5").is_ok() && half("1").is_ok());
        assert!(half("1.01").is_err() && half("NaN").is_err() && half("x").is_err());
        let yes = |value| check_value(ConfigType::Boolean, Valid::Any, value).is_ok();
        assert!(yes("TRUE") && yes("false") && !yes("yes") && !yes(""));
        let word = |value| check_value(ConfigType::String, Valid::OneOf(&["a", "b"]), value);
        assert_eq!(word("c"), Err("String must be one of: a, b".into()));
    }

    #[test]
    fn lists_hold_known_words_once() {
        let policy = Valid::ListOf(&["compact", "delete"]);
        let list = |value| check_value(ConfigType::List, policy, value).is_ok();
        assert!(list("delete") && list("compact, delete") && list(""));
        assert!(!list("delete,delete") && !list("archive"));
        let throttle = |value| check_value(ConfigType::List, Valid::ThrottledReplicas, value).is_ok();
        assert!(throttle("") && throttle("*") && throttle("0:1,1:1"));
        assert!(!throttle("*,0:1") && !throttle("0") && !throttle("0:x"));
    }

    #[test]
    fn texts_of_the_same_value_are_equal() {
        assert!(same_value(ConfigType::Int, "007", " 7"));
        assert!(same_value(ConfigType::List, "a, b", "a,b"));
        assert!(same_value(ConfigType::Double, "0.50", "0.5"));
        assert!(!same_value(ConfigType::String, "007", "7"));
    }
}
