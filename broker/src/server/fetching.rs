//! Fetching: one fetch over all owners of its partitions, led by the shard of its connection.
//!
//! Plan at every owner (numbers only); too little and time left: have the owners watch, wait for a ring, plan again. Then
//! the bytes are shared out in the order of the request, and only then read. Owners never call each other.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use watershed_core::batch::{BatchHeader, HEADER_BYTES};
use watershed_core::io::buffers::Piece;
use watershed_core::io::executor;
use watershed_core::units::{ShardId, TopicPartition};

use crate::wire::error_code::ErrorCode;
use crate::wire::records::Codec;

use super::calls::{Call, Reply};
use super::connection::Connection;
use super::node::Node;
use super::reads::{self, ReadAsk, Reader, Seen};
use watershed_core::io::bell::{Bell, first};

/// One partition of a fetch: its owner and what to read, or why it cannot be read.
pub(crate) type Part = Result<(ShardId, ReadAsk), ErrorCode>;

/// What bounds a fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes_max: u32,
    pub(crate) bytes_min: u64,
    pub(crate) wait: Duration,
    pub(crate) knows_zstd: bool,
}

/// What was found in one partition.
pub(crate) struct Fetched {
    pub(crate) seen: Seen,
    pub(crate) records: Vec<Piece>,
}

/// The results in the order of the parts, and how long more was waited for.
pub(crate) struct Found {
    pub(crate) parts: Vec<Result<Fetched, ErrorCode>>,
    pub(crate) parked_us: u64,
}

type Planned = Vec<Result<Seen, ErrorCode>>;

/// Fetches.
pub(crate) async fn fetch(connection: &Rc<Connection>, reader: Reader, limits: Limits, parts: Vec<Part>) -> Found {
    let node = &connection.node;
    let mut planned = plan(node, reader, &parts).await;
    let planned_us = node.now_us();
    if !is_enough(&planned, &limits) && !limits.wait.is_zero() {
        planned = wait(connection, reader, &limits, &parts, planned).await;
    }
    let parked_us = node.now_us() - planned_us;
    let shares = share_out(&parts, &planned, limits.bytes_max);
    let mut fetched = read(node, reader, shares, planned).await;
    trim(&mut fetched, &limits);
    Found { parts: fetched, parked_us }
}

/// Groups the asks by owner; each keeps its place in the request.
fn by_owner(parts: &[Part]) -> BTreeMap<ShardId, (Vec<usize>, Vec<ReadAsk>)> {
    let mut grouped: BTreeMap<ShardId, (Vec<usize>, Vec<ReadAsk>)> = BTreeMap::new();
    for (place, part) in parts.iter().enumerate() {
        if let Ok((owner, ask)) = part {
            let (places, asks) = grouped.entry(*owner).or_default();
            places.push(place);
            asks.push(*ask);
        }
    }
    grouped
}

async fn plan(node: &Rc<Node>, reader: Reader, parts: &[Part]) -> Planned {
    let unanswered = |part: &Part| Err(part.as_ref().err().copied().unwrap_or(ErrorCode::UnknownServerError));
    let mut planned: Planned = parts.iter().map(unanswered).collect();
    let mut pending = Vec::new();
    for (owner, (places, asks)) in by_owner(parts) {
        pending.push((places, node.begin(owner, Call::Plan(reader, asks)).await));
    }
    for (places, reply) in pending {
        if let Reply::Planned(found) = reply.await {
            put(&mut planned, places, found);
        }
    }
    planned
}

fn put<T>(into: &mut [T], places: Vec<usize>, values: impl IntoIterator<Item = T>) {
    for (place, value) in places.into_iter().zip(values) {
        if let Some(slot) = into.get_mut(place) {
            *slot = value;
        }
    }
}

/// Whether there is something to answer now.
fn is_enough(planned: &Planned, limits: &Limits) -> bool {
    let at_once = |found: &Result<Seen, ErrorCode>| found.as_ref().map_or(true, |seen| seen.diverging.is_some());
    let bytes: u64 = planned.iter().flatten().map(|seen| seen.bytes).sum();
    planned.is_empty() || bytes >= limits.bytes_min || planned.iter().any(at_once)
}

/// Waits for more, until the time is over or nobody waits any more.
async fn wait(
    connection: &Rc<Connection>,
    reader: Reader,
    limits: &Limits,
    parts: &[Part],
    mut planned: Planned,
) -> Planned {
    let node = &connection.node;
    let deadline = executor::now() + limits.wait;
    let waiting = Waiting::begin(node);
    let mut count = waiting.bell.count();
    let owners = watch(node, waiting.token, parts, &planned).await;
    while !connection.is_gone() && !node.closing.get() && executor::now() < deadline {
        rung(connection, &waiting.bell, count, deadline).await;
        count = waiting.bell.count();
        planned = plan(node, reader, parts).await;
        if is_enough(&planned, limits) {
            break;
        }
    }
    for owner in owners {
        drop(node.begin(owner, Call::Unwatch(waiting.token)).await);
    }
    planned
}

/// A ring, the end of the time, or the end of the connection.
async fn rung(connection: &Connection, bell: &Bell, count: u64, deadline: Instant) {
    let gone = connection.until(|| false);
    executor::until(deadline, first(bell.after(count), gone)).await;
}

/// A place among the waiting fetches; left when dropped.
struct Waiting {
    node: Rc<Node>,
    token: u64,
    bell: Rc<Bell>,
}

impl Waiting {
    fn begin(node: &Rc<Node>) -> Waiting {
        let (token, bell) = (node.next_token(), Rc::new(Bell::default()));
        node.waiting.borrow_mut().insert(token, Rc::clone(&bell));
        Waiting { node: Rc::clone(node), token, bell }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.node.waiting.borrow_mut().remove(&self.token);
    }
}

/// Has every owner ring when it shows more than was planned with.
async fn watch(node: &Rc<Node>, token: u64, parts: &[Part], planned: &Planned) -> Vec<ShardId> {
    let mut seen: BTreeMap<ShardId, Vec<(TopicPartition, i64)>> = BTreeMap::new();
    for (part, found) in parts.iter().zip(planned) {
        if let (Ok((owner, ask)), Ok(found)) = (part, found) {
            seen.entry(*owner).or_default().push((ask.at, found.high_watermark));
        }
    }
    let owners = seen.keys().copied().collect();
    for (owner, seen) in seen {
        node.call(owner, Call::Watch(token, seen)).await;
    }
    owners
}

/// What each part may read: in the order of the request, until the response is full.
fn share_out(parts: &[Part], planned: &Planned, bytes_max: u32) -> Vec<Part> {
    let mut left = bytes_max;
    let mut any = false;
    parts
        .iter()
        .zip(planned)
        .map(|(part, found)| {
            let (owner, ask) = part.as_ref().map_err(|error| *error)?;
            let seen = found.as_ref().map_err(|error| *error)?;
            let wanted = u32::try_from(seen.bytes).unwrap_or(u32::MAX);
            // The first that has any is never cut to nothing: its first batch is returned whole.
            let share = match any {
                false => wanted.min(ask.bytes_max).min(left.max(1)),
                true => wanted.min(ask.bytes_max).min(left),
            };
            any |= wanted > 0;
            left = left.saturating_sub(wanted.min(ask.bytes_max));
            Ok((*owner, ReadAsk { bytes_max: share, ..*ask }))
        })
        .collect()
}

async fn read(node: &Rc<Node>, reader: Reader, shares: Vec<Part>, planned: Planned) -> Vec<Result<Fetched, ErrorCode>> {
    let nothing = |found: Result<Seen, ErrorCode>| found.map(|seen| Fetched { seen, records: Vec::new() });
    let mut fetched: Vec<_> = planned.into_iter().map(nothing).collect();
    let with_bytes: Vec<Part> = shares
        .into_iter()
        .map(|share| share.and_then(|share| if share.1.bytes_max > 0 { Ok(share) } else { Err(ErrorCode::None) }))
        .collect();
    let mut mine = None;
    let mut pending = Vec::new();
    for (owner, (places, asks)) in by_owner(&with_bytes) {
        match owner == node.id() {
            true => mine = Some((places, asks)),
            false => pending.push((places, node.begin(owner, Call::Read(reader, asks)).await)),
        }
    }
    if let Some((places, asks)) = mine {
        let found = reads::read(node, reader, asks).await;
        put(&mut fetched, places, found.into_iter().map(|result| result.map(pieces)));
    }
    for (places, reply) in pending {
        if let Reply::Read(found) = reply.await {
            put(&mut fetched, places, found.into_iter().map(|result| result.map(pieces)));
        }
    }
    fetched
}

fn pieces<P: Into<Piece>>((seen, bytes): (Seen, Vec<P>)) -> Fetched {
    Fetched { seen, records: bytes.into_iter().map(P::into).collect() }
}

/// Takes back what a client cannot use: batches beyond the response's size, and zstd where it is not known.
fn trim(fetched: &mut [Result<Fetched, ErrorCode>], limits: &Limits) {
    let mut bytes = 0;
    for slot in fetched {
        let Ok(found) = slot else {
            continue;
        };
        let more: usize = found.records.iter().map(|piece| piece.len()).sum();
        if bytes > 0 && bytes + more > limits.bytes_max as usize {
            found.records.clear();
            continue;
        }
        bytes += more;
        if !limits.knows_zstd && holds_zstd(&found.records) {
            *slot = Err(ErrorCode::UnsupportedCompressionType);
        }
    }
}

/// Whether some batch is packed with zstd.
fn holds_zstd(records: &[Piece]) -> bool {
    let mut at = 0;
    while let Some(header) = header_at(records, at) {
        if Codec::from_attributes(header.attributes) == Some(Codec::Zstd) {
            return true;
        }
        at += header.bytes as usize;
    }
    false
}

/// The header at a position; batches may go on from one piece into the next.
fn header_at(records: &[Piece], mut at: usize) -> Option<BatchHeader> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    for piece in records {
        if let Some(rest) = piece.get(at..) {
            header.extend(rest.iter().take(HEADER_BYTES - header.len()));
        }
        at = at.saturating_sub(piece.len());
    }
    BatchHeader::parse(&header)
}
