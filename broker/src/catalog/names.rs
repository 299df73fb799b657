//! The rules for topic names.

use super::rejection::{Outcome, refuse};
use crate::wire::error_code::ErrorCode;

/// The longest name that Kafka allows: its directory's name must fit a file system.
const NAME_BYTES_MAX: usize = 249;
/// The catalog's own log; never a topic that a client may create.
pub(super) const CLUSTER_METADATA: &str = "__cluster_metadata";
const CONSUMER_OFFSETS: &str = "__consumer_offsets";
const INTERNAL: [&str; 3] = [CONSUMER_OFFSETS, "__share_group_state", "__transaction_state"];

/// Whether clients may not produce to the topic of this name.
pub fn is_internal(name: &str) -> bool {
    name == CLUSTER_METADATA || INTERNAL.contains(&name)
}

/// The configurations that a coordinator's topic has from the start, as in Kafka. No cleaner compacts it: its coordinator
/// writes what is live anew.
pub(super) fn own_configs(name: &str) -> impl Iterator<Item = (String, String)> {
    let configs: &[(&str, &str)] = match name {
        CONSUMER_OFFSETS => {
            &[("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")]
        }
        _ => &[],
    };
    configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

/// Checks a new topic's name by itself.
pub(crate) fn check(name: &str) -> Outcome<()> {
    let fault = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        "'.' and '..' are not allowed".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("it is {} bytes long, the limit is {NAME_BYTES_MAX}", name.len())
    } else if !name.bytes().all(is_legal) {
        format!("'{name}' has characters other than ASCII letters, digits, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    refuse(ErrorCode::InvalidTopic, format!("Topic name is invalid: {fault}"))
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// What two names may not have in common: metrics write '.' as '_'.
pub(super) fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_their_edges() {
        for good in ["a", "a.b_c-D9", "...", &"x".repeat(249)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a\0", &"x".repeat(250)] {
            assert_eq!(check(bad).map_err(|r| r.code), Err(ErrorCode::InvalidTopic), "{bad}");
        }
    }

    #[test]
    fn only_kafkas_own_topics_are_internal() {
        assert!(is_internal("__consumer_offsets") && is_internal("__cluster_metadata"));
        assert!(!is_internal("__my_topic"));
    }
}
