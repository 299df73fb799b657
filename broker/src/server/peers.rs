//! Peers: calls to other shards over the mesh, and the task that answers theirs.
//!
//! Calls to one shard are bounded by credits, and replies by the calls, so a queue is never full. A call to this shard
//! itself is the function call that the other shard would make. Rings are one-way, coalesced, and hold no credit.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use watershed_core::io::executor::{now, sleep, spawn, yield_if_needed};
use watershed_core::io::mesh::{Endpoint, Full, Lane};
use watershed_core::units::ShardId;

use crate::groups::Answer;

use super::calls::{self, Answering, Call, Reply};
use super::node::Node;
use super::reads::Rings;
use watershed_core::io::bell::{Bell, Local, Promise};

/// Calls that may be under way from one shard to another.
const CREDITS: usize = 64;
/// Places of a queue between two shards; replies and calls have their own.
pub(crate) const QUEUE_CAPACITY: usize = 2 * CREDITS;
/// How long to wait for a shard that does not take its rings.
const RING_WAIT: Duration = Duration::from_millis(1);

/// What crosses between shards.
pub(crate) enum Message {
    Call(u64, Call),
    Reply(u64, Reply),
    Rung(Vec<u64>),
    /// What a group's coordinator has for one who waits.
    Told(u64, Box<Answer>),
}

/// Who waits for a reply, and since when.
type Calling = (Rc<Promise<Reply>>, Instant);

/// This shard's side of the mesh.
pub(crate) struct Peers {
    endpoint: Endpoint<Message>,
    next_call: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, Calling>>,
    /// Calls under way to each shard.
    under_way: RefCell<BTreeMap<ShardId, usize>>,
    returned: Bell,
    rings: RefCell<Rings>,
    told: RefCell<VecDeque<(ShardId, u64, Answer)>>,
    /// Rings when something waits to be carried to another shard.
    rung: Bell,
}

/// A reply that will come.
pub(crate) enum Pending {
    Now(Option<Reply>),
    Here(Local<Reply>),
    There(Rc<Promise<Reply>>),
}

impl Future for Pending {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        match &mut *self {
            Pending::Now(reply) => Poll::Ready(reply.take().expect("a reply is taken once")),
            Pending::Here(reply) => reply.as_mut().poll(context),
            Pending::There(reply) => reply.poll(context),
        }
    }
}

impl Peers {
    pub(crate) fn new(endpoint: Endpoint<Message>) -> Peers {
        Peers {
            endpoint,
            next_call: Cell::new(0),
            waiting: RefCell::default(),
            under_way: RefCell::default(),
            returned: Bell::default(),
            rings: RefCell::default(),
            told: RefCell::default(),
            rung: Bell::default(),
        }
    }

    pub(crate) fn shard_count(&self) -> u16 {
        self.endpoint.shard_count()
    }

    /// Every shard, this one included.
    pub(crate) fn all(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shard_count()).map(ShardId)
    }

    /// See `Node::begin`.
    pub(crate) async fn begin(&self, node: &Rc<Node>, to: ShardId, call: Call) -> Pending {
        if to == node.id() {
            return match calls::answer(node, to, call) {
                Answering::Now(reply) => Pending::Now(Some(reply)),
                Answering::Later(reply) => Pending::Here(reply),
            };
        }
        self.returned.until(|| self.calls_to(to) < CREDITS).await;
        node.count(|metrics| metrics.mesh_calls += 1);
        *self.under_way.borrow_mut().entry(to).or_default() += 1;
        let id = self.next_call.get();
        self.next_call.set(id + 1);
        let slot = Rc::new(Promise::default());
        self.waiting.borrow_mut().insert(id, (Rc::clone(&slot), now()));
        self.send(to, Lane::Call, Message::Call(id, call));
        Pending::There(slot)
    }

    fn calls_to(&self, to: ShardId) -> usize {
        self.under_way.borrow().get(&to).copied().unwrap_or_default()
    }

    fn send(&self, to: ShardId, lane: Lane, message: Message) {
        let sent = self.endpoint.send(to, lane, message);
        assert!(sent.is_ok(), "a queue has a place for every credit");
    }

    /// Rings a token of another shard, soon.
    pub(crate) fn ring(&self, to: ShardId, token: u64) {
        self.rings.borrow_mut().add(to, token);
        self.rung.ring();
    }

    /// Carries a coordinator's answer to another shard, in order.
    pub(crate) fn tell(&self, to: ShardId, token: u64, answer: Answer) {
        self.told.borrow_mut().push_back((to, token, answer));
        self.rung.ring();
    }

    /// What waits to be carried to other shards.
    fn outgoing(&self) -> Vec<(ShardId, Message)> {
        let rings = self.rings.borrow_mut().take().into_iter().map(|(to, tokens)| (to, Message::Rung(tokens)));
        let told = self
            .told
            .borrow_mut()
            .drain(..)
            .map(|(to, token, answer)| (to, Message::Told(token, Box::new(answer))))
            .collect::<Vec<_>>();
        rings.chain(told).collect()
    }

    /// Hands a reply to who waits for it. Returns how long the call took, in microseconds.
    fn returned(&self, from: ShardId, id: u64, reply: Reply) -> u64 {
        if let Some(calls) = self.under_way.borrow_mut().get_mut(&from) {
            *calls = calls.saturating_sub(1);
        }
        self.returned.ring();
        let slot = self.waiting.borrow_mut().remove(&id);
        let (slot, called) = slot.expect("a reply follows its call");
        slot.keep(reply);
        u64::try_from(now().duration_since(called).as_micros()).unwrap_or(u64::MAX)
    }
}

/// Takes what other shards send, for as long as this one runs.
pub(crate) async fn receive(node: Rc<Node>) {
    loop {
        let (from, _, message) = node.peers.endpoint.recv().await;
        match message {
            Message::Call(id, call) => {
                if matches!(call, Call::Append(_)) {
                    // A part that was enqueued is not refused for want of memory: the queue waits, in order.
                    node.shard.room().await;
                }
                answer(&node, from, id, call);
            }
            Message::Reply(id, reply) => {
                let took_us = node.peers.returned(from, id, reply);
                node.count(|metrics| metrics.mesh_latency.observe_us(took_us));
            }
            Message::Rung(tokens) => super::reads::rung(&node, &tokens),
            Message::Told(token, answer) => node.answered(token, *answer),
        }
        yield_if_needed().await;
    }
}

fn answer(node: &Rc<Node>, from: ShardId, id: u64, call: Call) {
    match calls::answer(node, from, call) {
        Answering::Now(reply) => node.peers.send(from, Lane::Reply, Message::Reply(id, reply)),
        Answering::Later(reply) => {
            let node = Rc::clone(node);
            spawn(async move {
                let reply = reply.await;
                node.peers.send(from, Lane::Reply, Message::Reply(id, reply));
            });
        }
    }
}

/// Carries rings and coordinators' answers to other shards, for as long as this one runs.
pub(crate) async fn ring(node: Rc<Node>) {
    let peers = &node.peers;
    loop {
        peers.rung.until(|| !peers.rings.borrow().is_empty() || !peers.told.borrow().is_empty()).await;
        for (to, mut message) in peers.outgoing() {
            while let Err(Full(back)) = peers.endpoint.send(to, Lane::Outbox, message) {
                message = back;
                sleep(RING_WAIT).await;
            }
        }
    }
}
