//! Offsets at their owner: by time, by epoch, and the move of a log's start.

use watershed_core::batch::BatchHeader;
use watershed_core::error::{Fault, Refusal};
use watershed_core::io::shard::LogState;
use watershed_core::partition::ActiveProducer;
use watershed_core::units::{Stamp, TopicPartition};

use crate::wire::error_code::ErrorCode;
use crate::wire::records::{Payload, RecordsError, UNPACKED_BYTES_MAX};

use super::errors;
use super::node::Node;
use super::reads::{Reader, check_epoch};

/// The special timestamps of ListOffsets.
pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;
pub(crate) const MAX_TIMESTAMP: i64 = -3;
pub(crate) const EARLIEST_LOCAL: i64 = -4;
pub(crate) const LATEST_TIERED: i64 = -5;
pub(crate) const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// One question of ListOffsets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OffsetAsk {
    pub(crate) at: TopicPartition,
    pub(crate) timestamp: i64,
    pub(crate) leader_epoch: i32,
}

/// Its answer; -1 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetFound {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) leader_epoch: i32,
}

impl OffsetFound {
    const NOTHING: OffsetFound = OffsetFound { offset: -1, timestamp: -1, leader_epoch: -1 };

    fn plain(offset: i64, leader_epoch: i32) -> OffsetFound {
        OffsetFound { offset, timestamp: -1, leader_epoch }
    }
}

/// Answers every question, in order.
pub(crate) async fn find(node: &Node, reader: Reader, asks: Vec<OffsetAsk>) -> Vec<Result<OffsetFound, ErrorCode>> {
    let mut found = Vec::with_capacity(asks.len());
    for ask in asks {
        found.push(find_one(node, reader, ask).await);
    }
    found
}

async fn find_one(node: &Node, reader: Reader, ask: OffsetAsk) -> Result<OffsetFound, ErrorCode> {
    let state = node.shard.state(ask.at)?;
    check_epoch(ask.leader_epoch, &state)?;
    match ask.timestamp {
        LATEST => Ok(OffsetFound::plain(reader.end_of(&state), state.leader_epoch)),
        EARLIEST | EARLIEST_LOCAL => {
            let epoch = epoch_at(node, ask.at, state.log_start, state.leader_epoch);
            Ok(OffsetFound::plain(state.log_start, epoch))
        }
        // Nothing is tiered, and so nothing is pending either.
        LATEST_TIERED => Ok(OffsetFound::NOTHING),
        EARLIEST_PENDING_UPLOAD => Ok(OffsetFound::NOTHING),
        MAX_TIMESTAMP => of_max_timestamp(node, reader, &ask, &state).await,
        timestamp if timestamp >= 0 => of_timestamp(node, reader, &ask, &state).await,
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

/// The leader epoch under which the record at `offset` was written: walks back over the epochs that exist.
fn epoch_at(node: &Node, at: TopicPartition, offset: i64, newest: i32) -> i32 {
    let mut epoch = newest;
    while epoch > 0 {
        match node.shard.epoch_end(at, epoch - 1) {
            Ok((older, end)) if older >= 0 && end > offset => epoch = older,
            _ => break,
        }
    }
    epoch
}

async fn of_timestamp(
    node: &Node,
    reader: Reader,
    ask: &OffsetAsk,
    state: &LogState,
) -> Result<OffsetFound, ErrorCode> {
    let mut from_offset = state.log_start;
    loop {
        let batch = node.shard.batch_at_timestamp(ask.at, ask.timestamp, from_offset).await;
        let Some(batch) = batch.map_err(|fault| read_failed(ask, &fault))? else {
            return Ok(OffsetFound::NOTHING);
        };
        let found = found_in(reader, ask, state, &batch, |_| ask.timestamp)?;
        let next = BatchHeader::parse(&batch).map_or(i64::MAX, |header| header.end_offset());
        if found != OffsetFound::NOTHING || next <= from_offset {
            return Ok(found);
        }
        // Its largest timestamp is that of a record before the log's start.
        from_offset = next;
    }
}

async fn of_max_timestamp(
    node: &Node,
    reader: Reader,
    ask: &OffsetAsk,
    state: &LogState,
) -> Result<OffsetFound, ErrorCode> {
    let batch = node.shard.batch_of_max_timestamp(ask.at).await;
    match batch.map_err(|fault| read_failed(ask, &fault))? {
        Some(batch) => found_in(reader, ask, state, &batch, |header| header.max_timestamp),
        None => Ok(OffsetFound::NOTHING),
    }
}

/// The first record of the batch at or after a timestamp, if this reader may see it.
fn found_in(
    reader: Reader,
    ask: &OffsetAsk,
    state: &LogState,
    batch: &[u8],
    timestamp: impl Fn(&BatchHeader) -> i64,
) -> Result<OffsetFound, ErrorCode> {
    let damaged = |error: RecordsError| {
        tracing::error!(partition = %ask.at, %error, "a batch of the log cannot be opened");
        ErrorCode::CorruptMessage
    };
    let payload = Payload::open(batch, UNPACKED_BYTES_MAX).map_err(damaged)?;
    let from = timestamp(payload.header());
    for record in payload.records() {
        let (offset, timestamp) = payload.place(&record.map_err(damaged)?);
        if timestamp >= from && offset >= state.log_start && offset < reader.end_of(state) {
            return Ok(OffsetFound { offset, timestamp, leader_epoch: payload.header().leader_epoch });
        }
    }
    Ok(OffsetFound::NOTHING)
}

fn read_failed(ask: &OffsetAsk, fault: &Fault) -> ErrorCode {
    tracing::error!(partition = %ask.at, %fault, "a look-up by time failed");
    errors::of_fault(fault)
}

/// The end of each (partition, epoch, the client's current epoch).
pub(crate) fn epoch_ends(node: &Node, asks: &[(TopicPartition, i32, i32)]) -> Vec<Result<(i32, i64), ErrorCode>> {
    asks.iter()
        .map(|(at, epoch, client_epoch)| {
            let state = node.shard.state(*at)?;
            check_epoch(*client_epoch, &state)?;
            Ok(node.shard.epoch_end(*at, *epoch)?)
        })
        .collect()
}

/// What the logs say now, and the stamp that the answer waits for.
pub(crate) struct Stamped<T> {
    results: Vec<Result<T, ErrorCode>>,
    stamp: Stamp,
}

impl<T> Default for Stamped<T> {
    fn default() -> Self {
        Stamped { results: Vec::new(), stamp: Stamp(0) }
    }
}

impl<T> Stamped<T> {
    /// The results, once what they were computed from is durable.
    pub(crate) async fn durable(self, node: &Node) -> Vec<Result<T, ErrorCode>> {
        node.shard.durable(self.stamp).await;
        self.results
    }
}

/// The producers that each partition remembers.
pub(crate) fn producers(node: &Node, asks: &[TopicPartition]) -> Stamped<Vec<ActiveProducer>> {
    let stamps = asks.iter().map(|at| node.shard.last_stamp(*at));
    Stamped {
        results: asks.iter().map(|at| node.shard.producers(*at).map_err(ErrorCode::from)).collect(),
        stamp: stamps.max().unwrap_or_default(),
    }
}

/// Moves the start of every log; -1 means the high watermark.
pub(crate) fn delete_records(node: &Node, asks: &[(TopicPartition, i64)]) -> Stamped<i64> {
    let mut deleting = Stamped::default();
    for (at, offset) in asks {
        let result = delete_before(node, *at, *offset).map(|(log_start, stamp)| {
            deleting.stamp = deleting.stamp.max(stamp);
            log_start
        });
        deleting.results.push(result.map_err(ErrorCode::from));
    }
    deleting
}

fn delete_before(node: &Node, at: TopicPartition, offset: i64) -> Result<(i64, Stamp), Refusal> {
    let state = node.shard.state(at)?;
    let offset = match offset {
        -1 => state.high_watermark,
        offset => offset,
    };
    if offset < 0 || offset > state.high_watermark {
        return Err(Refusal::OffsetOutOfRange);
    }
    node.shard.delete_records(at, offset)
}
