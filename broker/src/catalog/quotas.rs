//! Client quotas: how they are altered, and the filter by which they are asked for.
//!
//! An entity is its parts in the order of their types: a user, a client id or both, each by name or, with `None`, the
//! default of its type. All changes of an entity hold or none does.

use std::collections::{BTreeMap, BTreeSet};

use super::controller::Controller;
use super::record::{ClientQuotaRecord, EntityData, MetadataRecord};
use super::rejection::{Outcome, refuse};
use crate::wire::error_code::ErrorCode;

/// Types of an entity's parts.
pub const USER: &str = "user";
pub const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// What is limited.
pub const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
pub const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
pub const REQUEST_PERCENTAGE: &str = "request_percentage";
pub const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";

/// Rates that are counted in whole bytes.
const WHOLE: [&str; 2] = [PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE];
const FRACTIONAL: [&str; 2] = [REQUEST_PERCENTAGE, CONTROLLER_MUTATION_RATE];
/// How far from a whole number a rate of bytes may be, for clients that compute it.
const WHOLE_WITHIN: f64 = 1e-6;

/// The type and name of each part.
pub type QuotaEntity = Vec<(String, Option<String>)>;

/// The changes of one entity; `None` removes.
#[derive(Clone, Debug, PartialEq)]
pub struct AlterQuota {
    pub entity: QuotaEntity,
    pub changes: Vec<(String, Option<f64>)>,
}

/// What became of one entity.
#[derive(Clone, Debug, PartialEq)]
pub struct AlteredQuota {
    pub entity: QuotaEntity,
    pub result: Outcome<()>,
}

pub(super) fn alter_quotas(
    controller: &mut Controller,
    entries: Vec<AlterQuota>,
    validate_only: bool,
    records: &mut Vec<MetadataRecord>,
) -> Vec<AlteredQuota> {
    let mut seen = BTreeSet::new();
    let mut altered = Vec::with_capacity(entries.len());
    for asked in entries {
        let mut entity = asked.entity.clone();
        entity.sort();
        let result = match seen.insert(entity.clone()) {
            true => plan(controller, entity, &asked.changes),
            false => refuse(ErrorCode::InvalidRequest, "Each entity must appear at most once."),
        };
        let result = result.map(|changed| {
            if !validate_only {
                changed.into_iter().for_each(|record| controller.emit(record, records));
            }
        });
        altered.push(AlteredQuota { entity: asked.entity, result });
    }
    altered
}

/// A record for each quota that changes.
fn plan(
    controller: &Controller,
    entity: QuotaEntity,
    changes: &[(String, Option<f64>)],
) -> Outcome<Vec<ClientQuotaRecord>> {
    check_entity(&entity)?;
    let is_own = |quota: &super::ClientQuota| quota.entity == entity;
    let old: BTreeMap<String, f64> =
        controller.image().quotas().filter(is_own).map(|quota| (quota.key, quota.value)).collect();
    let mut once = BTreeSet::new();
    let mut records = Vec::new();
    for (key, value) in changes {
        if !once.insert(key) {
            return refuse(ErrorCode::InvalidRequest, format!("Duplicate quota key {key}"));
        }
        check_value(key, *value)?;
        if old.get(key).copied() != *value {
            let parts = entity.iter().cloned();
            records.push(ClientQuotaRecord {
                entity: parts.map(|(entity_type, entity_name)| EntityData { entity_type, entity_name }).collect(),
                key: key.clone(),
                value: value.unwrap_or_default(),
                remove: value.is_none(),
            });
        }
    }
    Ok(records)
}

fn check_entity(entity: &QuotaEntity) -> Outcome<()> {
    let refused = |message: String| refuse(ErrorCode::InvalidRequest, message);
    if entity.is_empty() {
        return refused("Invalid empty client quota entity".to_owned());
    }
    let mut once = BTreeSet::new();
    for (kind, name) in entity {
        match kind.as_str() {
            USER | CLIENT_ID => {}
            IP => return refused("Quotas on the connections of an address are not served.".to_owned()),
            _ => return refused(format!("Unhandled client quota entity type: {kind}")),
        }
        if !once.insert(kind) {
            return refused(format!("Invalid client quota entity, duplicate entity entry {kind}"));
        }
        if name.as_deref() == Some("") {
            return refused(format!("Empty {kind} not supported"));
        }
    }
    Ok(())
}

fn check_value(key: &str, value: Option<f64>) -> Outcome<()> {
    let refused = |message: String| refuse(ErrorCode::InvalidRequest, message);
    let is_whole = WHOLE.contains(&key);
    if !is_whole && !FRACTIONAL.contains(&key) {
        return refused(format!("Invalid configuration key {key}"));
    }
    match value {
        None => Ok(()),
        Some(value) if !(value.is_finite() && value > 0.0) => refused(format!("{key} must be greater than 0.")),
        Some(value) if is_whole && (value - value.round()).abs() > WHOLE_WITHIN => {
            refused(format!("{key} cannot be a fractional value."))
        }
        Some(_) => Ok(()),
    }
}

/// What a part of an entity has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaMatch {
    Exact(String),
    /// The default of its type.
    Default,
    /// Anything of its type, the default too.
    Any,
}

/// Which entities are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaFilter {
    wanted: BTreeMap<String, QuotaMatch>,
    is_strict: bool,
}

impl QuotaFilter {
    /// Lets everything pass until something is asked for. Strict: nothing that has parts of other types.
    pub fn new(is_strict: bool) -> QuotaFilter {
        QuotaFilter { wanted: BTreeMap::new(), is_strict }
    }

    /// Asks for entities with a part of this type.
    pub fn add(&mut self, kind: String, wanted: QuotaMatch) -> Outcome<()> {
        match kind.as_str() {
            USER | CLIENT_ID | IP => {}
            "" => return refuse(ErrorCode::InvalidRequest, "Invalid empty entity type."),
            _ => return refuse(ErrorCode::UnsupportedVersion, format!("Custom entity type {kind} is not supported.")),
        }
        if self.wanted.contains_key(&kind) {
            let message = format!("Entity type {kind} cannot appear more than once in the filter.");
            return refuse(ErrorCode::InvalidRequest, message);
        }
        self.wanted.insert(kind, wanted);
        if self.wanted.contains_key(IP) && self.wanted.len() > 1 {
            let message = "Invalid entity filter component combination. IP filter component should not be used with \
                           user or clientId filter component.";
            return refuse(ErrorCode::InvalidRequest, message);
        }
        Ok(())
    }

    pub fn passes(&self, entity: &QuotaEntity) -> bool {
        let has = |(kind, wanted): (&String, &QuotaMatch)| {
            let part = entity.iter().find(|(other, _)| other == kind);
            part.is_some_and(|(_, name)| match wanted {
                QuotaMatch::Exact(exact) => name.as_ref() == Some(exact),
                QuotaMatch::Default => name.is_none(),
                QuotaMatch::Any => true,
            })
        };
        let is_named = |(kind, _): &(String, Option<String>)| self.wanted.contains_key(kind);
        self.wanted.iter().all(has) && (!self.is_strict || entity.iter().all(is_named))
    }
}
