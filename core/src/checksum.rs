//! CRC-32C (Castagnoli), seeded. Used by our frames, images and superblocks and by Kafka's record batches.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of two stretches one behind the other, from the checksum of each.
pub fn combine(first: u32, second: u32, second_bytes: u64) -> u32 {
    crc_fast::checksum_combine(CrcAlgorithm::Crc32Iscsi, u64::from(first), u64::from(second), second_bytes) as u32
}

/// A CRC-32C that begins with a seed, so that bytes valid in one place do not check in another.
pub struct Seeded(Digest);

impl Seeded {
    /// Starts with the words of `seed` (journal id, run, sequence, …), little endian.
    pub fn new(seed: &[u64]) -> Seeded {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        for word in seed {
            digest.update(&word.to_le_bytes());
        }
        Seeded(digest)
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> u32 {
        self.0.finalize() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn another_seed_is_another_checksum() {
        let of = |seed: u64| {
            let mut crc = Seeded::new(&[seed]);
            crc.update(b"frame");
            crc.finish()
        };
        assert_ne!(of(1), of(2));
    }
}
