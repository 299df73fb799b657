//! Applying committed metadata on one shard: the catalog's copy, the table of owners, and the logs that this shard owns.
//!
//! The only place where either changes after the start. A record that does not fit ends the process: to serve on from a
//! catalog that disagrees with its log would be worse than a restart.

use std::rc::Rc;
use std::sync::Arc;

use watershed_core::io::executor::spawn;
use watershed_core::units::{ShardId, Stamp, TopicPartition};

use crate::catalog::{Change, MetadataRecord, Resource};
use crate::quotas::QuotaTable;

use super::boot::Beginning;
use super::node::Node;
use super::{groups, offsets_log};

/// Records that are durable in the metadata log, and the owners that were chosen for the partitions they create.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) records: Vec<MetadataRecord>,
    pub(crate) owners: Vec<(TopicPartition, ShardId)>,
}

/// The stamp of what a commit changed in this shard's logs.
pub(crate) struct Applied(Stamp);

impl Applied {
    /// Waits until the change is durable here.
    pub(crate) async fn durable(self, node: &Node) {
        node.shard.durable(self.0).await;
    }
}

/// Takes a commit in. Commits arrive in the order of the metadata log.
pub(crate) fn apply(node: &Rc<Node>, commit: &Commit) -> Applied {
    node.owners.borrow_mut().extend(commit.owners.iter().copied());
    let changes: Vec<Change> = {
        let mut catalog = node.catalog.borrow_mut();
        let replay = |record| catalog.replay(record).expect("a committed record fits");
        commit.records.iter().map(replay).collect()
    };
    node.forget_settings();
    let stamps = changes.into_iter().map(|change| follow(node, change));
    let applied = Applied(stamps.max().unwrap_or_default());
    count_partitions(node);
    applied
}

/// Takes in what every shard begins with, into an empty catalog.
pub(crate) fn begin(node: &Rc<Node>, beginning: &Beginning) -> Applied {
    node.set_cluster(Arc::new(beginning.cluster.clone()));
    spawn(groups::run(Rc::clone(node)));
    spawn(groups::keep_short(Rc::clone(node)));
    for (at, _) in beginning.removed.iter().filter(|(_, shard)| *shard == node.id()) {
        tracing::info!(partition = %at, "what was left of a removed topic is dropped");
        node.shard.drop_partition(*at);
    }
    apply(node, &Commit { records: beginning.records.clone(), owners: beginning.owners.clone() })
}

/// Does to this shard's logs what a change of the catalog means.
fn follow(node: &Rc<Node>, change: Change) -> Stamp {
    match change {
        Change::PartitionCreated(at) if owns(node, at) => {
            let settings = node.settings_of(at.topic);
            let stamp = settings.map_or(Stamp(0), |settings| node.shard.assign(at, settings.log.clone()));
            if is_offsets_log(node, at) {
                groups::open(node, at);
            }
            stamp
        }
        Change::TopicRemoved(topic) => {
            groups::topic_removed(node, topic.id, &topic.name);
            let dropped = topic.places().filter_map(|at| drop_partition(node, at));
            dropped.max().unwrap_or_default()
        }
        Change::ConfigChanged(Resource::Topic(name)) => {
            configure(node, |topic| topic == name);
            Stamp(0)
        }
        Change::QuotaChanged => {
            *node.quotas.borrow_mut() = QuotaTable::new(node.catalog.borrow().quotas());
            Stamp(0)
        }
        Change::ConfigChanged(Resource::Broker(_)) => {
            configure(node, |_| true);
            groups::configure(node);
            Stamp(0)
        }
        Change::TopicCreated(_)
        | Change::PartitionCreated(_)
        | Change::PartitionChanged(_)
        | Change::ConfigChanged(Resource::Group(_) | Resource::Other(..))
        | Change::BrokerChanged(_)
        | Change::Other => Stamp(0),
    }
}

fn is_offsets_log(node: &Node, at: TopicPartition) -> bool {
    node.catalog.borrow().topic(at.topic).is_some_and(|topic| topic.name == offsets_log::TOPIC)
}

fn owns(node: &Node, at: TopicPartition) -> bool {
    node.owners.borrow().get(&at) == Some(&node.id())
}

fn drop_partition(node: &Node, at: TopicPartition) -> Option<Stamp> {
    let owner = node.owners.borrow_mut().remove(&at)?;
    (owner == node.id()).then(|| node.shard.drop_partition(at)).flatten()
}

/// Gives the logs of the topics that `concerned` names their settings anew.
fn configure(node: &Node, concerned: impl Fn(&str) -> bool) {
    let places: Vec<TopicPartition> = {
        let catalog = node.catalog.borrow();
        let topics = catalog.topics().filter(|topic| concerned(&topic.name));
        topics.flat_map(|topic| topic.places()).collect()
    };
    for at in places.into_iter().filter(|at| owns(node, *at)) {
        if let Some(settings) = node.settings_of(at.topic) {
            node.shard.configure(at, settings.log.clone());
        }
    }
}

fn count_partitions(node: &Node) {
    let me = node.id();
    let owners = node.owners.borrow();
    let count = owners.values().filter(|owner| **owner == me).count();
    node.metrics.borrow_mut().partitions = count as u64;
}
