//! DescribeConfigs (key 32), versions 1 to 4.
//!
//! - Topics, this broker and groups, every configuration with its source, or those that are named; null or no names mean all.
//! - The broker without a name stands for what was set on all brokers, and nothing else.
//! - Synonyms are the layers that a value overrides, the one that holds first; types and documentation from version 3.
//! - A secret value is null. A topic that does not exist is 3; another broker or kind of resource is INVALID_REQUEST.

use std::collections::BTreeSet;

use crate::catalog::{Rejection, Resource, check_topic_name};
use crate::configs::{ConfigEntry, Synonym, describe_broker, describe_broker_defaults, describe_group, describe_topic};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::controller;

pub(crate) fn handle(node: &Node, body: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let synonyms = body.include_synonyms;
    let documentation = body.include_documentation;
    let results = body.resources.into_iter().map(|resource| {
        let found = describe(node, &resource);
        let (error_code, error_message) = controller::code_and_message(&found);
        let entries = chosen(found.unwrap_or_default(), resource.configuration_keys);
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs: entries.into_iter().map(|entry| config(entry, synonyms, documentation)).collect(),
        }
    });
    DescribeConfigsResponse { results: results.collect(), ..DescribeConfigsResponse::default() }
}

fn describe(node: &Node, resource: &DescribeConfigsResource) -> Result<Vec<ConfigEntry>, Rejection> {
    let cluster = node.cluster();
    let catalog = node.catalog.borrow();
    let broker = catalog.broker_configs(&cluster.properties, cluster.node_id);
    let resource = Resource::new(resource.resource_type, &resource.resource_name);
    match &resource {
        Resource::Topic(name) => match catalog.topic_named(name) {
            Some(_) => Ok(describe_topic(catalog.topic_overrides(name), &broker)),
            None => check_topic_name(name).and_then(|()| Err(rejection(ErrorCode::UnknownTopicOrPartition, ""))),
        },
        Resource::Broker(Some(id)) if *id == cluster.node_id => Ok(describe_broker(&broker)),
        Resource::Broker(None) => Ok(describe_broker_defaults(&broker)),
        Resource::Broker(Some(id)) => Err(rejection(
            ErrorCode::InvalidRequest,
            &format!("Unexpected broker id, expected {}, but received {id}", cluster.node_id),
        )),
        Resource::Group(name) if name.is_empty() => {
            Err(rejection(ErrorCode::InvalidRequest, "Group name must not be empty"))
        }
        Resource::Group(_) => Ok(describe_group(catalog.overrides(&resource))),
        Resource::Other(kind, name) => Err(rejection(
            ErrorCode::InvalidRequest,
            &format!("Configurations of resource '{name}' of type {kind} are not served."),
        )),
    }
}

fn rejection(code: ErrorCode, message: &str) -> Rejection {
    let message = match message {
        "" => code.message(),
        message => message,
    };
    Rejection { code, message: message.to_owned() }
}

/// Those that are named; all without names.
fn chosen(entries: Vec<ConfigEntry>, names: Option<Vec<String>>) -> Vec<ConfigEntry> {
    match names {
        Some(names) if !names.is_empty() => {
            let names: BTreeSet<String> = names.into_iter().collect();
            entries.into_iter().filter(|entry| names.contains(entry.name)).collect()
        }
        _ => entries,
    }
}

fn config(entry: ConfigEntry, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: entry.name.to_owned(),
        value: entry.value,
        read_only: entry.read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.sensitive,
        synonyms: match synonyms {
            true => entry.synonyms.into_iter().map(synonym).collect(),
            false => Vec::new(),
        },
        config_type: entry.kind.code(),
        documentation: documentation.then(|| entry.documentation.to_owned()),
    }
}

fn synonym(synonym: Synonym) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: synonym.name.to_owned(), value: synonym.value, source: synonym.source.code() }
}

impl Outcome for DescribeConfigsResponse {
    fn has_error(&self) -> bool {
        any_error(self.results.iter().map(|result| result.error_code))
    }
}
