//! Kafka's metadata records and their framing: frame version, type and version as unsigned varints, then the body.
//!
//! The only place that knows the frame. A record of an unknown type, version or frame is an error and never skipped: a
//! catalog built without it would be wrong.

pub use crate::wire::generated::broker_registration_change_record::BrokerRegistrationChangeRecord;
pub use crate::wire::generated::client_quota_record::{ClientQuotaRecord, EntityData};
pub use crate::wire::generated::config_record::ConfigRecord;
pub use crate::wire::generated::feature_level_record::FeatureLevelRecord;
pub use crate::wire::generated::no_op_record::NoOpRecord;
pub use crate::wire::generated::partition_change_record::PartitionChangeRecord;
pub use crate::wire::generated::partition_record::PartitionRecord;
pub use crate::wire::generated::producer_ids_record::ProducerIdsRecord;
pub use crate::wire::generated::register_broker_record::{BrokerEndpoint, BrokerFeature, RegisterBrokerRecord};
pub use crate::wire::generated::remove_topic_record::RemoveTopicRecord;
pub use crate::wire::generated::topic_record::TopicRecord;
use crate::wire::message::Message;
use crate::wire::reader::{Reader, WireError};
use crate::wire::writer::Writer;

/// The version of the frame itself.
const FRAME_VERSION: u32 = 1;

/// Why bytes are no metadata record of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a metadata record does not decode: {0}")]
    Wire(#[from] WireError),
    #[error("a metadata record has frame version {0}, this version reads {FRAME_VERSION}")]
    Frame(u32),
    #[error("metadata record type {kind} version {version} is not known to this version")]
    Unknown { kind: u32, version: u32 },
}

macro_rules! records {
    ($($variant:ident($body:ty) writes $version:literal;)*) => {
        /// One record of `__cluster_metadata`.
        #[derive(Clone, Debug, PartialEq)]
        pub enum MetadataRecord {
            $($variant($body),)*
        }

        $(impl From<$body> for MetadataRecord {
            fn from(body: $body) -> MetadataRecord {
                MetadataRecord::$variant(body)
            }
        })*

        impl MetadataRecord {
            /// The record's value in the log.
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $(MetadataRecord::$variant(body) => framed(body, $version),)*
                }
            }

            fn decode_body(kind: u32, version: u32, bytes: &[u8]) -> Result<MetadataRecord, RecordError> {
                let unknown = RecordError::Unknown { kind, version };
                let (Ok(key), Ok(at)) = (i16::try_from(kind), i16::try_from(version)) else {
                    return Err(unknown);
                };
                $(if key == <$body>::KEY && (<$body>::VERSION_MIN..=<$body>::VERSION_MAX).contains(&at) {
                    return Ok(MetadataRecord::$variant(<$body>::from_bytes(bytes, at)?));
                })*
                Err(unknown)
            }
        }
    };
}

// The written versions are those that metadata.version implies.
records! {
    RegisterBroker(RegisterBrokerRecord) writes 3;
    Topic(TopicRecord) writes 0;
    Partition(PartitionRecord) writes 1;
    Config(ConfigRecord) writes 0;
    PartitionChange(PartitionChangeRecord) writes 1;
    RemoveTopic(RemoveTopicRecord) writes 0;
    FeatureLevel(FeatureLevelRecord) writes 0;
    ClientQuota(ClientQuotaRecord) writes 0;
    ProducerIds(ProducerIdsRecord) writes 0;
    BrokerRegistrationChange(BrokerRegistrationChangeRecord) writes 2;
    NoOp(NoOpRecord) writes 0;
}

impl MetadataRecord {
    /// Reads a record's value from the log.
    pub fn decode(value: &[u8]) -> Result<MetadataRecord, RecordError> {
        let mut reader = Reader::new(value, true);
        let frame = reader.uvarint("frame version")?;
        if frame != FRAME_VERSION {
            return Err(RecordError::Frame(frame));
        }
        let kind = reader.uvarint("record type")?;
        let version = reader.uvarint("record version")?;
        let body = reader.take(reader.remaining(), "record body")?;
        MetadataRecord::decode_body(kind, version, body)
    }
}

fn framed<M: Message>(body: &M, version: i16) -> Vec<u8> {
    let mut writer = Writer::new(true);
    writer.uvarint(FRAME_VERSION);
    writer.uvarint(u32::from(M::KEY.cast_unsigned()));
    writer.uvarint(u32::from(version.cast_unsigned()));
    body.write_onto(writer.into_bytes(), version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use watershed_core::units::TopicId;

    fn topic() -> MetadataRecord {
        let topic_id = TopicId([7; 16]);
        TopicRecord { name: "foo".into(), topic_id }.into()
    }

    #[test]
    fn the_frame_is_kafkas() {
        let mut golden = vec![1, 2, 0, 4, b'f', b'o', b'o'];
        golden.extend([7; 16]);
        golden.push(0);
        assert_eq!(topic().encode(), golden);
        assert_eq!(MetadataRecord::decode(&golden), Ok(topic()));
    }

    #[test]
    fn partitions_are_written_with_directories_and_read_at_every_version() {
        let partition = PartitionRecord {
            partition_id: 3,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            directories: vec![[9; 16]],
            ..PartitionRecord::default()
        };
        let record = MetadataRecord::from(partition.clone());
        assert_eq!(MetadataRecord::decode(&record.encode()), Ok(record));
        for version in PartitionRecord::VERSION_MIN..=PartitionRecord::VERSION_MAX {
            let read = MetadataRecord::decode(&framed(&partition, version));
            assert!(matches!(read, Ok(MetadataRecord::Partition(read)) if read.partition_id == 3), "{version}");
        }
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        let with = |at: usize, byte: u8| {
            let mut bytes = topic().encode();
            bytes[at] = byte;
            MetadataRecord::decode(&bytes)
        };
        assert_eq!(with(0, 2), Err(RecordError::Frame(2)));
        let (kind, version) = (99, 0);
        assert_eq!(with(1, 99), Err(RecordError::Unknown { kind, version }));
        let (kind, version) = (2, 1);
        assert_eq!(with(2, 1), Err(RecordError::Unknown { kind, version }));
        let whole = topic().encode();
        for cut in 0..whole.len() {
            assert!(MetadataRecord::decode(&whole[..cut]).is_err(), "{cut}");
        }
    }
}
