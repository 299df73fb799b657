//! Request and response headers, and whole frames around generated messages.
//!
//! A frame is its length (4 bytes, not counted), a header and a body. Two traps: a request header's client id keeps its
//! 16-bit length even where all else is compact, and ApiVersions answers with the plain header in every version, since its
//! client does not know yet what the broker speaks.

use super::apis::{self, Api, Unsupported};
use super::message::Message;
use super::reader::{Reader, WireError};

/// A request's header; the body begins at `body_at` of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    pub api: Api,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
    pub body_at: usize,
}

/// Why a frame's header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a header: close the connection.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// Well formed, but not served. ApiVersions is answered all the same (in version 0, with error 35); for any other the
    /// connection is closed.
    #[error("{why}")]
    Unsupported { why: Unsupported, correlation_id: i32 },
}

/// Reads the header of a frame (without its length prefix).
pub fn parse(frame: &[u8]) -> Result<RequestHeader<'_>, HeaderError> {
    let mut reader = Reader::new(frame, false);
    let key = reader.i16("api_key")?;
    let version = reader.i16("api_version")?;
    let correlation_id = reader.i32("correlation_id")?;
    let unsupported = |why| HeaderError::Unsupported { why, correlation_id };
    let api = apis::lookup(key, version).map_err(unsupported)?;
    let client_id = reader.nullable_str("client_id")?;
    if api.is_flexible(version) {
        reader.skip_header_tags()?;
    }
    Ok(RequestHeader { api, version, correlation_id, client_id, body_at: reader.position() })
}

/// Appends a request header, as a client does.
pub fn write_request(out: &mut Vec<u8>, api: Api, version: i16, correlation_id: i32, client_id: Option<&str>) {
    let mut writer = super::writer::Writer::onto(std::mem::take(out), false);
    writer.i16(api.key());
    writer.i16(version);
    writer.i32(correlation_id);
    writer.nullable_str(client_id);
    if api.is_flexible(version) {
        writer.i8(0);
    }
    *out = writer.into_bytes();
}

/// Whether a response's header carries tagged fields.
pub fn is_flexible_response(api: Api, version: i16) -> bool {
    api != Api::ApiVersions && api.is_flexible(version)
}

/// Bytes of a response's header.
pub fn response_header_bytes(api: Api, version: i16) -> usize {
    4 + usize::from(is_flexible_response(api, version))
}

/// Appends a response header.
pub fn write_response(out: &mut Vec<u8>, api: Api, version: i16, correlation_id: i32) {
    out.extend_from_slice(&correlation_id.to_be_bytes());
    if is_flexible_response(api, version) {
        out.push(0);
    }
}

/// Reads a response's header, as a client does; gives the correlation id and where the body begins.
pub fn parse_response(frame: &[u8], api: Api, version: i16) -> Result<(i32, usize), WireError> {
    let mut reader = Reader::new(frame, false);
    let correlation_id = reader.i32("correlation_id")?;
    if is_flexible_response(api, version) {
        reader.skip_header_tags()?;
    }
    Ok((correlation_id, reader.position()))
}

/// A whole response frame, length included.
pub fn response_frame<M: Message>(api: Api, version: i16, correlation_id: i32, body: &M) -> Vec<u8> {
    let mut frame = vec![0; 4];
    write_response(&mut frame, api, version, correlation_id);
    sealed(body.write_onto(frame, version))
}

/// A whole request frame, length included.
pub fn request_frame<M: Message>(
    api: Api,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    body: &M,
) -> Vec<u8> {
    let mut frame = vec![0; 4];
    write_request(&mut frame, api, version, correlation_id, client_id);
    sealed(body.write_onto(frame, version))
}

/// Sets the length that the first four bytes are left for.
pub fn sealed(mut frame: Vec<u8>) -> Vec<u8> {
    let length = i32::try_from(frame.len().saturating_sub(4))
        .expect("a message is bounded far below 2 GiB before it is written");
    if let Some(place) = frame.first_chunk_mut::<4>() {
        *place = length.to_be_bytes();
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::generated::api_versions::ApiVersionsRequest;

    #[test]
    fn a_flexible_header_keeps_its_plain_client_id() {
        let frame = [0, 18, 0, 3, 0, 0, 0, 7, 0, 2, b'm', b'e', 1, 9, 1, 0xff, 0x02];
        let header = parse(&frame).unwrap();
        assert_eq!((header.api, header.client_id, header.body_at), (Api::ApiVersions, Some("me"), 16));
    }

    #[test]
    fn an_unknown_version_still_gives_its_correlation_id() {
        let error = parse(&[0, 18, 0, 99, 0, 0, 0, 7]).unwrap_err();
        let (api, version) = (Api::ApiVersions, 99);
        let why = Unsupported::Version { api, version };
        let correlation_id = 7;
        assert_eq!(error, HeaderError::Unsupported { why, correlation_id });
    }

    #[test]
    fn api_versions_is_answered_with_the_plain_header() {
        assert_eq!(response_header_bytes(Api::ApiVersions, 4), 4);
        assert_eq!(response_header_bytes(Api::Metadata, 9), 5);
        assert_eq!(response_header_bytes(Api::Metadata, 8), 4);
    }

    #[test]
    fn a_request_frame_is_read_back() {
        let body = ApiVersionsRequest {
            client_software_name: "watershed".to_owned(),
            client_software_version: "1".to_owned(),
        };
        let frame = request_frame(Api::ApiVersions, 3, 5, None, &body);
        let header = parse(&frame[4..]).unwrap();
        assert_eq!(header.client_id, None);
        let read = ApiVersionsRequest::from_bytes(&frame[4 + header.body_at..], 3);
        assert_eq!(read, Ok(body));
    }
}
