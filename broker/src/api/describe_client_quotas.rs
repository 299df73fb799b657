//! DescribeClientQuotas (key 48), versions 0 to 1.
//!
//! - The quotas of every entity that the filter lets pass. A component asks for one name, for the default, or for any name
//!   of its type; strict leaves out entities that have other types besides.
//! - A filter that contradicts itself is INVALID_REQUEST, and its entries are null.

use crate::catalog::{QuotaFilter, QuotaMatch, Rejection};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse, EntityData, EntryData, ValueData,
};

pub(crate) fn handle(node: &Node, body: DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    match filter(body) {
        Ok(filter) => DescribeClientQuotasResponse {
            entries: Some(entries(node, &filter)),
            ..DescribeClientQuotasResponse::default()
        },
        Err(rejection) => DescribeClientQuotasResponse {
            error_code: rejection.code.code(),
            error_message: Some(rejection.message),
            ..DescribeClientQuotasResponse::default()
        },
    }
}

fn filter(body: DescribeClientQuotasRequest) -> Result<QuotaFilter, Rejection> {
    let mut filter = QuotaFilter::new(body.strict);
    for component in body.components {
        let wanted = wanted(&component)?;
        filter.add(component.entity_type, wanted)?;
    }
    Ok(filter)
}

fn wanted(component: &ComponentData) -> Result<QuotaMatch, Rejection> {
    let message = match (component.match_type, &component.match_name) {
        (0, Some(name)) => return Ok(QuotaMatch::Exact(name.clone())),
        (1, None) => return Ok(QuotaMatch::Default),
        (2, None) => return Ok(QuotaMatch::Any),
        (0, None) => "Request specified MATCH_TYPE_EXACT, but set match string to null.".to_owned(),
        (1, Some(_)) => "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.".to_owned(),
        (2, Some(_)) => "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.".to_owned(),
        (other, _) => format!("Unknown match type {other}"),
    };
    Err(Rejection { code: ErrorCode::InvalidRequest, message })
}

/// One entry for each entity, with all its quotas.
fn entries(node: &Node, filter: &QuotaFilter) -> Vec<EntryData> {
    let mut entries: Vec<EntryData> = Vec::new();
    for quota in node.catalog.borrow().quotas().filter(|quota| filter.passes(&quota.entity)) {
        let entity: Vec<EntityData> = quota
            .entity
            .into_iter()
            .map(|(entity_type, entity_name)| EntityData { entity_type, entity_name })
            .collect();
        let value = ValueData { key: quota.key, value: quota.value };
        match entries.last_mut().filter(|entry| entry.entity == entity) {
            Some(entry) => entry.values.push(value),
            None => entries.push(EntryData { entity, values: vec![value] }),
        }
    }
    entries
}

impl Outcome for DescribeClientQuotasResponse {
    fn has_error(&self) -> bool {
        any_error([self.error_code])
    }
}
