//! Messages between shards: a bounded queue for every pair of shards and lane, and the wake of a sleeping receiver.
//!
//! First in, first out per sender and lane; nothing is promised between lanes or senders. A full queue is the sender's to
//! handle: nothing blocks and nothing is dropped. A shard may send to itself.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::doorbell::Doorbell;
use super::executor::{self, Inbox};
use super::spsc::{self, Receiver, Sender, Watcher};
use crate::error::Fault;
use crate::units::ShardId;

/// Which queue a message takes. Calls wait for credits, replies never do, and the outbox has a lane of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Call,
    Reply,
    Outbox,
}

impl Lane {
    /// In the order in which a receiver asks them: replies first, since they free what calls wait for.
    pub const ALL: [Lane; 3] = [Lane::Reply, Lane::Call, Lane::Outbox];

    fn index(self) -> usize {
        match self {
            Lane::Reply => 0,
            Lane::Call => 1,
            Lane::Outbox => 2,
        }
    }
}

/// The queue was full. The message comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// All endpoints of a process, to be moved to their threads.
pub struct Mesh<T> {
    endpoints: Vec<Endpoint<T>>,
}

/// One shard's end of the mesh.
pub struct Endpoint<T> {
    shard: ShardId,
    doorbells: Vec<Arc<Doorbell>>,
    /// By receiving shard, then lane.
    senders: Vec<[Sender<T>; 3]>,
    /// By sending shard, then lane.
    receivers: Vec<[Receiver<T>; 3]>,
    /// The sender to ask first, so that none is served last always.
    turn: Cell<usize>,
    inbox: Arc<MeshInbox<T>>,
    inbox_place: Cell<Option<usize>>,
}

struct MeshInbox<T>(Vec<Watcher<T>>);

impl<T: Send> Inbox for MeshInbox<T> {
    fn has_items(&self) -> bool {
        self.0.iter().any(Watcher::has_items)
    }
}

impl<T: Send + 'static> Mesh<T> {
    /// Queues of `capacity` messages between each of `shards` and each.
    pub fn new(shards: u16, capacity: usize) -> Result<Mesh<T>, Fault> {
        let doorbells = (0..shards).map(|_| Doorbell::new()).collect::<Result<Vec<_>, _>>()?;
        let mut senders: Vec<Vec<[Sender<T>; 3]>> = (0..shards).map(|_| Vec::new()).collect();
        let mut endpoints = Vec::new();
        for to in 0..shards {
            let mut receivers = Vec::new();
            for from in &mut senders {
                let [reply, call, outbox] = Lane::ALL.map(|_| spsc::queue(capacity));
                from.push([reply.0, call.0, outbox.0]);
                receivers.push([reply.1, call.1, outbox.1]);
            }
            let inbox = Arc::new(MeshInbox(receivers.iter().flatten().map(Receiver::watcher).collect()));
            endpoints.push(Endpoint {
                shard: ShardId(to),
                doorbells: doorbells.clone(),
                senders: Vec::new(),
                receivers,
                turn: Cell::new(0),
                inbox,
                inbox_place: Cell::new(None),
            });
        }
        for (endpoint, senders) in endpoints.iter_mut().zip(senders) {
            endpoint.senders = senders;
        }
        Ok(Mesh { endpoints })
    }

    /// One end per shard, in the order of their ids.
    pub fn into_endpoints(self) -> Vec<Endpoint<T>> {
        self.endpoints
    }
}

impl<T: Send + 'static> Endpoint<T> {
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    pub fn shard_count(&self) -> u16 {
        self.doorbells.len() as u16
    }

    /// Where this shard is woken: for `ExecutorConfig::doorbell`, and for threads that send to it.
    pub fn doorbell(&self) -> &Arc<Doorbell> {
        self.bell(self.shard)
    }

    /// Puts a message into a shard's queue and wakes it if it sleeps.
    pub fn send(&self, to: ShardId, lane: Lane, message: T) -> Result<(), Full<T>> {
        let lanes = self.senders.get(usize::from(to.0)).expect("the shard is one of this mesh");
        let sender = lanes.get(lane.index()).expect("a queue for every lane");
        sender.push(message).map_err(Full)?;
        self.bell(to).ring();
        Ok(())
    }

    /// The next message. One task of the shard may wait at a time.
    pub async fn recv(&self) -> (ShardId, Lane, T) {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// The next message that is there already: replies first, senders in turn.
    pub fn try_recv(&self) -> Option<(ShardId, Lane, T)> {
        let count = self.receivers.len();
        for lane in Lane::ALL {
            for step in 0..count {
                let from = (self.turn.get() + step) % count;
                let queue = self.receivers.get(from).and_then(|lanes| lanes.get(lane.index()));
                if let Some(message) = queue.and_then(Receiver::pop) {
                    self.turn.set((from + 1) % count);
                    return Some((ShardId(from as u16), lane, message));
                }
            }
        }
        None
    }

    fn poll_recv(&self, context: &mut Context<'_>) -> Poll<(ShardId, Lane, T)> {
        if let Some(received) = self.try_recv() {
            return Poll::Ready(received);
        }
        let place = self.inbox_place.get().unwrap_or_else(|| executor::watch(self.inbox.clone()));
        self.inbox_place.set(Some(place));
        executor::wait_for(place, context.waker());
        Poll::Pending
    }

    fn bell(&self, shard: ShardId) -> &Arc<Doorbell> {
        self.doorbells.get(usize::from(shard.0)).expect("the shard is one of this mesh")
    }
}
