//! ListConfigResources (key 74), versions 0 to 1.
//!
//! - Version 0 asks for subscriptions to client metrics, of which there are none. From version 1 the types that are named,
//!   or all: every topic, this broker, and groups with configurations of their own.
//! - A type that Kafka does not list is UNSUPPORTED_VERSION. Left out: the broker as the holder of loggers, which cannot be
//!   described either.

use crate::catalog::Resource;
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const LISTED: [i8; 5] = [Resource::TOPIC, Resource::BROKER, BROKER_LOGGER, CLIENT_METRICS, Resource::GROUP];

pub(crate) fn handle(node: &Node, version: i16, body: ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    let kinds = match (version, body.resource_types.is_empty()) {
        (0, _) => vec![CLIENT_METRICS],
        (_, true) => LISTED.to_vec(),
        (_, false) => body.resource_types,
    };
    if kinds.iter().any(|kind| !LISTED.contains(kind)) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return ListConfigResourcesResponse { error_code, ..ListConfigResourcesResponse::default() };
    }
    let listed = LISTED.into_iter().filter(|kind| kinds.contains(kind));
    let config_resources = listed
        .flat_map(|kind| {
            let resource = move |resource_name| ConfigResource { resource_name, resource_type: kind };
            names(node, kind).into_iter().map(resource)
        })
        .collect();
    ListConfigResourcesResponse { config_resources, ..ListConfigResourcesResponse::default() }
}

fn names(node: &Node, kind: i8) -> Vec<String> {
    let catalog = node.catalog.borrow();
    match kind {
        Resource::TOPIC => catalog.topics().map(|topic| topic.name.clone()).collect(),
        Resource::BROKER => vec![node.cluster().node_id.to_string()],
        _ => catalog.configured().filter(|resource| resource.kind() == kind).map(Resource::name).collect(),
    }
}

impl Outcome for ListConfigResourcesResponse {
    fn has_error(&self) -> bool {
        any_error([self.error_code])
    }
}
