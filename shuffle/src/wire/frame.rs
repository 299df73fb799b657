//! The header of a frame of the Netty plane: `i32 content length | u8 type | i32 body length`, big-endian.
//!
//! The lengths do not count the header. Requests have no body: payloads of blocks lie inside their content. Nothing is read
//! beyond the header, and a length is believed only within the limit that the caller gives. Whoever speaks another protocol
//! to the port is told so.

/// The bytes of a header.
pub const HEADER_BYTES: usize = 9;

/// The content of every request but [`FrameType::SendShuffleData`] is at most this: it is read as a whole.
pub const SMALL_CONTENT_BYTES_MAX: u32 = 1 << 20;

/// How other protocols begin; read as a frame they would claim a content of hundreds of megabytes.
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];
const HTTP_BEGINNINGS: [[u8; 4]; 5] = [*b"PRI ", *b"GET ", *b"POST", *b"PUT ", *b"HEAD"];

macro_rules! frame_types {
    ($($name:ident $code:literal $message:literal)*) => {
        /// The types of frames that servers and Spark's clients exchange.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum FrameType {
            $(#[doc = $message] $name = $code,)*
        }

        impl FrameType {
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// `None` for a type that no Spark client sends or reads.
            pub const fn from_code(code: u8) -> Option<FrameType> {
                match code {
                    $($code => Some(FrameType::$name),)*
                    _ => None,
                }
            }
        }
    };
}

frame_types! {
    RpcResponse 0 "The answer to sent blocks."
    SendShuffleData 3 "Blocks."
    GetLocalShuffleIndex 4 "Asks for the index of a partition's blocks in files."
    GetLocalShuffleData 5 "Asks for a range of a partition's bytes in files."
    GetMemoryShuffleData 6 "Asks for blocks that are in memory."
    LocalShuffleIndexResponse 14 "An index."
    LocalShuffleDataResponse 15 "A range of bytes."
    MemoryShuffleDataResponse 16 "Blocks from memory."
    LocalShuffleIndexV2Response 23 "An index with storage ids; 0.9.x cannot read it."
    GetLocalShuffleDataV2 24 "Asks for a range of one storage's bytes."
    GetLocalShuffleDataV3 25 "The same, with hints of what will be asked next."
    MemoryShuffleDataV2Response 26 "Blocks from memory and whether they are the last; 0.10 cannot read it."
}

impl FrameType {
    pub const fn is_request(self) -> bool {
        use FrameType::*;
        matches!(
            self,
            SendShuffleData
                | GetLocalShuffleIndex
                | GetLocalShuffleData
                | GetMemoryShuffleData
                | GetLocalShuffleDataV2
                | GetLocalShuffleDataV3
        )
    }
}

/// A header that was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    pub frame_type: FrameType,
    pub content_bytes: u32,
    pub body_bytes: u32,
}

/// Why the connection can go no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the client begins a TLS handshake; this port speaks Uniffle's plain frames")]
    Tls,
    #[error("the client speaks HTTP; this port speaks Uniffle's plain frames, gRPC has a port of its own")]
    Http,
    #[error("frame type {0} is unknown")]
    UnknownType(u8),
    #[error("frame type {0:?} is not one that this side is sent")]
    WrongWay(FrameType),
    #[error("{part} of {bytes} bytes: a length cannot be negative")]
    NegativeLength { part: &'static str, bytes: i32 },
    #[error("{part} of {bytes} bytes, where at most {bytes_max} are allowed")]
    TooLong { part: &'static str, bytes: u32, bytes_max: u32 },
    #[error("a frame without a single byte")]
    Empty,
}

impl FrameHeader {
    /// The header of a request at the start of `received`; `None` while it is not whole. A frame of blocks may be
    /// `send_bytes_max` long, all others are small.
    pub fn parse_request(received: &[u8], send_bytes_max: u32) -> Result<Option<FrameHeader>, FrameError> {
        let Some(header) = FrameHeader::parse(received)? else {
            return Ok(None);
        };
        if !header.frame_type.is_request() {
            return Err(FrameError::WrongWay(header.frame_type));
        }
        let content_bytes_max = match header.frame_type {
            FrameType::SendShuffleData => send_bytes_max,
            _ => SMALL_CONTENT_BYTES_MAX,
        };
        at_most("content", header.content_bytes, content_bytes_max)?;
        at_most("body", header.body_bytes, 0)?;
        Ok(Some(header))
    }

    /// The header of a reply at the start of `received`, for whoever asked; content and body may be `bytes_max` each.
    pub fn parse_reply(received: &[u8], bytes_max: u32) -> Result<Option<FrameHeader>, FrameError> {
        let Some(header) = FrameHeader::parse(received)? else {
            return Ok(None);
        };
        if header.frame_type.is_request() {
            return Err(FrameError::WrongWay(header.frame_type));
        }
        at_most("content", header.content_bytes, bytes_max)?;
        at_most("body", header.body_bytes, bytes_max)?;
        Ok(Some(header))
    }

    fn parse(received: &[u8]) -> Result<Option<FrameHeader>, FrameError> {
        foreign(received)?;
        let Some(&[c0, c1, c2, c3, code, b0, b1, b2, b3]) = received.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let frame_type = FrameType::from_code(code).ok_or(FrameError::UnknownType(code))?;
        let content_bytes = length("content", [c0, c1, c2, c3])?;
        let body_bytes = length("body", [b0, b1, b2, b3])?;
        if content_bytes == 0 && body_bytes == 0 {
            return Err(FrameError::Empty);
        }
        Ok(Some(FrameHeader { frame_type, content_bytes, body_bytes }))
    }

    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [c0, c1, c2, c3] = self.content_bytes.to_be_bytes();
        let [b0, b1, b2, b3] = self.body_bytes.to_be_bytes();
        [c0, c1, c2, c3, self.frame_type.code(), b0, b1, b2, b3]
    }
}

fn foreign(received: &[u8]) -> Result<(), FrameError> {
    if received.starts_with(&TLS_HANDSHAKE) {
        return Err(FrameError::Tls);
    }
    match received.first_chunk::<4>() {
        Some(beginning) if HTTP_BEGINNINGS.contains(beginning) => Err(FrameError::Http),
        _ => Ok(()),
    }
}

fn length(part: &'static str, bytes: [u8; 4]) -> Result<u32, FrameError> {
    let bytes = i32::from_be_bytes(bytes);
    u32::try_from(bytes).map_err(|_| FrameError::NegativeLength { part, bytes })
}

fn at_most(part: &'static str, bytes: u32, bytes_max: u32) -> Result<(), FrameError> {
    match bytes <= bytes_max {
        true => Ok(()),
        false => Err(FrameError::TooLong { part, bytes, bytes_max }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<FrameHeader>, FrameError> {
        FrameHeader::parse_request(bytes, 64 << 20)
    }

    #[test]
    fn a_header_is_read_once_it_is_whole() {
        let header = FrameHeader { frame_type: FrameType::SendShuffleData, content_bytes: 603, body_bytes: 0 };
        let bytes = header.to_bytes();
        for here in 0..HEADER_BYTES {
            assert_eq!(parse(&bytes[..here]), Ok(None));
        }
        assert_eq!(parse(&[&bytes[..], b"more"].concat()), Ok(Some(header)));
    }

    #[test]
    fn lengths_are_believed_within_their_limits() {
        let huge = FrameHeader { frame_type: FrameType::SendShuffleData, content_bytes: 65 << 20, body_bytes: 0 };
        let too_long = FrameError::TooLong { part: "content", bytes: 65 << 20, bytes_max: 64 << 20 };
        assert_eq!(parse(&huge.to_bytes()), Err(too_long));
        let asked = FrameHeader { frame_type: FrameType::GetLocalShuffleData, content_bytes: 2 << 20, body_bytes: 0 };
        assert!(matches!(parse(&asked.to_bytes()), Err(FrameError::TooLong { part: "content", .. })));
        let body = FrameHeader { content_bytes: 10, body_bytes: 1, ..asked };
        assert!(matches!(parse(&body.to_bytes()), Err(FrameError::TooLong { part: "body", .. })));
        let negative = [0xff, 0xff, 0xff, 0xfe, 3, 0, 0, 0, 0];
        assert_eq!(parse(&negative), Err(FrameError::NegativeLength { part: "content", bytes: -2 }));
        assert_eq!(parse(&[0, 0, 0, 0, 3, 0, 0, 0, 0]), Err(FrameError::Empty));
    }

    #[test]
    fn other_protocols_are_named() {
        assert_eq!(parse(&[0x16, 0x03, 0x01]), Err(FrameError::Tls));
        assert_eq!(parse(b"PRI * HTTP/2.0\r\n"), Err(FrameError::Http));
        assert_eq!(parse(&[0, 0, 0, 1, 21, 0, 0, 0, 0]), Err(FrameError::UnknownType(21)));
        let reply = FrameHeader { frame_type: FrameType::RpcResponse, content_bytes: 18, body_bytes: 0 };
        assert_eq!(parse(&reply.to_bytes()), Err(FrameError::WrongWay(FrameType::RpcResponse)));
        assert_eq!(FrameHeader::parse_reply(&reply.to_bytes(), 18), Ok(Some(reply)));
    }
}
