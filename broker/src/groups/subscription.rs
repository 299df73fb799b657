//! Subscriptions: the one thing that is read of a consumer's metadata, the topics that it wants.

use std::collections::BTreeSet;

use crate::wire::reader::{Reader, WireError};

/// The protocol type whose metadata is a subscription (`ConsumerProtocol`).
pub(super) const CONSUMER: &str = "consumer";

const NAME_BYTES_MIN: usize = 2;

/// The topics of a subscription of any version: each begins with a version and the topics, and what follows is left alone.
pub(super) fn topics(metadata: &[u8]) -> Result<BTreeSet<String>, WireError> {
    let mut reader = Reader::new(metadata, false);
    reader.i16("version")?;
    let topics = reader.array("topics", NAME_BYTES_MIN, |reader| reader.string("topic"))?;
    Ok(topics.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_whatever_follows() {
        let mut metadata = vec![0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 1, b'b'];
        let wanted = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(topics(&metadata), Ok(wanted.clone()));
        metadata.extend([1, 2, 3]);
        assert_eq!(topics(&metadata), Ok(wanted));
    }

    #[test]
    fn a_count_that_cannot_be_is_refused() {
        assert!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff]).is_err());
        assert!(topics(&[]).is_err());
    }
}
