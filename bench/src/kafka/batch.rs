//! A record batch encoded once and sent many times, with its first bytes apart so that they can differ.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use watershed_broker::wire::records::BatchBuilder;
use watershed_core::batch::{CHECKSUM_FROM, HEADER_BYTES};
use watershed_core::checksum::Seeded;

use crate::load::Shared;
use crate::payload::half_random;

/// Stands where the first record's stamp goes.
const MARK: [u8; 8] = *b"\xfe\xedstamp\x01";
/// Room for what a record has besides its value.
const RECORD_OVERHEAD_BYTES: usize = 16;

/// A batch in two pieces: the lead, copied into each request, and the rest, shared by all.
#[derive(Clone)]
pub(crate) struct Template {
    lead: Vec<u8>,
    rest: Shared,
    stamp_at: usize,
    pub(crate) records: i32,
}

impl Template {
    /// A batch of about `bytes` with `records` records of equal size.
    pub(crate) fn new(bytes: usize, records: usize, seed: u64) -> Template {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let records = records.max(1);
        let value_bytes = (bytes.saturating_sub(HEADER_BYTES) / records).saturating_sub(RECORD_OVERHEAD_BYTES);
        let mut builder = BatchBuilder::new(now_ms);
        for index in 0..records {
            let mut value = half_random(value_bytes.max(MARK.len()), seed + index as u64);
            if let Some(place) = value.first_chunk_mut::<8>().filter(|_| index == 0) {
                *place = MARK;
            }
            builder.push(now_ms, None, Some(&value));
        }
        let batch = builder.build();
        let stamp_at = batch.windows(MARK.len()).position(|window| window == MARK).expect("the mark was put there");
        let (lead, rest) = batch.split_at(stamp_at + MARK.len());
        Template { lead: lead.to_vec(), rest: Arc::from(rest), stamp_at, records: records as i32 }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lead.len() + self.rest.len()
    }

    pub(crate) fn rest(&self) -> Shared {
        self.rest.clone()
    }

    pub(crate) fn lead(&self) -> &[u8] {
        &self.lead
    }

    /// Makes the next request's lead differ: who produces it, from which sequence, and when.
    pub(crate) fn mark(&mut self, producer: Option<(i64, i16, i32)>, stamp: Option<Duration>) {
        if let Some((id, epoch, sequence)) = producer {
            put(&mut self.lead, 43, &id.to_be_bytes());
            put(&mut self.lead, 51, &epoch.to_be_bytes());
            put(&mut self.lead, 53, &sequence.to_be_bytes());
        }
        if let Some(stamp) = stamp {
            let nanoseconds = u64::try_from(stamp.as_nanos()).unwrap_or(u64::MAX);
            put(&mut self.lead, self.stamp_at, &nanoseconds.to_be_bytes());
        }
        let mut checksum = Seeded::new(&[]);
        checksum.update(self.lead.get(CHECKSUM_FROM..).unwrap_or_default());
        checksum.update(&self.rest);
        put(&mut self.lead, 17, &checksum.finish().to_be_bytes());
    }

    /// When a fetched batch of this shape was stamped; counted from `origin`.
    pub(crate) fn stamp_of(&self, batch: &[u8], origin: Instant) -> Option<Instant> {
        let stamp = batch.get(self.stamp_at..)?.first_chunk::<8>()?;
        origin.checked_add(Duration::from_nanos(u64::from_be_bytes(*stamp)))
    }
}

fn put(lead: &mut [u8], at: usize, bytes: &[u8]) {
    lead.get_mut(at..at + bytes.len()).expect("the lead is longer than a batch's header").copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use watershed_broker::wire::records::check;

    use super::*;

    #[test]
    fn a_marked_batch_is_valid_and_says_who_and_when() {
        let (origin, stamp) = (Instant::now(), Duration::from_micros(1234));
        let mut template = Template::new(10_000, 10, 1);
        template.mark(Some((77, 3, 20)), Some(stamp));
        let batch = [template.lead(), &template.rest()].concat();
        let header = check(&batch, 8).unwrap();
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (77, 3, 20));
        assert_eq!((header.records_count, header.bytes as usize), (10, template.bytes()));
        assert!((9_000..=10_000).contains(&template.bytes()), "{}", template.bytes());
        assert_eq!(template.stamp_of(&batch, origin), Some(origin + stamp));
    }
}
