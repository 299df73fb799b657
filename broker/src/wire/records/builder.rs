//! Builds batches: metadata records, control batches, and what tests and our own clients send.

use watershed_core::batch::{HEADER_BYTES, LENGTH_OVERHEAD_BYTES, MAGIC, NO_PRODUCER};
use watershed_core::checksum::crc32c;

use super::compression::Packing;
use crate::wire::writer::Writer;

/// What a control record says; the number is its key's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum ControlKind {
    Abort = 0,
    Commit = 1,
    LeaderChange = 2,
    SnapshotHeader = 3,
    SnapshotFooter = 4,
}

impl ControlKind {
    pub(super) fn from_type(number: i16) -> Option<ControlKind> {
        let kinds = [
            ControlKind::Abort,
            ControlKind::Commit,
            ControlKind::LeaderChange,
            ControlKind::SnapshotHeader,
            ControlKind::SnapshotFooter,
        ];
        kinds.into_iter().find(|kind| *kind as i16 == number)
    }
}

/// A batch under construction. Base offset and leader epoch are 0 until given: they lie outside the checksum.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    attributes: i16,
    base_offset: i64,
    leader_epoch: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    records_count: i32,
    records: Writer,
}

impl BatchBuilder {
    /// A batch whose timestamps count from `base_timestamp_ms`.
    pub fn new(base_timestamp_ms: i64) -> BatchBuilder {
        BatchBuilder {
            attributes: 0,
            base_offset: 0,
            leader_epoch: 0,
            base_timestamp_ms,
            max_timestamp_ms: base_timestamp_ms,
            producer_id: NO_PRODUCER,
            producer_epoch: -1,
            base_sequence: -1,
            records_count: 0,
            records: Writer::new(false),
        }
    }

    pub fn at(mut self, base_offset: i64, leader_epoch: i32) -> BatchBuilder {
        self.base_offset = base_offset;
        self.leader_epoch = leader_epoch;
        self
    }

    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    pub fn transactional(mut self) -> BatchBuilder {
        self.attributes |= 0x10;
        self
    }

    pub fn push(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(timestamp_ms, key, value, &[]);
    }

    pub fn push_with_headers(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        let mut record = Writer::new(false);
        record.i8(0);
        record.varlong(timestamp_ms.saturating_sub(self.base_timestamp_ms));
        record.varint(self.records_count);
        nullable_bytes(&mut record, key);
        nullable_bytes(&mut record, value);
        record.varint(length(headers.len()));
        for (key, value) in headers {
            nullable_bytes(&mut record, Some(key.as_bytes()));
            nullable_bytes(&mut record, *value);
        }
        let record = record.into_bytes();
        self.records.varint(length(record.len()));
        self.records.raw(&record);
        self.records_count += 1;
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
    }

    /// Adds a control record, which makes the batch a control batch.
    pub fn push_control(&mut self, timestamp_ms: i64, kind: ControlKind, value: &[u8]) {
        self.attributes |= 0x20;
        let [high, low] = (kind as i16).to_be_bytes();
        self.push(timestamp_ms, Some(&[0, 0, high, low]), Some(value));
    }

    pub fn is_empty(&self) -> bool {
        self.records_count == 0
    }

    /// Bytes of the batch as it stands.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch. With no records it is the empty batch that compaction leaves behind.
    pub fn build(self) -> Vec<u8> {
        self.build_packed(0, <[u8]>::to_vec)
    }

    /// The batch with its records packed.
    pub fn build_with(self, packing: Packing) -> Vec<u8> {
        self.build_packed(packing.codec.attributes(), |plain| {
            packing.pack_behind(Vec::new(), plain, usize::MAX).expect("there is no limit to exceed")
        })
    }

    /// The batch with its records packed by `pack`, which is the codec of these attribute bits.
    pub fn build_packed(mut self, codec: i16, pack: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let packed = pack(&std::mem::take(&mut self.records).into_bytes());
        let covered = self.covered(codec, &packed);
        let mut batch = Writer::new(false);
        batch.i64(self.base_offset);
        batch.i32(length(HEADER_BYTES - LENGTH_OVERHEAD_BYTES + packed.len()));
        batch.i32(self.leader_epoch);
        batch.i8(MAGIC.cast_signed());
        batch.u32(crc32c(&covered));
        batch.raw(&covered);
        batch.into_bytes()
    }

    /// What the checksum covers: from the attributes to the end.
    fn covered(&self, codec: i16, packed: &[u8]) -> Vec<u8> {
        let mut covered = Writer::new(false);
        covered.i16(self.attributes | (codec & 0x07));
        covered.i32(self.records_count - 1);
        covered.i64(self.base_timestamp_ms);
        covered.i64(self.max_timestamp_ms);
        covered.i64(self.producer_id);
        covered.i16(self.producer_epoch);
        covered.i32(self.base_sequence);
        covered.i32(self.records_count);
        covered.raw(packed);
        covered.into_bytes()
    }
}

fn nullable_bytes(w: &mut Writer, value: Option<&[u8]>) {
    w.varint(value.map_or(-1, |value| length(value.len())));
    w.raw(value.unwrap_or_default());
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a batch is bounded by BATCH_BYTES_MAX before it is built")
}
