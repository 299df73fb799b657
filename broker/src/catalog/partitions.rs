//! CreatePartitions: a topic may only grow, and every topic of the request has its answer.

use super::REQUEST_PARTITIONS_MAX;
use super::controller::Controller;
use super::create::{check_brokers, duplicates, new_partition, too_many};
use super::record::MetadataRecord;
use super::rejection::{Outcome, refuse};
use crate::wire::error_code::ErrorCode;

/// A topic to grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    pub name: String,
    /// The number that the topic shall have in all.
    pub count: i32,
    /// The brokers of each new partition; `None`: the controller assigns.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrownTopic {
    pub name: String,
    pub result: Outcome<()>,
}

pub(super) fn create_partitions(
    controller: &mut Controller,
    topics: Vec<NewPartitions>,
    validate_only: bool,
    records: &mut Vec<MetadataRecord>,
) -> Vec<GrownTopic> {
    let twice = duplicates(topics.iter().map(|topic| topic.name.as_str()));
    let mut spare = REQUEST_PARTITIONS_MAX;
    let mut grown = Vec::with_capacity(topics.len());
    for topic in topics {
        let result = match twice.contains(&topic.name) {
            true => refuse(ErrorCode::InvalidRequest, "Duplicate topic name."),
            false => plan(controller, &topic, &mut spare),
        };
        let result = result.map(|added| {
            if !validate_only {
                added.into_iter().for_each(|record| controller.emit(record, records));
            }
        });
        let name = topic.name;
        grown.push(GrownTopic { name, result });
    }
    grown
}

fn plan(controller: &Controller, asked: &NewPartitions, spare: &mut usize) -> Outcome<Vec<MetadataRecord>> {
    let Some(topic) = controller.image().topic_named(&asked.name) else {
        let message = "This server does not host this topic-partition.";
        return refuse(ErrorCode::UnknownTopicOrPartition, message);
    };
    let current = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let added = added_count(&asked.name, current, asked.count)?;
    let Some(rest) = spare.checked_sub(added) else {
        return too_many();
    };
    let replicas = replicas(controller, asked, added)?;
    *spare = rest;
    Ok((current..)
        .zip(replicas)
        .map(|(number, replicas)| new_partition(controller, topic.id, number, replicas).into())
        .collect())
}

fn added_count(name: &str, current: i32, count: i32) -> Outcome<usize> {
    let message = match count.checked_sub(current) {
        Some(0) => format!("Topic already has {current} partition(s)."),
        Some(added @ 1..) if count > 0 => return Ok(usize::try_from(added).unwrap_or(usize::MAX)),
        _ => format!("The topic {name} currently has {current} partition(s); {count} would not be an increase."),
    };
    refuse(ErrorCode::InvalidPartitions, message)
}

fn replicas(controller: &Controller, asked: &NewPartitions, added: usize) -> Outcome<Vec<Vec<i32>>> {
    let Some(given) = &asked.assignments else {
        return Ok(vec![vec![controller.node()]; added]);
    };
    if given.len() != added {
        let message = format!(
            "Attempted to add {added} additional partition(s), but {} assignment(s) were specified.",
            given.len()
        );
        return refuse(ErrorCode::InvalidReplicaAssignment, message);
    }
    given.iter().try_for_each(|brokers| check_brokers(controller.node(), brokers))?;
    Ok(given.clone())
}
