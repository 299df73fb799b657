//! Topics, configurations and offsets: what an administrator asks of brokers.

use std::collections::BTreeMap;

use crate::wire::apis::Api;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use crate::wire::generated::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::wire::generated::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use crate::wire::generated::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use crate::wire::generated::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use crate::wire::generated::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use crate::wire::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};

use super::error::check;
use super::{ClientError, Cluster, Place, Result};

/// What a broker may take for a change of the metadata.
const CHANGE_MS: i32 = 30_000;
const CREATE_TOPICS: (i16, i16) = (2, 7);
const DELETE_TOPICS: (i16, i16) = (1, 5);
const CREATE_PARTITIONS: (i16, i16) = (0, 3);
const DELETE_RECORDS: (i16, i16) = (0, 2);
const LIST_OFFSETS: (i16, i16) = (1, 7);
const DESCRIBE_CONFIGS: (i16, i16) = (1, 4);
const ALTER_CONFIGS: (i16, i16) = (0, 1);

/// A topic as the cluster tells it.
#[derive(Clone, Debug)]
pub struct TopicInfo {
    pub name: String,
    /// All zeroes if the broker is too old to tell.
    pub id: String,
    pub is_internal: bool,
    pub partitions: Vec<PartitionInfo>,
}

#[derive(Clone, Debug)]
pub struct PartitionInfo {
    pub partition: i32,
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// A topic to be.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    pub name: String,
    /// -1: the broker's default.
    pub partitions: i32,
    /// -1: the broker's default.
    pub replication_factor: i16,
    pub configs: Vec<(String, String)>,
}

/// What has configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Topic(String),
    /// Empty: the default of all brokers.
    Broker(String),
}

impl Resource {
    fn kind(&self) -> i8 {
        match self {
            Resource::Topic(_) => 2,
            Resource::Broker(_) => 4,
        }
    }

    fn name(&self) -> &str {
        match self {
            Resource::Topic(name) | Resource::Broker(name) => name,
        }
    }

    /// In words.
    pub fn shown(&self) -> String {
        match self {
            Resource::Topic(name) => format!("topic {name}"),
            Resource::Broker(name) if name.is_empty() => "the brokers' defaults".to_owned(),
            Resource::Broker(name) => format!("broker {name}"),
        }
    }
}

/// One configuration.
#[derive(Clone, Debug)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` where it is a secret.
    pub value: Option<String>,
    /// Where the value comes from, in words.
    pub source: &'static str,
    pub is_default: bool,
    pub read_only: bool,
    pub documentation: Option<String>,
}

/// A change of one configuration; `None` takes the override away.
pub type ConfigChange = (String, Option<String>);

/// Kafka's numbers for where a value comes from.
fn source(number: i8) -> &'static str {
    match number {
        1 => "topic",
        2 => "broker",
        3 => "brokers' default",
        4 => "start of the broker",
        5 => "default",
        6 => "broker logger",
        7 => "client metrics",
        8 => "group",
        _ => "unknown",
    }
}

impl Cluster {
    /// These topics, or all; in the order of their names. One that is missing is an error.
    pub fn topics(&mut self, names: Option<&[String]>) -> Result<Vec<TopicInfo>> {
        let metadata = self.metadata(names)?;
        let mut topics = Vec::with_capacity(metadata.topics.len());
        for topic in metadata.topics {
            let name = topic.name.unwrap_or_default();
            check(topic.error_code, None, || format!("topic {name}"))?;
            let partition = |part: crate::wire::generated::metadata::MetadataResponsePartition| PartitionInfo {
                partition: part.partition_index,
                leader: part.leader_id,
                replicas: part.replica_nodes,
                in_sync: part.isr_nodes,
            };
            let mut partitions: Vec<PartitionInfo> = topic.partitions.into_iter().map(partition).collect();
            partitions.sort_by_key(|part| part.partition);
            topics.push(TopicInfo { name, id: topic.topic_id.to_string(), is_internal: topic.is_internal, partitions });
        }
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    /// Every partition of a topic.
    pub fn places(&mut self, topic: &str) -> Result<Vec<Place>> {
        let topics = self.topics(Some(&[topic.to_owned()]))?;
        let partitions = topics.into_iter().flat_map(|topic| topic.partitions);
        Ok(partitions.map(|part| (topic.to_owned(), part.partition)).collect())
    }

    /// Creates a topic, or only checks that it could be.
    pub fn create_topic(&mut self, new: &NewTopic, only_check: bool) -> Result<()> {
        let config =
            |(name, value): &(String, String)| CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) };
        let topic = CreatableTopic {
            name: new.name.clone(),
            num_partitions: new.partitions,
            replication_factor: new.replication_factor,
            configs: new.configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: CHANGE_MS, validate_only: only_check };
        let answer: CreateTopicsResponse = self.ask_controller(Api::CreateTopics, CREATE_TOPICS, &request)?;
        answer.topics.iter().try_for_each(|topic| {
            check(topic.error_code, topic.error_message.as_deref(), || format!("creating topic {}", topic.name))
        })
    }

    pub fn delete_topic(&mut self, name: &str) -> Result<()> {
        let names = vec![name.to_owned()];
        let request =
            DeleteTopicsRequest { topic_names: names, timeout_ms: CHANGE_MS, ..DeleteTopicsRequest::default() };
        let answer: DeleteTopicsResponse = self.ask_controller(Api::DeleteTopics, DELETE_TOPICS, &request)?;
        answer.responses.iter().try_for_each(|topic| {
            check(topic.error_code, topic.error_message.as_deref(), || format!("deleting topic {name}"))
        })
    }

    /// Gives a topic more partitions: `count` in all.
    pub fn grow_topic(&mut self, name: &str, count: i32) -> Result<()> {
        let topic = CreatePartitionsTopic { name: name.to_owned(), count, ..CreatePartitionsTopic::default() };
        let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: CHANGE_MS, validate_only: false };
        let answer: CreatePartitionsResponse =
            self.ask_controller(Api::CreatePartitions, CREATE_PARTITIONS, &request)?;
        answer.results.iter().try_for_each(|topic| {
            check(topic.error_code, topic.error_message.as_deref(), || format!("adding partitions to topic {name}"))
        })
    }

    /// Deletes all records before these offsets (-1: up to the high watermark); gives where the logs begin now.
    pub fn delete_records(&mut self, before: &BTreeMap<Place, i64>) -> Result<BTreeMap<Place, i64>> {
        let mut starts = BTreeMap::new();
        for (leader, places) in self.by_leader(before.keys())? {
            let mut topics: BTreeMap<String, Vec<DeleteRecordsPartition>> = BTreeMap::new();
            for (topic, partition_index) in places {
                let offset = before.get(&(topic.clone(), partition_index)).copied().unwrap_or_default();
                topics.entry(topic).or_default().push(DeleteRecordsPartition { partition_index, offset });
            }
            let topics = topics.into_iter().map(|(name, partitions)| DeleteRecordsTopic { name, partitions }).collect();
            let request = DeleteRecordsRequest { topics, timeout_ms: CHANGE_MS };
            let answer: DeleteRecordsResponse = self.ask(leader, Api::DeleteRecords, DELETE_RECORDS, &request)?;
            for topic in answer.topics {
                for part in topic.partitions {
                    let place = (topic.name.clone(), part.partition_index);
                    check(part.error_code, None, || format!("deleting records of {}-{}", place.0, place.1))?;
                    starts.insert(place, part.low_watermark);
                }
            }
        }
        Ok(starts)
    }

    /// The first offset at or after a time in each partition; -1 and -2 stand for the end and the beginning. What is not
    /// there is -1.
    pub fn offsets(&mut self, places: &[Place], timestamp: i64) -> Result<BTreeMap<Place, i64>> {
        self.retrying(|cluster| cluster.offsets_once(places, timestamp))
    }

    fn offsets_once(&mut self, places: &[Place], timestamp: i64) -> Result<BTreeMap<Place, i64>> {
        let mut offsets = BTreeMap::new();
        for (leader, places) in self.by_leader(places)? {
            let mut topics: BTreeMap<String, Vec<ListOffsetsPartition>> = BTreeMap::new();
            for (topic, partition_index) in places {
                let part = ListOffsetsPartition { partition_index, timestamp, ..ListOffsetsPartition::default() };
                topics.entry(topic).or_default().push(part);
            }
            let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic { name, partitions }).collect();
            let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
            let answer: ListOffsetsResponse = self.broker(leader)?.ask(Api::ListOffsets, LIST_OFFSETS, &request)?;
            for topic in answer.topics {
                for part in topic.partitions {
                    let place = (topic.name.clone(), part.partition_index);
                    check(part.error_code, None, || format!("looking for offsets of {}-{}", place.0, place.1))?;
                    offsets.insert(place, part.offset);
                }
            }
        }
        Ok(offsets)
    }

    /// Where each partition ends and, where nothing is at or after the time, that end.
    pub fn offsets_or_end(&mut self, places: &[Place], timestamp: i64) -> Result<BTreeMap<Place, i64>> {
        let ends = self.offsets(places, -1)?;
        let mut offsets = self.offsets(places, timestamp)?;
        for (place, offset) in &mut offsets {
            if *offset < 0 {
                *offset = ends.get(place).copied().unwrap_or_default();
            }
        }
        Ok(offsets)
    }

    /// Groups partitions by the broker that leads them.
    pub(super) fn by_leader<'p>(
        &mut self,
        places: impl IntoIterator<Item = &'p Place>,
    ) -> Result<BTreeMap<i32, Vec<Place>>> {
        let places: Vec<&Place> = places.into_iter().collect();
        let mut names: Vec<String> = places.iter().map(|(topic, _)| topic.clone()).collect();
        names.sort();
        names.dedup();
        let leaders: BTreeMap<Place, i32> = self
            .topics(Some(&names))?
            .into_iter()
            .flat_map(|topic| {
                topic.partitions.into_iter().map(move |part| ((topic.name.clone(), part.partition), part.leader))
            })
            .collect();
        let mut by_leader: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
        for place in places {
            let shown = || format!("partition {} of topic {}", place.1, place.0);
            let leader = leaders.get(place).ok_or_else(|| ClientError::Missing(format!("there is no {}", shown())))?;
            if *leader < 0 {
                return check(ErrorCode::LeaderNotAvailable.code(), None, shown).map(|()| BTreeMap::new());
            }
            by_leader.entry(*leader).or_default().push(place.clone());
        }
        Ok(by_leader)
    }

    /// The configurations of a resource, by name.
    pub fn configs(&mut self, resource: &Resource) -> Result<Vec<ConfigEntry>> {
        let asked = DescribeConfigsResource {
            resource_type: resource.kind(),
            resource_name: resource.name().to_owned(),
            configuration_keys: None,
        };
        let request =
            DescribeConfigsRequest { resources: vec![asked], include_documentation: true, ..Default::default() };
        let answer: DescribeConfigsResponse =
            self.ask_for(resource, Api::DescribeConfigs, DESCRIBE_CONFIGS, &request)?;
        let mut entries = Vec::new();
        for result in answer.results {
            check(result.error_code, result.error_message.as_deref(), || resource.shown())?;
            entries.extend(result.configs.into_iter().map(|config| ConfigEntry {
                name: config.name,
                value: config.value.filter(|_| !config.is_sensitive),
                source: source(config.config_source),
                is_default: config.config_source == 5,
                read_only: config.read_only,
                documentation: config.documentation,
            }));
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// Changes configurations; all or none.
    pub fn alter_configs(&mut self, resource: &Resource, changes: &[ConfigChange]) -> Result<()> {
        let change = |(name, value): &ConfigChange| AlterableConfig {
            name: name.clone(),
            config_operation: i8::from(value.is_none()),
            value: value.clone(),
        };
        let altered = AlterConfigsResource {
            resource_type: resource.kind(),
            resource_name: resource.name().to_owned(),
            configs: changes.iter().map(change).collect(),
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![altered], validate_only: false };
        let answer: IncrementalAlterConfigsResponse =
            self.ask_for(resource, Api::IncrementalAlterConfigs, ALTER_CONFIGS, &request)?;
        answer.responses.iter().try_for_each(|result| {
            check(result.error_code, result.error_message.as_deref(), || format!("changing {}", resource.shown()))
        })
    }

    /// A broker's own configuration is asked of that broker, everything else of any.
    fn ask_for<Q: crate::wire::message::Message, A: crate::wire::message::Message>(
        &mut self,
        resource: &Resource,
        api: Api,
        versions: (i16, i16),
        request: &Q,
    ) -> Result<A> {
        match resource {
            Resource::Broker(name) if !name.is_empty() => {
                let id = name.parse().map_err(|_| ClientError::Missing(format!("'{name}' is no broker id")))?;
                self.ask(id, api, versions, request)
            }
            _ => self.ask_any(api, versions, request),
        }
    }
}
