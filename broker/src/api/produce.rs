//! Produce (key 0), versions 3 to 13.
//!
//! - Each partition's record set is judged by its header and checksum, then appended by its owner, one message per owner.
//!   Parts are placed in the order in which requests arrive; each is answered when its records are durable.
//! - acks 1 and all mean the same; 0 is never answered, an error closes the connection; anything else is 21.
//! - Parts that are not durable at the request's timeout are REQUEST_TIMED_OUT: they may still be written, and the
//!   producer's sequence settles its retry.
//! - A batch in another codec than the topic's `compression.type` is packed anew on this core, one at a time: 2 if it does
//!   not unpack, 87 if its records cannot be read, 10 if the result is too large. The codec's time is this core's time.
//! - `max.message.bytes` (10) and the bounds of timestamps (32) are checked on the header. Internal topics are 17, but for
//!   Kafka's `__admin_client`.
//! - From version 13 topics are named by id (100 if unknown).
//! - Left out: transactions (48), errors of single records (a batch is refused as a whole).

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use watershed_core::batch::BatchHeader;
use watershed_core::io::executor::{self, JoinHandle};
use watershed_core::io::shard::Incoming;
use watershed_core::partition::LogSettings;
use watershed_core::units::{ShardId, TopicPartition};

use crate::configs::TopicSettings;
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
use crate::wire::records::{self, BatchRefusal, Codec, Packing};

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
    repacking: Option<Repacking>,
}

/// What a batch is that cannot stay as it was sent.
#[derive(Clone, Copy)]
struct Repacking {
    packing: Packing,
    bytes_max: usize,
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
    /// The same in a task that gives memory back when the answer is there, whoever waits for it.
    Carried(JoinHandle<Reply>),
}

/// Checks every part and enqueues it at its owner.
pub(crate) async fn start(connection: &Rc<Connection>, envelope: &Envelope, mut frame: Frame<'_>) -> Result<Work, End> {
    let node = &connection.node;
    let (large, credit) = (frame.large.take(), frame.credit.take());
    let request = ProduceRequest::parse(&frame, frame.gap(), envelope.body_at, envelope.version)
        .map_err(|error| malformed(envelope, &error.to_string()))?;
    let records = Records { frame: &frame, large };
    let (mut parts, accepted) = judge(node, envelope, &request, &records);
    let (acks, timeout_ms, bytes) = (request.acks, request.timeout_ms, frame.len() + frame.gap().len());
    let asked = enqueue(node, accepted, records, &mut parts).await;
    if let Some(why) = parts.iter().find_map(corrupt) {
        connection.warn(&format!("a batch was refused: {why}"));
    }
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
        if let Ok((owner, at, repacking)) = judged {
            accepted.entry(owner).or_default().push(AcceptedPart { place, at, records: range, repacking });
        }
        parts.push(Part {
            topic: TopicName::of(partition.topic),
            partition: partition.partition,
            outcome: judged.err().map(Err),
        });
    }
    (parts, accepted)
}

/// Why a part is corrupt.
fn corrupt(part: &Part) -> Option<&'static str> {
    match part.outcome {
        Some(Err(BatchRefusal { error: ErrorCode::CorruptMessage, message })) => Some(message),
        _ => None,
    }
}

/// Where a part's records go and in which packing, or why they go nowhere.
fn judge_part(
    node: &Node,
    envelope: &Envelope,
    request: &ProduceRequest<'_>,
    partition: &ProducePartition<'_>,
    set: &[u8],
) -> Result<(ShardId, TopicPartition, Option<Repacking>), BatchRefusal> {
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
    let settings = node.settings_of(at.topic).ok_or(plain(ErrorCode::UnknownTopicOrPartition))?;
    check_topic(node, &settings.log, &header)?;
    Ok((owner, at, repacking(&settings, &header)))
}

fn is_internal(node: &Node, topic: watershed_core::units::TopicId) -> bool {
    node.catalog.borrow().topic(topic).is_some_and(|topic| topic.is_internal())
}

/// What the topic's configuration asks of a batch.
fn check_topic(node: &Node, settings: &LogSettings, header: &BatchHeader) -> Result<(), BatchRefusal> {
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

fn repacking(settings: &TopicSettings, header: &BatchHeader) -> Option<Repacking> {
    let packing = settings.compression.repacking(Codec::from_attributes(header.attributes)?)?;
    Some(Repacking { packing, bytes_max: settings.log.max_message_bytes as usize })
}

fn plain(error: ErrorCode) -> BatchRefusal {
    BatchRefusal { error, message: error.message() }
}

/// Every part to its owner. What turns out only now to be unfit is refused in `parts`.
async fn enqueue(node: &Rc<Node>, accepted: Accepted, mut records: Records<'_>, parts: &mut [Part]) -> Vec<Asked> {
    let mut asked = Vec::with_capacity(accepted.len());
    for (owner, accepted) in accepted {
        if owner == node.id() {
            asked.push(place_here(node, &accepted, &mut records, parts).await);
        } else {
            send(node, owner, &accepted, &mut records, parts, &mut asked).await;
        }
    }
    asked
}

/// Places our own parts.
async fn place_here(
    node: &Rc<Node>,
    accepted: &[AcceptedPart],
    records: &mut Records<'_>,
    parts: &mut [Part],
) -> Asked {
    let (mut placing, mut places) = (Placing::default(), Vec::with_capacity(accepted.len()));
    node.shard.room().await;
    for part in accepted {
        match part.repacking {
            None => placing.place(node, part.at, records.here(&part.records)),
            Some(repacking) => {
                let Some(batch) = repack(repacking, part, records, parts).await else { continue };
                node.shard.room().await;
                placing.place(node, part.at, Incoming::Copy(&batch));
            }
        }
        places.push(part.place);
    }
    Asked { places, answer: Appending::Here(placing) }
}

/// One message to an owner with what stays as it was sent, and one for each batch that is packed anew.
async fn send(
    node: &Rc<Node>,
    owner: ShardId,
    accepted: &[AcceptedPart],
    records: &mut Records<'_>,
    parts: &mut [Part],
    asked: &mut Vec<Asked>,
) {
    let as_sent = || accepted.iter().filter(|part| part.repacking.is_none());
    let crossing: Vec<_> = as_sent().map(|part| (part.at, records.cross(&part.records))).collect();
    if !crossing.is_empty() {
        let answer = Appending::There(node.begin(owner, Call::Append(crossing)).await);
        asked.push(Asked { places: as_sent().map(|part| part.place).collect(), answer });
    }
    for part in accepted {
        let Some(repacking) = part.repacking else { continue };
        let mut allowed = node.repacked.take(repacking.bytes_max).await;
        let Some(batch) = repack(repacking, part, records, parts).await else { continue };
        allowed.shrink(batch.capacity());
        let pending = node.begin(owner, Call::Append(vec![(part.at, Crossing::Copied(batch))])).await;
        let carried = executor::spawn(async move {
            let reply = pending.await;
            drop(allowed);
            reply
        });
        asked.push(Asked { places: vec![part.place], answer: Appending::Carried(carried) });
    }
}

/// The part's batch in its topic's codec; `None` if it was refused. Other tasks run between two of them.
async fn repack(
    repacking: Repacking,
    part: &AcceptedPart,
    records: &Records<'_>,
    parts: &mut [Part],
) -> Option<Vec<u8>> {
    executor::yield_if_needed().await;
    let repacked = records::recompress(records.bytes(&part.records), repacking.packing, repacking.bytes_max);
    match repacked {
        Ok(batch) => Some(batch),
        Err(refusal) => {
            if let Some(part) = parts.get_mut(part.place) {
                part.outcome = Some(Err(refusal));
            }
            None
        }
    }
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
            Appending::Carried(carried) => match carried.await {
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
