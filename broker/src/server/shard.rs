//! The life of one shard's thread: recover, begin, serve, drain, close. Shard 0 also leads the others, accepts
//! connections and deals them.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use watershed_core::budget::{Budget, Pool};
use watershed_core::error::Fault;
use watershed_core::io::data_dir::DataDir;
use watershed_core::io::executor::{JoinHandle, sleep, spawn};
use watershed_core::io::log::LogCalls;
use watershed_core::io::mesh::Endpoint;
use watershed_core::io::notify::{Answer, ThreadReceiver};
use watershed_core::io::shard::{Shard, ShardConfig};
use watershed_core::io::socket::Listener;
use watershed_core::store::StoreConfig;
use watershed_core::units::ShardId;

use crate::configs::BrokerProperties;
use crate::lifecycle::Serving;
use crate::metrics::ShardMetrics;
use crate::settings::Settings;

use super::append;
use super::boot::{self, Identity};
use super::calls::Call;
use super::memory::Memory;
use super::metadata;
use super::node::{MemoryLimits, Node, Parts};
use super::peers::{self, Message, Peers};
use super::reach::{self, Opened};
use super::{drain, scrape};
use watershed_core::io::bell::{Bell, First, first};

/// The largest block of a shard's memory, and so of a request.
const BLOCK_BYTES_MAX: u64 = 64 << 20;
/// New records are refused when the file system has less.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// After an accept that failed (too many open files): give connections time to end.
const ACCEPT_WAIT: std::time::Duration = std::time::Duration::from_millis(100);

/// What an ordinary thread asks of a shard.
pub(super) enum Order {
    Scrape(oneshot::Sender<Box<ShardMetrics>>),
    /// Answered in the shard's next turn.
    Pulse(Answer<()>),
    /// Find a partition for this process's own use; to shard 0.
    Open {
        topic: String,
        partition: i32,
        answer: Answer<Opened>,
    },
    /// Drain all shards and end them; to shard 0.
    Stop,
}

/// What ordinary threads send to one shard: orders, and calls to its logs.
pub(super) type Inbox = (ThreadReceiver<Order>, LogCalls);

/// What all shards start from.
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) properties: BrokerProperties,
    pub(super) data_dir: DataDir,
    pub(super) shards: u16,
    /// Of one shard.
    pub(super) memory_bytes: u64,
    pub(super) inboxes: Mutex<Vec<Option<Inbox>>>,
    pub(super) leading: Mutex<Option<Leading>>,
}

/// What only shard 0 needs.
pub(super) struct Leading {
    pub(super) ready: Box<dyn FnOnce(Serving) + Send>,
    pub(super) notes: Vec<String>,
}

/// Runs one shard until it is stopped.
pub(super) async fn run(endpoint: Endpoint<Message>, plan: Arc<Plan>) -> Result<(), Fault> {
    let id = endpoint.shard();
    let shard = Shard::open(&plan.data_dir, id, config(plan.memory_bytes, &plan.properties)).await?;
    let failing = shard.clone();
    match first(failing.failed(), serve(shard, endpoint, &plan)).await {
        First::Left(fault) => Err(fault),
        First::Right(served) => served,
    }
}

/// Tails kept for readers near the end of their log. Memory that is used again is in the processor's and the kernel's
/// hands already; more of it costs a page fault and a cleared page for each first use, and readers further behind read
/// ahead from disk.
const TAIL_CACHE_BYTES_MAX: u64 = 256 << 20;

/// Shares a shard's memory out.
pub(super) fn config(memory_bytes: u64, properties: &BrokerProperties) -> ShardConfig {
    let quarter = memory_bytes / 4;
    let store = StoreConfig::default();
    ShardConfig {
        store: StoreConfig { unwritten_bytes_max: store.unwritten_bytes_max.min(quarter), ..store },
        arena_bytes: usize::try_from(memory_bytes).unwrap_or(usize::MAX),
        tail_cache_bytes: quarter.min(TAIL_CACHE_BYTES_MAX),
        free_bytes_min: FREE_BYTES_MIN,
        retention_check_ms: u64::try_from(properties.number("log.retention.check.interval.ms")).unwrap_or(1),
    }
}

async fn serve(shard: Shard, endpoint: Endpoint<Message>, plan: &Plan) -> Result<(), Fault> {
    let id = shard.id();
    let node = node(shard, endpoint, plan);
    spawn(peers::receive(Rc::clone(&node)));
    spawn(peers::ring(Rc::clone(&node)));
    spawn(drain::sweep(Rc::clone(&node)));
    let inbox = take(&plan.inboxes, |inboxes| inboxes.get_mut(usize::from(id.0)).and_then(Option::take));
    let (orders, log_calls) = inbox.expect("every shard has its inbox");
    let stop = Rc::new(Bell::default());
    spawn(obey(Rc::clone(&node), orders, Rc::clone(&stop)));
    let logs = Rc::clone(&node);
    spawn(log_calls.serve(node.shard.clone(), move |at, batch| append::append_own(&logs, at, batch)));
    if id == metadata::HOST {
        lead(&node, plan, &stop).await?;
    }
    node.changed.until(|| node.stopping.get()).await;
    node.shard.clone().close().await
}

fn take<T, R>(cell: &Mutex<T>, taken: impl FnOnce(&mut T) -> R) -> R {
    taken(&mut cell.lock().unwrap_or_else(PoisonError::into_inner))
}

fn node(shard: Shard, endpoint: Endpoint<Message>, plan: &Plan) -> Rc<Node> {
    let memory = Memory::new(Budget::derive(plan.memory_bytes, plan.shards));
    let property = |name| u64::try_from(plan.properties.number(name)).ok();
    let request_bytes = property("socket.request.max.bytes").unwrap_or(u64::MAX);
    let request_bytes_max = request_bytes.min(memory.limit_bytes(Pool::Receive) / 2).min(BLOCK_BYTES_MAX);
    let disk = shard.clone();
    let storage = config(plan.memory_bytes, &plan.properties);
    let node = Node::new(Parts {
        shard,
        peers: Peers::new(endpoint),
        memory,
        request_bytes_max: usize::try_from(request_bytes_max).unwrap_or(usize::MAX),
        fetch_bytes_max: property("fetch.max.bytes").and_then(|bytes| i32::try_from(bytes).ok()).unwrap_or(i32::MAX),
        session_slots: property("max.incremental.fetch.session.cache.slots")
            .and_then(|slots| usize::try_from(slots).ok())
            .unwrap_or_default(),
        idle_us_max: property("connections.max.idle.ms").map(|ms| ms.saturating_mul(1000)),
        slow_request_us: plan.settings.slow_request_ms.map(|ms| ms.saturating_mul(1000)),
        memory_limits: MemoryLimits {
            tail_bytes: storage.tail_cache_bytes,
            unwritten_bytes: storage.store.unwritten_bytes_max,
        },
    });
    let observer = Rc::downgrade(&node);
    disk.on_disk(Rc::new(move |op, took_us| {
        if let Some(node) = observer.upgrade() {
            node.count(|metrics| scrape::disk(metrics, op).observe_us(took_us));
        }
    }));
    node
}

/// Does what ordinary threads ask for, as long as the shard runs.
async fn obey(node: Rc<Node>, inbox: ThreadReceiver<Order>, stop: Rc<Bell>) {
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Scrape(answer) => {
                let node = Rc::clone(&node);
                spawn(async move {
                    // Who does not wait any more needs no answer.
                    let _ = answer.send(Box::new(scrape::scrape(&node).await));
                });
            }
            Order::Pulse(answer) => answer.send(()),
            Order::Open { topic, partition, answer } => reach::open(&node, topic, partition, answer),
            Order::Stop => stop.ring(),
        }
    }
}

/// Leads the start, serves until the stop, and leads the end.
async fn lead(node: &Rc<Node>, plan: &Plan, stop: &Bell) -> Result<(), Fault> {
    let listener = Listener::bind(plan.settings.listen)?;
    let identity = Identity {
        node_id: plan.settings.node_id,
        advertised: plan.settings.advertised(listener.local_address()),
        properties: plan.properties.clone(),
    };
    let warnings = boot::lead(node, &plan.data_dir, identity).await?;
    spawn(metadata::run(Rc::clone(node)));
    let accepting = spawn(accept(Rc::clone(node), listener.clone()));
    announce(plan, &listener, warnings);
    stop.after(0).await;
    end(node, accepting).await;
    Ok(())
}

fn announce(plan: &Plan, listener: &Listener, warnings: Vec<String>) {
    if let Some(leading) = take(&plan.leading, Option::take) {
        (leading.ready)(Serving {
            listen: listener.local_address(),
            shards: usize::from(plan.shards),
            notes: leading.notes,
            warnings,
        });
    }
}

/// Deals connections to the shards, one after the other.
async fn accept(node: Rc<Node>, listener: Listener) {
    let mut turn = 0;
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let to = ShardId(turn);
                turn = (turn + 1) % node.peers.shard_count();
                if let Ok(stream) = stream.into_raw() {
                    drop(node.begin(to, Call::Serve(stream)).await);
                }
            }
            Err(fault) => {
                tracing::warn!(%fault, "a connection was not accepted");
                sleep(ACCEPT_WAIT).await;
            }
        }
    }
}

/// Drains every shard, then ends them, this one last.
async fn end(node: &Rc<Node>, accepting: JoinHandle<()>) {
    accepting.cancel();
    let mut draining = Vec::new();
    for shard in node.peers.all() {
        draining.push(node.begin(shard, Call::Drain).await);
    }
    for drained in draining {
        drained.await;
    }
    for shard in node.peers.all().filter(|shard| *shard != node.id()) {
        node.call(shard, Call::Stop).await;
    }
    node.call(node.id(), Call::Stop).await;
}
