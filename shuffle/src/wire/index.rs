//! Index entries as readers get them: 40 big-endian bytes for each block of a partition, in the order of its offsets.
//!
//! Readers take entries for back to back: an entry begins where the one before it ends. The same bytes are sent over both
//! planes.

/// The bytes of one entry.
pub const INDEX_ENTRY_BYTES: usize = 40;

/// Where a block lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub offset: i64,
    pub length: i32,
    pub uncompress_length: i32,
    pub crc: i64,
    pub block_id: i64,
    pub task_attempt_id: i64,
}

impl IndexEntry {
    pub fn to_bytes(&self) -> [u8; INDEX_ENTRY_BYTES] {
        let fields = [
            self.offset,
            // Two numbers of 32 bits are one of 64, big-endian as they are.
            (i64::from(self.length) << 32) | i64::from(self.uncompress_length.cast_unsigned()),
            self.crc,
            self.block_id,
            self.task_attempt_id,
        ];
        let mut bytes = [0; INDEX_ENTRY_BYTES];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8; INDEX_ENTRY_BYTES]) -> IndexEntry {
        let mut words = bytes.as_chunks::<8>().0.iter().map(|word| i64::from_be_bytes(*word));
        let mut next = || words.next().unwrap_or_default();
        let (offset, lengths) = (next(), next());
        IndexEntry {
            offset,
            length: (lengths >> 32) as i32,
            uncompress_length: lengths as i32,
            crc: next(),
            block_id: next(),
            task_attempt_id: next(),
        }
    }
}

/// The whole entries of an index; what is left of a cut one is passed over.
pub fn entries(index: &[u8]) -> impl Iterator<Item = IndexEntry> {
    index.as_chunks().0.iter().map(IndexEntry::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_a_cut_one_does_not() {
        let entry = IndexEntry {
            offset: 1 << 40,
            length: i32::MAX,
            uncompress_length: -2,
            crc: 0xffff_ffff,
            block_id: i64::MAX,
            task_attempt_id: -1,
        };
        let index = [entry.to_bytes(), entry.to_bytes()].concat();
        assert_eq!(entries(&index).collect::<Vec<_>>(), [entry, entry]);
        assert_eq!(entries(&index[..79]).collect::<Vec<_>>(), [entry]);
    }
}
