//! The quota on changes of partitions (KIP-599): which topics of a request are still admitted.
//!
//! Clients that know of it are refused what is beyond their quota, topic by topic; older ones are only made to wait.

use crate::quotas::{Charge, Quantity};
use crate::server::envelope::Envelope;

/// For each topic whether the change of so many partitions is admitted. `strict_from` is the first version of clients that
/// understand the refusal.
pub(super) async fn admitted(
    request: &Envelope,
    strict_from: i16,
    partitions: impl Iterator<Item = usize>,
) -> Vec<bool> {
    let mut admitted = Vec::new();
    for count in partitions {
        let count = count as f64;
        let charge = match request.version >= strict_from {
            true => Charge::IfWithin(count),
            false => Charge::Done(count),
        };
        admitted.push(match &request.usage {
            Some(usage) => usage.charge(Quantity::Mutation, charge).await,
            None => true,
        });
    }
    admitted
}

/// Takes those that are admitted out of all.
pub(super) fn those<T>(all: impl IntoIterator<Item = T>, admitted: &[bool]) -> Vec<T> {
    all.into_iter().zip(admitted).filter(|(_, admitted)| **admitted).map(|(one, _)| one).collect()
}

/// Puts the results of those that were admitted between the refusals of the others, in the order of the request.
pub(super) fn merged<T>(admitted: &[bool], results: Vec<T>, refusals: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut results = results.into_iter();
    let pick = |(refusal, admitted): (T, &bool)| match admitted {
        true => results.next().unwrap_or(refusal),
        false => refusal,
    };
    refusals.into_iter().zip(admitted).map(pick).collect()
}
