//! The metadata host: on shard 0, the controller and the log of its records.
//!
//! A change is committed when its records are durable in `__cluster_metadata` and applied on every shard; only then is it
//! answered, and only then the next one is begun. The host is a task of its own and not the handler of a call: it may call
//! other shards, and nothing that it waits for waits for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use watershed_core::owners::Owners;
use watershed_core::units::{ShardId, TopicId, TopicPartition};

use crate::catalog::{Controller, MetadataRecord, Reply, Request};
use crate::wire::error_code::ErrorCode;

use super::apply::Commit;
use super::calls::{self, Call};
use super::news::{self, News};
use super::node::Node;
use super::{metadata_log, random};
use watershed_core::io::bell::{Bell, Promise};

/// The shard that hosts it.
pub(crate) const HOST: ShardId = ShardId(0);
type Submitted = (Request, Rc<Promise<Result<Reply, ErrorCode>>>);

/// The controller and who waits for it.
pub(crate) struct Host {
    controller: RefCell<Controller>,
    owners: RefCell<Owners>,
    queue: RefCell<VecDeque<Submitted>>,
    arrived: Bell,
    /// Bytes of the last snapshot.
    snapshot_bytes: Cell<u64>,
}

impl Host {
    pub(crate) fn new(controller: Controller, owners: Owners) -> Host {
        Host {
            controller: RefCell::new(controller),
            owners: RefCell::new(owners),
            queue: RefCell::default(),
            arrived: Bell::default(),
            snapshot_bytes: Cell::new(0),
        }
    }
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
            Some(promise) => match promise.kept().await {
                Ok(reply) => calls::Reply::Submitted(Box::new(reply)),
                Err(error) => calls::Reply::Failed(error),
            },
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

/// Decides a request and commits what it changes. Nothing is decided that could not be written: the controller would be
/// ahead of its log.
async fn perform(node: &Rc<Node>, host: &Host, request: Request) -> Result<Reply, ErrorCode> {
    let is_growth = matches!(request, Request::CreateTopics(_) | Request::CreatePartitions { .. });
    if !metadata_log::takes(&node.shard, is_growth) {
        return Err(ErrorCode::KafkaStorageError);
    }
    let ids = new_topic_ids(&request);
    let (records, reply) = host.controller.borrow_mut().submit(request, &ids);
    if !records.is_empty() {
        commit(node, host, records).await;
    }
    Ok(reply)
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
    let stamp = metadata_log::append(&node.shard, &records).await;
    node.shard.durable(stamp).await;
    let owners = place(host, &records);
    let removed = removed(host, &records);
    let news = news::of(&node.catalog.borrow(), &records);
    let commit = Arc::new(Commit { records, owners });
    let mut applied = Vec::new();
    for shard in node.peers.all() {
        applied.push(node.begin(shard, Call::Apply(Arc::clone(&commit))).await);
    }
    for applied in applied {
        applied.await;
    }
    news.iter().for_each(News::log);
    removed.into_iter().for_each(|at| {
        host.owners.borrow_mut().remove(at);
    });
    if !node.shard.is_disk_full() && metadata_log::is_worth_a_snapshot(&node.shard, host.snapshot_bytes.get()) {
        let records = host.controller.borrow().image().snapshot();
        host.snapshot_bytes.set(metadata_log::snapshot(&node.shard, &records).await);
    }
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
