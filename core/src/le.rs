//! Little-endian numbers at fixed places of a fixed-size record: how every header of our own is written.
//!
//! Places are constants of the format, so a place outside the record is a bug, not an input error.

/// Writes `value` at `at`.
pub(crate) fn put<const N: usize>(record: &mut [u8], at: usize, value: [u8; N]) {
    *record.get_mut(at..).and_then(|rest| rest.first_chunk_mut()).expect("every field lies inside its record") = value;
}

/// Reads the `N` bytes at `at`.
pub(crate) fn get<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
    record.get(at..).and_then(|rest| rest.first_chunk()).copied().expect("every field lies inside its record")
}

pub(crate) fn get_u32(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(record, at))
}

pub(crate) fn get_u64(record: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(get(record, at))
}

pub(crate) fn get_i32(record: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(get(record, at))
}

pub(crate) fn get_i64(record: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(get(record, at))
}
