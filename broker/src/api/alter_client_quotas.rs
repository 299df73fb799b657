//! AlterClientQuotas (key 49), versions 0 to 1.
//!
//! - Users, client ids and their pairs, each by name or as the default (a null name): `producer_byte_rate`,
//!   `consumer_byte_rate`, `request_percentage`, `controller_mutation_rate`. All changes of an entity hold or none does.
//! - The answer leaves when every shard measures by the new values. `validate_only` changes nothing.
//! - Left out: quotas on the connections of an address (INVALID_REQUEST).

use std::rc::Rc;

use crate::catalog::{AlterQuota, AlteredQuota, QuotaEntity, Reply, Request};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, EntityData, EntryData, EntryResult,
};

use super::controller;

pub(crate) async fn handle(node: &Rc<Node>, body: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let entries: Vec<AlterQuota> = body.entries.into_iter().map(alter_quota).collect();
    let entities: Vec<QuotaEntity> = entries.iter().map(|asked| asked.entity.clone()).collect();
    let request = Request::AlterQuotas { entries, validate_only: body.validate_only };
    let failed = |error: ErrorCode| {
        let message = Some(error.message().to_owned());
        entities.into_iter().map(|entity| result(entity, error.code(), message.clone())).collect()
    };
    let entries = match controller::submit(node, request).await {
        Ok(Reply::AlteredQuotas(altered)) => altered.into_iter().map(told).collect(),
        Ok(_) => failed(ErrorCode::UnknownServerError),
        Err(error) => failed(error),
    };
    AlterClientQuotasResponse { entries, ..AlterClientQuotasResponse::default() }
}

fn alter_quota(entry: EntryData) -> AlterQuota {
    AlterQuota {
        entity: entry.entity.into_iter().map(|part| (part.entity_type, part.entity_name)).collect(),
        changes: entry.ops.into_iter().map(|op| (op.key, (!op.remove).then_some(op.value))).collect(),
    }
}

fn told(altered: AlteredQuota) -> EntryResult {
    let (error_code, error_message) = controller::code_and_message(&altered.result);
    result(altered.entity, error_code, error_message)
}

fn result(entity: QuotaEntity, error_code: i16, error_message: Option<String>) -> EntryResult {
    let part = |(entity_type, entity_name)| EntityData { entity_type, entity_name };
    EntryResult { error_code, error_message, entity: entity.into_iter().map(part).collect() }
}

impl Outcome for AlterClientQuotasResponse {
    fn has_error(&self) -> bool {
        any_error(self.entries.iter().map(|entry| entry.error_code))
    }
}
