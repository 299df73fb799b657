//! What an answer says of its request.
//!
//! A status that a client does not know is worse than any error: over gRPC it throws in the client's own code, and a server never
//! learns the version of those that an official coordinator sends to it. So only what every client reads, 0 to 10, is sent.

pub use super::proto::StatusCode;

impl StatusCode {
    /// The number on the wire.
    pub const fn code(self) -> i32 {
        self as i32
    }
}
