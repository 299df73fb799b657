//! A shuffle block as the store remembers it: 24 bytes beside its place.
//!
//! Owns the packing of the attempt id: Spark's lies in the low bits of the block id, in as many as the job's layout
//! gives it, so that only the number of bits is kept. An attempt that no known layout explains is kept by the partition.

/// What a sender says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    pub id: i64,
    /// Bytes of the block as sent.
    pub length: u32,
    pub uncompressed_length: u32,
    /// CRC-32 of the bytes as sent.
    pub crc: u32,
    pub attempt: i64,
}

/// The longest block that is taken: a client's send group has 16 MB, and its writer buffer far less.
pub const BLOCK_BYTES_MAX: u32 = (1 << 30) - 1;

/// Numbers of low bits of a block id in which clients put the attempt, the default first.
const ATTEMPT_BITS: [u32; 3] = [22, 21, 24];
/// Marks an attempt that is kept elsewhere.
const ELSEWHERE: u32 = 3;
const TAG_SHIFT: u32 = 30;

/// A block's head without its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Packed {
    pub(super) id: i64,
    pub(super) crc: u32,
    uncompressed_length: u32,
    /// The length, and above it which of `ATTEMPT_BITS` gives the attempt.
    tagged_length: u32,
}

impl Packed {
    /// The second is the attempt, if it must be kept elsewhere.
    pub(super) fn new(head: &BlockHead) -> (Packed, Option<i64>) {
        let place = ATTEMPT_BITS.iter().position(|bits| low_bits(head.id, *bits) == head.attempt);
        let tag = place.map_or(ELSEWHERE, |place| place as u32);
        let packed = Packed {
            id: head.id,
            crc: head.crc,
            uncompressed_length: head.uncompressed_length,
            tagged_length: head.length | (tag << TAG_SHIFT),
        };
        (packed, place.is_none().then_some(head.attempt))
    }

    pub(super) fn length(&self) -> u32 {
        self.tagged_length & BLOCK_BYTES_MAX
    }

    /// The attempt, unless it is kept elsewhere.
    pub(super) fn attempt(&self) -> Option<i64> {
        let bits = ATTEMPT_BITS.get((self.tagged_length >> TAG_SHIFT) as usize)?;
        Some(low_bits(self.id, *bits))
    }

    pub(super) fn head(&self, attempt: i64) -> BlockHead {
        BlockHead {
            id: self.id,
            length: self.length(),
            uncompressed_length: self.uncompressed_length,
            crc: self.crc,
            attempt,
        }
    }
}

fn low_bits(id: i64, bits: u32) -> i64 {
    id & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_takes_24_bytes_and_comes_back_whole() {
        assert_eq!(size_of::<Packed>(), 24);
        for (id, attempt) in [(4_194_308, 4), (1 << 42, 0), ((7 << 45) | (9 << 21) | 5, 5), (8_388_612, 4)] {
            let head = BlockHead { id, length: 75, uncompressed_length: 100, crc: u32::MAX, attempt };
            let (packed, elsewhere) = Packed::new(&head);
            assert_eq!(elsewhere, None, "{id}");
            assert_eq!(packed.head(packed.attempt().unwrap()), head);
        }
        let odd = BlockHead { id: 3, length: BLOCK_BYTES_MAX, uncompressed_length: 0, crc: 0, attempt: 77 };
        let (packed, elsewhere) = Packed::new(&odd);
        assert_eq!((packed.attempt(), elsewhere, packed.length()), (None, Some(77), BLOCK_BYTES_MAX));
    }
}
