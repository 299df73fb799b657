//! ListTransactions (key 66), versions 0 to 2.
//!
//! No transaction can be begun: the list is empty, whatever the filters. Names of states that Kafka does not have are told
//! back, as Kafka does.

use crate::server::dispatch::Outcome;
use crate::wire::generated::list_transactions::{ListTransactionsRequest, ListTransactionsResponse};

const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

pub(crate) fn handle(body: ListTransactionsRequest) -> ListTransactionsResponse {
    let is_unknown = |state: &String| !STATES.contains(&state.as_str());
    ListTransactionsResponse {
        unknown_state_filters: body.state_filters.into_iter().filter(is_unknown).collect(),
        ..ListTransactionsResponse::default()
    }
}

impl Outcome for ListTransactionsResponse {
    fn has_error(&self) -> bool {
        false
    }
}
