//! The metadata host: on shard 0, the controller and the log of its records.
//!
//! A change is committed when its records are durable in `__cluster_metadata` and applied on every shard; only then is it
//! answered, and only then the next one is begun. The host is a task of its own and not the handler of a call: it may call
//! other shards, and nothing that it waits for waits for it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use watershed_core::error::Fault;
use watershed_core::io::arena::Slice;
use watershed_core::io::shard::{Incoming, Shard, Until};
use watershed_core::owners::Owners;
use watershed_core::partition::LogSettings;
use watershed_core::units::{ShardId, TopicId, TopicPartition};

use crate::catalog::{Catalog, Controller, MetadataRecord, Reply, Request};
use crate::wire::error_code::ErrorCode;
use crate::wire::records::{BatchBuilder, Payload};

use super::apply::Commit;
use super::bell::{Bell, Promise};
use super::calls::{self, Call};
use super::node::Node;
use super::random;

/// The metadata log: an ordinary partition of shard 0.
pub(crate) const LOG: TopicPartition = TopicPartition { topic: TopicId::CLUSTER_METADATA, partition: 0 };
/// The shard that hosts it.
pub(crate) const HOST: ShardId = ShardId(0);
/// How much of the log is read at once.
const READ_BYTES: u32 = 1 << 20;
/// The metadata log is never compressed; a batch that unpacks to more than itself is damage.
const UNPACKED_BYTES_MAX: usize = 0;

type Submitted = (Request, Rc<Promise<Reply>>);

/// The controller and who waits for it.
pub(crate) struct Host {
    controller: RefCell<Controller>,
    owners: RefCell<Owners>,
    queue: RefCell<VecDeque<Submitted>>,
    arrived: Bell,
}

impl Host {
    pub(crate) fn new(controller: Controller, owners: Owners) -> Host {
        Host {
            controller: RefCell::new(controller),
            owners: RefCell::new(owners),
            queue: RefCell::default(),
            arrived: Bell::default(),
        }
    }
}

/// Keeps everything for ever: a catalog is rebuilt from its log.
pub(crate) fn log_settings() -> LogSettings {
    LogSettings {
        delete: false,
        retention_ms: None,
        max_message_bytes: watershed_core::limits::BATCH_BYTES_MAX,
        ..LogSettings::default()
    }
}

/// Reads the catalog that the log holds.
pub(crate) async fn load(shard: &Shard) -> Result<Catalog, Fault> {
    let mut catalog = Catalog::default();
    let mut offset = state(shard)?.log_start;
    while offset < state(shard)?.log_end {
        let plan = shard.plan_read(LOG, offset, READ_BYTES, Until::LogEnd).map_err(refused)?;
        let slices = shard.read(plan).await?;
        let end = replay(&mut catalog, &slices)?;
        offset = end.filter(|end| *end > offset).ok_or_else(|| damaged(offset, "batches are missing"))?;
    }
    Ok(catalog)
}

fn state(shard: &Shard) -> Result<watershed_core::io::shard::LogState, Fault> {
    shard.state(LOG).map_err(refused)
}

fn refused(refusal: watershed_core::error::Refusal) -> Fault {
    Fault::Refused(format!("the metadata log cannot be read: {refusal:?}"))
}

fn damaged(offset: i64, what: &str) -> Fault {
    Fault::Refused(format!("the metadata log is damaged at offset {offset}: {what}"))
}

/// Replays whole batches; gives the offset after the last.
fn replay(catalog: &mut Catalog, slices: &[Slice]) -> Result<Option<i64>, Fault> {
    let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    let mut rest = bytes.as_slice();
    let mut end = None;
    while !rest.is_empty() {
        let payload = Payload::open(rest, UNPACKED_BYTES_MAX).map_err(|error| damaged(-1, &error.to_string()))?;
        for record in payload.records() {
            let record = record.map_err(|error| damaged(payload.header().base_offset, &error.to_string()))?;
            replay_one(catalog, record.value.unwrap_or_default(), payload.place(&record).0)?;
        }
        end = Some(payload.header().end_offset());
        rest = rest.get(payload.header().bytes as usize..).unwrap_or_default();
    }
    Ok(end)
}

fn replay_one(catalog: &mut Catalog, value: &[u8], offset: i64) -> Result<(), Fault> {
    let record = MetadataRecord::decode(value).map_err(|error| damaged(offset, &error.to_string()))?;
    catalog.replay(&record).map(|_| ()).map_err(|error| damaged(offset, &error.to_string()))
}

/// Hands a request to the host. The reply comes when the change is committed.
pub(crate) fn submit(node: &Node, request: Request) -> impl Future<Output = calls::Reply> + use<> {
    let promise = node.host.get().map(|host| {
        let promise = Rc::new(Promise::default());
        host.queue.borrow_mut().push_back((request, Rc::clone(&promise)));
        host.arrived.ring();
        promise
    });
    async move {
        match promise {
            Some(promise) => calls::Reply::Submitted(Box::new(promise.kept().await)),
            None => calls::Reply::Failed(ErrorCode::NotController),
        }
    }
}

/// Answers one request after the other, for as long as the shard runs.
pub(crate) async fn run(node: Rc<Node>) {
    let host = node.host.get().expect("only the host's shard runs the host");
    loop {
        host.arrived.until(|| !host.queue.borrow().is_empty()).await;
        let next = host.queue.borrow_mut().pop_front();
        if let Some((request, promise)) = next {
            let reply = perform(&node, host, request).await;
            promise.keep(reply);
        }
    }
}

/// Decides a request and commits what it changes.
pub(crate) async fn perform(node: &Rc<Node>, host: &Host, request: Request) -> Reply {
    let ids = new_topic_ids(&request);
    let (records, reply) = host.controller.borrow_mut().submit(request, &ids);
    if !records.is_empty() {
        commit(node, host, records).await;
    }
    reply
}

fn new_topic_ids(request: &Request) -> Vec<TopicId> {
    match request {
        Request::CreateTopics(creation) => creation.topics.iter().map(|_| TopicId(random::uuid())).collect(),
        _ => Vec::new(),
    }
}

/// Writes the records and has them applied everywhere. A metadata log that cannot be written ends the process: the
/// controller has gone ahead of it.
async fn commit(node: &Rc<Node>, host: &Host, records: Vec<MetadataRecord>) {
    let stamp = append(&node.shard, &records);
    node.shard.durable(stamp).await;
    let owners = place(host, &records);
    let removed = removed(host, &records);
    let commit = Arc::new(Commit { records, owners });
    let mut applied = Vec::new();
    for shard in node.peers.all() {
        applied.push(node.begin(shard, Call::Apply(Arc::clone(&commit))).await);
    }
    for applied in applied {
        applied.await;
    }
    removed.into_iter().for_each(|at| {
        host.owners.borrow_mut().remove(at);
    });
}

/// Appends records as one batch.
pub(crate) fn append(shard: &Shard, records: &[MetadataRecord]) -> watershed_core::units::Stamp {
    let now_ms = shard.now().wall_ms;
    let mut batch = BatchBuilder::new(now_ms);
    for record in records {
        batch.push(now_ms, None, Some(&record.encode()));
    }
    let appended = shard.append(LOG, Incoming::Copy(&batch.build()));
    appended.expect("the metadata log takes what the controller decides").stamp
}

/// Owners for the partitions that these records create.
fn place(host: &Host, records: &[MetadataRecord]) -> Vec<(TopicPartition, ShardId)> {
    let mut owners = host.owners.borrow_mut();
    let created = records.iter().filter_map(|record| match record {
        MetadataRecord::Partition(created) => {
            Some(TopicPartition { topic: created.topic_id, partition: created.partition_id })
        }
        _ => None,
    });
    created.map(|at| (at, owners.assign(at))).collect()
}

/// The partitions that these records remove.
fn removed(host: &Host, records: &[MetadataRecord]) -> Vec<TopicPartition> {
    let topics: Vec<TopicId> = records
        .iter()
        .filter_map(|record| match record {
            MetadataRecord::RemoveTopic(removed) => Some(removed.topic_id),
            _ => None,
        })
        .collect();
    if topics.is_empty() {
        return Vec::new();
    }
    let owners = host.owners.borrow();
    owners.iter().map(|(at, _)| at).filter(|at| topics.contains(&at.topic)).collect()
}
