//! Errors: what the engine fails at, as Kafka's codes, in one exhaustive match. Refusals have theirs in `wire`.
//!
//! Unknown never becomes "timed out": `REQUEST_TIMED_OUT` is said only where the write may still happen.

use watershed_core::error::Fault;

use crate::wire::error_code::ErrorCode;

/// The code of a fault. The file and the position go to the log, not to the client.
pub(crate) fn of_fault(fault: &Fault) -> ErrorCode {
    match fault {
        Fault::Io { .. }
        | Fault::Corrupt { .. }
        | Fault::NoSpace { .. }
        | Fault::Closed { .. }
        | Fault::Version { .. } => ErrorCode::KafkaStorageError,
        Fault::Refused(_) => ErrorCode::UnknownServerError,
    }
}
