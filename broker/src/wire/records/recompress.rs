//! A batch in another compression, as a topic's `compression.type` asks for it.
//!
//! Owns what of a batch changes: the packed records, their codec in the attributes, length and checksum. Offsets, producer
//! id, epoch and sequence, timestamps and the other attributes stay. A batch that is opened is judged as Kafka judges one:
//! every record is read, and their offsets follow one another.

use watershed_core::batch::{BatchHeader, CHECKSUM_FROM, HEADER_BYTES, LENGTH_OVERHEAD_BYTES};
use watershed_core::checksum::crc32c;

use super::UNPACKED_BYTES_MAX;
use super::check::{BatchRefusal, refuse};
use super::compression::Packing;
use super::walk::{Payload, RecordsError};
use crate::wire::error_code::ErrorCode;

/// The batch packed anew, at most `bytes_max` long. It was checked before.
pub fn recompress(batch: &[u8], packing: Packing, bytes_max: usize) -> Result<Vec<u8>, BatchRefusal> {
    let payload = match Payload::open(batch, UNPACKED_BYTES_MAX) {
        Ok(payload) => payload,
        Err(RecordsError::TooLarge) => {
            return refuse(ErrorCode::MessageTooLarge, "the records unpack to more than the broker opens");
        }
        Err(_) => return refuse(ErrorCode::CorruptMessage, "the compressed records do not unpack"),
    };
    check_records(&payload)?;
    let head = batch.get(..HEADER_BYTES).unwrap_or_default().to_vec();
    let Ok(mut packed) = packing.pack_behind(head, payload.bytes(), bytes_max) else {
        return refuse(
            ErrorCode::MessageTooLarge,
            "the batch is larger than max.message.bytes in the topic's compression",
        );
    };
    seal(&mut packed, payload.header(), packing);
    Ok(packed)
}

fn check_records(payload: &Payload<'_>) -> Result<(), BatchRefusal> {
    const INVALID: ErrorCode = ErrorCode::InvalidRecord;
    for (expected, record) in (0..).zip(payload.records()) {
        match record {
            Ok(record) if record.offset_delta == expected => {}
            Ok(_) => return refuse(INVALID, "the offsets of the records inside the batch do not follow one another"),
            Err(_) => return refuse(INVALID, "the records inside the batch cannot be read"),
        }
    }
    Ok(())
}

/// Sets codec, length and checksum.
fn seal(batch: &mut [u8], header: &BatchHeader, packing: Packing) {
    let length = i32::try_from(batch.len() - LENGTH_OVERHEAD_BYTES).expect("a batch is bounded by max.message.bytes");
    put(batch, 8, length.to_be_bytes());
    let attributes = (header.attributes & !0x07) | packing.codec.attributes();
    put(batch, CHECKSUM_FROM, attributes.to_be_bytes());
    let crc = crc32c(batch.get(CHECKSUM_FROM..).unwrap_or_default());
    put(batch, 17, crc.to_be_bytes());
}

fn put<const N: usize>(batch: &mut [u8], at: usize, value: [u8; N]) {
    let place = batch.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
    *place.expect("every field lies inside the header") = value;
}
