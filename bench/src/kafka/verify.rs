//! Whether a partition's records are all there, once, in order and whole.

use anyhow::{Context, Result, ensure};
use watershed_core::batch::{BatchHeader, checksum_fits};

/// Walks the record sets of one partition in the order of their fetching.
pub(crate) struct Verifier {
    next_offset: i64,
    checks_bytes: bool,
}

impl Verifier {
    /// Expects the record of `next_offset` next. Without `checks_bytes` only headers are looked at.
    pub(crate) fn new(next_offset: i64, checks_bytes: bool) -> Verifier {
        Verifier { next_offset, checks_bytes }
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Takes the whole batches of a record set; a batch cut off at its end is left out. Gives the bytes taken.
    pub(crate) fn take(&mut self, records: &[u8]) -> Result<usize> {
        let mut at = 0;
        while let Some(header) = records.get(at..).and_then(BatchHeader::parse) {
            let Some(batch) = records.get(at..at + header.bytes as usize) else { break };
            self.take_batch(batch, &header).with_context(|| format!("the batch at offset {}", header.base_offset))?;
            at += batch.len();
        }
        Ok(at)
    }

    fn take_batch(&mut self, batch: &[u8], header: &BatchHeader) -> Result<()> {
        let next = self.next_offset;
        ensure!(header.base_offset >= next, "comes again: {next} is due");
        ensure!(header.base_offset == next, "comes too early: {next} is due");
        ensure!(header.last_offset_delta >= 0, "ends before it begins");
        ensure!(i64::from(header.records_count) == header.end_offset() - next, "counts its records wrong");
        ensure!(!self.checks_bytes || checksum_fits(batch, header), "does not fit its checksum");
        self.next_offset = header.end_offset();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use watershed_broker::wire::records::BatchBuilder;

    use super::*;

    fn batch(base_offset: i64, records: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(0).at(base_offset, 0);
        for _ in 0..records {
            builder.push(0, None, Some(b"value"));
        }
        builder.build()
    }

    #[test]
    fn dense_batches_pass_and_a_cut_one_waits() {
        let mut verifier = Verifier::new(5, true);
        let mut set = [batch(5, 2), batch(7, 3)].concat();
        let whole = set.len();
        set.extend_from_slice(&batch(10, 1)[..70]);
        assert_eq!((verifier.take(&set).unwrap(), verifier.next_offset()), (whole, 10));
        assert_eq!(verifier.take(&[]).unwrap(), 0);
    }

    #[test]
    fn gaps_repeats_and_damage_are_found() {
        let fails = |set: &[u8], words: &str| {
            let error = Verifier::new(5, true).take(set).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{error:#}");
        };
        fails(&batch(6, 1), "too early");
        fails(&[batch(5, 2), batch(6, 1)].concat(), "comes again");
        let mut damaged = batch(5, 1);
        *damaged.last_mut().unwrap() ^= 1;
        fails(&damaged, "checksum");
        assert!(Verifier::new(5, false).take(&damaged).is_ok());
    }
}
