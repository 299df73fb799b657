//! Reads the primitive shapes of Kafka's protocol from borrowed bytes.
//!
//! Never panics and never allocates by a number from the wire alone: every count is held against the bytes that remain.
//! An error names the field and its position in the message. `flexible` chooses between the classic shapes (fixed length
//! words) and the compact ones (varints, tagged fields) for a whole message.

use std::ops::Range;

/// What is wrong with a message, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("{field} at {at}: the message ends early")]
    Truncated { field: &'static str, at: usize },
    #[error("{field} at {at}: no such length or count can follow")]
    BadLength { field: &'static str, at: usize },
    #[error("{field} at {at}: null is not allowed here")]
    UnexpectedNull { field: &'static str, at: usize },
    #[error("{field} at {at}: not UTF-8")]
    NotUtf8 { field: &'static str, at: usize },
    #[error("{field} at {at}: the variable-length number does not end")]
    BadVarint { field: &'static str, at: usize },
    #[error("{field} at {at}: the value has no meaning")]
    BadValue { field: &'static str, at: usize },
    #[error("the message ends at {at}, its frame does not")]
    TrailingBytes { at: usize },
    #[error("{name} has no version {version}")]
    UnsupportedVersion { name: &'static str, version: i16 },
}

pub type Result<T> = std::result::Result<T, WireError>;

/// Elements reserved before the first is read; a longer array grows with the bytes that are really there.
const RESERVED_COUNT_MAX: usize = 256;

/// A cursor over one message.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Where the message ends: beyond `bytes` if only its beginning is here.
    end: usize,
    /// What lies elsewhere, and is not in `bytes`: it can only be skipped.
    gap: Range<usize>,
    at: usize,
    flexible: bool,
}

macro_rules! fixed {
    ($($name:ident)*) => {$(
        #[doc = concat!("A big-endian `", stringify!($name), "`.")]
        pub fn $name(&mut self, field: &'static str) -> Result<$name> {
            self.chunk(field).map($name::from_be_bytes)
        }
    )*};
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], flexible: bool) -> Reader<'a> {
        Reader::over_prefix(bytes, bytes.len(), flexible)
    }

    /// Reads the beginning of a message of `end` bytes: counts are held against the whole, and what is not here yet is
    /// [`WireError::Truncated`].
    pub fn over_prefix(bytes: &'a [u8], end: usize, flexible: bool) -> Reader<'a> {
        Reader { bytes: bytes.get(..end).unwrap_or(bytes), end, gap: end..end, at: 0, flexible }
    }

    /// Reads a message of which `gap` lies elsewhere: `bytes` is what precedes it and what follows it.
    pub fn around(bytes: &'a [u8], gap: Range<usize>, flexible: bool) -> Reader<'a> {
        Reader { bytes, end: bytes.len() + gap.len(), gap, at: 0, flexible }
    }

    /// The same place, in a body whose shapes are flexible or not.
    pub fn with_flexible(self, flexible: bool) -> Reader<'a> {
        Reader { flexible, ..self }
    }

    /// The position of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    fixed!(i8 i16 i32 i64 u16 u32 f64);

    pub fn bool(&mut self, field: &'static str) -> Result<bool> {
        Ok(self.i8(field)? != 0)
    }

    pub fn uuid(&mut self, field: &'static str) -> Result<[u8; 16]> {
        self.chunk(field)
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8]> {
        let taken = self.here().get(..count).ok_or(WireError::Truncated { field, at: self.at })?;
        self.at += count;
        Ok(taken)
    }

    /// What can be read without a break.
    fn here(&self) -> &'a [u8] {
        let (from, to) = match self.at < self.gap.end {
            true => (self.at, self.gap.start.min(self.end)),
            false => (self.at - self.gap.len(), self.end - self.gap.len()),
        };
        self.bytes.get(from..to.min(self.bytes.len())).unwrap_or_default()
    }

    /// Passes over `count` bytes, which need not be here yet.
    pub fn skip(&mut self, count: usize, field: &'static str) -> Result<()> {
        if count > self.remaining() {
            return Err(WireError::BadLength { field, at: self.at });
        }
        self.at += count;
        Ok(())
    }

    fn chunk<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let at = self.at;
        self.take(N, field)?.first_chunk().copied().ok_or(WireError::Truncated { field, at })
    }

    /// An unsigned number of at most 32 bits, seven to a byte, lowest first.
    pub fn uvarint(&mut self, field: &'static str) -> Result<u32> {
        let at = self.at;
        u32::try_from(self.varint_bits(field, 5)?).map_err(|_| WireError::BadVarint { field, at })
    }

    /// A signed number of at most 32 bits in zigzag order.
    pub fn varint(&mut self, field: &'static str) -> Result<i32> {
        let bits = self.uvarint(field)?;
        Ok((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
    }

    /// A signed number of at most 64 bits in zigzag order.
    pub fn varlong(&mut self, field: &'static str) -> Result<i64> {
        let bits = self.varint_bits(field, 10)?;
        Ok((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
    }

    fn varint_bits(&mut self, field: &'static str, bytes_max: u32) -> Result<u64> {
        let at = self.at;
        let mut bits = 0u64;
        for place in 0..bytes_max {
            let [byte] = self.chunk(field)?;
            let group = u64::from(byte & 0x7f);
            let shift = 7 * place;
            if group << shift >> shift != group {
                break;
            }
            bits |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(bits);
            }
        }
        Err(WireError::BadVarint { field, at })
    }

    /// A length prefix: 16 bits for strings, 32 for the rest, or compact. `None` is null.
    fn length(&mut self, field: &'static str, short: bool) -> Result<Option<usize>> {
        let at = self.at;
        if self.flexible {
            let above = self.uvarint(field)?;
            return Ok(above.checked_sub(1).map(|length| length as usize));
        }
        let length = if short { i32::from(self.i16(field)?) } else { self.i32(field)? };
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length).map(Some).map_err(|_| WireError::BadLength { field, at }),
        }
    }

    /// A string, or `None` for null.
    pub fn nullable_str(&mut self, field: &'static str) -> Result<Option<&'a str>> {
        let at = self.at;
        let Some(length) = self.length(field, true)? else {
            return Ok(None);
        };
        if length > i16::MAX as usize {
            return Err(WireError::BadLength { field, at });
        }
        std::str::from_utf8(self.take(length, field)?).map(Some).map_err(|_| WireError::NotUtf8 { field, at })
    }

    pub fn str(&mut self, field: &'static str) -> Result<&'a str> {
        let at = self.at;
        self.nullable_str(field)?.ok_or(WireError::UnexpectedNull { field, at })
    }

    pub fn string(&mut self, field: &'static str) -> Result<String> {
        self.str(field).map(str::to_owned)
    }

    pub fn nullable_string(&mut self, field: &'static str) -> Result<Option<String>> {
        Ok(self.nullable_str(field)?.map(str::to_owned))
    }

    /// A byte string, or `None` for null.
    pub fn nullable_bytes(&mut self, field: &'static str) -> Result<Option<&'a [u8]>> {
        match self.length(field, false)? {
            None => Ok(None),
            Some(length) => self.take(length, field).map(Some),
        }
    }

    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8]> {
        let at = self.at;
        self.nullable_bytes(field)?.ok_or(WireError::UnexpectedNull { field, at })
    }

    /// A byte string as its place in the message, which need not be here yet; `None` for null.
    pub fn nullable_range(&mut self, field: &'static str) -> Result<Option<Range<usize>>> {
        let Some(length) = self.length(field, false)? else {
            return Ok(None);
        };
        let start = self.at;
        self.skip(length, field)?;
        Ok(Some(start..self.at))
    }

    /// The number of elements that follow, or `None` for null. It is refused unless the rest of the message can hold that
    /// many of `element_bytes_min` bytes.
    pub fn nullable_count(&mut self, field: &'static str, element_bytes_min: usize) -> Result<Option<usize>> {
        let at = self.at;
        let Some(count) = self.length(field, false)? else {
            return Ok(None);
        };
        if count > self.remaining() / element_bytes_min.max(1) {
            return Err(WireError::BadLength { field, at });
        }
        Ok(Some(count))
    }

    pub fn count(&mut self, field: &'static str, element_bytes_min: usize) -> Result<usize> {
        let at = self.at;
        self.nullable_count(field, element_bytes_min)?.ok_or(WireError::UnexpectedNull { field, at })
    }

    /// An array, or `None` for null.
    pub fn nullable_array<T>(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(count) = self.nullable_count(field, element_bytes_min)? else {
            return Ok(None);
        };
        let mut elements = Vec::with_capacity(count.min(RESERVED_COUNT_MAX));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    pub fn array<T>(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
        element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let at = self.at;
        self.nullable_array(field, element_bytes_min, element)?.ok_or(WireError::UnexpectedNull { field, at })
    }

    /// A struct that may be null: one byte says which.
    pub fn nullable_struct<T>(
        &mut self,
        field: &'static str,
        decode: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.i8(field)? < 0 {
            return Ok(None);
        }
        decode(self).map(Some)
    }

    /// The tagged fields at a struct's end, if the message is flexible. `known` reads a tag's value from a reader of
    /// exactly that value and says whether it knows the tag; unknown ones are skipped.
    pub fn tags(&mut self, mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<bool>) -> Result<()> {
        if !self.flexible {
            return Ok(());
        }
        self.tagged(&mut known)
    }

    /// The tagged fields of a header, which follow plain shapes.
    pub fn skip_header_tags(&mut self) -> Result<()> {
        self.tagged(&mut |_, _| Ok(false))
    }

    fn tagged(&mut self, known: &mut dyn FnMut(u32, &mut Reader<'a>) -> Result<bool>) -> Result<()> {
        let at = self.at;
        let count = self.uvarint("tagged fields")?;
        if count as usize > self.remaining() / 2 {
            let field = "tagged fields";
            return Err(WireError::BadLength { field, at });
        }
        for _ in 0..count {
            let tag = self.uvarint("tag")?;
            let size = self.uvarint("tag size")? as usize;
            let start = self.at;
            self.take(size, "tag value")?;
            let mut value = Reader { end: self.at, at: start, flexible: true, ..self.clone() };
            if known(tag, &mut value)? {
                value.finish()?;
            }
        }
        Ok(())
    }

    pub fn skip_tags(&mut self) -> Result<()> {
        self.tags(|_, _| Ok(false))
    }

    /// Everything was read, or the message is malformed.
    pub fn finish(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            _ => Err(WireError::TrailingBytes { at: self.at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_varints_to_their_ends() {
        let read = |bytes: &[u8]| Reader::new(bytes, true).varint("n");
        assert_eq!(read(&[0x01]), Ok(-1));
        assert_eq!(read(&[0xfe, 0xff, 0xff, 0xff, 0x0f]), Ok(i32::MAX));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(i32::MIN));
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0x1f]).is_err());
        assert!(read(&[0x80; 5]).is_err());
        let long = [0xff; 9].into_iter().chain([0x01]).collect::<Vec<u8>>();
        assert_eq!(Reader::new(&long, true).varlong("n"), Ok(i64::MIN));
        let over = [0xff; 9].into_iter().chain([0x02]).collect::<Vec<u8>>();
        assert!(Reader::new(&over, true).varlong("n").is_err());
    }

    #[test]
    fn a_count_that_the_rest_cannot_hold_is_refused_before_any_allocation() {
        let bomb = i32::MAX.to_be_bytes();
        let read = Reader::new(&bomb, false).array("topics", 2, |r| r.i16("x"));
        assert_eq!(read, Err(WireError::BadLength { field: "topics", at: 0 }));
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f], true).count("topics", 1).is_err());
    }

    #[test]
    fn a_tag_must_be_read_to_its_end() {
        let tags = [1, 7, 2, 0xaa, 0xbb];
        assert_eq!(Reader::new(&tags, true).skip_tags(), Ok(()));
        let short = Reader::new(&tags, true).tags(|_, r| r.i8("x").map(|_| true));
        assert_eq!(short, Err(WireError::TrailingBytes { at: 4 }));
    }
}
