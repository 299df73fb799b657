//! IncrementalAlterConfigs: single values of a resource are set, deleted, appended to or subtracted from. All changes of a
//! resource hold or none does; the result is checked as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::controller::Controller;
use super::image::Resource;
use super::names;
use super::record::{ConfigRecord, MetadataRecord};
use super::rejection::{Outcome, refuse};
use crate::configs::{
    BrokerProperties, ConfigType, group_row, parts, property, topic_row, topic_value, validate_group, validate_topic,
};
use crate::wire::error_code::ErrorCode;

/// What to do with one configuration. The numbers are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlterOp {
    Set(Option<String>),
    Delete,
    Append(Option<String>),
    Subtract(Option<String>),
    /// A number that is none of these.
    Unknown(i8),
}

impl AlterOp {
    /// From the request's number and value.
    pub fn new(operation: i8, value: Option<String>) -> AlterOp {
        match operation {
            0 => AlterOp::Set(value),
            1 => AlterOp::Delete,
            2 => AlterOp::Append(value),
            3 => AlterOp::Subtract(value),
            other => AlterOp::Unknown(other),
        }
    }
}

/// The changes of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterResource {
    pub kind: i8,
    pub name: String,
    pub changes: Vec<(String, AlterOp)>,
}

/// What became of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Altered {
    pub kind: i8,
    pub name: String,
    pub result: Outcome<()>,
}

pub(super) fn alter_configs(
    controller: &mut Controller,
    resources: Vec<AlterResource>,
    replaces: bool,
    validate_only: bool,
    records: &mut Vec<MetadataRecord>,
) -> Vec<Altered> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<_> = resources
        .iter()
        .map(|asked| (asked.kind, asked.name.clone()))
        .filter(|key| !seen.insert(key.clone()))
        .collect();
    let mut altered = Vec::with_capacity(resources.len());
    for asked in resources {
        let result = match twice.contains(&(asked.kind, asked.name.clone())) {
            true => refuse(ErrorCode::InvalidRequest, "Each resource must appear at most once."),
            false => plan(controller, &asked, replaces),
        };
        let result = result.map(|changed| {
            if !validate_only {
                changed.into_iter().for_each(|record| controller.emit(record, records));
            }
        });
        let AlterResource { kind, name, .. } = asked;
        altered.push(Altered { kind, name, result });
    }
    altered
}

fn plan(controller: &Controller, asked: &AlterResource, replaces: bool) -> Outcome<Vec<ConfigRecord>> {
    let resource = Resource::new(asked.kind, &asked.name);
    check_resource(controller, &resource)?;
    let old = controller.image().overrides(&resource);
    let mut new = if replaces { BTreeMap::new() } else { old.clone() };
    let mut once = BTreeSet::new();
    for (name, op) in &asked.changes {
        if !once.insert(name) {
            return refuse(ErrorCode::InvalidRequest, "Error due to duplicate config keys");
        }
        change(controller, &resource, &mut new, name, op)?;
    }
    check_values(&resource, &new)?;
    Ok(difference(asked, old, &new))
}

fn check_resource(controller: &Controller, resource: &Resource) -> Outcome<()> {
    let node = controller.node();
    match resource {
        Resource::Topic(name) => match controller.image().topic_named(name) {
            Some(_) => Ok(()),
            None => names::check(name).and_then(|()| {
                refuse(ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."))
            }),
        },
        Resource::Group(name) if name.is_empty() => {
            refuse(ErrorCode::InvalidRequest, "Default group resources are not allowed.")
        }
        Resource::Group(_) | Resource::Broker(None) => Ok(()),
        Resource::Broker(Some(broker)) if *broker == node => Ok(()),
        Resource::Broker(Some(broker)) => {
            refuse(ErrorCode::InvalidRequest, format!("Unexpected broker id, expected {node}, but received {broker}"))
        }
        Resource::Other(kind, name) => refuse(
            ErrorCode::InvalidRequest,
            format!("Configurations of resource '{name}' of type {kind} are not served."),
        ),
    }
}

fn change(
    controller: &Controller,
    resource: &Resource,
    values: &mut BTreeMap<String, String>,
    name: &str,
    op: &AlterOp,
) -> Outcome<()> {
    let verb = match op {
        AlterOp::Unknown(number) => {
            let message = format!("Unknown operation type {number} for configuration {name}");
            return refuse(ErrorCode::InvalidRequest, message);
        }
        AlterOp::Delete => {
            values.remove(name);
            return Ok(());
        }
        AlterOp::Set(None) | AlterOp::Append(None) | AlterOp::Subtract(None) => {
            let message = format!("Null value not supported for : {name}");
            return refuse(ErrorCode::InvalidRequest, message);
        }
        AlterOp::Set(Some(value)) => {
            values.insert(name.to_owned(), value.clone());
            return Ok(());
        }
        AlterOp::Append(Some(_)) => "APPEND",
        AlterOp::Subtract(Some(_)) => "SUBTRACT",
    };
    if kind(resource, name).is_some_and(|kind| kind != ConfigType::List) {
        let message = format!("Can't {verb} to key {name} because its type is not LIST.");
        return refuse(ErrorCode::InvalidConfig, message);
    }
    let current = current(controller, resource, values, name);
    values.insert(name.to_owned(), edited(&current, op));
    Ok(())
}

fn kind(resource: &Resource, name: &str) -> Option<ConfigType> {
    match resource {
        Resource::Topic(_) => topic_row(name).map(|row| row.kind),
        Resource::Group(_) => group_row(name).map(|row| row.kind),
        _ => property(name).map(|row| row.kind),
    }
}

/// The list that is appended to: what is set, else what holds without it.
fn current(controller: &Controller, resource: &Resource, values: &BTreeMap<String, String>, name: &str) -> String {
    match (resource, topic_row(name)) {
        (Resource::Topic(_), Some(row)) => topic_value(row, values, &controller.configs()),
        _ => {
            let set = values.get(name).map(String::as_str);
            let holds = set.or_else(|| controller.properties().text(name));
            holds.unwrap_or_default().to_owned()
        }
    }
}

fn edited(current: &str, op: &AlterOp) -> String {
    let mut list: Vec<&str> = parts(current).collect();
    match op {
        AlterOp::Append(Some(value)) => {
            for part in parts(value) {
                if !list.contains(&part) {
                    list.push(part);
                }
            }
        }
        AlterOp::Subtract(Some(value)) => list.retain(|old| parts(value).all(|part| part != *old)),
        _ => {}
    }
    list.join(",")
}

fn check_values(resource: &Resource, values: &BTreeMap<String, String>) -> Outcome<()> {
    match resource {
        Resource::Topic(name) => {
            let mut values = values.clone();
            for (config, value) in names::own_configs(name) {
                // What the topic has of itself may stay, whatever others may set.
                if values.get(&config) == Some(&value) {
                    values.remove(&config);
                }
            }
            validate_topic(&values).or_else(|message| refuse(ErrorCode::InvalidConfig, message))
        }
        Resource::Group(_) => validate_group(values).or_else(|message| refuse(ErrorCode::InvalidConfig, message)),
        _ => values.iter().try_for_each(|(name, value)| check_property(name, value)),
    }
}

fn check_property(name: &str, value: &str) -> Outcome<()> {
    match BrokerProperties::check(name, value) {
        Err(mistake) => refuse(ErrorCode::InvalidRequest, mistake.to_string()),
        Ok(row) if !row.is_dynamic() => {
            refuse(ErrorCode::InvalidRequest, format!("Cannot update these configs dynamically: {name}"))
        }
        Ok(_) => Ok(()),
    }
}

/// A record for each value that differs.
fn difference(
    asked: &AlterResource,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> Vec<ConfigRecord> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| ConfigRecord {
            resource_type: asked.kind,
            resource_name: asked.name.clone(),
            name: name.clone(),
            value: new.get(name).cloned(),
        })
        .collect()
}
