//! Produce (key 0), versions 3 to 13.
//!
//! - Each partition's record set is judged by its header and checksum, then appended by its owner, one message per owner.
//!   Parts are placed in the order in which requests arrive; each is answered when its records are durable.
//! - acks 1 and all mean the same; 0 is never answered, an error closes the connection; anything else is 21.
//! - Parts that are not durable at the request's timeout are REQUEST_TIMED_OUT: they may still be written, and the
//!   producer's sequence settles its retry.
//! - `max.message.bytes` (10) and the bounds of timestamps (32) are checked on the header. Internal topics are 17, but for
//!   Kafka's `__admin_client`.
//! - From version 13 topics are named by id (100 if unknown).
//! - Left out: transactions (48), errors of single records (a batch is refused as a whole).

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use watershed_core::batch::BatchHeader;
use watershed_core::io::executor;
use watershed_core::io::shard::Incoming;
use watershed_core::units::{ShardId, TopicPartition};

use crate::quotas::{Charge, Quantity};
use crate::server::append::{Placed, Placing};
use crate::server::calls::{Call, Crossing, Reply};
use crate::server::connection::{Answer, Connection, End};
use crate::server::dispatch::{Work, malformed};
use crate::server::envelope::Envelope;
use crate::server::frame::{Frame, Large};
use crate::server::node::Node;
use crate::server::peers::Pending;
use crate::server::response::Response;
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceResult};
use crate::wire::records::{self, BatchRefusal};

use super::topic_name::TopicName;

/// Who may write to internal topics, as in Kafka.
const ADMIN_CLIENT: &str = "__admin_client";

type Outcome = Result<Placed, BatchRefusal>;
/// Parts that can be appended, with their places in the request, by owner.
type Accepted = BTreeMap<ShardId, Vec<AcceptedPart>>;

struct AcceptedPart {
    /// In the request.
    place: usize,
    at: TopicPartition,
    records: Range<usize>,
}

/// The request's record sets.
struct Records<'f> {
    frame: &'f Frame<'f>,
    large: Option<Large>,
}

impl Records<'_> {
    fn bytes(&self, range: &Range<usize>) -> &[u8] {
        let large = self.large.as_ref().filter(|large| large.place == *range);
        large.map_or_else(|| self.frame.part(range.clone()), Large::bytes)
    }

    fn take_large(&mut self, range: &Range<usize>) -> Option<Large> {
        self.large.take_if(|large| large.place == *range)
    }

    /// A set for a log of this core, which takes over a large batch's block.
    fn here(&mut self, range: &Range<usize>) -> Incoming<'_> {
        match self.take_large(range) {
            Some(Large { place, block }) => Incoming::Own(block, place.len()),
            None => Incoming::Copy(self.frame.part(range.clone())),
        }
    }

    /// A set for another core.
    fn cross(&mut self, range: &Range<usize>) -> Crossing {
        self.take_large(range).map_or_else(|| self.frame.cross(range.clone()), Large::cross)
    }
}

/// One partition of the request; `None`: its owner has not answered.
struct Part {
    topic: TopicName,
    partition: i32,
    outcome: Option<Outcome>,
}

/// Parts whose owner was asked, by their places in the request.
struct Asked {
    places: Vec<usize>,
    answer: Appending,
}

enum Appending {
    Here(Placing),
    There(Pending),
}

/// Checks every part and enqueues it at its owner.
pub(crate) async fn start(connection: &Rc<Connection>, envelope: &Envelope, mut frame: Frame<'_>) -> Result<Work, End> {
    let node = &connection.node;
    let (large, credit) = (frame.large.take(), frame.credit.take());
    let request = ProduceRequest::parse(&frame, frame.gap(), envelope.body_at, envelope.version)
        .map_err(|error| malformed(envelope, &error.to_string()))?;
    let records = Records { frame: &frame, large };
    let (mut parts, accepted) = judge(node, envelope, &request, &records);
    if parts.iter().any(is_corrupt) {
        connection.warn("a batch was refused: its checksum is wrong");
    }
    let (acks, timeout_ms, bytes) = (request.acks, request.timeout_ms, frame.len() + frame.gap().len());
    let asked = enqueue(node, accepted, records).await;
    let (node, envelope) = (Rc::clone(node), envelope.clone());
    Ok(Box::pin(async move {
        let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or_default());
        let deadline = executor::now() + timeout;
        for asked in asked {
            settle(&node, deadline, asked, &mut parts).await;
        }
        drop(credit);
        if let Some(usage) = &envelope.usage {
            usage.charge(Quantity::Produce, Charge::Done(bytes as f64)).await;
        }
        let throttle_time_ms = envelope.settle().await;
        answer(&envelope, acks, throttle_time_ms, &parts)
    }))
}

/// The parts as they will be answered, and the owners of those that can be appended.
fn judge(
    node: &Node,
    envelope: &Envelope,
    request: &ProduceRequest<'_>,
    records: &Records<'_>,
) -> (Vec<Part>, Accepted) {
    let mut parts = Vec::with_capacity(request.partitions.len());
    let mut accepted = Accepted::new();
    for (place, partition) in request.partitions.iter().enumerate() {
        let range = partition.records.clone().unwrap_or_default();
        let judged = judge_part(node, envelope, request, partition, records.bytes(&range));
        if let Ok((owner, at)) = judged {
            accepted.entry(owner).or_default().push(AcceptedPart { place, at, records: range });
        }
        parts.push(Part {
            topic: TopicName::of(partition.topic),
            partition: partition.partition,
            outcome: judged.err().map(Err),
        });
    }
    (parts, accepted)
}

fn is_corrupt(part: &Part) -> bool {
    matches!(part.outcome, Some(Err(BatchRefusal { error: ErrorCode::CorruptMessage, .. })))
}

/// Where a part's records go, or why they go nowhere.
fn judge_part(
    node: &Node,
    envelope: &Envelope,
    request: &ProduceRequest<'_>,
    partition: &ProducePartition<'_>,
    set: &[u8],
) -> Result<(ShardId, TopicPartition), BatchRefusal> {
    if !matches!(request.acks, -1..=1) {
        return Err(plain(ErrorCode::InvalidRequiredAcks));
    }
    if request.transactional_id.is_some() {
        return Err(plain(ErrorCode::InvalidTxnState));
    }
    let topic = node.topic_id(partition.topic).map_err(plain)?;
    if envelope.client_id.as_deref() != Some(ADMIN_CLIENT) && is_internal(node, topic) {
        return Err(plain(ErrorCode::InvalidTopic));
    }
    let at = TopicPartition { topic, partition: partition.partition };
    let owner = node.owner(at).map_err(plain)?;
    let header = records::check(set, envelope.version)?;
    check_topic(node, at, &header)?;
    Ok((owner, at))
}

fn is_internal(node: &Node, topic: watershed_core::units::TopicId) -> bool {
    node.catalog.borrow().topic(topic).is_some_and(|topic| topic.is_internal())
}

/// What the topic's configuration asks of a batch.
fn check_topic(node: &Node, at: TopicPartition, header: &BatchHeader) -> Result<(), BatchRefusal> {
    let settings = node.settings_of(at.topic).ok_or(plain(ErrorCode::UnknownTopicOrPartition))?;
    if header.bytes > settings.max_message_bytes {
        return Err(plain(ErrorCode::MessageTooLarge));
    }
    if header.is_transactional() {
        return Err(plain(ErrorCode::InvalidTxnState));
    }
    let wall_ms = node.shard.now().wall_ms;
    let fits = |timestamp| settings.accepts_timestamp(wall_ms, timestamp);
    match fits(header.max_timestamp) && fits(header.base_timestamp) {
        true => Ok(()),
        false => Err(plain(ErrorCode::InvalidTimestamp)),
    }
}

fn plain(error: ErrorCode) -> BatchRefusal {
    BatchRefusal { error, message: error.message() }
}

/// One message per owner; our own parts are placed at once.
async fn enqueue(node: &Rc<Node>, accepted: Accepted, mut records: Records<'_>) -> Vec<Asked> {
    let mut asked = Vec::with_capacity(accepted.len());
    if accepted.contains_key(&node.id()) {
        node.shard.room().await;
    }
    for (owner, parts) in accepted {
        let places = parts.iter().map(|part| part.place).collect();
        let answer = if owner == node.id() {
            let mut placing = Placing::default();
            for part in &parts {
                placing.place(node, part.at, records.here(&part.records));
            }
            Appending::Here(placing)
        } else {
            let crossing = parts.iter().map(|part| (part.at, records.cross(&part.records))).collect();
            Appending::There(node.begin(owner, Call::Append(crossing)).await)
        };
        asked.push(Asked { places, answer });
    }
    asked
}

/// Waits for one owner, until the deadline at most.
async fn settle(node: &Rc<Node>, deadline: std::time::Instant, asked: Asked, parts: &mut [Part]) {
    let answered = async {
        match asked.answer {
            Appending::Here(placing) => placing.durable(node).await,
            Appending::There(pending) => match pending.await {
                Reply::Appended(outcomes) => outcomes,
                _ => Vec::new(),
            },
        }
    };
    let outcomes = executor::until(deadline, answered).await.unwrap_or_default();
    for (place, outcome) in asked.places.into_iter().zip(outcomes) {
        if let Some(part) = parts.get_mut(place) {
            part.outcome = Some(outcome.map_err(plain));
        }
    }
}

/// The answer, if there may be one.
fn answer(envelope: &Envelope, acks: i16, throttle_time_ms: i32, parts: &[Part]) -> Option<Answer> {
    let results: Vec<ProduceResult<'_>> = parts.iter().map(result).collect();
    let error = results.iter().map(|result| result.error).find(|error| *error != ErrorCode::None);
    if acks == 0 {
        let why = |error: ErrorCode| format!("a produce without acks failed: {}", error.name());
        return error.map(|error| Answer::Close(why(error)));
    }
    let response = ProduceResponse { partitions: &results, throttle_time_ms, ..ProduceResponse::default() };
    Some(Answer::Send(Response {
        pieces: vec![response.frame(envelope.version, envelope.correlation_id).into()],
        failed: error.is_some(),
        parked_us: 0,
    }))
}

fn result(part: &Part) -> ProduceResult<'_> {
    let topic = part.topic.as_ref();
    let outcome = part.outcome.unwrap_or(Err(plain(ErrorCode::RequestTimedOut)));
    match outcome {
        Ok(placed) => ProduceResult {
            log_append_time_ms: placed.log_append_time_ms,
            log_start_offset: placed.log_start,
            ..ProduceResult::written(topic, part.partition, placed.base_offset)
        },
        Err(refusal) => ProduceResult {
            error_message: Some(refusal.message),
            ..ProduceResult::refused(topic, part.partition, refusal.error)
        },
    }
}
