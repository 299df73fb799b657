//! A log of Rust values: each is the value of an ordinary Kafka record, as rkyv archives it.
//!
//! A Kafka client sees records with these bytes; a Rust program sees `&T::Archived` inside the buffer that a read filled,
//! validated before it is given out. Never gives out a value that does not check: the error names topic, partition and
//! offset, and the next value follows.
//!
//! A value begins wherever its batch put it: with an alignment of `n` about one in `n` lies right. The others are copied to
//! an aligned place first, one copy of the value's bytes into memory that is used again, before a check that reads all of
//! them anyway. Appends do not align, because a record has no room for it that only we would see: what lies before a value is
//! numbers of variable length and the key, what lies behind it is headers, and every consumer is given both (numbers longer
//! than need be, which no writer of Kafka's makes, are nothing that its readers have promised to take). It would not last either: a batch begins in a read where
//! the one before it ends, at any byte if a Kafka client wrote that one. A type whose archive is aligned to 1 is never
//! copied, by rkyv's feature `unaligned` or its `rend::unaligned` numbers; [`Values::copied_count`] tells how many were.

use std::marker::PhantomData;

use rkyv::api::high::{HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Portable, Serialize};

use super::executor::machine_now;
use super::log::{Log, LogError};
use super::shard::Appended;
use crate::batch::HEADER_BYTES;
use crate::limits::BATCH_BYTES_MAX;
use crate::records::{BatchWriter, RecordPlace, Walk};

/// A batch is closed when it has this many bytes, so that it fits under Kafka's default `max.message.bytes`.
const BATCH_BYTES_FULL: usize = 768 << 10;
/// What one read asks for.
const READ_BYTES: u32 = 1 << 20;

/// Why typed values could not be written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TypedLogError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{log} at offset {offset}: {what}")]
    Damaged { log: String, offset: i64, what: String },
    #[error("{log}: the value cannot be archived: {what}")]
    Unwritable { log: String, what: String },
}

/// What a type must be to be kept: archived, and checked when it is read.
pub trait Kept: Archive<Archived: Portable + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>> {}
impl<T> Kept for T where T: Archive<Archived: Portable + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>> {}

/// What a type must be to be appended.
pub trait Keepable: Kept + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>> {}
impl<T> Keepable for T where T: Kept + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>> {}

/// A log whose values are `T`.
pub struct TypedLog<T> {
    log: Log,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for TypedLog<T> {
    fn clone(&self) -> TypedLog<T> {
        TypedLog::new(self.log.clone())
    }
}

impl<T> TypedLog<T> {
    /// Takes a log's values for `T`.
    pub fn new(log: Log) -> TypedLog<T> {
        TypedLog { log, of: PhantomData }
    }

    /// The log below, with its bytes.
    pub fn log(&self) -> &Log {
        &self.log
    }
}

impl<T: Keepable> TypedLog<T> {
    /// Appends the values in as few batches as they fit, and waits until all are durable. Where the batches went, in order;
    /// after an error earlier batches may be in the log.
    pub fn append<'v>(&self, values: impl IntoIterator<Item = &'v T>) -> Result<Vec<Appended>, TypedLogError>
    where
        T: 'v,
    {
        let now_ms = machine_now().wall_ms;
        let (mut batch, mut pending) = (BatchWriter::new(now_ms), Vec::new());
        for value in values {
            let bytes = rkyv::to_bytes::<rancor::Error>(value).map_err(|error| self.unwritable(&error.to_string()))?;
            if bytes.len() > BATCH_BYTES_MAX as usize - HEADER_BYTES {
                return Err(self.unwritable("it is larger than the largest batch"));
            }
            if !batch.is_empty() && batch.bytes() + bytes.len() > BATCH_BYTES_FULL {
                let full = std::mem::replace(&mut batch, BatchWriter::new(now_ms));
                pending.push(self.log.begin_append(full.build())?);
            }
            batch.push(now_ms, None, Some(&bytes));
        }
        if !batch.is_empty() {
            pending.push(self.log.begin_append(batch.build())?);
        }
        pending.into_iter().map(|pending| pending.wait().map_err(TypedLogError::from)).collect()
    }

    fn unwritable(&self, what: &str) -> TypedLogError {
        TypedLogError::Unwritable { log: self.log.to_string(), what: what.to_owned() }
    }
}

impl<T: Kept> TypedLog<T> {
    /// Reads values from `offset` on, some of them: read on from [`Values::next_offset`].
    pub fn read(&self, offset: i64) -> Result<Values<T>, TypedLogError> {
        Ok(Values {
            log: self.log.to_string(),
            buffer: self.log.read(offset, READ_BYTES)?,
            walk: Walk::new(offset),
            aligned: AlignedVec::new(),
            copied_count: 0,
            of: PhantomData,
        })
    }
}

/// Values of one read, in the buffer that it filled.
pub struct Values<T> {
    log: String,
    buffer: Vec<u8>,
    walk: Walk,
    aligned: AlignedVec,
    copied_count: u64,
    of: PhantomData<fn() -> T>,
}

/// One value, borrowed from its read.
pub struct Value<'a, T: Archive> {
    pub offset: i64,
    pub timestamp_ms: i64,
    /// What the record's key is, for records that others wrote.
    pub key: Option<&'a [u8]>,
    pub value: &'a T::Archived,
}

impl<T: Kept> Values<T> {
    /// The next value; `None` when this read has no more. A record without a value is damage: nothing of `T` is there.
    // It lends from itself, which `Iterator` cannot say.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Result<Value<'_, T>, TypedLogError>> {
        match self.walk.step(&self.buffer)? {
            Ok(place) => Some(self.value(place)),
            Err(error) => Some(Err(damaged(&self.log, error.offset, error.what))),
        }
    }

    /// Where to read on.
    pub fn next_offset(&self) -> i64 {
        self.walk.next_offset()
    }

    /// Whether the read brought nothing: the log ends here for now.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// How many values so far lay where their alignment forbids to read them, and were copied.
    pub fn copied_count(&self) -> u64 {
        self.copied_count
    }

    fn value(&mut self, place: RecordPlace) -> Result<Value<'_, T>, TypedLogError> {
        let Values { log, buffer, aligned, copied_count, .. } = self;
        let RecordPlace { offset, timestamp_ms, key, value } = place;
        let key = key.and_then(|range| buffer.get(range));
        let bytes = value.and_then(|range| buffer.get(range));
        let bytes = bytes.ok_or_else(|| damaged(log, offset, "the record has no value"))?;
        // What lies behind the root may ask for more than the root does; the check finds that, too.
        if bytes.as_ptr().cast::<T::Archived>().is_aligned()
            && let Ok(value) = access::<T>(bytes)
        {
            return Ok(Value { offset, timestamp_ms, key, value });
        }
        *copied_count += 1;
        aligned.clear();
        aligned.extend_from_slice(bytes);
        let value = access::<T>(aligned).map_err(|error| damaged(log, offset, &error.to_string()))?;
        Ok(Value { offset, timestamp_ms, key, value })
    }
}

fn access<T: Kept>(bytes: &[u8]) -> Result<&T::Archived, rancor::Error> {
    rkyv::access::<T::Archived, rancor::Error>(bytes)
}

fn damaged(log: &str, offset: i64, what: &str) -> TypedLogError {
    TypedLogError::Damaged { log: log.to_owned(), offset, what: what.to_owned() }
}
