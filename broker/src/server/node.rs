//! Nodes: what one shard serves with. One per shard, on its core; others reach it by calls only.
//!
//! Owns this core's copy of the catalog and of the table of owners; after the start both change only in `apply`. No borrow
//! of a cell is held over an await.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use watershed_core::io::shard::{Shard, WatchId};
use watershed_core::units::{ShardId, TopicId, TopicPartition};

use crate::catalog::Catalog;
use crate::configs::{BrokerProperties, TopicSettings, effective_topic_settings};
use crate::fetch_sessions::FetchSessions;
use crate::groups::{Answer, Waiter};
use crate::metrics::ShardMetrics;
use crate::producer_ids::ProducerIds;
use crate::quotas::{Meters, QuotaTable};
use crate::wire::error_code::ErrorCode;
use crate::wire::topic_ref::TopicRef;

use super::calls::{Call, Reply};
use super::connection::Connection;
use super::groups::Groups;
use super::memory::{Allowance, Memory};
use super::metadata::Host;
use super::peers::{Peers, Pending};
use super::phases::SlowLog;
use watershed_core::io::bell::{Bell, Promise};

/// Who we are, as clients are told.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) cluster_id: String,
    pub(crate) node_id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The data directory.
    pub(crate) log_dir: String,
    pub(crate) directory_id: [u8; 16],
    /// What the broker was started with, under Kafka's names.
    pub(crate) properties: BrokerProperties,
    /// This start's registration with the controller.
    pub(crate) broker_epoch: i64,
}

impl Cluster {
    /// `broker.rack`
    pub(crate) fn rack(&self) -> Option<String> {
        self.properties.text("broker.rack").map(str::to_owned)
    }
}

/// One shard's server.
pub(crate) struct Node {
    pub(crate) shard: Shard,
    pub(crate) peers: Peers,
    pub(crate) memory: Rc<Memory>,
    pub(crate) memory_limits: MemoryLimits,
    /// For batches that were packed anew and are on their way to other shards.
    pub(crate) repacked: Rc<Allowance>,
    /// The largest request that is received.
    pub(crate) request_bytes_max: usize,
    /// `connections.max.idle.ms`; `None`: for ever.
    pub(crate) idle_us_max: Option<u64>,
    /// `fetch.max.bytes`
    pub(crate) fetch_bytes_max: i32,
    /// Set before the first connection.
    cluster: OnceCell<Arc<Cluster>>,
    /// On the metadata host's shard.
    pub(crate) host: OnceCell<Host>,
    pub(crate) catalog: RefCell<Catalog>,
    pub(crate) owners: RefCell<BTreeMap<TopicPartition, ShardId>>,
    /// Settings of topics that were asked for since the catalog last changed.
    settings: RefCell<BTreeMap<TopicId, Rc<TopicSettings>>>,
    /// What the catalog says of quotas.
    pub(crate) quotas: RefCell<QuotaTable>,
    /// What clients have used for whom this shard counts.
    pub(crate) meters: RefCell<Meters>,
    pub(crate) sessions: RefCell<FetchSessions>,
    pub(crate) producer_ids: RefCell<ProducerIds>,
    /// Rings when a block of producer ids has come or was refused.
    pub(crate) granted: Bell,
    pub(crate) metrics: RefCell<ShardMetrics>,
    pub(crate) slow_log: SlowLog,
    pub(crate) connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    /// Fetches of this shard's connections that wait, by the token that owners ring.
    pub(crate) waiting: RefCell<BTreeMap<u64, Rc<Bell>>>,
    /// Watches that this shard keeps for fetches of any shard.
    pub(crate) watches: RefCell<BTreeMap<(ShardId, u64), WatchId>>,
    /// The coordinators of groups that live on this shard.
    pub(crate) groups: Groups,
    /// Members of groups on this shard's connections that wait, by the token that coordinators answer.
    members: RefCell<BTreeMap<u64, Rc<Promise<Answer>>>>,
    tokens: Cell<u64>,
    /// No connection is taken any more, and what waits ends.
    pub(crate) closing: Cell<bool>,
    /// The shard ends.
    pub(crate) stopping: Cell<bool>,
    /// Rings when a connection has ended and when one of the above is set.
    pub(crate) changed: Bell,
}

/// What a node is made of.
pub(crate) struct Parts {
    pub(crate) shard: Shard,
    pub(crate) peers: Peers,
    pub(crate) memory: Rc<Memory>,
    pub(crate) request_bytes_max: usize,
    pub(crate) idle_us_max: Option<u64>,
    pub(crate) fetch_bytes_max: i32,
    /// `max.incremental.fetch.session.cache.slots`, of the whole broker.
    pub(crate) session_slots: usize,
    /// Requests that took this long are logged.
    pub(crate) slow_request_us: Option<u64>,
    pub(crate) memory_limits: MemoryLimits,
}

/// What a shard's pools of memory may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryLimits {
    /// Tails that are kept for readers.
    pub(crate) tail_bytes: u64,
    /// Tails that are not in their segments' files yet.
    pub(crate) unwritten_bytes: u64,
}

impl Node {
    pub(crate) fn new(parts: Parts) -> Rc<Node> {
        let (id, count) = (parts.shard.id(), parts.peers.shard_count());
        let slots = parts.session_slots.div_ceil(usize::from(count.max(1)));
        Rc::new(Node {
            shard: parts.shard,
            peers: parts.peers,
            memory: parts.memory,
            repacked: Rc::default(),
            request_bytes_max: parts.request_bytes_max,
            idle_us_max: parts.idle_us_max,
            fetch_bytes_max: parts.fetch_bytes_max,
            cluster: OnceCell::new(),
            host: OnceCell::new(),
            catalog: RefCell::default(),
            owners: RefCell::default(),
            settings: RefCell::default(),
            quotas: RefCell::default(),
            meters: RefCell::default(),
            sessions: RefCell::new(FetchSessions::new(id.0, count, slots)),
            producer_ids: RefCell::new(ProducerIds::new()),
            granted: Bell::default(),
            slow_log: SlowLog::new(parts.slow_request_us),
            memory_limits: parts.memory_limits,
            metrics: RefCell::new(ShardMetrics { shard: id.0, ..ShardMetrics::default() }),
            connections: RefCell::default(),
            waiting: RefCell::default(),
            watches: RefCell::default(),
            groups: Groups::default(),
            members: RefCell::default(),
            tokens: Cell::new(0),
            closing: Cell::new(false),
            stopping: Cell::new(false),
            changed: Bell::default(),
        })
    }

    pub(crate) fn id(&self) -> ShardId {
        self.shard.id()
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.cluster.get().expect("the cluster is set before the first connection")
    }

    pub(crate) fn set_cluster(&self, cluster: Arc<Cluster>) {
        assert!(self.cluster.set(cluster).is_ok(), "a node begins once");
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.shard.now().monotonic_us
    }

    /// Counts something.
    pub(crate) fn count(&self, change: impl FnOnce(&mut ShardMetrics)) {
        change(&mut self.metrics.borrow_mut());
    }

    /// A number that nothing else of this shard has.
    pub(crate) fn next_token(&self) -> u64 {
        self.tokens.set(self.tokens.get() + 1);
        self.tokens.get()
    }

    /// A member waits for its group from now on, until what is returned is dropped.
    pub(crate) fn wait_for_group(self: &Rc<Self>) -> MemberWait {
        let (token, promise) = (self.next_token(), Rc::new(Promise::default()));
        self.members.borrow_mut().insert(token, Rc::clone(&promise));
        MemberWait { node: Rc::clone(self), token, promise }
    }

    /// A coordinator's answer has come. Who does not wait any more needs none.
    pub(crate) fn answered(&self, token: u64, answer: Answer) {
        if let Some(promise) = self.members.borrow().get(&token) {
            promise.keep(answer);
        }
    }

    /// The topic that a request means, or the code for its absence.
    pub(crate) fn topic_id(&self, topic: TopicRef<'_>) -> Result<TopicId, ErrorCode> {
        let catalog = self.catalog.borrow();
        let (found, missing) = match topic {
            TopicRef::Name(name) => (catalog.topic_named(name), ErrorCode::UnknownTopicOrPartition),
            TopicRef::Id(id) => (catalog.topic(id), ErrorCode::UnknownTopicId),
        };
        found.map(|topic| topic.id).ok_or(missing)
    }

    /// The partition's owner, or the code for its absence.
    pub(crate) fn owner(&self, at: TopicPartition) -> Result<ShardId, ErrorCode> {
        let owner = self.owners.borrow().get(&at).copied();
        owner.ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// What a topic's configurations say; `None` if there is no such topic.
    pub(crate) fn settings_of(&self, id: TopicId) -> Option<Rc<TopicSettings>> {
        if let Some(known) = self.settings.borrow().get(&id) {
            return Some(Rc::clone(known));
        }
        let catalog = self.catalog.borrow();
        let topic = catalog.topic(id)?;
        let cluster = self.cluster();
        let broker = catalog.broker_configs(&cluster.properties, cluster.node_id);
        let mut settings = effective_topic_settings(catalog.topic_overrides(&topic.name), &broker);
        settings.log.control = topic.is_internal();
        let settings = Rc::new(settings);
        self.settings.borrow_mut().insert(id, Rc::clone(&settings));
        Some(settings)
    }

    /// The catalog has changed: settings are computed anew.
    pub(crate) fn forget_settings(&self) {
        self.settings.borrow_mut().clear();
    }

    /// Puts the call into its owner's queue; what the owner does without waiting has then its place in the order of
    /// calls. The reply comes from what is returned.
    pub(crate) async fn begin(self: &Rc<Self>, to: ShardId, call: Call) -> Pending {
        self.peers.begin(self, to, call).await
    }

    /// Calls and waits for the reply.
    pub(crate) async fn call(self: &Rc<Self>, to: ShardId, call: Call) -> Reply {
        self.begin(to, call).await.await
    }
}

/// A member of a group that waits for its coordinator's answer.
pub(crate) struct MemberWait {
    node: Rc<Node>,
    token: u64,
    promise: Rc<Promise<Answer>>,
}

impl MemberWait {
    pub(crate) fn waiter(&self) -> Waiter {
        Waiter { shard: self.node.id(), token: self.token }
    }

    pub(crate) async fn answer(&self) -> Answer {
        self.promise.kept().await
    }
}

impl Drop for MemberWait {
    fn drop(&mut self) {
        self.node.members.borrow_mut().remove(&self.token);
    }
}
