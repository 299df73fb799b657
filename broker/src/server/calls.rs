//! Calls: what one shard asks another, and the one function that answers, whether the asker is here or elsewhere.
//!
//! A call's first part runs when it is taken from the queue, without an await, so that appends are placed in the order in
//! which they were asked for; what must wait (durability, reads) is the future that is returned. Answering a call never
//! makes one.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use watershed_core::io::arena::Lent;
use watershed_core::io::shard::{Incoming, LogState};
use watershed_core::io::socket::{RawStream, Stream};
use watershed_core::partition::ActiveProducer;
use watershed_core::units::{ShardId, TopicPartition};

use crate::catalog;
use crate::groups::Listed;
use crate::quotas::{Charge, Limit, Verdict};
use crate::wire::error_code::ErrorCode;

use super::append::{Placed, Placing};
use super::apply::{self, Commit};
use super::boot::Beginning;
use super::groups::{self, GroupAsk, GroupTold};
use super::node::Node;
use super::offsets::{self, OffsetAsk, OffsetFound};
use super::reads::{self, ReadAsk, Reader, Seen};
use super::{connection, drain, metadata, quotas};
use watershed_core::io::bell::Local;

/// Bytes that cross to another core: lent where they lie, or few enough to have been copied.
pub(crate) enum Crossing {
    Lent(Lent),
    Copied(Vec<u8>),
}

impl std::ops::Deref for Crossing {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Crossing::Lent(lent) => lent,
            Crossing::Copied(bytes) => bytes,
        }
    }
}

/// A question to a shard.
pub(crate) enum Call {
    /// Append one batch to each partition; answered when they are durable.
    Append(Vec<(TopicPartition, Crossing)>),
    /// What a read would find; metadata only.
    Plan(Reader, Vec<ReadAsk>),
    /// Ring for this token when the high watermark of one of these moves beyond what was seen.
    Watch(u64, Vec<(TopicPartition, i64)>),
    Unwatch(u64),
    Read(Reader, Vec<ReadAsk>),
    Offsets(Reader, Vec<OffsetAsk>),
    EpochEnds(Vec<(TopicPartition, i32, i32)>),
    DeleteRecords(Vec<(TopicPartition, i64)>),
    /// The producers that each partition remembers.
    Producers(Vec<TopicPartition>),
    /// The state of every log of the shard.
    LogStates,
    /// Ask the coordinator of a group, which is that partition of the offsets topic.
    Group(TopicPartition, String, GroupAsk),
    /// The groups of all coordinators of the shard.
    ListGroups,
    /// Count a use against a quota; to the shard that counts for the client.
    Charge(Limit, Charge),
    /// Change the catalog; to the metadata host only.
    Submit(Box<catalog::Request>),
    /// Begin to serve with this catalog and these owners; answered when the logs that this shard lacks exist.
    Begin(Arc<Beginning>),
    /// Take committed records into this shard's catalog.
    Apply(Arc<Commit>),
    /// A connection that this shard is to serve.
    Serve(RawStream),
    /// Which partitions this shard's journals know.
    Held,
    /// Take no request more; answered when every connection has ended.
    Drain,
    /// End this shard; answered at once, and nothing may be asked of it any more.
    Stop,
}

/// The answer to the call of the same place.
pub(crate) enum Reply {
    Appended(Vec<Result<Placed, ErrorCode>>),
    Planned(Vec<Result<Seen, ErrorCode>>),
    Done,
    Read(Vec<Result<(Seen, Vec<Lent>), ErrorCode>>),
    Offsets(Vec<Result<OffsetFound, ErrorCode>>),
    EpochEnds(Vec<Result<(i32, i64), ErrorCode>>),
    Deleted(Vec<Result<i64, ErrorCode>>),
    Producers(Vec<Result<Vec<ActiveProducer>, ErrorCode>>),
    LogStates(Vec<(TopicPartition, LogState)>),
    Group(Result<GroupTold, ErrorCode>),
    Groups(Result<Vec<Listed>, ErrorCode>),
    Charged(Verdict),
    Submitted(Box<catalog::Reply>),
    Held(Vec<TopicPartition>),
    /// The log could not do it; the reason is in the log of the process.
    Failed(ErrorCode),
}

/// An answer that is there, or one that has to wait.
pub(crate) enum Answering {
    Now(Reply),
    Later(Local<Reply>),
}

/// Answers a call of shard `from`. The synchronous part has happened when this returns.
pub(crate) fn answer(node: &Rc<Node>, from: ShardId, call: Call) -> Answering {
    match call {
        Call::Append(parts) => {
            let mut placed = Placing::default();
            parts.iter().for_each(|(at, bytes)| placed.place(node, *at, Incoming::Copy(bytes)));
            later(node, async move |node| Reply::Appended(placed.durable(&node).await))
        }
        Call::Plan(reader, asks) => Answering::Now(Reply::Planned(reads::plan(node, reader, &asks))),
        Call::Watch(token, seen) => {
            reads::watch(node, from, token, &seen);
            Answering::Now(Reply::Done)
        }
        Call::Unwatch(token) => {
            reads::unwatch(node, from, token);
            Answering::Now(Reply::Done)
        }
        Call::Read(reader, asks) => {
            later(node, async move |node| Reply::Read(reads::read_to_lend(&node, reader, asks).await))
        }
        Call::Offsets(reader, asks) => {
            later(node, async move |node| Reply::Offsets(offsets::find(&node, reader, asks).await))
        }
        Call::EpochEnds(asks) => Answering::Now(Reply::EpochEnds(offsets::epoch_ends(node, &asks))),
        Call::DeleteRecords(asks) => {
            let deleted = offsets::delete_records(node, &asks);
            later(node, async move |node| Reply::Deleted(deleted.durable(&node).await))
        }
        Call::Producers(asks) => {
            let found = offsets::producers(node, &asks);
            later(node, async move |node| Reply::Producers(found.durable(&node).await))
        }
        Call::LogStates => Answering::Now(Reply::LogStates(log_states(node))),
        Call::Group(at, group, ask) => groups::ask(node, at, &group, ask),
        Call::ListGroups => Answering::Now(Reply::Groups(groups::list(node))),
        Call::Charge(limit, charge) => Answering::Now(Reply::Charged(quotas::charge(node, &limit, charge))),
        Call::Submit(request) => {
            let submitted = metadata::submit(node, *request);
            later(node, async move |_| submitted.await)
        }
        Call::Apply(commit) => {
            let applied = apply::apply(node, &commit);
            later(node, async move |node| {
                applied.durable(&node).await;
                Reply::Done
            })
        }
        Call::Begin(beginning) => {
            let begun = apply::begin(node, &beginning);
            later(node, async move |node| {
                begun.durable(&node).await;
                Reply::Done
            })
        }
        Call::Serve(stream) => {
            connection::serve(node, Stream::from_raw(stream));
            Answering::Now(Reply::Done)
        }
        Call::Held => Answering::Now(Reply::Held(node.shard.partitions())),
        Call::Drain => later(node, async move |node| {
            drain::drain(&node).await;
            Reply::Done
        }),
        Call::Stop => {
            node.stopping.set(true);
            node.changed.ring();
            Answering::Now(Reply::Done)
        }
    }
}

fn log_states(node: &Node) -> Vec<(TopicPartition, LogState)> {
    let partitions = node.shard.partitions().into_iter();
    partitions.filter_map(|at| Some((at, node.shard.state(at).ok()?))).collect()
}

fn later<F: Future<Output = Reply> + 'static>(node: &Rc<Node>, answer: impl FnOnce(Rc<Node>) -> F) -> Answering {
    Answering::Later(Box::pin(answer(Rc::clone(node))))
}
