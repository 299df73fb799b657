//! What the controller refuses, as Kafka says it: an error code and a message for people.

use crate::wire::error_code::ErrorCode;

/// One refused part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub code: ErrorCode,
    pub message: String,
}

/// The result of one part of a request.
pub(super) type Outcome<T> = Result<T, Rejection>;

pub(super) fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Outcome<T> {
    let message = message.into();
    Err(Rejection { code, message })
}
