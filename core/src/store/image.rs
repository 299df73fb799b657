//! What an image keeps of bytes that are not in their segment's file yet.

/// A stretch of a segment that lay only in memory and in the journal when the image was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OpenRange {
    pub file: u64,
    pub start: u64,
    pub end: u64,
}

/// The first block of an open stretch: its bytes may be older than the image's journal point.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TailRecord {
    pub file: u64,
    pub position: u64,
    pub bytes: Vec<u8>,
}
