//! Writes messages with made-up values straight from the schema: an encoder that shares no code with the broker's.

use super::{Field, Layout, Message, Type, layout};

/// How a message is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Nulls, empty strings and arrays, no tagged fields.
    Bare,
    /// Nothing null, two elements in every array, every tagged field.
    Full,
    /// A mixture.
    Mixed,
    /// Like `Full` up to the array of this number, whose count is the largest there is; nothing follows.
    Bomb(usize),
}

/// A small generator of numbers (splitmix64): the same seed gives the same message for ever.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A whole message.
pub(crate) fn encode(messages: &[Message], message: &Message, version: i16, fill: Fill, seed: u64) -> Vec<u8> {
    let mut values = Values {
        messages,
        message,
        version,
        flexible: message.is_flexible(version),
        fill,
        numbers: Numbers(seed),
        arrays: 0,
        exploded: false,
    };
    let mut bytes = Vec::new();
    values.layout(&message.root, &mut bytes);
    bytes
}

/// How many arrays `Fill::Full` writes into a message, nested ones counted each time.
pub(crate) fn arrays_count(messages: &[Message], message: &Message, version: i16) -> usize {
    (0..)
        .find(|&bomb| {
            let full = encode(messages, message, version, Fill::Full, 1);
            encode(messages, message, version, Fill::Bomb(bomb), 1) == full
        })
        .unwrap()
}

struct Values<'a> {
    messages: &'a [Message],
    message: &'a Message,
    version: i16,
    flexible: bool,
    fill: Fill,
    numbers: Numbers,
    arrays: usize,
    exploded: bool,
}

impl Values<'_> {
    fn layout(&mut self, layout: &Layout, out: &mut Vec<u8>) {
        let version = self.version;
        let present = |field: &&Field| field.versions.contains(version);
        for field in layout.fields.iter().filter(present).filter(|field| field.tag.is_none()) {
            self.field(field, out);
            if self.exploded {
                return;
            }
        }
        if self.flexible {
            let mut tagged: Vec<&Field> =
                layout.fields.iter().filter(present).filter(|field| field.tag.is_some()).collect();
            tagged.sort_by_key(|field| field.tag);
            self.tags(&tagged, out);
        }
    }

    fn tags(&mut self, tagged: &[&Field], out: &mut Vec<u8>) {
        let written: Vec<&&Field> = tagged.iter().filter(|_| self.chance()).collect();
        uvarint(written.len() as u64, out);
        for field in written {
            let mut value = Vec::new();
            match &field.ty {
                // An empty array would be the default, which is not written.
                Type::Array(element) => self.array(element, 1, &mut value),
                ty => self.value(ty, field.null.is_some(), &mut value),
            }
            uvarint(u64::from(field.tag.unwrap()), out);
            uvarint(value.len() as u64, out);
            out.extend(value);
            if self.exploded {
                return;
            }
        }
    }

    fn field(&mut self, field: &Field, out: &mut Vec<u8>) {
        let nullable = field.null.is_some_and(|null| null.contains(self.version));
        if nullable && !self.chance() {
            self.null(&field.ty, out);
        } else {
            self.value(&field.ty, nullable, out);
        }
    }

    fn null(&mut self, ty: &Type, out: &mut Vec<u8>) {
        match (ty, self.flexible) {
            (Type::Struct(_), _) => out.push(0xff),
            (_, true) => out.push(0),
            (Type::Primitive(name), false) if name == "string" => out.extend((-1i16).to_be_bytes()),
            _ => out.extend((-1i32).to_be_bytes()),
        }
    }

    fn value(&mut self, ty: &Type, nullable: bool, out: &mut Vec<u8>) {
        match ty {
            Type::Primitive(name) => self.primitive(name, out),
            Type::Struct(name) => {
                if nullable {
                    out.push(1);
                }
                self.layout(layout(self.messages, self.message, name), out);
            }
            Type::Array(element) => self.array(element, 0, out),
        }
    }

    fn array(&mut self, element: &Type, count_min: usize, out: &mut Vec<u8>) {
        let number = self.arrays;
        self.arrays += 1;
        if self.fill == Fill::Bomb(number) {
            self.length(i32::MAX as usize, out);
            self.exploded = true;
            return;
        }
        let count = match self.fill {
            Fill::Bare => 0,
            Fill::Full | Fill::Bomb(_) => 2,
            Fill::Mixed => count_min.max(self.numbers.below(4) as usize),
        };
        self.length(count, out);
        for _ in 0..count {
            self.value(element, false, out);
            if self.exploded {
                return;
            }
        }
    }

    /// Never a default value, so that a tagged field with it is always written.
    fn primitive(&mut self, name: &str, out: &mut Vec<u8>) {
        let number = self.numbers.next();
        match name {
            "bool" => out.push(1),
            "i8" => out.push(2 + (number % 100) as u8),
            "i16" | "u16" => out.extend((2 + (number % 30_000) as u16).to_be_bytes()),
            "i32" => out.extend((2 + (number % 0x7fff_0000) as u32).to_be_bytes()),
            "i64" => out.extend((2 + (number >> 2)).to_be_bytes()),
            "f64" => out.extend(((number >> 12) as f64 / 7.0).to_be_bytes()),
            "uuid" | "topic_id" => out.extend((u128::from(number) << 60 | 5).to_be_bytes()),
            "string" => {
                let text = self.text(number);
                if self.flexible {
                    uvarint(text.len() as u64 + 1, out);
                } else {
                    out.extend((text.len() as u16).to_be_bytes());
                }
                out.extend(text.as_bytes());
            }
            "bytes" | "records" => {
                let bytes = number.to_be_bytes();
                self.length(bytes.len(), out);
                out.extend(bytes);
            }
            _ => panic!("no primitive {name}"),
        }
    }

    fn text(&self, number: u64) -> String {
        match self.fill {
            Fill::Bare => String::new(),
            _ => format!("t\u{fc}-{}", number % 100_000),
        }
    }

    fn length(&self, length: usize, out: &mut Vec<u8>) {
        if self.flexible {
            uvarint(length as u64 + 1, out);
        } else {
            out.extend((length as u32).to_be_bytes());
        }
    }

    fn chance(&mut self) -> bool {
        match self.fill {
            Fill::Bare => false,
            Fill::Full | Fill::Bomb(_) => true,
            Fill::Mixed => self.numbers.below(2) == 0,
        }
    }
}

fn uvarint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
