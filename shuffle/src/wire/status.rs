//! What an answer says of its request, and in words that its client can read.
//!
//! A status that a client does not know is worse than any error: over gRPC it throws in the client's own code. Clients are
//! old until their application has named a version (see [`StatusCode::for_version`]).

pub use super::proto::StatusCode;

impl StatusCode {
    /// The same in words that the client knows: 0.9.x reads 0 to 10, 0.10 (`knows_new`) reads 0 to 14.
    ///
    /// What an old client would try again either fails its task soon instead, or is told that the shuffle is unknown.
    pub const fn for_version(self, knows_new: bool) -> StatusCode {
        match (self, knows_new) {
            (StatusCode::HardSplitFromServer, true) => StatusCode::ExceedHugePartitionHardLimit,
            (StatusCode::AppNotFound, false) => StatusCode::NoRegister,
            (
                StatusCode::StageRetryIgnore
                | StatusCode::ExceedHugePartitionHardLimit
                | StatusCode::InternalNotRetryError
                | StatusCode::HardSplitFromServer,
                false,
            ) => StatusCode::InternalError,
            (status, _) => status,
        }
    }

    /// The number on the wire.
    pub const fn code(self) -> i32 {
        self as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_is_sent_what_it_cannot_read() {
        for code in 0..=15 {
            let status = StatusCode::try_from(code).unwrap();
            let (old, new) = (status.for_version(false), status.for_version(true));
            assert!(old.code() <= 10 && new.code() <= 14, "{status:?}");
            assert!(code > 10 || (old, new) == (status, status), "{status:?} changes though all know it");
            assert_eq!(status == StatusCode::Success, old == StatusCode::Success, "{status:?}");
        }
        assert_eq!(StatusCode::AppNotFound.for_version(false), StatusCode::NoRegister);
    }
}
