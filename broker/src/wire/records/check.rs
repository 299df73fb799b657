//! Whether a client's record set may be appended, from its header and checksum: one batch of magic 2, whole and alone, with
//! numbers that agree. Records inside are not looked at; size limits and producer state are the partition's business.

use watershed_core::batch::{self, BatchHeader, HEADER_BYTES, LENGTH_OVERHEAD_BYTES, MAGIC};

use super::Codec;
use crate::wire::error_code::ErrorCode;

/// The first version of Produce whose clients know zstd.
const ZSTD_FROM: i16 = 7;

/// Why a record set is refused, in the code and words that its producer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRefusal {
    pub error: ErrorCode,
    pub message: &'static str,
}

/// Judges one partition's record set of a Produce request of this version; gives the header of its only batch.
pub fn check(set: &[u8], produce_version: i16) -> Result<BatchHeader, BatchRefusal> {
    let header = whole_batch(set)?;
    if !batch::checksum_fits(set, &header) {
        return refuse(ErrorCode::CorruptMessage, "the checksum does not fit the batch");
    }
    check_codec(&header, produce_version)?;
    check_counts(&header)?;
    check_producer(&header)?;
    Ok(header)
}

/// The header of the one batch that fills the set.
fn whole_batch(set: &[u8]) -> Result<BatchHeader, BatchRefusal> {
    const INVALID: ErrorCode = ErrorCode::InvalidRecord;
    if let Some(&magic) = set.get(16)
        && magic != MAGIC
    {
        return refuse(INVALID, "only record batches of magic 2 are accepted");
    }
    if set.len() < LENGTH_OVERHEAD_BYTES {
        return refuse(INVALID, "the record set holds no batch");
    }
    let Some(header) = BatchHeader::parse(set) else {
        let is_short = set.len() < HEADER_BYTES;
        return refuse(
            if is_short { INVALID } else { ErrorCode::CorruptMessage },
            "the batch is shorter than its header",
        );
    };
    match set.len().cmp(&(header.bytes as usize)) {
        std::cmp::Ordering::Less => refuse(INVALID, "the batch is cut off"),
        std::cmp::Ordering::Greater => refuse(INVALID, "the record set holds more than one batch"),
        std::cmp::Ordering::Equal => Ok(header),
    }
}

fn check_codec(header: &BatchHeader, produce_version: i16) -> Result<(), BatchRefusal> {
    const UNSUPPORTED: ErrorCode = ErrorCode::UnsupportedCompressionType;
    match Codec::from_attributes(header.attributes) {
        None => refuse(UNSUPPORTED, "the batch names a compression that does not exist"),
        Some(Codec::Zstd) if produce_version < ZSTD_FROM => {
            refuse(UNSUPPORTED, "zstd needs Produce version 7 or later")
        }
        Some(_) => Ok(()),
    }
}

fn check_counts(header: &BatchHeader) -> Result<(), BatchRefusal> {
    const INVALID: ErrorCode = ErrorCode::InvalidRecord;
    if header.base_offset != 0 {
        return refuse(INVALID, "the base offset of a producer's batch must be 0");
    }
    if header.records_count <= 0 {
        return refuse(INVALID, "the batch holds no records");
    }
    if header.last_offset_delta != header.records_count - 1 {
        return refuse(INVALID, "the batch's last offset does not fit its number of records");
    }
    if header.is_control() {
        return refuse(INVALID, "producers may not write control batches");
    }
    if header.is_log_append_time() {
        return refuse(ErrorCode::InvalidTimestamp, "producers may not set the log append time");
    }
    Ok(())
}

fn check_producer(header: &BatchHeader) -> Result<(), BatchRefusal> {
    const INVALID: ErrorCode = ErrorCode::InvalidRecord;
    if header.producer_id == batch::NO_PRODUCER {
        if header.is_transactional() {
            return refuse(INVALID, "a transactional batch needs a producer id");
        }
        return Ok(());
    }
    if header.producer_id < 0 || header.producer_epoch < 0 || header.base_sequence < 0 {
        return refuse(INVALID, "producer id, epoch and sequence may not be negative");
    }
    Ok(())
}

pub(super) fn refuse<T>(error: ErrorCode, message: &'static str) -> Result<T, BatchRefusal> {
    Err(BatchRefusal { error, message })
}
