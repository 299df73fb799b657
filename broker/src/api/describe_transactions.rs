//! DescribeTransactions (key 65), version 0.
//!
//! No transaction can be begun, so every transactional id is TRANSACTIONAL_ID_NOT_FOUND, as for Kafka one that it has never
//! seen.

use crate::server::dispatch::{Outcome, any_error};
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TransactionState,
};

pub(crate) fn handle(body: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let unknown = |transactional_id| TransactionState {
        error_code: ErrorCode::TransactionalIdNotFound.code(),
        transactional_id,
        ..TransactionState::default()
    };
    let transaction_states = body.transactional_ids.into_iter().map(unknown).collect();
    DescribeTransactionsResponse { transaction_states, ..DescribeTransactionsResponse::default() }
}

impl Outcome for DescribeTransactionsResponse {
    fn has_error(&self) -> bool {
        any_error(self.transaction_states.iter().map(|state| state.error_code))
    }
}
