//! Reads the primitive shapes of the Netty plane from borrowed bytes: big-endian numbers, strings and byte strings with a
//! length of 32 bits, -1 for null.
//!
//! Never panics, never allocates: every length is held against the bytes that remain. An error names the field and its
//! position in the content.

/// What is wrong with a frame's content, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("{field} at {at}: the content ends early")]
    Truncated { field: &'static str, at: usize },
    #[error("{field} at {at}: no such length or count can follow")]
    BadLength { field: &'static str, at: usize },
    #[error("{field} at {at}: null is not allowed here")]
    UnexpectedNull { field: &'static str, at: usize },
    #[error("{field} at {at}: not UTF-8")]
    NotUtf8 { field: &'static str, at: usize },
    #[error("{field} at {at}: contradicts what was said before")]
    Contradiction { field: &'static str, at: usize },
    #[error("the message ends at {at}, its frame does not")]
    TrailingBytes { at: usize },
    #[error("type {0} is not one that a server is asked")]
    NotARequest(u8),
}

pub type Result<T> = std::result::Result<T, WireError>;

/// An application's id is longer than this only if it is none.
pub const APP_ID_BYTES_MAX: usize = 1024;

/// A cursor over the content of one frame.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(content: &'a [u8]) -> Reader<'a> {
        Reader { rest: content, at: 0 }
    }

    /// The position of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated { field, at: self.at })?;
        self.rest = rest;
        self.at += count;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let at = self.at;
        self.take(N, field)?.first_chunk().copied().ok_or(WireError::Truncated { field, at })
    }

    pub fn i32(&mut self, field: &'static str) -> Result<i32> {
        self.chunk(field).map(i32::from_be_bytes)
    }

    pub fn i64(&mut self, field: &'static str) -> Result<i64> {
        self.chunk(field).map(i64::from_be_bytes)
    }

    /// A byte string, or `None` for null.
    pub fn nullable_bytes(&mut self, field: &'static str) -> Result<Option<&'a [u8]>> {
        let at = self.at;
        match self.i32(field)? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| WireError::BadLength { field, at })?;
                self.take(length, field).map(Some)
            }
        }
    }

    /// A string that must be there, of at most `bytes_max`.
    pub fn str(&mut self, field: &'static str, bytes_max: usize) -> Result<&'a str> {
        let at = self.at;
        let bytes = self.nullable_bytes(field)?.ok_or(WireError::UnexpectedNull { field, at })?;
        if bytes.len() > bytes_max {
            return Err(WireError::BadLength { field, at });
        }
        std::str::from_utf8(bytes).map_err(|_| WireError::NotUtf8 { field, at })
    }

    /// Everything was read, or the message is malformed.
    pub fn finish(&self) -> Result<()> {
        match self.rest {
            [] => Ok(()),
            _ => Err(WireError::TrailingBytes { at: self.at }),
        }
    }
}
