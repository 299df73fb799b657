//! The solo controller: a request becomes records and a reply.
//!
//! It answers from its own image, which runs ahead of what is durable: each record that it returns is already applied
//! there, so that the next request sees it. Hence no reply, success or refusal, may leave before every record returned so
//! far is committed and applied on every shard; a record that cannot be committed ends the process.

use watershed_core::units::{TopicId, TopicPartition};

use super::alter::{self, AlterResource, Altered};
use super::create::{self, CreatedTopic, TopicCreation};
use super::delete::{self, DeletedTopic, TopicRef};
use super::image::Catalog;
use super::partitions::{self, GrownTopic, NewPartitions};
use super::quotas::{self, AlterQuota, AlteredQuota};
use super::record::{
    BrokerEndpoint, BrokerFeature, BrokerRegistrationChangeRecord, FeatureLevelRecord, MetadataRecord,
    PartitionChangeRecord, ProducerIdsRecord, RegisterBrokerRecord,
};
use super::rejection::{Outcome, refuse};
use super::{METADATA_VERSION, METADATA_VERSION_FEATURE, PRODUCER_ID_BLOCK_COUNT};
use crate::configs::{BrokerConfigs, BrokerProperties};
use crate::producer_ids::Block;
use crate::wire::error_code::ErrorCode;

/// What the controller is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// First start of a data directory; without effect on one that has a catalog.
    Format(Format),
    RegisterBroker(RegisterBroker),
    /// Takes a topic id from the ids passed beside the request for each topic.
    CreateTopics(TopicCreation),
    DeleteTopics(Vec<TopicRef>),
    CreatePartitions {
        topics: Vec<NewPartitions>,
        validate_only: bool,
    },
    AlterConfigs {
        resources: Vec<AlterResource>,
        /// What is set and not named is deleted.
        replaces: bool,
        validate_only: bool,
    },
    AlterQuotas {
        entries: Vec<AlterQuota>,
        validate_only: bool,
    },
    /// A block of producer ids for a registered broker.
    AllocateProducerIds {
        broker_id: i32,
        broker_epoch: i64,
    },
    /// New leader epochs for partitions that may have lost records that were acknowledged only as written.
    RaiseLeaderEpochs(Vec<TopicPartition>),
}

/// What a new catalog begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// Features to finalize besides `metadata.version`.
    pub features: Vec<(String, i16)>,
}

/// A broker's registration at its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegisterBroker {
    pub broker_id: i32,
    /// Random for each start.
    pub incarnation_id: [u8; 16],
    /// The offset that the registration will have in the metadata log: above that of any earlier registration.
    pub broker_epoch: i64,
    pub end_points: Vec<BrokerEndpoint>,
    pub rack: Option<String>,
    pub log_dirs: Vec<[u8; 16]>,
}

/// The answer to a [`Request`], one variant for each kind, parts in the order of the request's.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Whether the catalog was new.
    Formatted(bool),
    Registered(Outcome<()>),
    CreatedTopics(Vec<CreatedTopic>),
    DeletedTopics(Vec<DeletedTopic>),
    CreatedPartitions(Vec<GrownTopic>),
    AlteredConfigs(Vec<Altered>),
    AlteredQuotas(Vec<AlteredQuota>),
    ProducerIds(Outcome<Block>),
    /// How many of the partitions exist and have a new leader epoch now.
    RaisedLeaderEpochs(usize),
}

/// The machine behind the metadata log of a cluster of one.
#[derive(Clone, Debug)]
pub struct Controller {
    image: Catalog,
    node: i32,
    properties: BrokerProperties,
}

impl Controller {
    /// Starts from the catalog that the committed records built. `node` is the broker that gets every replica.
    pub fn new(image: Catalog, node: i32, properties: BrokerProperties) -> Controller {
        Controller { image, node, properties }
    }

    /// The image with every record returned so far, durable or not.
    pub fn image(&self) -> &Catalog {
        &self.image
    }

    pub(super) fn node(&self) -> i32 {
        self.node
    }

    pub(super) fn properties(&self) -> &BrokerProperties {
        &self.properties
    }

    pub(super) fn configs(&self) -> BrokerConfigs<'_> {
        self.image.broker_configs(&self.properties, self.node)
    }

    /// Answers a request. `ids` holds a random topic id for each topic that it creates. The records are one atomic batch;
    /// the reply waits for them and for all before them.
    pub fn submit(&mut self, request: Request, ids: &[TopicId]) -> (Vec<MetadataRecord>, Reply) {
        let mut records = Vec::new();
        let reply = match request {
            Request::Format(format) => Reply::Formatted(self.format(format, &mut records)),
            Request::RegisterBroker(asked) => Reply::Registered(self.register(asked, &mut records)),
            Request::CreateTopics(asked) => Reply::CreatedTopics(create::create_topics(self, asked, ids, &mut records)),
            Request::DeleteTopics(topics) => Reply::DeletedTopics(delete::delete_topics(self, topics, &mut records)),
            Request::CreatePartitions { topics, validate_only } => {
                let grown = partitions::create_partitions(self, topics, validate_only, &mut records);
                Reply::CreatedPartitions(grown)
            }
            Request::AlterConfigs { resources, replaces, validate_only } => {
                let altered = alter::alter_configs(self, resources, replaces, validate_only, &mut records);
                Reply::AlteredConfigs(altered)
            }
            Request::AlterQuotas { entries, validate_only } => {
                Reply::AlteredQuotas(quotas::alter_quotas(self, entries, validate_only, &mut records))
            }
            Request::AllocateProducerIds { broker_id, broker_epoch } => {
                Reply::ProducerIds(self.allocate(broker_id, broker_epoch, &mut records))
            }
            Request::RaiseLeaderEpochs(places) => {
                Reply::RaisedLeaderEpochs(self.raise_leader_epochs(&places, &mut records))
            }
        };
        (records, reply)
    }

    /// Applies a record to the image and adds it to those that will be committed.
    pub(super) fn emit(&mut self, record: impl Into<MetadataRecord>, records: &mut Vec<MetadataRecord>) {
        let record = record.into();
        self.image.replay(&record).expect("the controller's records fit the image that they were computed from");
        records.push(record);
    }

    fn format(&mut self, format: Format, records: &mut Vec<MetadataRecord>) -> bool {
        if self.image.features().contains_key(METADATA_VERSION_FEATURE) {
            return false;
        }
        let first = (METADATA_VERSION_FEATURE.to_owned(), METADATA_VERSION);
        for (name, feature_level) in std::iter::once(first).chain(format.features) {
            let record = FeatureLevelRecord { name, feature_level };
            self.emit(record, records);
        }
        true
    }

    /// Registers and unfences at once: a cluster of one has recovered before it registers.
    fn register(&mut self, asked: RegisterBroker, records: &mut Vec<MetadataRecord>) -> Outcome<()> {
        let (broker_id, broker_epoch) = (asked.broker_id, asked.broker_epoch);
        let earlier = self.image.broker(broker_id).map(|broker| broker.broker_epoch);
        if let Some(earlier) = earlier.filter(|&earlier| earlier >= broker_epoch) {
            let message =
                format!("Broker {broker_id} was registered with epoch {earlier}; {broker_epoch} is not newer.");
            return refuse(ErrorCode::StaleBrokerEpoch, message);
        }
        self.emit(registration(asked, self.image.features()), records);
        let unfence = BrokerRegistrationChangeRecord {
            broker_id,
            broker_epoch,
            fenced: -1,
            ..BrokerRegistrationChangeRecord::default()
        };
        self.emit(unfence, records);
        Ok(())
    }

    fn allocate(&mut self, broker_id: i32, broker_epoch: i64, records: &mut Vec<MetadataRecord>) -> Outcome<Block> {
        let registered = self.image.broker(broker_id).map(|broker| broker.broker_epoch);
        if registered != Some(broker_epoch) {
            let message = format!("Broker {broker_id} is not registered with epoch {broker_epoch}.");
            return refuse(ErrorCode::StaleBrokerEpoch, message);
        }
        let start = self.image.next_producer_id();
        let Some(next_producer_id) = start.checked_add(PRODUCER_ID_BLOCK_COUNT) else {
            let message = "Every producer id was handed out.";
            return refuse(ErrorCode::UnknownServerError, message);
        };
        let record = ProducerIdsRecord { broker_id, broker_epoch, next_producer_id };
        self.emit(record, records);
        Ok(Block { start, count: PRODUCER_ID_BLOCK_COUNT })
    }

    fn raise_leader_epochs(&mut self, places: &[TopicPartition], records: &mut Vec<MetadataRecord>) -> usize {
        for &place in places {
            let Some(partition) = self.image.partition(place) else {
                continue;
            };
            let change = PartitionChangeRecord {
                partition_id: place.partition,
                topic_id: place.topic,
                leader: partition.leader,
                ..PartitionChangeRecord::default()
            };
            self.emit(change, records);
        }
        records.len()
    }
}

/// The registration's record: fenced as Kafka's are, and able to do exactly what is finalized.
fn registration(asked: RegisterBroker, features: &std::collections::BTreeMap<String, i16>) -> RegisterBrokerRecord {
    let supported = features.iter().map(|(name, &level)| BrokerFeature {
        name: name.clone(),
        min_supported_version: level,
        max_supported_version: level,
    });
    RegisterBrokerRecord {
        broker_id: asked.broker_id,
        is_migrating_zk_broker: false,
        incarnation_id: asked.incarnation_id,
        broker_epoch: asked.broker_epoch,
        end_points: asked.end_points,
        features: supported.collect(),
        rack: asked.rack,
        fenced: true,
        in_controlled_shutdown: false,
        log_dirs: asked.log_dirs,
    }
}
