//! The codecs of record batches, unpacking only, each with a limit on its output.

use std::io::Read;

/// A batch's compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Why a payload does not unpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnpackError {
    Malformed,
    TooLarge,
}

/// The begin of the framing that Java's snappy streams use; two version words follow it.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// No snappy block grows further: its densest element makes 64 bytes out of 3.
const SNAPPY_GROWTH_MAX: usize = 64;

impl Codec {
    /// `None` for the values that stand for nothing.
    pub fn from_attributes(attributes: i16) -> Option<Codec> {
        match attributes & 0x07 {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// Unpacks `packed` into at most `bytes_max` bytes. Not for [`Codec::None`], which has nothing to unpack.
    pub(super) fn unpack(self, packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, UnpackError> {
        match self {
            Codec::None => bounded(packed, bytes_max),
            Codec::Gzip => bounded(flate2::bufread::MultiGzDecoder::new(packed), bytes_max),
            Codec::Lz4 => bounded(lz4_flex::frame::FrameDecoder::new(packed), bytes_max),
            Codec::Zstd => zstd_stream(packed).and_then(|stream| bounded(stream, bytes_max)),
            Codec::Snappy => snappy(packed, bytes_max),
        }
    }
}

/// Reads a stream to its end unless it grows past the limit.
fn bounded(stream: impl Read, bytes_max: usize) -> Result<Vec<u8>, UnpackError> {
    let mut unpacked = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let read = stream.take(limit).read_to_end(&mut unpacked);
    read.map_err(|_| UnpackError::Malformed)?;
    if unpacked.len() > bytes_max {
        return Err(UnpackError::TooLarge);
    }
    Ok(unpacked)
}

/// Frames may name a window of up to 128 MiB, as those of the highest levels do; its memory is touched only as it fills.
fn zstd_stream(packed: &[u8]) -> Result<impl Read, UnpackError> {
    zstd::stream::read::Decoder::with_buffer(packed).map_err(|_| UnpackError::Malformed)
}

/// Java frames its snappy blocks; others send one block without a frame.
fn snappy(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, UnpackError> {
    let mut unpacked = Vec::new();
    if !packed.starts_with(XERIAL_MAGIC) {
        snappy_block(packed, bytes_max, &mut unpacked)?;
        return Ok(unpacked);
    }
    let mut rest = packed.get(XERIAL_HEADER_BYTES..).ok_or(UnpackError::Malformed)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(UnpackError::Malformed)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, after) = after.split_at_checked(length).ok_or(UnpackError::Malformed)?;
        snappy_block(block, bytes_max, &mut unpacked)?;
        rest = after;
    }
    Ok(unpacked)
}

fn snappy_block(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), UnpackError> {
    // The decoder allocates by the length that the block claims, which is therefore held against its bytes first.
    let claimed = snap::raw::decompress_len(block).map_err(|_| UnpackError::Malformed)?;
    if claimed > block.len().saturating_mul(SNAPPY_GROWTH_MAX) {
        return Err(UnpackError::Malformed);
    }
    if claimed > bytes_max.saturating_sub(out.len()) {
        return Err(UnpackError::TooLarge);
    }
    let unpacked = snap::raw::Decoder::new().decompress_vec(block).map_err(|_| UnpackError::Malformed)?;
    out.extend_from_slice(&unpacked);
    Ok(())
}
