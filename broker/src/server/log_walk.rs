//! Reading a log of the broker's own, whole: batch after batch, record after record, from its start to its end.
//!
//! What it finds is what is in the log, durable or not: whoever builds state from it writes to that log alone. A batch that
//! is missing or cannot be opened is a fault with its place, never a gap.

use watershed_core::batch::BatchHeader;
use watershed_core::error::{Fault, Refusal};
use watershed_core::io::arena::Slice;
use watershed_core::io::executor::yield_if_needed;
use watershed_core::io::shard::{Shard, Until};
use watershed_core::units::TopicPartition;

use crate::wire::records::{Payload, Record};

/// How much of a log is read at once.
const READ_BYTES: u32 = 1 << 20;
/// Our records are not compressed; a batch that unpacks to more than itself is damage.
const UNPACKED_BYTES_MAX: usize = 0;

/// A log, and what it is called where it cannot be read.
pub(super) struct LogWalk<'s> {
    pub(super) shard: &'s Shard,
    pub(super) at: TopicPartition,
    pub(super) name: String,
}

impl LogWalk<'_> {
    /// Gives every record with its offset and its batch's header to `take`, whose error ends the walk.
    pub(super) async fn each_record(
        &self,
        mut take: impl FnMut(&BatchHeader, i64, &Record<'_>) -> Result<(), String>,
    ) -> Result<(), Fault> {
        let refused = |refusal: Refusal| self.damaged(-1, &format!("{refusal:?}"));
        let mut offset = self.shard.state(self.at).map_err(refused)?.log_start;
        while offset < self.shard.state(self.at).map_err(refused)?.log_end {
            let plan = self.shard.plan_read(self.at, offset, READ_BYTES, Until::LogEnd).map_err(refused)?;
            let slices = self.shard.read(plan).await?;
            let end = self.each_in(&slices, &mut take)?;
            offset = end.filter(|end| *end > offset).ok_or_else(|| self.damaged(offset, "batches are missing"))?;
            yield_if_needed().await;
        }
        Ok(())
    }

    /// Walks whole batches; gives the offset after the last.
    fn each_in(
        &self,
        slices: &[Slice],
        take: &mut impl FnMut(&BatchHeader, i64, &Record<'_>) -> Result<(), String>,
    ) -> Result<Option<i64>, Fault> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let mut rest = bytes.as_slice();
        let mut end = None;
        while !rest.is_empty() {
            let opened = Payload::open(rest, UNPACKED_BYTES_MAX);
            let batch = opened.map_err(|error| self.damaged(end.unwrap_or(-1), &error.to_string()))?;
            let header = batch.header();
            for record in batch.records() {
                let record = record.map_err(|error| self.damaged(header.base_offset, &error.to_string()))?;
                let offset = batch.place(&record).0;
                take(header, offset, &record).map_err(|why| self.damaged(offset, &why))?;
            }
            end = Some(header.end_offset());
            rest = rest.get(header.bytes as usize..).unwrap_or_default();
        }
        Ok(end)
    }

    fn damaged(&self, offset: i64, why: &str) -> Fault {
        Fault::Refused(format!("{} cannot be read at offset {offset}: {why}", self.name))
    }
}
