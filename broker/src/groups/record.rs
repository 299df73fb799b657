//! Records of `__consumer_offsets`: what of groups and committed offsets survives, in Kafka's own layout.
//!
//! The only place that knows the framing: a key is a 2-byte type and its fields, a value a 2-byte version and its fields; no
//! value means that what the key names is gone. Records of newer kinds of groups are told apart and left alone.

use crate::wire::generated::group_metadata_key::GroupMetadataKey;
pub use crate::wire::generated::group_metadata_value::GroupMetadataValue;
pub(super) use crate::wire::generated::group_metadata_value::MemberMetadata;
use crate::wire::generated::offset_commit_key::OffsetCommitKey;
pub use crate::wire::generated::offset_commit_value::OffsetCommitValue;
use crate::wire::message::Message;
use crate::wire::reader::{Reader, WireError};

/// Key types. 0 and 1 have one layout: Kafka wrote 0 when offsets had no value of their own version.
const OFFSET_OLD: i16 = 0;
const OFFSET: i16 = 1;
const GROUP: i16 = 2;

/// The versions that Kafka 4.2 writes for classic groups, and the one for an offset that expires at a time of its own.
const GROUP_VERSION: i16 = 3;
const OFFSET_VERSION: i16 = 3;
const OFFSET_EXPIRING_VERSION: i16 = 1;

/// One record. A value of `None` is a tombstone.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupRecord {
    Offset { group: String, topic: String, partition: i32, value: Option<OffsetCommitValue> },
    Group { group: String, value: Option<GroupMetadataValue> },
}

/// Why bytes are no record of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupRecordError {
    #[error("a record of __consumer_offsets does not decode: {0}")]
    Wire(#[from] WireError),
    #[error("a record of __consumer_offsets has key type {0}, which belongs to no classic group")]
    Foreign(i16),
}

impl GroupRecord {
    pub fn key(&self) -> Vec<u8> {
        match self {
            GroupRecord::Offset { group, topic, partition, .. } => {
                let (group, topic, partition) = (group.clone(), topic.clone(), *partition);
                framed(OFFSET, &OffsetCommitKey { group, topic, partition }, 0)
            }
            GroupRecord::Group { group, .. } => framed(GROUP, &GroupMetadataKey { group: group.clone() }, 0),
        }
    }

    pub fn value(&self) -> Option<Vec<u8>> {
        match self {
            GroupRecord::Offset { value, .. } => value.as_ref().map(|value| {
                let version = if value.expire_timestamp >= 0 { OFFSET_EXPIRING_VERSION } else { OFFSET_VERSION };
                framed(version, value, version)
            }),
            GroupRecord::Group { value, .. } => value.as_ref().map(|value| framed(GROUP_VERSION, value, GROUP_VERSION)),
        }
    }

    /// Reads a record of the log.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<GroupRecord, GroupRecordError> {
        let (kind, key) = split(key, "key type")?;
        match kind {
            OFFSET_OLD | OFFSET => {
                let OffsetCommitKey { group, topic, partition } = OffsetCommitKey::from_bytes(key, 0)?;
                Ok(GroupRecord::Offset { group, topic, partition, value: body(value)? })
            }
            GROUP => {
                let GroupMetadataKey { group } = GroupMetadataKey::from_bytes(key, 0)?;
                Ok(GroupRecord::Group { group, value: body(value)? })
            }
            _ => Err(GroupRecordError::Foreign(kind)),
        }
    }

    /// About how many bytes the record takes in the log.
    pub fn bytes(&self) -> usize {
        const RECORD_BYTES: usize = 16;
        RECORD_BYTES + self.key().len() + self.value().map_or(0, |value| value.len())
    }
}

fn framed<M: Message>(prefix: i16, body: &M, version: i16) -> Vec<u8> {
    body.write_onto(prefix.to_be_bytes().to_vec(), version)
}

fn split<'a>(bytes: &'a [u8], what: &'static str) -> Result<(i16, &'a [u8]), WireError> {
    let mut reader = Reader::new(bytes, false);
    let prefix = reader.i16(what)?;
    Ok((prefix, reader.take(reader.remaining(), what)?))
}

fn body<M: Message>(value: Option<&[u8]>) -> Result<Option<M>, WireError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let (version, bytes) = split(value, "value version")?;
    M::from_bytes(bytes, version).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(expire_timestamp: i64) -> GroupRecord {
        let metadata = "m".to_owned();
        let value = OffsetCommitValue {
            offset: 7,
            leader_epoch: -1,
            metadata,
            commit_timestamp: 9,
            expire_timestamp,
            ..OffsetCommitValue::default()
        };
        GroupRecord::Offset { group: "g".into(), topic: "t".into(), partition: 2, value: Some(value) }
    }

    #[test]
    fn the_layout_is_kafkas() {
        let record = offset(-1);
        assert_eq!(record.key(), [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 2]);
        let mut value = vec![0, 3];
        value.extend(7_i64.to_be_bytes());
        value.extend([0xff; 4]);
        value.extend([0, 1, b'm']);
        value.extend(9_i64.to_be_bytes());
        assert_eq!(record.value(), Some(value));
    }

    #[test]
    fn records_come_back_and_tombstones_have_no_value() {
        let group = GroupRecord::Group { group: "g".into(), value: Some(GroupMetadataValue::default()) };
        let gone = GroupRecord::Group { group: "g".into(), value: None };
        for record in [offset(-1), offset(77), group, gone] {
            let value = record.value();
            assert_eq!(GroupRecord::decode(&record.key(), value.as_deref()), Ok(record));
        }
    }

    #[test]
    fn other_kinds_of_groups_and_damage_are_told_apart() {
        assert_eq!(GroupRecord::decode(&[0, 3, 0, 1, b'g'], None), Err(GroupRecordError::Foreign(3)));
        let key = offset(-1).key();
        for cut in 0..key.len() {
            assert!(GroupRecord::decode(&key[..cut], None).is_err(), "{cut}");
        }
        assert!(GroupRecord::decode(&key, Some(&[0, 9])).is_err());
    }
}
