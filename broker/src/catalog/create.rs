//! CreateTopics: names, counts, assignments and configurations are checked, then a topic is its records.

use std::collections::{BTreeMap, BTreeSet};

use watershed_core::units::TopicId;

use super::REQUEST_PARTITIONS_MAX;
use super::controller::Controller;
use super::image::Resource;
use super::names;
use super::record::{ConfigRecord, MetadataRecord, PartitionRecord, TopicRecord};
use super::rejection::{Outcome, refuse};
use crate::configs::{ConfigEntry, describe_topic, validate_topic};
use crate::wire::error_code::ErrorCode;

/// The brokers that hold a partition, the preferred leader first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub partition: i32,
    pub brokers: Vec<i32>,
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// -1: `num.partitions`.
    pub partition_count: i32,
    /// -1: `default.replication.factor`.
    pub replication_factor: i16,
    /// Empty: the controller assigns.
    pub assignments: Vec<Assignment>,
    pub configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// A topic with the broker's defaults, as auto-creation wants it.
    pub fn with_defaults(name: impl Into<String>) -> NewTopic {
        NewTopic {
            name: name.into(),
            partition_count: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }
}

/// A CreateTopics request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCreation {
    pub topics: Vec<NewTopic>,
    pub validate_only: bool,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    pub name: String,
    pub result: Outcome<Created>,
}

/// A topic as it was created, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// [`TopicId::ZERO`] if it was only validated.
    pub id: TopicId,
    pub partition_count: i32,
    pub replication_factor: i16,
    pub configs: Vec<ConfigEntry>,
}

/// A checked topic.
struct Plan {
    replicas: Vec<Vec<i32>>,
    overrides: BTreeMap<String, String>,
}

pub(super) fn create_topics(
    controller: &mut Controller,
    asked: TopicCreation,
    ids: &[TopicId],
    records: &mut Vec<MetadataRecord>,
) -> Vec<CreatedTopic> {
    let twice = duplicates(asked.topics.iter().map(|topic| topic.name.as_str()));
    let mut spare = REQUEST_PARTITIONS_MAX;
    let mut ids = ids.iter().copied();
    let mut create = |topic: &NewTopic| {
        if twice.contains(&topic.name) {
            return refuse(ErrorCode::InvalidRequest, "Duplicate topic name.");
        }
        let plan = plan(controller, topic, &mut spare)?;
        if asked.validate_only {
            return Ok(created(controller, TopicId::ZERO, &plan));
        }
        let id = usable(controller, ids.next())?;
        let answer = created(controller, id, &plan);
        write(controller, id, &topic.name, plan, records);
        Ok(answer)
    };
    let mut results = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        results.push(CreatedTopic { name: topic.name.clone(), result: create(topic) });
    }
    results
}

/// Those that occur more than once.
pub(super) fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut once = BTreeSet::new();
    names.filter(|name| !once.insert(*name)).map(str::to_owned).collect()
}

/// Everything that is checked before a topic is created. `spare` is how many partitions the request may still create.
fn plan(controller: &Controller, topic: &NewTopic, spare: &mut usize) -> Outcome<Plan> {
    if topic.name == names::CLUSTER_METADATA {
        let message = format!("Creation of internal topic {} is prohibited.", topic.name);
        return refuse(ErrorCode::TopicAuthorizationFailed, message);
    }
    names::check(&topic.name)?;
    check_new(controller, &topic.name)?;
    let replicas = match topic.assignments.is_empty() {
        true => automatic(controller, topic, *spare)?,
        false => manual(controller, topic)?,
    };
    let Some(rest) = spare.checked_sub(replicas.len()) else {
        return too_many();
    };
    let mut overrides = overrides(&topic.configs)?;
    overrides.extend(names::own_configs(&topic.name));
    *spare = rest;
    Ok(Plan { replicas, overrides })
}

pub(super) fn too_many<T>() -> Outcome<T> {
    let message = format!("A request may create {REQUEST_PARTITIONS_MAX} partitions at most.");
    refuse(ErrorCode::PolicyViolation, message)
}

fn check_new(controller: &Controller, name: &str) -> Outcome<()> {
    let image = controller.image();
    if image.topic_named(name).is_some() {
        let message = format!("Topic '{name}' already exists.");
        return refuse(ErrorCode::TopicAlreadyExists, message);
    }
    if let Some(other) = image.topic_colliding(name) {
        let message = format!("Topic '{name}' collides with existing topic: {}", other.name);
        return refuse(ErrorCode::InvalidTopic, message);
    }
    Ok(())
}

/// The controller's own assignment: every replica on the one broker.
fn automatic(controller: &Controller, topic: &NewTopic, spare: usize) -> Outcome<Vec<Vec<i32>>> {
    replication(topic.replication_factor)?;
    let count = match topic.partition_count {
        -1 => controller.properties().number("num.partitions"),
        count => i64::from(count),
    };
    if count <= 0 {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return refuse(ErrorCode::InvalidPartitions, message);
    }
    match usize::try_from(count) {
        Ok(count) if count <= spare => Ok(vec![vec![controller.node()]; count]),
        _ => too_many(),
    }
}

fn replication(factor: i16) -> Outcome<()> {
    let message = match factor {
        -1 | 1 => return Ok(()),
        ..=0 => "Replication factor must be larger than 0, or -1 to use the default value.".into(),
        more => format!("Unable to replicate the partition {more} time(s): only 1 broker(s) are registered."),
    };
    refuse(ErrorCode::InvalidReplicationFactor, message)
}

fn manual(controller: &Controller, topic: &NewTopic) -> Outcome<Vec<Vec<i32>>> {
    let clash = |what: &str| {
        let message = format!("A manual partition assignment was specified, but {what} was not set to -1.");
        refuse(ErrorCode::InvalidRequest, message)
    };
    if topic.replication_factor != -1 {
        return clash("replication factor");
    }
    if topic.partition_count != -1 {
        return clash("numPartitions");
    }
    let mut by_number = BTreeMap::new();
    for assignment in &topic.assignments {
        check_brokers(controller.node(), &assignment.brokers)?;
        let earlier = by_number.insert(assignment.partition, assignment.brokers.clone());
        if earlier.is_some() {
            let message = format!("Found multiple manual partition assignments for partition {}", assignment.partition);
            return refuse(ErrorCode::InvalidReplicaAssignment, message);
        }
    }
    if !(0..).zip(by_number.keys()).all(|(place, number)| place == *number) {
        let message = "partitions should be a consecutive 0-based integer sequence";
        return refuse(ErrorCode::InvalidReplicaAssignment, message);
    }
    Ok(by_number.into_values().collect())
}

/// One replica on a registered broker: more is not possible in a cluster of one.
/// Whether these brokers can hold a partition: exactly the one that there is.
pub(crate) fn check_brokers(node: i32, brokers: &[i32]) -> Outcome<()> {
    let message = match brokers {
        [one] if *one == node => return Ok(()),
        [] => "The manual partition assignment includes an empty replica list.".to_owned(),
        some => match some.iter().find(|&&broker| broker != node) {
            Some(stranger) => {
                format!("The manual partition assignment includes broker {stranger}, but no such broker is registered.")
            }
            None => format!("The manual partition assignment includes the broker {node} more than once."),
        },
    };
    refuse(ErrorCode::InvalidReplicaAssignment, message)
}

fn overrides(configs: &[(String, Option<String>)]) -> Outcome<BTreeMap<String, String>> {
    let mut overrides = BTreeMap::new();
    for (name, value) in configs {
        let Some(value) = value else {
            let message = format!("Null value not supported for topic configs: {name}");
            return refuse(ErrorCode::InvalidConfig, message);
        };
        overrides.insert(name.clone(), value.clone());
    }
    match validate_topic(&overrides) {
        Ok(()) => Ok(overrides),
        Err(message) => refuse(ErrorCode::InvalidConfig, message),
    }
}

/// The next random id, made usable: none that prints with a leading '-', which command lines would take for an option.
fn usable(controller: &Controller, random: Option<TopicId>) -> Outcome<TopicId> {
    let id = random.map(|TopicId(mut bytes)| {
        let [first, ..] = &mut bytes;
        if *first >> 2 == 0b11_1110 {
            *first &= 0x7f;
        }
        TopicId(bytes)
    });
    let reserved = [TopicId::ZERO, TopicId::CLUSTER_METADATA];
    let free = |id: &TopicId| !reserved.contains(id) && controller.image().topic(*id).is_none();
    match id.filter(free) {
        Some(id) => Ok(id),
        None => refuse(ErrorCode::UnknownServerError, "No free topic id was passed in."),
    }
}

fn created(controller: &Controller, id: TopicId, plan: &Plan) -> Created {
    let count = plan.replicas.len();
    Created {
        id,
        partition_count: i32::try_from(count).expect("bounded by the limit of a request"),
        replication_factor: 1,
        configs: describe_topic(&plan.overrides, &controller.configs()),
    }
}

fn write(controller: &mut Controller, topic_id: TopicId, name: &str, plan: Plan, records: &mut Vec<MetadataRecord>) {
    let topic = TopicRecord { name: name.to_owned(), topic_id };
    controller.emit(topic, records);
    for (config, value) in plan.overrides {
        let record = ConfigRecord {
            resource_type: Resource::TOPIC,
            resource_name: name.to_owned(),
            name: config,
            value: Some(value),
        };
        controller.emit(record, records);
    }
    for (partition_id, replicas) in (0..).zip(plan.replicas) {
        let record = new_partition(controller, topic_id, partition_id, replicas);
        controller.emit(record, records);
    }
}

/// The record of a partition that never existed.
pub(super) fn new_partition(
    controller: &Controller,
    topic_id: TopicId,
    partition_id: i32,
    replicas: Vec<i32>,
) -> PartitionRecord {
    let directory_of = |node: &i32| {
        let broker = controller.image().broker(*node);
        let directory = broker.and_then(|broker| broker.log_dirs.first());
        directory.copied().unwrap_or_default()
    };
    PartitionRecord {
        partition_id,
        topic_id,
        leader: replicas.first().copied().unwrap_or(-1),
        isr: replicas.clone(),
        directories: replicas.iter().map(directory_of).collect(),
        replicas,
        leader_epoch: 0,
        partition_epoch: 0,
        ..PartitionRecord::default()
    }
}
