//! IncrementalAlterConfigs (key 44), versions 0 to 1.
//!
//! - All changes of a resource hold or none does; set, delete, append and subtract. Topics, this broker and groups only.
//! - The answer leaves when every shard's logs work with the new values. `validate_only` changes nothing.

use std::rc::Rc;

use crate::catalog::{AlterOp, AlterResource, Altered, Reply, Request};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

use super::controller;

pub(crate) async fn handle(node: &Rc<Node>, body: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let resources: Vec<AlterResource> = body.resources.into_iter().map(alter_resource).collect();
    let names: Vec<(i8, String)> = resources.iter().map(|asked| (asked.kind, asked.name.clone())).collect();
    let request = Request::AlterConfigs { resources, replaces: false, validate_only: body.validate_only };
    let responses = match controller::submit(node, request).await {
        Ok(Reply::AlteredConfigs(altered)) => altered.into_iter().map(result).collect(),
        Ok(_) => names.into_iter().map(|name| failed(name, ErrorCode::UnknownServerError)).collect(),
        Err(error) => names.into_iter().map(|name| failed(name, error)).collect(),
    };
    IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }
}

fn alter_resource(resource: AlterConfigsResource) -> AlterResource {
    AlterResource {
        kind: resource.resource_type,
        name: resource.resource_name,
        changes: resource
            .configs
            .into_iter()
            .map(|config| (config.name, AlterOp::new(config.config_operation, config.value)))
            .collect(),
    }
}

fn result(altered: Altered) -> AlterConfigsResourceResponse {
    let (error_code, error_message) = controller::code_and_message(&altered.result);
    AlterConfigsResourceResponse { error_code, error_message, resource_type: altered.kind, resource_name: altered.name }
}

fn failed((resource_type, resource_name): (i8, String), error: ErrorCode) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse {
        error_code: error.code(),
        error_message: Some(error.message().to_owned()),
        resource_type,
        resource_name,
    }
}

impl Outcome for IncrementalAlterConfigsResponse {
    fn has_error(&self) -> bool {
        any_error(self.responses.iter().map(|resource| resource.error_code))
    }
}
