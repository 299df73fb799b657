//! Reads at their owner: plans (numbers only), bytes, and watches for those who found too little.
//!
//! A plan pins nothing. Bytes that leave for another core are lent and come home by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use watershed_core::error::Refusal;
use watershed_core::io::arena::{Lent, Slice};
use watershed_core::io::shard::{LogState, ReadPlan, Until};
use watershed_core::units::{ShardId, TopicPartition};

use crate::wire::error_code::ErrorCode;

use super::errors;
use super::node::Node;

/// Who reads, and so how far it may see. There are no followers to read beyond the high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    ReadUncommitted,
    ReadCommitted,
}

impl Reader {
    pub(crate) fn of_isolation(level: i8) -> Reader {
        match level {
            1 => Reader::ReadCommitted,
            _ => Reader::ReadUncommitted,
        }
    }

    pub(crate) fn until(self) -> Until {
        match self {
            Reader::ReadUncommitted => Until::HighWatermark,
            Reader::ReadCommitted => Until::LastStable,
        }
    }

    /// The offset that this reader sees as the latest.
    pub(crate) fn end_of(self, state: &LogState) -> i64 {
        match self {
            Reader::ReadUncommitted => state.high_watermark,
            Reader::ReadCommitted => state.last_stable,
        }
    }
}

/// What is to be read of one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadAsk {
    pub(crate) at: TopicPartition,
    pub(crate) offset: i64,
    pub(crate) bytes_max: u32,
    /// The client's leader epoch; -1 if it does not say.
    pub(crate) leader_epoch: i32,
    /// The epoch of the last record that the client has; -1 if it does not say.
    pub(crate) fetched_epoch: i32,
}

/// What a read finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) log_start: i64,
    pub(crate) last_stable: i64,
    pub(crate) high_watermark: i64,
    /// How many bytes there are to read, as far as a plan can tell.
    pub(crate) bytes: u64,
    /// Instead of bytes: where the client's log and ours part (epoch, its end).
    pub(crate) diverging: Option<(i32, i64)>,
}

/// Plans every read.
pub(crate) fn plan(node: &Node, reader: Reader, asks: &[ReadAsk]) -> Vec<Result<Seen, ErrorCode>> {
    asks.iter()
        .map(|ask| match plan_one(node, reader, ask) {
            Ok((seen, _)) => Ok(seen),
            Err(refusal) => Err(refusal.into()),
        })
        .collect()
}

fn plan_one(node: &Node, reader: Reader, ask: &ReadAsk) -> Result<(Seen, Option<ReadPlan>), Refusal> {
    let state = node.shard.state(ask.at)?;
    check_epoch(ask.leader_epoch, &state)?;
    let mut seen = Seen {
        log_start: state.log_start,
        last_stable: state.last_stable,
        high_watermark: state.high_watermark,
        bytes: 0,
        diverging: diverging(node, ask)?,
    };
    if seen.diverging.is_some() {
        return Ok((seen, None));
    }
    let plan = node.shard.plan_read(ask.at, ask.offset, ask.bytes_max, reader.until())?;
    seen.bytes = plan.bytes();
    Ok((seen, Some(plan)))
}

/// A client that knows another leader epoch than ours reads from another log than it believes.
pub(crate) fn check_epoch(client_epoch: i32, state: &LogState) -> Result<(), Refusal> {
    match client_epoch {
        -1 => Ok(()),
        epoch if epoch < state.leader_epoch => Err(Refusal::FencedLeaderEpoch),
        epoch if epoch > state.leader_epoch => Err(Refusal::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Where the client's log leaves ours, if what it has read last is not what we hold (KIP-595).
fn diverging(node: &Node, ask: &ReadAsk) -> Result<Option<(i32, i64)>, Refusal> {
    if ask.fetched_epoch < 0 {
        return Ok(None);
    }
    let (epoch, end) = node.shard.epoch_end(ask.at, ask.fetched_epoch)?;
    if epoch < 0 || end < 0 {
        return Err(Refusal::OffsetOutOfRange);
    }
    Ok((epoch < ask.fetched_epoch || end < ask.offset).then_some((epoch, end)))
}

/// Reads every part, in order.
pub(crate) async fn read(
    node: &Node,
    reader: Reader,
    asks: Vec<ReadAsk>,
) -> Vec<Result<(Seen, Vec<Slice>), ErrorCode>> {
    let mut results = Vec::with_capacity(asks.len());
    for ask in asks {
        results.push(read_one(node, reader, &ask).await);
    }
    results
}

async fn read_one(node: &Node, reader: Reader, ask: &ReadAsk) -> Result<(Seen, Vec<Slice>), ErrorCode> {
    let (seen, plan) = plan_one(node, reader, ask)?;
    let Some(plan) = plan.filter(|_| ask.bytes_max > 0) else {
        return Ok((seen, Vec::new()));
    };
    match node.shard.read(plan).await {
        Ok(slices) => Ok((seen, slices)),
        Err(fault) => {
            tracing::error!(partition = %ask.at, offset = ask.offset, %fault, "a read failed");
            Err(errors::of_fault(&fault))
        }
    }
}

/// As `read`, for a reader on another core.
pub(crate) async fn read_to_lend(
    node: &Node,
    reader: Reader,
    asks: Vec<ReadAsk>,
) -> Vec<Result<(Seen, Vec<Lent>), ErrorCode>> {
    let lend = |slices: Vec<Slice>| slices.iter().map(Slice::lend).collect();
    let read = read(node, reader, asks).await;
    read.into_iter().map(|result| result.map(|(seen, slices)| (seen, lend(slices)))).collect()
}

/// Rings the asker's token when one of these partitions shows more than was seen; at once if it does already.
pub(crate) fn watch(node: &Rc<Node>, from: ShardId, token: u64, seen: &[(TopicPartition, i64)]) {
    let places: Vec<TopicPartition> = seen.iter().map(|(at, _)| *at).collect();
    let bell: Rc<dyn Fn()> = {
        let node = Rc::downgrade(node);
        Rc::new(move || {
            if let Some(node) = node.upgrade() {
                ring(&node, from, token);
            }
        })
    };
    let watch = node.shard.watch(&places, bell);
    let older = node.watches.borrow_mut().insert((from, token), watch);
    if let Some(older) = older {
        node.shard.unwatch(older);
    }
    let moved = |(at, high_watermark): &(TopicPartition, i64)| {
        node.shard.state(*at).map_or(true, |state| state.high_watermark != *high_watermark)
    };
    if seen.iter().any(moved) {
        ring(node, from, token);
    }
}

/// Ends a watch; one that is unknown has ended.
pub(crate) fn unwatch(node: &Node, from: ShardId, token: u64) {
    let watch = node.watches.borrow_mut().remove(&(from, token));
    if let Some(watch) = watch {
        node.shard.unwatch(watch);
    }
}

fn ring(node: &Rc<Node>, to: ShardId, token: u64) {
    match to == node.id() {
        true => rung(node, &[token]),
        false => node.peers.ring(to, token),
    }
}

/// Wakes the fetches of this shard that wait for these tokens.
pub(crate) fn rung(node: &Node, tokens: &[u64]) {
    let waiting = node.waiting.borrow();
    for bell in tokens.iter().filter_map(|token| waiting.get(token)) {
        bell.ring();
    }
}

/// Tokens to ring on other shards, each once however often it was rung.
#[derive(Default)]
pub(crate) struct Rings {
    by_shard: BTreeMap<ShardId, BTreeSet<u64>>,
}

impl Rings {
    pub(crate) fn add(&mut self, to: ShardId, token: u64) {
        self.by_shard.entry(to).or_default().insert(token);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_shard.is_empty()
    }

    /// Everything that waits to be rung.
    pub(crate) fn take(&mut self) -> Vec<(ShardId, Vec<u64>)> {
        std::mem::take(&mut self.by_shard).into_iter().map(|(to, tokens)| (to, tokens.into_iter().collect())).collect()
    }
}
