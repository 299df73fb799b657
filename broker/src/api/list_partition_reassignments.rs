//! ListPartitionReassignments (key 46), version 0.
//!
//! With one broker no partition is ever on its way to another: the list is empty, whatever is asked for.

use crate::server::dispatch::Outcome;
use crate::wire::generated::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

pub(crate) fn handle(_: &ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}

impl Outcome for ListPartitionReassignmentsResponse {
    fn has_error(&self) -> bool {
        false
    }
}
