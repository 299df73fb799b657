//! Writes the primitive shapes of Kafka's protocol: the mirror of [`super::reader`].
//!
//! Writing cannot fail: what we write is ours. A string beyond the format's 32767 bytes is cut at a character.

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    flexible: bool,
}

/// The tagged fields of one struct, collected before their count is known. Tags must be put in rising order.
pub struct Tags {
    count: u32,
    fields: Writer,
}

macro_rules! fixed {
    ($($name:ident)*) => {$(
        #[doc = concat!("A big-endian `", stringify!($name), "`.")]
        pub fn $name(&mut self, value: $name) {
            self.bytes.extend_from_slice(&value.to_be_bytes());
        }
    )*};
}

impl Writer {
    pub fn new(flexible: bool) -> Writer {
        Writer::onto(Vec::new(), flexible)
    }

    /// Appends to `bytes`.
    pub fn onto(bytes: Vec<u8>, flexible: bool) -> Writer {
        Writer { bytes, flexible }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    fixed!(i8 i16 i32 i64 u16 u32 f64);

    pub fn bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn uvarint(&mut self, value: u32) {
        self.varint_bits(u64::from(value));
    }

    /// A signed number in zigzag order.
    pub fn varint(&mut self, value: i32) {
        self.varint_bits(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()));
    }

    /// A signed number of 64 bits in zigzag order.
    pub fn varlong(&mut self, value: i64) {
        self.varint_bits(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn varint_bits(&mut self, mut bits: u64) {
        while bits > 0x7f {
            self.bytes.push((bits & 0x7f) as u8 | 0x80);
            bits >>= 7;
        }
        self.bytes.push(bits as u8);
    }

    /// A length prefix for strings: 16 bits or compact.
    fn short_length(&mut self, length: Option<u16>) {
        match (self.flexible, length) {
            (true, None) => self.uvarint(0),
            (true, Some(length)) => self.uvarint(u32::from(length) + 1),
            (false, None) => self.i16(-1),
            (false, Some(length)) => self.u16(length),
        }
    }

    /// A length prefix for arrays and bytes: 32 bits or compact; `None` is null.
    pub fn length(&mut self, length: Option<usize>) {
        let length = length
            .map(|length| i32::try_from(length).expect("a message is bounded far below 2 GiB before it is written"));
        match (self.flexible, length) {
            (true, length) => self.uvarint(length.map_or(0, |length| length.cast_unsigned() + 1)),
            (false, length) => self.i32(length.unwrap_or(-1)),
        }
    }

    pub fn str(&mut self, value: &str) {
        self.nullable_str(Some(value));
    }

    pub fn nullable_str(&mut self, value: Option<&str>) {
        let value = value.map(|value| &value[..value.floor_char_boundary(i16::MAX as usize)]);
        self.short_length(value.map(|value| value.len() as u16));
        self.raw(value.unwrap_or_default().as_bytes());
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.nullable_bytes(Some(value));
    }

    pub fn nullable_bytes(&mut self, value: Option<&[u8]>) {
        self.length(value.map(<[u8]>::len));
        self.raw(value.unwrap_or_default());
    }

    pub fn array<T>(&mut self, elements: &[T], element: impl FnMut(&mut Writer, &T)) {
        self.nullable_array(Some(elements), element);
    }

    pub fn nullable_array<T>(&mut self, elements: Option<&[T]>, mut element: impl FnMut(&mut Writer, &T)) {
        self.length(elements.map(<[T]>::len));
        for each in elements.unwrap_or_default() {
            element(self, each);
        }
    }

    /// A struct that may be null.
    pub fn nullable_struct<T>(&mut self, value: Option<&T>, encode: impl FnOnce(&mut Writer, &T)) {
        self.i8(if value.is_some() { 1 } else { -1 });
        if let Some(value) = value {
            encode(self, value);
        }
    }

    /// Ends a struct with its tagged fields, if the message is flexible.
    pub fn tags(&mut self, tags: Tags) {
        if self.flexible {
            self.uvarint(tags.count);
            self.raw(&tags.fields.bytes);
        }
    }

    /// Ends a struct that has no tagged fields.
    pub fn no_tags(&mut self) {
        self.tags(Tags::default());
    }
}

impl Default for Tags {
    fn default() -> Tags {
        Tags { count: 0, fields: Writer::new(true) }
    }
}

impl Tags {
    pub fn put(&mut self, tag: u32, value: impl FnOnce(&mut Writer)) {
        let mut bytes = Writer::new(true);
        value(&mut bytes);
        self.count += 1;
        self.fields.uvarint(tag);
        self.fields.uvarint(bytes.len() as u32);
        self.fields.raw(&bytes.bytes);
    }
}
