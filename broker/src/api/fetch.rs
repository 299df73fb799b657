//! Fetch (key 1), versions 4 to 18.
//!
//! - Partitions share the response's bytes in the order of the request (or of its session); the first batch of the first
//!   partition that has any is returned whole even if it is larger. Offsets inside a batch return the batch that holds them.
//! - Waits until `min_bytes` are there, at most `max_wait_ms`; an error, or a log that parts from the client's, is
//!   answered at once.
//! - Sessions (KIP-227) belong to the shard of the connection; on another one they are unknown (70) and begin anew.
//! - Beyond the log's end or before its start is 1; between the high watermark and the end is empty. Leader epochs: 74, 75;
//!   from version 12 `last_fetched_epoch` finds where the logs part. From version 13 topics are named by id (100).
//! - A client over its quota is answered without records, and how long to wait; one answer holds at most what the quota's
//!   window does.
//! - zstd to a version below 10 is 76: batches are not converted.
//! - Left out: followers (they read as consumers do), preferred replicas, aborted transactions (none can be written).

use std::rc::Rc;
use std::time::Duration;

use crate::fetch_sessions::{FetchContext, PartitionKey, SessionRequest, Told, TopicKey, Wanted};
use crate::quotas::{Charge, Quantity};
use crate::server::connection::{Answer, Connection, End};
use crate::server::dispatch::{Work, malformed};
use crate::server::envelope::Envelope;
use crate::server::fetching::{self, Fetched, Limits, Part};
use crate::server::node::Node;
use crate::server::random;
use crate::server::reads::{ReadAsk, Reader};
use crate::server::response::Response;
use crate::wire::error_code::ErrorCode;
use crate::wire::fetch::{self as wire, DivergingEpoch, FetchRequest, FetchResponse, FetchResult};
use crate::wire::topic_ref::{CurrentLeader, TopicRef};
use watershed_core::io::buffers::Piece;
use watershed_core::units::TopicPartition;

/// Longer waits are answered empty: a client that is gone must not be waited for without end.
const WAIT_MS_MAX: i32 = 300_000;

/// What stays of a request once its bytes are gone.
struct Asked {
    limits: Limits,
    reader: Reader,
    session: SessionRequest,
}

/// Decodes the request; the work fetches.
pub(crate) fn start(connection: &Rc<Connection>, envelope: &Envelope, frame: &[u8]) -> Result<Work, End> {
    let body = frame.get(envelope.body_at..).unwrap_or_default();
    let request =
        FetchRequest::parse(body, envelope.version).map_err(|error| malformed(envelope, &error.to_string()))?;
    let asked = asked(envelope, &request, bytes_max(&connection.node, envelope));
    let (connection, envelope) = (Rc::clone(connection), envelope.clone());
    Ok(Box::pin(async move { Some(Answer::Send(fetch(&connection, &envelope, asked).await)) }))
}

/// The most bytes of an answer to this client.
fn bytes_max(node: &Node, envelope: &Envelope) -> i32 {
    let limit = envelope.usage.as_ref().and_then(|usage| usage.limit(Quantity::Fetch));
    // A float that is too large becomes the largest number.
    limit.map_or(node.fetch_bytes_max, |limit| node.fetch_bytes_max.min(limit.window_amount() as i32))
}

fn asked(envelope: &Envelope, request: &FetchRequest<'_>, bytes_max: i32) -> Asked {
    let wait_ms = request.max_wait_ms.clamp(0, WAIT_MS_MAX);
    Asked {
        limits: Limits {
            bytes_max: u32::try_from(request.max_bytes.clamp(0, bytes_max)).unwrap_or_default(),
            bytes_min: u64::try_from(request.min_bytes.min(bytes_max)).unwrap_or_default(),
            wait: Duration::from_millis(u64::try_from(wait_ms).unwrap_or_default()),
            knows_zstd: envelope.version >= 10,
        },
        reader: match request.is_read_committed {
            true => Reader::ReadCommitted,
            false => Reader::ReadUncommitted,
        },
        session: SessionRequest {
            session_id: request.session_id,
            session_epoch: request.session_epoch,
            uses_topic_ids: envelope.version >= 13,
            is_follower: false,
            wanted: request.partitions.iter().map(wanted).collect(),
            forgotten: request.forgotten.iter().map(|gone| key(gone.topic, gone.partition)).collect(),
        },
    }
}

fn key(topic: TopicRef<'_>, partition: i32) -> PartitionKey {
    let topic = match topic {
        TopicRef::Name(name) => TopicKey::Name(name.into()),
        TopicRef::Id(id) => TopicKey::Id(id),
    };
    PartitionKey { topic, partition }
}

fn wanted(partition: &wire::FetchPartition<'_>) -> Wanted {
    Wanted {
        key: key(partition.topic, partition.partition),
        fetch_offset: partition.fetch_offset,
        current_leader_epoch: partition.current_leader_epoch,
        last_fetched_epoch: partition.last_fetched_epoch,
        log_start_offset: partition.log_start_offset,
        bytes_max: partition.partition_max_bytes,
    }
}

async fn fetch(connection: &Rc<Connection>, envelope: &Envelope, asked: Asked) -> Response {
    let node = &connection.node;
    let begun = node.sessions.borrow_mut().begin(asked.session, node.shard.now());
    let context = match begun {
        Ok(context) => context,
        Err(error) => return refused(envelope, error),
    };
    let parts: Vec<Part> = context.wanted.iter().map(|wanted| part(node, wanted)).collect();
    let mut found = fetching::fetch(connection, asked.reader, asked.limits, parts).await;
    let throttle_time_ms = pay(envelope, &mut found.parts).await;
    let mut response = answer(node, envelope, asked.reader, throttle_time_ms, &context, found.parts);
    response.parked_us = found.parked_us;
    node.count(|metrics| metrics.fetched_bytes += response.bytes());
    response
}

/// Charges the records; those that are too many are not answered. Returns how long the client has to wait.
async fn pay(envelope: &Envelope, fetched: &mut [Result<Fetched, ErrorCode>]) -> i32 {
    let Some(usage) = &envelope.usage else {
        return 0;
    };
    let bytes: usize = fetched.iter().flatten().flat_map(|found| &found.records).map(|piece| piece.len()).sum();
    if bytes > 0 && !usage.charge(Quantity::Fetch, Charge::IfWithin(bytes as f64)).await {
        fetched.iter_mut().flatten().for_each(|found| found.records.clear());
    }
    envelope.settle().await
}

/// A response without partitions.
fn refused(envelope: &Envelope, error: ErrorCode) -> Response {
    let body = FetchResponse { throttle_time_ms: 0, error, session_id: 0, partitions: &[], node_endpoints: &[] };
    assemble(envelope, &body, Vec::new(), true)
}

fn part(node: &Node, wanted: &Wanted) -> Part {
    let topic = node.topic_id(topic_ref(&wanted.key.topic));
    topic.and_then(|topic| {
        let partition = wanted.key.partition;
        let at = TopicPartition { topic, partition };
        let ask = ReadAsk {
            at,
            offset: wanted.fetch_offset,
            bytes_max: u32::try_from(wanted.bytes_max).unwrap_or_default(),
            leader_epoch: wanted.current_leader_epoch,
            fetched_epoch: wanted.last_fetched_epoch,
        };
        Ok((node.owner(at)?, ask))
    })
}

fn topic_ref(topic: &TopicKey) -> TopicRef<'_> {
    match topic {
        TopicKey::Name(name) => TopicRef::Name(name),
        TopicKey::Id(id) => TopicRef::Id(*id),
    }
}

/// Tells the session what was found and puts the response together.
fn answer(
    node: &Node,
    envelope: &Envelope,
    reader: Reader,
    throttle_time_ms: i32,
    context: &FetchContext,
    fetched: Vec<Result<Fetched, ErrorCode>>,
) -> Response {
    let told: Vec<Told> = fetched.iter().map(told).collect();
    let now = node.shard.now();
    let session = node.sessions.borrow_mut().finish(context, &told, now, random::number());
    let failed = told.iter().any(|told| told.is_error) || session.error != ErrorCode::None;
    let mut results = Vec::new();
    let mut records = Vec::new();
    for ((wanted, fetched), included) in context.wanted.iter().zip(fetched).zip(session.included) {
        if included {
            results.push(result(node, reader, wanted, &fetched));
            records.push(fetched.map(|fetched| fetched.records).unwrap_or_default());
        }
    }
    let body = FetchResponse {
        throttle_time_ms,
        error: session.error,
        session_id: session.session_id,
        partitions: &results,
        node_endpoints: &[],
    };
    assemble(envelope, &body, records, failed)
}

fn told(fetched: &Result<Fetched, ErrorCode>) -> Told {
    match fetched {
        Ok(fetched) => Told {
            has_records: !fetched.records.is_empty(),
            high_watermark: fetched.seen.high_watermark,
            log_start_offset: fetched.seen.log_start,
            is_error: false,
            must_tell: fetched.seen.diverging.is_some(),
        },
        Err(_) => {
            Told { has_records: false, high_watermark: -1, log_start_offset: -1, is_error: true, must_tell: true }
        }
    }
}

fn result<'a>(
    node: &Node,
    reader: Reader,
    wanted: &'a Wanted,
    fetched: &Result<Fetched, ErrorCode>,
) -> FetchResult<'a> {
    let topic = topic_ref(&wanted.key.topic);
    let partition = wanted.key.partition;
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(error) => {
            return FetchResult {
                current_leader: current_leader(node, topic, partition, *error),
                ..FetchResult::refused(topic, partition, *error)
            };
        }
    };
    let diverging = fetched.seen.diverging;
    FetchResult {
        high_watermark: fetched.seen.high_watermark,
        last_stable_offset: fetched.seen.last_stable,
        log_start_offset: fetched.seen.log_start,
        diverging_epoch: diverging.map(|(epoch, end_offset)| DivergingEpoch { epoch, end_offset }),
        aborted_transactions: (reader == Reader::ReadCommitted).then_some(&[][..]),
        records_bytes: fetched.records.iter().map(|piece| piece.len()).sum(),
        ..FetchResult::refused(topic, partition, ErrorCode::None)
    }
}

/// With a leader epoch that is not ours: which one is.
fn current_leader(node: &Node, topic: TopicRef<'_>, partition: i32, error: ErrorCode) -> Option<CurrentLeader> {
    if !matches!(error, ErrorCode::FencedLeaderEpoch | ErrorCode::UnknownLeaderEpoch) {
        return None;
    }
    let topic = node.topic_id(topic).ok()?;
    let catalog = node.catalog.borrow();
    let found = catalog.partition(TopicPartition { topic, partition })?;
    Some(CurrentLeader { leader_id: found.leader, leader_epoch: found.leader_epoch })
}

/// Puts the records of each partition into their places.
fn assemble(envelope: &Envelope, body: &FetchResponse<'_>, mut records: Vec<Vec<Piece>>, failed: bool) -> Response {
    let mut pieces = Vec::new();
    for part in body.parts(envelope.version, envelope.correlation_id) {
        match part {
            wire::Part::Bytes(bytes) => pieces.push(bytes.into()),
            wire::Part::Records(at) => pieces.extend(records.get_mut(at).map(std::mem::take).unwrap_or_default()),
        }
    }
    Response { pieces, failed, parked_us: 0 }
}
