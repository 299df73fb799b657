//! The header of a Kafka record batch, version 2: the only part of a record set that the engine reads.
//!
//! Bytes are Kafka's own, big endian; `base_offset` and `partition_leader_epoch` lie outside the batch's checksum, so the
//! owner sets them without touching the payload (`DefaultRecordBatch.java`).

use crate::checksum::{Seeded, crc32c};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes that `batch_length` does not count: base offset and itself.
pub const LENGTH_OVERHEAD_BYTES: usize = 12;
/// Where the checksum's cover begins: the attributes.
pub const CHECKSUM_FROM: usize = 21;
/// The only magic that is served.
pub const MAGIC: u8 = 2;
/// `producer_id` of a batch that is not idempotent.
pub const NO_PRODUCER: i64 = -1;

/// The attribute that says that the timestamp is the broker's.
pub const LOG_APPEND_TIME: i16 = 0x08;

/// A record batch's header as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// The whole batch, this header included.
    pub bytes: u32,
    pub leader_epoch: i32,
    pub magic: u8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads a header. `None` if there are too few bytes or the length is one that no batch can have.
    pub fn parse(bytes: &[u8]) -> Option<BatchHeader> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let length = i32::from_be_bytes(field(header, 8));
        let whole = u32::try_from(length).ok()?.checked_add(LENGTH_OVERHEAD_BYTES as u32)?;
        if (whole as usize) < HEADER_BYTES {
            return None;
        }
        let [magic] = field(header, 16);
        Some(BatchHeader {
            base_offset: i64::from_be_bytes(field(header, 0)),
            bytes: whole,
            leader_epoch: i32::from_be_bytes(field(header, 12)),
            magic,
            crc: u32::from_be_bytes(field(header, 17)),
            attributes: i16::from_be_bytes(field(header, 21)),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            producer_id: i64::from_be_bytes(field(header, 43)),
            producer_epoch: i16::from_be_bytes(field(header, 51)),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            records_count: i32::from_be_bytes(field(header, 57)),
        })
    }

    /// The offset after the batch's last.
    pub fn end_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta)).saturating_add(1)
    }

    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd; 5 to 7 are not defined.
    pub fn codec(&self) -> u8 {
        (self.attributes & 0x07) as u8
    }
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    header.get(at..).and_then(|rest| rest.first_chunk()).copied().expect("every field lies inside the header")
}

/// Whether the batch's own checksum fits its bytes; `batch` is one whole batch.
pub fn checksum_fits(batch: &[u8], header: &BatchHeader) -> bool {
    batch.get(CHECKSUM_FROM..header.bytes as usize).is_some_and(|covered| crc32c(covered) == header.crc)
}

/// Sets what the leader assigns: 12 bytes outside the checksum. `head` begins with the batch.
pub fn assign(head: &mut [u8], base_offset: i64, leader_epoch: i32) {
    if let Some(place) = head.first_chunk_mut::<8>() {
        *place = base_offset.to_be_bytes();
    }
    if let Some(place) = head.get_mut(12..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *place = leader_epoch.to_be_bytes();
    }
}

/// CRC-32C of a whole batch with its final head, without a second pass over what the batch's own checksum covers.
pub fn whole_checksum(batch: &[u8]) -> u32 {
    let Some((head, covered)) = batch.split_at_checked(CHECKSUM_FROM) else { return crc32c(batch) };
    let own = head.get(17..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_be_bytes);
    crate::checksum::combine(crc32c(head), own, covered.len() as u64)
}

/// Sets the log append time in a batch's header and its checksum anew (`message.timestamp.type=LogAppendTime`); `rest` is
/// what follows the header.
pub fn assign_log_append_time(header: &mut [u8], rest: &[u8], wall_ms: i64) {
    if let Some(low) = header.get_mut(22) {
        *low |= LOG_APPEND_TIME as u8;
    }
    if let Some(place) = header.get_mut(35..).and_then(|rest| rest.first_chunk_mut::<8>()) {
        *place = wall_ms.to_be_bytes();
    }
    let mut crc = Seeded::new(&[]);
    crc.update(header.get(CHECKSUM_FROM..).unwrap_or_default());
    crc.update(rest);
    if let Some(place) = header.get_mut(17..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *place = crc.finish().to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_append_time_changes_the_header_and_its_checksum() {
        let mut batch: Vec<u8> = vec![3; 200];
        batch[8..12].copy_from_slice(&188i32.to_be_bytes());
        let (header, rest) = batch.split_at_mut(HEADER_BYTES);
        assign_log_append_time(header, rest, 77);
        let parsed = BatchHeader::parse(&batch).unwrap();
        assert!(checksum_fits(&batch, &parsed) && parsed.is_log_append_time());
        assert_eq!(parsed.max_timestamp, 77);
    }

    #[test]
    fn the_whole_checksum_is_that_of_all_bytes() {
        let mut batch: Vec<u8> = (0..200u8).collect();
        let crc = crc32c(&batch[CHECKSUM_FROM..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(whole_checksum(&batch), crc32c(&batch));
    }
}
