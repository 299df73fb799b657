//! What goes wrong for a client, in words that say what to do.

use crate::wire::error_code::ErrorCode;

/// Why a request came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{address} cannot be reached: {cause}; is the broker running, and is this the address that it listens on?")]
    Unreachable { address: String, cause: String },
    #[error(
        "broker {broker} says that it is at {address}, which cannot be reached: {cause}; its advertised address is wrong for this machine"
    )]
    Misadvertised { broker: i32, address: String, cause: String },
    #[error("the connection to {address} broke: {cause}")]
    Broken { address: String, cause: String },
    #[error(
        "{address} speaks {api} only up to version {offered}, and version {needed} is needed: the broker is too old"
    )]
    TooOld { address: String, api: &'static str, offered: i16, needed: i16 },
    #[error("{what}: {}", told(*.code, .message.as_deref()))]
    Refused { what: String, code: i16, message: Option<String> },
    #[error("{0}")]
    Missing(String),
    #[error("{0}")]
    Damaged(String),
    #[error("gave up after {seconds} s: {last}")]
    GaveUp { seconds: u64, last: Box<ClientError> },
}

impl ClientError {
    /// Whether the same may work a little later.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Broken { .. } => true,
            ClientError::Refused { code, .. } => ErrorCode::from_code(*code).is_some_and(ErrorCode::is_retriable),
            _ => false,
        }
    }

    /// Whether no broker answered, in contrast to one that refused.
    pub fn is_unreachable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::Misadvertised { .. } | ClientError::Broken { .. } => true,
            ClientError::GaveUp { last, .. } => last.is_unreachable(),
            _ => false,
        }
    }
}

/// An error, unless the code says that there is none.
pub(super) fn check(code: i16, message: Option<&str>, what: impl FnOnce() -> String) -> super::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(ClientError::Refused { what: what(), code, message: message.map(str::to_owned) }),
    }
}

/// Name, meaning and remedy of a code.
fn told(code: i16, message: Option<&str>) -> String {
    let Some(error) = ErrorCode::from_code(code) else {
        return format!(
            "the broker answered error {code}{}",
            message.map(|text| format!(": {text}")).unwrap_or_default()
        );
    };
    let message = message.filter(|text| !text.is_empty()).unwrap_or(error.message());
    let remedy = remedy(error).map(|text| format!("; {text}")).unwrap_or_default();
    format!("{} ({message}){remedy}", error.name())
}

fn remedy(error: ErrorCode) -> Option<&'static str> {
    match error {
        ErrorCode::UnknownTopicOrPartition => Some("`topic list` shows what there is"),
        ErrorCode::TopicAlreadyExists => Some("`topic describe` shows it"),
        ErrorCode::GroupIdNotFound => Some("`group list` shows what there is"),
        ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId => Some("stop the group's members first"),
        ErrorCode::GroupSubscribedToTopic => Some("stop the members that subscribe to it first"),
        ErrorCode::InvalidReplicationFactor => Some("a single broker keeps one replica: --replication-factor 1"),
        ErrorCode::KafkaStorageError => Some("the broker's log says why; a full disk is the usual reason"),
        ErrorCode::MessageTooLarge => Some("see the topic's max.message.bytes: `config get topic NAME`"),
        ErrorCode::OffsetOutOfRange => Some("`topic describe` shows where the log begins and ends"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_was_asked_why_it_failed_and_what_to_do() {
        let error = check(36, Some("it is there"), || "creating topic rivers".to_owned()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "creating topic rivers: TOPIC_ALREADY_EXISTS (it is there); `topic describe` shows it"
        );
        assert!(!error.is_retriable());
        let unknown = check(999, None, || "x".to_owned()).unwrap_err();
        assert_eq!(unknown.to_string(), "x: the broker answered error 999");
    }

    #[test]
    fn what_kafka_calls_retriable_is() {
        assert!(check(5, None, String::new).unwrap_err().is_retriable());
        let broken = ClientError::Broken { address: "a".to_owned(), cause: "b".to_owned() };
        assert!(broken.is_retriable() && broken.is_unreachable());
        assert!(ClientError::GaveUp { seconds: 1, last: Box::new(broken) }.is_unreachable());
    }
}
