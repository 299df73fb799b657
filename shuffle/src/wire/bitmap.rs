//! Sets of block ids and of task attempts, in the format of Java's `Roaring64NavigableMap` (its legacy mode, the default).
//!
//! The bytes are: one that says whether the upper halves are in signed order, an `i32` count of them, and for each the upper
//! 32 bits and a standard 32-bit bitmap. This is not what the `roaring` crate writes for its own 64-bit sets. Bytes from
//! outside are held against what is there; a set never takes more than a small multiple of its bytes.

use std::collections::BTreeMap;
use std::io;

use roaring::RoaringBitmap;

/// The sign byte and the count.
const HEAD_BYTES: usize = 5;
/// The upper half, and an empty bitmap.
const PART_BYTES_MIN: usize = 4 + 8;

/// Why bytes are no set of ids.
#[derive(Debug, thiserror::Error)]
pub enum BitmapError {
    #[error("a bitmap of {0} bytes is cut")]
    Truncated(usize),
    #[error("the order of a bitmap is {0}, neither unsigned nor signed")]
    BadOrder(u8),
    #[error("{count} parts cannot lie in {bytes} bytes")]
    BadCount { count: i32, bytes: usize },
    #[error("a part of a bitmap is malformed: {0}")]
    BadPart(#[from] io::Error),
    #[error("{0} bytes follow a bitmap")]
    TrailingBytes(usize),
}

/// A set of 64-bit ids; its order is theirs as long as they are positive, which block ids are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockIds {
    /// By upper half. None is empty.
    parts: BTreeMap<u32, RoaringBitmap>,
}

impl BlockIds {
    pub fn new() -> BlockIds {
        BlockIds::default()
    }

    /// Whether the id is new.
    pub fn insert(&mut self, id: i64) -> bool {
        let (high, low) = halves(id);
        self.parts.entry(high).or_default().insert(low)
    }

    pub fn contains(&self, id: i64) -> bool {
        let (high, low) = halves(id);
        self.parts.get(&high).is_some_and(|part| part.contains(low))
    }

    pub fn len(&self) -> u64 {
        self.parts.values().map(RoaringBitmap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        self.parts.iter().flat_map(|(&high, part)| part.iter().map(move |low| joined(high, low)))
    }

    /// Takes in all of the other's ids.
    pub fn union(&mut self, other: &BlockIds) {
        for (&high, part) in &other.parts {
            *self.parts.entry(high).or_default() |= part;
        }
    }

    pub fn serialized_bytes(&self) -> usize {
        HEAD_BYTES + self.parts.values().map(|part| 4 + part.serialized_size()).sum::<usize>()
    }

    pub fn serialize(&self) -> Vec<u8> {
        let count = i32::try_from(self.parts.len()).expect("the parts of a set in memory are fewer than 2^31");
        let mut bytes = Vec::with_capacity(self.serialized_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&count.to_be_bytes());
        for (high, part) in &self.parts {
            bytes.extend_from_slice(&high.to_be_bytes());
            part.serialize_into(&mut bytes).expect("writing to memory does not fail");
        }
        bytes
    }

    /// Reads a whole set; no bytes at all are an empty one.
    pub fn deserialize(bytes: &[u8]) -> Result<BlockIds, BitmapError> {
        if bytes.is_empty() {
            return Ok(BlockIds::new());
        }
        let cut = BitmapError::Truncated(bytes.len());
        let Some((&[order, c0, c1, c2, c3], mut rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Err(cut);
        };
        if order > 1 {
            return Err(BitmapError::BadOrder(order));
        }
        let count = i32::from_be_bytes([c0, c1, c2, c3]);
        let part_count = usize::try_from(count).ok().filter(|count| *count <= rest.len() / PART_BYTES_MIN);
        let part_count = part_count.ok_or(BitmapError::BadCount { count, bytes: rest.len() })?;
        let mut ids = BlockIds::new();
        for _ in 0..part_count {
            let (high, after) = rest.split_first_chunk().ok_or(BitmapError::Truncated(bytes.len()))?;
            rest = after;
            let part = RoaringBitmap::deserialize_from(&mut rest)?;
            if !part.is_empty() {
                *ids.parts.entry(u32::from_be_bytes(*high)).or_default() |= part;
            }
        }
        match rest.len() {
            0 => Ok(ids),
            trailing => Err(BitmapError::TrailingBytes(trailing)),
        }
    }
}

impl FromIterator<i64> for BlockIds {
    fn from_iter<I: IntoIterator<Item = i64>>(ids: I) -> BlockIds {
        let mut set = BlockIds::new();
        for id in ids {
            set.insert(id);
        }
        set
    }
}

/// The task attempts whose blocks a reader asks for; `None` is all of them. A field that is there but empty asks for all, too:
/// clients send it so over gRPC.
pub fn attempt_filter(bytes: Option<&[u8]>) -> Result<Option<BlockIds>, BitmapError> {
    match bytes {
        None | Some([]) => Ok(None),
        Some(bytes) => BlockIds::deserialize(bytes).map(Some),
    }
}

fn halves(id: i64) -> (u32, u32) {
    ((id >> 32) as u32, id as u32)
}

fn joined(high: u32, low: u32) -> i64 {
    ((u64::from(high) << 32) | u64::from(low)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_five_bytes_and_none_is_no_filter() {
        assert_eq!(BlockIds::new().serialize(), [0; 5]);
        assert!(BlockIds::deserialize(&[0; 5]).unwrap().is_empty());
        assert!(BlockIds::deserialize(&[]).unwrap().is_empty());
        assert!(attempt_filter(None).unwrap().is_none());
        assert!(attempt_filter(Some(&[])).unwrap().is_none());
        assert!(attempt_filter(Some(&[0; 5])).unwrap().is_some_and(|ids| ids.is_empty()));
    }

    #[test]
    fn runs_are_read_though_never_written() {
        // One container of ids 10 to 99, as a run: what Java writes after `runOptimize`.
        let run = [0x3b, 0x30, 0, 0, 1, 0, 0, 89, 0, 1, 0, 10, 0, 89, 0];
        let bytes = [&[0, 0, 0, 0, 1, 0, 0, 0, 7][..], &run].concat();
        let ids = BlockIds::deserialize(&bytes).unwrap();
        assert_eq!((ids.len(), ids.iter().next()), (90, Some((7 << 32) | 10)));
    }

    #[test]
    fn what_cannot_be_there_is_not_read() {
        let count_of = |count: i32| [&[0][..], &count.to_be_bytes(), &[0; 24]].concat();
        assert!(matches!(BlockIds::deserialize(&count_of(i32::MAX)), Err(BitmapError::BadCount { .. })));
        assert!(matches!(BlockIds::deserialize(&count_of(-1)), Err(BitmapError::BadCount { .. })));
        assert!(matches!(BlockIds::deserialize(&[0, 0, 0]), Err(BitmapError::Truncated(3))));
        assert!(matches!(BlockIds::deserialize(&[7; 40]), Err(BitmapError::BadOrder(7))));
        let mut trailing = BlockIds::from_iter([5]).serialize();
        trailing.push(0);
        assert!(matches!(BlockIds::deserialize(&trailing), Err(BitmapError::TrailingBytes(1))));
    }

    proptest! {
        #[test]
        fn sets_come_back(ids in proptest::collection::btree_set(0..i64::MAX, 0..200), near in 0u32..5000) {
            let dense = (0..i64::from(near)).map(|n| (3 << 42) | (n << 1));
            let set = ids.iter().copied().chain(dense).collect::<BlockIds>();
            let bytes = set.serialize();
            prop_assert_eq!(bytes.len(), set.serialized_bytes());
            let back = BlockIds::deserialize(&bytes).unwrap();
            prop_assert_eq!(&back, &set);
            prop_assert!(ids.iter().all(|id| back.contains(*id)));
            prop_assert_eq!(back.iter().count() as u64, back.len());
            prop_assert!(back.iter().is_sorted());
        }

        #[test]
        fn no_bytes_are_a_trap(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = BlockIds::deserialize(&bytes);
            let framed = [&[0, 0, 0, 0, 2, 0, 0, 0, 0, 0x3a, 0x30, 0, 0][..], &bytes].concat();
            let _ = BlockIds::deserialize(&framed);
        }
    }
}
