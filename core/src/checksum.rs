//! CRC-32C (Castagnoli), seeded. Used by our frames, images and superblocks and by Kafka's record batches.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of two stretches one behind the other, from the checksum of each: the first one times x to the number of
/// the second one's bits, in the field of the polynomial.
pub fn combine(first: u32, second: u32, second_bytes: u64) -> u32 {
    let (mut shifted, mut power, mut rest) = (first, X_TO_8, second_bytes);
    while rest > 0 {
        if rest & 1 == 1 {
            shifted = multiply(shifted, power);
        }
        power = multiply(power, power);
        rest >>= 1;
    }
    shifted ^ second
}

/// Castagnoli's polynomial without its highest term; the coefficient of x^0 is the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// What one byte behind a stretch multiplies its checksum with.
const X_TO_8: u32 = 0x0080_0000;

/// The product of two polynomials modulo ours.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        if (a >> bit) & 1 == 1 {
            product ^= b;
        }
        b = (b >> 1) ^ (POLYNOMIAL * (b & 1));
    }
    product
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
    fn checksums_are_combined_over_any_length() {
        let bytes: Vec<u8> = (0..70_000u32).map(|at| (at * 7 % 251) as u8).collect();
        for split in [0, 1, 21, 4096, 65_535, 70_000] {
            let (first, second) = bytes.split_at(split);
            assert_eq!(combine(crc32c(first), crc32c(second), second.len() as u64), crc32c(&bytes));
        }
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
