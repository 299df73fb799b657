//! Boot: from recovered shards to one that serves. Shard 0 leads; the others wait for what it sends.
//!
//! The catalog comes from the metadata log, the owners from what every shard's journals hold. A partition that no shard
//! holds is given an owner. Of those that the catalog does not name, the ones of a topic that the log says was removed are
//! dropped: the end of the process came between the removal and the drop. Any other is a stray, kept and warned of.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use watershed_core::error::Fault;
use watershed_core::io::data_dir::DataDir;
use watershed_core::owners::Owners;
use watershed_core::units::{ShardId, TopicId, TopicPartition};

use crate::catalog;
use crate::catalog::{BrokerEndpoint, Catalog, Controller, Format, MetadataRecord, RegisterBroker, Request};
use crate::configs::BrokerProperties;
use crate::settings::HostPort;

use super::calls::{Call, Reply};
use super::metadata::Host;
use super::metadata_log;
use super::node::{Cluster, Node};
use super::random;

/// Kafka's number of the plaintext protocol.
const PLAINTEXT: i16 = 0;

/// What every shard begins with.
pub(crate) struct Beginning {
    pub(crate) cluster: Cluster,
    pub(crate) records: Vec<MetadataRecord>,
    pub(crate) owners: Vec<(TopicPartition, ShardId)>,
    /// Partitions of removed topics that are still held.
    pub(crate) removed: Vec<(TopicPartition, ShardId)>,
}

/// Who this broker is, before it is registered.
pub(crate) struct Identity {
    pub(crate) node_id: i32,
    pub(crate) advertised: HostPort,
    pub(crate) properties: BrokerProperties,
}

/// Leads the start on shard 0; gives warnings for the operator.
pub(crate) async fn lead(node: &Rc<Node>, data_dir: &DataDir, identity: Identity) -> Result<Vec<String>, Fault> {
    let assigned = node.shard.assign(metadata_log::LOG, metadata_log::settings());
    node.shard.durable(assigned).await;
    let rebuilt = metadata_log::load(&node.shard).await?;
    let mut controller = Controller::new(rebuilt.catalog, identity.node_id, identity.properties.clone());
    let broker_epoch = register(node, data_dir, &identity, &mut controller).await?;
    let mut owners = held(node).await?;
    let Sorted { places, removed, strays } = sort_out(controller.image(), &rebuilt.removed, &mut owners);
    let begin = Arc::new(Beginning {
        cluster: Cluster {
            cluster_id: data_dir.cluster_id().to_owned(),
            node_id: identity.node_id,
            host: identity.advertised.host,
            port: identity.advertised.port,
            log_dir: data_dir.path().display().to_string(),
            directory_id: data_dir.directory_id(),
            properties: identity.properties,
            broker_epoch,
        },
        records: controller.image().snapshot(),
        owners: places,
        removed,
    });
    for shard in node.peers.all() {
        node.call(shard, Call::Begin(Arc::clone(&begin))).await;
    }
    assert!(node.host.set(Host::new(controller, owners)).is_ok(), "a start is led once");
    Ok(strays)
}

/// Formats a new catalog and registers this start. Nobody else has the catalog yet, so it is written and nothing more.
async fn register(
    node: &Node,
    data_dir: &DataDir,
    identity: &Identity,
    controller: &mut Controller,
) -> Result<i64, Fault> {
    write(node, controller, Request::Format(Format::default())).await;
    let state = node.shard.state(metadata_log::LOG);
    let broker_epoch = state.map_err(|refusal| Fault::Refused(format!("{refusal:?}")))?.log_end;
    let registration = RegisterBroker {
        broker_id: identity.node_id,
        incarnation_id: random::uuid(),
        broker_epoch,
        end_points: vec![BrokerEndpoint {
            name: "PLAINTEXT".to_owned(),
            host: identity.advertised.host.clone(),
            port: identity.advertised.port,
            security_protocol: PLAINTEXT,
        }],
        rack: identity.properties.text("broker.rack").map(str::to_owned),
        log_dirs: vec![data_dir.directory_id()],
    };
    match write(node, controller, Request::RegisterBroker(registration)).await {
        catalog::Reply::Registered(Err(rejection)) => Err(Fault::Refused(rejection.message)),
        _ => Ok(broker_epoch),
    }
}

async fn write(node: &Node, controller: &mut Controller, request: Request) -> catalog::Reply {
    let (records, reply) = controller.submit(request, &[]);
    if !records.is_empty() {
        let stamp = metadata_log::append(&node.shard, &records).await;
        node.shard.durable(stamp).await;
    }
    reply
}

/// The union of what all shards hold.
async fn held(node: &Rc<Node>) -> Result<Owners, Fault> {
    let mut held: Vec<(ShardId, TopicPartition)> = Vec::new();
    for shard in node.peers.all() {
        if let Reply::Held(partitions) = node.call(shard, Call::Held).await {
            held.extend(partitions.into_iter().map(|at| (shard, at)));
        }
    }
    Owners::build(node.peers.shard_count(), held).map_err(|conflict| Fault::Refused(conflict.to_string()))
}

/// What the partitions that shards hold are to the catalog.
struct Sorted {
    /// The owner of every partition that it names.
    places: Vec<(TopicPartition, ShardId)>,
    /// Partitions of topics that were removed.
    removed: Vec<(TopicPartition, ShardId)>,
    /// A warning for each that it knows nothing of.
    strays: Vec<String>,
}

fn sort_out(catalog: &Catalog, removed: &BTreeSet<TopicId>, owners: &mut Owners) -> Sorted {
    let named: BTreeSet<TopicPartition> = catalog.topics().flat_map(|topic| topic.places()).collect();
    let known: BTreeSet<TopicPartition> = named.iter().copied().chain([metadata_log::LOG]).collect();
    let unnamed = owners.strays(&known).into_iter();
    let (removed, strays): (Vec<_>, Vec<_>) = unnamed.partition(|(at, _)| removed.contains(&at.topic));
    removed.iter().for_each(|(at, _)| {
        owners.remove(*at);
    });
    let warn = |(at, shard): &(TopicPartition, ShardId)| {
        format!("shard {} keeps {at}, which no topic names: a stray, left as it is", shard.0)
    };
    let places = named.into_iter().map(|at| (at, owners.assign(at))).collect();
    Sorted { places, removed, strays: strays.iter().map(warn).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{PartitionRecord, TopicRecord};

    #[test]
    fn what_is_left_of_a_removed_topic_goes_and_other_strays_stay() {
        let at = |topic: u8| TopicPartition { topic: TopicId([topic; 16]), partition: 0 };
        let mut catalog = Catalog::default();
        catalog.replay(&TopicRecord { name: "kept".to_owned(), topic_id: at(1).topic }.into()).unwrap();
        catalog
            .replay(&PartitionRecord { topic_id: at(1).topic, partition_id: 0, ..PartitionRecord::default() }.into())
            .unwrap();
        let mut owners = Owners::build(2, (1..4).map(|topic| (ShardId(1), at(topic)))).unwrap();
        let sorted = sort_out(&catalog, &BTreeSet::from([at(2).topic]), &mut owners);
        assert_eq!((sorted.places, sorted.removed), (vec![(at(1), ShardId(1))], vec![(at(2), ShardId(1))]));
        assert!(sorted.strays.len() == 1 && sorted.strays[0].contains(&at(3).to_string()), "{:?}", sorted.strays);
        assert_eq!(owners.owner(at(2)), None);
    }
}
