//! What every generated message has in common: its name, key, versions, and how to read and write a whole one.

use super::reader::{Reader, Result, WireError};
use super::writer::Writer;

/// What a layout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    /// A record of `__cluster_metadata`; the key is its type.
    Record,
    /// A part of a record: the value of a control record, a coordinator's key or value. It has no key.
    Data,
}

/// A message with one layout per version. A field that a version lacks is left at its default when read and left out when
/// written; null where a version forbids it is written as empty.
pub trait Message: Sized + Default {
    const NAME: &'static str;
    const KIND: Kind;
    /// The API key or the record type; -1 if there is none.
    const KEY: i16;
    const VERSION_MIN: i16;
    const VERSION_MAX: i16;
    /// The first version with compact lengths and tagged fields.
    const FLEXIBLE_FROM: i16;

    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self>;
    fn encode(&self, w: &mut Writer, version: i16);

    /// Says how long the client has to wait; without effect on a message that cannot say so.
    fn throttle(&mut self, _throttle_time_ms: i32) {}

    fn is_flexible(version: i16) -> bool {
        version >= Self::FLEXIBLE_FROM
    }

    /// Reads one whole message; bytes left over are an error.
    fn from_bytes(bytes: &[u8], version: i16) -> Result<Self> {
        if !(Self::VERSION_MIN..=Self::VERSION_MAX).contains(&version) {
            let name = Self::NAME;
            return Err(WireError::UnsupportedVersion { name, version });
        }
        let mut reader = Reader::new(bytes, Self::is_flexible(version));
        let message = Self::decode(&mut reader, version)?;
        reader.finish()?;
        Ok(message)
    }

    /// Appends the message to `bytes`.
    fn write_onto(&self, bytes: Vec<u8>, version: i16) -> Vec<u8> {
        debug_assert!((Self::VERSION_MIN..=Self::VERSION_MAX).contains(&version));
        let mut writer = Writer::onto(bytes, Self::is_flexible(version));
        self.encode(&mut writer, version);
        writer.into_bytes()
    }

    fn to_bytes(&self, version: i16) -> Vec<u8> {
        self.write_onto(Vec::new(), version)
    }
}
