//! ApiVersions (key 18), versions 0 to 4.
//!
//! - A version that is not served is answered in version 0 with UNSUPPORTED_VERSION and the whole table, so that the client
//!   can choose again.
//! - From version 3 the client names its software; a name or version that is not letters, digits, dots and dashes is
//!   INVALID_REQUEST.
//! - The response header is the plain one in every version.
//! - Left out: features (none is finalized that a client acts on), so `transaction.version` stays below 2.

use crate::server::connection::Connection;
use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::wire::apis::{self, Api};
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::header;

pub(crate) fn handle(connection: &Connection, request: &Envelope, body: &ApiVersionsRequest) -> ApiVersionsResponse {
    if request.version >= 3 && !names_its_software(body) {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..ApiVersionsResponse::default() };
    }
    if request.version >= 3 {
        let software = format!("{} {}", body.client_software_name, body.client_software_version);
        *connection.software.borrow_mut() = Some(software.into());
    }
    ApiVersionsResponse { api_keys: apis::advertised(), ..ApiVersionsResponse::default() }
}

/// The frame that answers a version from the future.
pub(crate) fn unsupported_version(correlation_id: i32) -> Vec<u8> {
    let body = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: apis::advertised(),
        ..ApiVersionsResponse::default()
    };
    header::response_frame(Api::ApiVersions, 0, correlation_id, &body)
}

fn names_its_software(body: &ApiVersionsRequest) -> bool {
    is_plain(&body.client_software_name) && is_plain(&body.client_software_version)
}

/// Kafka's pattern `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_plain(name: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    ends(name.bytes().next())
        && ends(name.bytes().last())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

impl Outcome for ApiVersionsResponse {
    fn has_error(&self) -> bool {
        any_error([self.error_code])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_is_named_as_kafka_wants_it() {
        for good in ["a", "apache-kafka-java", "4.3.1", "v99.11--b", "librdkafka"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "a_b", "ä"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
