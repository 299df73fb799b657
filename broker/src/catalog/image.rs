//! The image that metadata records build. Changes only by [`Catalog::replay`], so that the controller, every shard and a
//! recovery that saw the same records hold the same catalog. A record that does not fit is an error, never skipped.

use std::collections::BTreeMap;

use watershed_core::units::{TopicId, TopicPartition};

use super::names;
use super::quotas::QuotaEntity;
use super::record::{
    BrokerRegistrationChangeRecord, ClientQuotaRecord, ConfigRecord, EntityData, FeatureLevelRecord, MetadataRecord,
    PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, RemoveTopicRecord, TopicRecord,
};
use crate::configs::{BrokerConfigs, BrokerProperties};

/// `PartitionChange` leaves the leader as it is.
const NO_LEADER_CHANGE: i32 = -2;

/// What carries configurations. The numbers are Kafka's resource types.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// By name, as in the records (2).
    Topic(String),
    /// One broker, or with `None` the default of all (4).
    Broker(Option<i32>),
    /// By name (32).
    Group(String),
    /// A type that this broker replays and keeps, but does not act on.
    Other(i8, String),
}

impl Resource {
    pub const TOPIC: i8 = 2;
    pub const BROKER: i8 = 4;
    pub const GROUP: i8 = 32;

    /// From a record or a request; a broker whose name is no number becomes [`Resource::Other`].
    pub fn new(kind: i8, name: &str) -> Resource {
        match (kind, name, name.parse()) {
            (Resource::TOPIC, ..) => Resource::Topic(name.to_owned()),
            (Resource::GROUP, ..) => Resource::Group(name.to_owned()),
            (Resource::BROKER, "", _) => Resource::Broker(None),
            (Resource::BROKER, _, Ok(node)) => Resource::Broker(Some(node)),
            _ => Resource::Other(kind, name.to_owned()),
        }
    }

    /// Kafka's number of the resource's type.
    pub fn kind(&self) -> i8 {
        match self {
            Resource::Topic(_) => Resource::TOPIC,
            Resource::Broker(_) => Resource::BROKER,
            Resource::Group(_) => Resource::GROUP,
            Resource::Other(kind, _) => *kind,
        }
    }

    /// The name as records and requests carry it.
    pub fn name(&self) -> String {
        match self {
            Resource::Topic(name) | Resource::Group(name) | Resource::Other(_, name) => name.clone(),
            Resource::Broker(node) => node.map(|node| node.to_string()).unwrap_or_default(),
        }
    }
}

/// One partition as the metadata records say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub removing_replicas: Vec<i32>,
    pub adding_replicas: Vec<i32>,
    /// -1 without one.
    pub leader: i32,
    pub leader_recovery_state: i8,
    pub leader_epoch: i32,
    /// Rises with every change of the partition.
    pub partition_epoch: i32,
    pub directories: Vec<[u8; 16]>,
    pub eligible_leader_replicas: Vec<i32>,
    pub last_known_elr: Vec<i32>,
}

/// A topic and its partitions, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: String,
    pub partitions: BTreeMap<i32, Partition>,
}

impl Topic {
    /// Every partition's place in the cluster.
    pub fn places(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        let topic = self.id;
        self.partitions.keys().map(move |&partition| TopicPartition { topic, partition })
    }

    pub fn is_internal(&self) -> bool {
        names::is_internal(&self.name)
    }
}

/// One quota of a client entity.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientQuota {
    pub entity: QuotaEntity,
    pub key: String,
    pub value: f64,
}

/// What a replayed record changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    TopicCreated(TopicId),
    PartitionCreated(TopicPartition),
    PartitionChanged(TopicPartition),
    /// The topic as it was, for whoever has to drop its partitions.
    TopicRemoved(Topic),
    ConfigChanged(Resource),
    BrokerChanged(i32),
    QuotaChanged,
    /// A feature, a producer id block, or nothing.
    Other,
}

/// A record that does not fit the image: the log and the code disagree, and serving on would serve something wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a metadata record does not fit the catalog: {0}")]
pub struct ReplayError(String);

fn misfit<T>(what: impl Into<String>) -> Result<T, ReplayError> {
    Err(ReplayError(what.into()))
}

type QuotaKey = (QuotaEntity, String);

/// The image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    topics: BTreeMap<TopicId, Topic>,
    names: BTreeMap<String, TopicId>,
    /// Topics by their name with '.' written as '_'; creation keeps these apart.
    collisions: BTreeMap<String, TopicId>,
    configs: BTreeMap<Resource, BTreeMap<String, String>>,
    brokers: BTreeMap<i32, RegisterBrokerRecord>,
    features: BTreeMap<String, i16>,
    quotas: BTreeMap<QuotaKey, f64>,
    producer_ids: Option<ProducerIdsRecord>,
}

impl Catalog {
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    pub fn topic_named(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.names.get(name)?)
    }

    /// The existing topic whose name differs from `name` in '.' and '_' only.
    pub fn topic_colliding(&self, name: &str) -> Option<&Topic> {
        let id = self.collisions.get(&names::collision_key(name))?;
        self.topics.get(id).filter(|topic| topic.name != name)
    }

    /// Every topic, in the order of names.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    pub fn partition(&self, at: TopicPartition) -> Option<&Partition> {
        self.topics.get(&at.topic)?.partitions.get(&at.partition)
    }

    /// What was set on a resource; empty if nothing was.
    pub fn overrides(&self, resource: &Resource) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.configs.get(resource).unwrap_or(&NONE)
    }

    /// What was set on a topic.
    pub fn topic_overrides(&self, name: &str) -> &BTreeMap<String, String> {
        self.overrides(&Resource::Topic(name.to_owned()))
    }

    /// The configurations of broker `node`: what was set while it ran, over what it was started with.
    pub fn broker_configs<'a>(&'a self, properties: &'a BrokerProperties, node: i32) -> BrokerConfigs<'a> {
        BrokerConfigs {
            dynamic: self.overrides(&Resource::Broker(Some(node))),
            dynamic_default: self.overrides(&Resource::Broker(None)),
            properties,
        }
    }

    /// Resources that carry configurations, in order.
    pub fn configured(&self) -> impl Iterator<Item = &Resource> {
        self.configs.keys()
    }

    /// Registered brokers, in the order of their ids.
    pub fn brokers(&self) -> impl Iterator<Item = &RegisterBrokerRecord> {
        self.brokers.values()
    }

    pub fn broker(&self, node: i32) -> Option<&RegisterBrokerRecord> {
        self.brokers.get(&node)
    }

    /// Finalized features and their levels.
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    pub fn quotas(&self) -> impl Iterator<Item = ClientQuota> + '_ {
        self.quotas.iter().map(|((entity, key), &value)| ClientQuota {
            entity: entity.clone(),
            key: key.clone(),
            value,
        })
    }

    /// The first producer id that no block has covered.
    pub fn next_producer_id(&self) -> i64 {
        self.producer_ids.as_ref().map_or(0, |ids| ids.next_producer_id)
    }

    /// Applies one record.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<Change, ReplayError> {
        match record {
            MetadataRecord::FeatureLevel(record) => Ok(self.set_feature(record)),
            MetadataRecord::RegisterBroker(record) => Ok(self.register(record)),
            MetadataRecord::BrokerRegistrationChange(record) => self.change_broker(record),
            MetadataRecord::Topic(record) => self.add_topic(record),
            MetadataRecord::Partition(record) => self.add_partition(record),
            MetadataRecord::PartitionChange(record) => self.change_partition(record),
            MetadataRecord::RemoveTopic(record) => self.remove_topic(record),
            MetadataRecord::Config(record) => Ok(self.set_config(record)),
            MetadataRecord::ClientQuota(record) => Ok(self.set_quota(record)),
            MetadataRecord::ProducerIds(record) => self.take_producer_ids(record),
            MetadataRecord::NoOp(_) => Ok(Change::Other),
        }
    }

    /// The records that rebuild this image: `metadata.version` first, as Kafka's readers expect.
    pub fn snapshot(&self) -> Vec<MetadataRecord> {
        let mut records: Vec<MetadataRecord> = Vec::new();
        let (first, others): (Vec<_>, Vec<_>) =
            self.features.iter().partition(|(name, _)| *name == super::METADATA_VERSION_FEATURE);
        for (name, &feature_level) in first.into_iter().chain(others) {
            let name = name.clone();
            records.push(FeatureLevelRecord { name, feature_level }.into());
        }
        records.extend(self.brokers.values().cloned().map(MetadataRecord::from));
        for topic in self.topics.values() {
            let (name, topic_id) = (topic.name.clone(), topic.id);
            records.push(TopicRecord { name, topic_id }.into());
            for (&partition_id, partition) in &topic.partitions {
                records.push(partition.record(topic_id, partition_id).into());
            }
        }
        records.extend(self.config_records().map(MetadataRecord::from));
        records.extend(self.quota_records().map(MetadataRecord::from));
        records.extend(self.producer_ids.clone().map(MetadataRecord::from));
        records
    }

    fn config_records(&self) -> impl Iterator<Item = ConfigRecord> + '_ {
        self.configs.iter().flat_map(|(resource, values)| {
            values.iter().map(|(name, value)| ConfigRecord {
                resource_type: resource.kind(),
                resource_name: resource.name(),
                name: name.clone(),
                value: Some(value.clone()),
            })
        })
    }

    fn quota_records(&self) -> impl Iterator<Item = ClientQuotaRecord> + '_ {
        self.quotas.iter().map(|((entity, key), &value)| ClientQuotaRecord {
            entity: entity
                .iter()
                .cloned()
                .map(|(entity_type, entity_name)| EntityData { entity_type, entity_name })
                .collect(),
            key: key.clone(),
            value,
            remove: false,
        })
    }

    fn set_feature(&mut self, record: &FeatureLevelRecord) -> Change {
        if record.feature_level == 0 {
            self.features.remove(&record.name);
        } else {
            self.features.insert(record.name.clone(), record.feature_level);
        }
        Change::Other
    }

    fn register(&mut self, record: &RegisterBrokerRecord) -> Change {
        self.brokers.insert(record.broker_id, record.clone());
        Change::BrokerChanged(record.broker_id)
    }

    fn change_broker(&mut self, record: &BrokerRegistrationChangeRecord) -> Result<Change, ReplayError> {
        let id = record.broker_id;
        let Some(broker) = self.brokers.get_mut(&id) else {
            return misfit(format!("broker {id} changes but is not registered"));
        };
        if broker.broker_epoch != record.broker_epoch {
            let (has, says) = (broker.broker_epoch, record.broker_epoch);
            return misfit(format!("broker {id} has epoch {has}, its change says {says}"));
        }
        broker.fenced = switched(broker.fenced, record.fenced)?;
        broker.in_controlled_shutdown = switched(broker.in_controlled_shutdown, record.in_controlled_shutdown)?;
        if !record.log_dirs.is_empty() {
            broker.log_dirs.clone_from(&record.log_dirs);
        }
        Ok(Change::BrokerChanged(id))
    }

    fn add_topic(&mut self, record: &TopicRecord) -> Result<Change, ReplayError> {
        let (id, name) = (record.topic_id, record.name.clone());
        if self.topics.contains_key(&id) || self.names.contains_key(&name) {
            return misfit(format!("topic {name} of id {id} exists"));
        }
        self.names.insert(name.clone(), id);
        self.collisions.insert(names::collision_key(&name), id);
        let partitions = BTreeMap::new();
        let topic = Topic { id, name, partitions };
        self.topics.insert(id, topic);
        Ok(Change::TopicCreated(id))
    }

    fn add_partition(&mut self, record: &PartitionRecord) -> Result<Change, ReplayError> {
        let place = TopicPartition { topic: record.topic_id, partition: record.partition_id };
        let Some(topic) = self.topics.get_mut(&place.topic) else {
            return misfit(format!("partition {place} has no topic"));
        };
        let partition = Partition::from_record(record);
        match topic.partitions.insert(place.partition, partition) {
            None => Ok(Change::PartitionCreated(place)),
            Some(_) => Ok(Change::PartitionChanged(place)),
        }
    }

    fn change_partition(&mut self, record: &PartitionChangeRecord) -> Result<Change, ReplayError> {
        let place = TopicPartition { topic: record.topic_id, partition: record.partition_id };
        let topic = self.topics.get_mut(&place.topic);
        match topic.and_then(|topic| topic.partitions.get_mut(&place.partition)) {
            None => misfit(format!("partition {place} changes but does not exist")),
            Some(partition) => {
                partition.change(record);
                Ok(Change::PartitionChanged(place))
            }
        }
    }

    fn remove_topic(&mut self, record: &RemoveTopicRecord) -> Result<Change, ReplayError> {
        let Some(topic) = self.topics.remove(&record.topic_id) else {
            return misfit(format!("topic {} is removed but does not exist", record.topic_id));
        };
        self.names.remove(&topic.name);
        let key = names::collision_key(&topic.name);
        if self.collisions.get(&key) == Some(&topic.id) {
            self.collisions.remove(&key);
        }
        self.configs.remove(&Resource::Topic(topic.name.clone()));
        Ok(Change::TopicRemoved(topic))
    }

    fn set_config(&mut self, record: &ConfigRecord) -> Change {
        let resource = Resource::new(record.resource_type, &record.resource_name);
        let values = self.configs.entry(resource.clone()).or_default();
        match &record.value {
            Some(value) => values.insert(record.name.clone(), value.clone()),
            None => values.remove(&record.name),
        };
        if values.is_empty() {
            self.configs.remove(&resource);
        }
        Change::ConfigChanged(resource)
    }

    fn set_quota(&mut self, record: &ClientQuotaRecord) -> Change {
        let part = |part: &EntityData| (part.entity_type.clone(), part.entity_name.clone());
        let mut entity: QuotaEntity = record.entity.iter().map(part).collect();
        entity.sort();
        let key = (entity, record.key.clone());
        if record.remove {
            self.quotas.remove(&key);
        } else {
            self.quotas.insert(key, record.value);
        }
        Change::QuotaChanged
    }

    fn take_producer_ids(&mut self, record: &ProducerIdsRecord) -> Result<Change, ReplayError> {
        let (next, said) = (self.next_producer_id(), record.next_producer_id);
        if said < next {
            return misfit(format!("producer ids go back from {next} to {said}"));
        }
        self.producer_ids = Some(record.clone());
        Ok(Change::Other)
    }
}

impl Partition {
    fn from_record(record: &PartitionRecord) -> Partition {
        Partition {
            replicas: record.replicas.clone(),
            isr: record.isr.clone(),
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            leader: record.leader,
            leader_recovery_state: record.leader_recovery_state,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            directories: record.directories.clone(),
            eligible_leader_replicas: record.eligible_leader_replicas.clone().unwrap_or_default(),
            last_known_elr: record.last_known_elr.clone().unwrap_or_default(),
        }
    }

    fn record(&self, topic_id: TopicId, partition_id: i32) -> PartitionRecord {
        let unless_empty = |nodes: &Vec<i32>| (!nodes.is_empty()).then(|| nodes.clone());
        PartitionRecord {
            partition_id,
            topic_id,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            removing_replicas: self.removing_replicas.clone(),
            adding_replicas: self.adding_replicas.clone(),
            leader: self.leader,
            leader_recovery_state: self.leader_recovery_state,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            directories: self.directories.clone(),
            eligible_leader_replicas: unless_empty(&self.eligible_leader_replicas),
            last_known_elr: unless_empty(&self.last_known_elr),
        }
    }

    /// A named leader, even the same one again, is a new leader epoch; any change is a new partition epoch.
    fn change(&mut self, record: &PartitionChangeRecord) {
        replace(&mut self.isr, record.isr.as_ref());
        replace(&mut self.replicas, record.replicas.as_ref());
        replace(&mut self.removing_replicas, record.removing_replicas.as_ref());
        replace(&mut self.adding_replicas, record.adding_replicas.as_ref());
        replace(&mut self.directories, record.directories.as_ref());
        let elr = record.eligible_leader_replicas.as_ref();
        replace(&mut self.eligible_leader_replicas, elr);
        replace(&mut self.last_known_elr, record.last_known_elr.as_ref());
        if record.leader != NO_LEADER_CHANGE {
            self.leader = record.leader;
            self.leader_epoch += 1;
        }
        if record.leader_recovery_state >= 0 {
            self.leader_recovery_state = record.leader_recovery_state;
        }
        self.partition_epoch += 1;
    }
}

fn replace<T: Clone>(old: &mut Vec<T>, new: Option<&Vec<T>>) {
    if let Some(new) = new {
        old.clone_from(new);
    }
}

/// A switch of `BrokerRegistrationChange`: 1 turns on, -1 off, 0 leaves.
fn switched(old: bool, change: i8) -> Result<bool, ReplayError> {
    match change {
        0 => Ok(old),
        1 => Ok(true),
        -1 => Ok(false),
        other => misfit(format!("a broker's switch is {other}")),
    }
}
