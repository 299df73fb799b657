//! Records of `__cluster_metadata`: the envelope around their generated layouts.
//!
//! A record's value is the envelope's version (1), the record's type and its version, all as varints, and then the layout.
//! Records are written in the newest version known here.

use super::generated as g;
use super::message::Message;
use super::reader::{Reader, Result, WireError};
use super::writer::Writer;

const ENVELOPE_VERSION: u32 = 1;

macro_rules! metadata_records {
    ($($name:ident $module:ident $record:ident;)*) => {
        /// A change of the cluster's metadata.
        #[derive(Clone, Debug, PartialEq)]
        pub enum MetadataRecord {
            $($name(g::$module::$record),)*
        }

        impl MetadataRecord {
            /// Reads a record's value.
            pub fn from_value(value: &[u8]) -> Result<MetadataRecord> {
                let (record_type, version, body) = envelope(value)?;
                match record_type {
                    $(g::$module::$record::KEY => {
                        g::$module::$record::from_bytes(body, version).map(MetadataRecord::$name)
                    })*
                    _ => Err(WireError::BadValue { field: "record type", at: 1 }),
                }
            }

            /// The record's value.
            pub fn to_value(&self) -> Vec<u8> {
                match self {
                    $(MetadataRecord::$name(record) => enveloped(record),)*
                }
            }
        }

        $(impl From<g::$module::$record> for MetadataRecord {
            fn from(record: g::$module::$record) -> MetadataRecord {
                MetadataRecord::$name(record)
            }
        })*
    };
}

metadata_records! {
    RegisterBroker register_broker_record RegisterBrokerRecord;
    Topic topic_record TopicRecord;
    Partition partition_record PartitionRecord;
    Config config_record ConfigRecord;
    PartitionChange partition_change_record PartitionChangeRecord;
    RemoveTopic remove_topic_record RemoveTopicRecord;
    FeatureLevel feature_level_record FeatureLevelRecord;
    ClientQuota client_quota_record ClientQuotaRecord;
    ProducerIds producer_ids_record ProducerIdsRecord;
    BrokerRegistrationChange broker_registration_change_record BrokerRegistrationChangeRecord;
    NoOp no_op_record NoOpRecord;
}

/// Type, version and layout bytes of a record's value.
fn envelope(value: &[u8]) -> Result<(i16, i16, &[u8])> {
    let mut r = Reader::new(value, true);
    if r.uvarint("envelope version")? != ENVELOPE_VERSION {
        let field = "envelope version";
        return Err(WireError::BadValue { field, at: 0 });
    }
    let record_type = short(&mut r, "record type")?;
    let version = short(&mut r, "record version")?;
    let body = r.take(r.remaining(), "record")?;
    Ok((record_type, version, body))
}

fn short(r: &mut Reader<'_>, field: &'static str) -> Result<i16> {
    let at = r.position();
    i16::try_from(r.uvarint(field)?).map_err(|_| WireError::BadValue { field, at })
}

fn enveloped<M: Message>(record: &M) -> Vec<u8> {
    let mut w = Writer::new(true);
    w.uvarint(ENVELOPE_VERSION);
    w.uvarint(u32::from(M::KEY.cast_unsigned()));
    w.uvarint(u32::from(M::VERSION_MAX.cast_unsigned()));
    record.write_onto(w.into_bytes(), M::VERSION_MAX)
}
