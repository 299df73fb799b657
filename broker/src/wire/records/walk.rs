//! Opens a batch and walks its records.

use std::borrow::Cow;

use watershed_core::batch::{BatchHeader, HEADER_BYTES};

use super::compression::UnpackError;
use super::{Codec, ControlKind};
use crate::wire::reader::{Reader, WireError};

/// Why the inside of a batch cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    #[error("the batch is not whole")]
    NotABatch,
    #[error("no such compression")]
    UnknownCodec,
    #[error("the compressed records do not unpack")]
    Malformed,
    #[error("the records unpack to more than is allowed")]
    TooLarge,
    #[error(transparent)]
    Record(#[from] WireError),
}

/// A batch's records, unpacked.
#[derive(Clone, Debug)]
pub struct Payload<'a> {
    header: BatchHeader,
    bytes: Cow<'a, [u8]>,
}

/// One record. Its offset and timestamp are the batch's base plus the delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset_delta: i32,
    pub timestamp_delta_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    headers_count: usize,
    headers: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    pub key: &'a str,
    pub value: Option<&'a [u8]>,
}

impl<'a> Payload<'a> {
    /// Opens one whole batch; what it unpacks to may not exceed `unpacked_bytes_max`.
    pub fn open(batch: &'a [u8], unpacked_bytes_max: usize) -> Result<Payload<'a>, RecordsError> {
        let header = BatchHeader::parse(batch).ok_or(RecordsError::NotABatch)?;
        let packed = batch.get(HEADER_BYTES..header.bytes as usize).ok_or(RecordsError::NotABatch)?;
        let codec = Codec::from_attributes(header.attributes).ok_or(RecordsError::UnknownCodec)?;
        let bytes = match codec {
            Codec::None => Cow::Borrowed(packed),
            codec => codec.unpack(packed, unpacked_bytes_max).map(Cow::Owned).map_err(|error| match error {
                UnpackError::Malformed => RecordsError::Malformed,
                UnpackError::TooLarge => RecordsError::TooLarge,
            })?,
        };
        Ok(Payload { header, bytes })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records as they lie, one behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The records in order. An error is the last item; bytes after the last record are one.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, RecordsError>> {
        let mut reader = Reader::new(&self.bytes, false);
        let mut left = self.header.records_count;
        std::iter::from_fn(move || {
            if left <= 0 {
                return None;
            }
            left -= 1;
            let mut record = record(&mut reader);
            if left == 0 && record.is_ok() {
                record = reader.finish().and(record);
            }
            if record.is_err() {
                left = 0;
            }
            Some(record.map_err(RecordsError::from))
        })
    }

    /// The first record whose timestamp is at least `timestamp_ms`: its offset and timestamp.
    pub fn first_at_or_after(&self, timestamp_ms: i64) -> Result<Option<(i64, i64)>, RecordsError> {
        for record in self.records() {
            let (offset, timestamp) = self.place(&record?);
            if timestamp >= timestamp_ms {
                return Ok(Some((offset, timestamp)));
            }
        }
        Ok(None)
    }

    /// A record's offset and timestamp; with log append time every record has the batch's largest.
    pub fn place(&self, record: &Record<'_>) -> (i64, i64) {
        let header = &self.header;
        let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
        let timestamp = if header.is_log_append_time() {
            header.max_timestamp
        } else {
            header.base_timestamp.saturating_add(record.timestamp_delta_ms)
        };
        (offset, timestamp)
    }
}

impl<'a> Record<'a> {
    /// What a record of a control batch says, by the type in its key (version, type); `None` if it is of no known kind.
    pub fn control_kind(&self) -> Option<ControlKind> {
        let [_, _, high, low] = self.key?.first_chunk::<4>()?;
        ControlKind::from_type(i16::from_be_bytes([*high, *low]))
    }

    pub fn headers(&self) -> Result<Vec<RecordHeader<'a>>, RecordsError> {
        let mut reader = Reader::new(self.headers, false);
        // Each takes two bytes at least, so the count has been held against the bytes.
        let mut headers = Vec::with_capacity(self.headers_count);
        for _ in 0..self.headers_count {
            headers.push(record_header(&mut reader)?);
        }
        reader.finish()?;
        Ok(headers)
    }
}

fn record<'a>(batch: &mut Reader<'a>) -> Result<Record<'a>, WireError> {
    let at = batch.position();
    let bytes = usize::try_from(batch.varint("record length")?).map_err(|_| {
        let field = "record length";
        WireError::BadLength { field, at }
    })?;
    let mut r = Reader::new(batch.take(bytes, "record")?, false);
    r.i8("record attributes")?;
    let timestamp_delta_ms = r.varlong("timestamp delta")?;
    let offset_delta = r.varint("offset delta")?;
    let key = nullable_bytes(&mut r, "key")?;
    let value = nullable_bytes(&mut r, "value")?;
    let headers_at = r.position();
    let headers_count = usize::try_from(r.varint("headers count")?).ok();
    let headers = r.take(r.remaining(), "headers")?;
    let headers_count = headers_count
        .filter(|&count| count <= headers.len() / 2 && (count > 0 || headers.is_empty()))
        .ok_or(WireError::BadLength { field: "headers count", at: headers_at })?;
    Ok(Record { offset_delta, timestamp_delta_ms, key, value, headers_count, headers })
}

fn record_header<'a>(r: &mut Reader<'a>) -> Result<RecordHeader<'a>, WireError> {
    let field = "header key";
    let at = r.position();
    let key = nullable_bytes(r, field)?.ok_or(WireError::UnexpectedNull { field, at })?;
    let key = std::str::from_utf8(key).map_err(|_| WireError::NotUtf8 { field, at })?;
    let value = nullable_bytes(r, "header value")?;
    Ok(RecordHeader { key, value })
}

/// Bytes after a signed length; -1 is null.
fn nullable_bytes<'a>(r: &mut Reader<'a>, field: &'static str) -> Result<Option<&'a [u8]>, WireError> {
    let at = r.position();
    match r.varint(field)? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_| WireError::BadLength { field, at })?;
            r.take(length, field).map(Some)
        }
    }
}
