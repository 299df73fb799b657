//! Bytes to send: half of them random, so that neither compression nor its absence flatters anyone.

/// `bytes` bytes, alternately 16 random ones and 16 that repeat.
pub(crate) fn half_random(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut payload = Vec::with_capacity(bytes + 32);
    while payload.len() < bytes {
        payload.extend_from_slice(&random.next().to_le_bytes());
        payload.extend_from_slice(&random.next().to_le_bytes());
        payload.extend_from_slice(b"watershed-bench ");
    }
    payload.truncate(bytes);
    payload
}

/// A small generator (xorshift64*): the same seed gives the same load.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_spread_over_their_range() {
        let mut random = Random::new(7);
        let mut hits = [0u32; 16];
        for _ in 0..16_000 {
            hits[random.below(16) as usize] += 1;
        }
        assert!(hits.iter().all(|&count| (850..1150).contains(&count)), "{hits:?}");
    }

    #[test]
    fn payloads_have_their_length_and_differ_by_seed() {
        assert_eq!(half_random(1000, 1).len(), 1000);
        assert_ne!(half_random(64, 1), half_random(64, 2));
    }
}
