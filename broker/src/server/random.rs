//! Random numbers: from the kernel for identities, cheap ones where only collisions matter.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;

use watershed_core::units::TopicId;

/// A random UUID of version 4, as Kafka's are; never one that it reserves, nor one that prints with a dash first.
pub(crate) fn uuid() -> [u8; 16] {
    loop {
        let mut bytes = [0u8; 16];
        File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut bytes))
            .expect("the kernel gives random bytes");
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
        *version = (*version & 0x0f) | 0x40;
        *variant = (*variant & 0x3f) | 0x80;
        if !TopicId(bytes).to_string().starts_with('-') {
            return bytes;
        }
    }
}

/// A random UUID as people write it.
pub(crate) fn uuid_text() -> String {
    let text = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (bytes, mut parts) = (uuid(), Vec::new());
    let mut rest = bytes.as_slice();
    for length in [4, 2, 2, 2, 6] {
        let (part, after) = rest.split_at(length);
        parts.push(text(part));
        rest = after;
    }
    parts.join("-")
}

/// A number that is hard to meet twice.
pub(crate) fn number() -> u32 {
    RandomState::new().hash_one(0u8) as u32
}
