//! Record batches whose bytes say which incarnation of a partition and which value they are.

use crate::batch::{self, BatchHeader, HEADER_BYTES};
use crate::checksum::crc32c;

/// What the simulator's batches are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    pub incarnation: i32,
    pub number: u64,
    pub bytes: u32,
    pub timestamp: i64,
    pub producer_id: i64,
    pub sequence: i32,
}

impl Value {
    /// The batch as a client sends it: one record.
    pub fn encode(&self) -> Vec<u8> {
        let length = (self.bytes as usize).max(HEADER_BYTES + 12);
        let mut bytes = vec![(self.number as u8) | 1; length];
        let mut put = |at: usize, field: &[u8]| {
            for (place, byte) in bytes.iter_mut().skip(at).zip(field) {
                *place = *byte;
            }
        };
        put(0, &0i64.to_be_bytes());
        put(8, &(length as i32 - 12).to_be_bytes());
        put(12, &(-1i32).to_be_bytes());
        put(16, &[batch::MAGIC]);
        put(21, &[0; 6]);
        put(27, &self.timestamp.to_be_bytes());
        put(35, &self.timestamp.to_be_bytes());
        put(43, &self.producer_id.to_be_bytes());
        put(51, &0i16.to_be_bytes());
        put(53, &self.sequence.to_be_bytes());
        put(57, &1i32.to_be_bytes());
        put(HEADER_BYTES, &self.incarnation.to_be_bytes());
        put(HEADER_BYTES + 4, &self.number.to_be_bytes());
        let sum = crc32c(bytes.get(batch::CHECKSUM_FROM..).unwrap_or_default());
        for (place, byte) in bytes.iter_mut().skip(17).zip(sum.to_be_bytes()) {
            *place = byte;
        }
        bytes
    }

    /// The batch as a client sends it, and its header.
    pub fn batch(&self) -> (Vec<u8>, BatchHeader) {
        let bytes = self.encode();
        let header = BatchHeader::parse(&bytes).expect("a whole header");
        (bytes, header)
    }
}
