//! The codecs of record batches, both ways, each with a limit on its output.

use std::io::{self, Read, Write};

/// A batch's compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    #[default]
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

/// A codec and how hard it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    pub codec: Codec,
    /// In the codec's own numbers; -1 is gzip's default. Snappy and lz4 have one level.
    pub level: i32,
}

/// The packed records would exceed their limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedTooLarge;

/// The begin of the framing that Java's snappy streams use; two version words follow it.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const XERIAL_HEADER_BYTES: usize = XERIAL_HEADER.len();
/// What Java's snappy streams put into one block.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
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

    /// The bits of the attributes that stand for it.
    pub fn attributes(self) -> i16 {
        self as i16
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

impl From<Codec> for Packing {
    /// At the level that Kafka's producers use by default.
    fn from(codec: Codec) -> Packing {
        let level = match codec {
            Codec::Gzip => -1,
            Codec::Zstd => zstd::DEFAULT_COMPRESSION_LEVEL,
            Codec::None | Codec::Snappy | Codec::Lz4 => 0,
        };
        Packing { codec, level }
    }
}

impl Packing {
    /// Packs `plain` behind what `out` holds, up to `bytes_max` in all.
    pub(super) fn pack_behind(self, out: Vec<u8>, plain: &[u8], bytes_max: usize) -> Result<Vec<u8>, PackedTooLarge> {
        let mut out = Limited { bytes: out, bytes_max };
        // Nothing else than the limit makes a write into memory fail.
        self.pack(&mut out, plain).map_err(|_| PackedTooLarge)?;
        Ok(out.bytes)
    }

    fn pack(self, out: &mut Limited, plain: &[u8]) -> io::Result<()> {
        match self.codec {
            Codec::None => out.write_all(plain),
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, gzip_level(self.level));
                encoder.write_all(plain)?;
                encoder.finish().map(drop)
            }
            Codec::Snappy => pack_snappy(out, plain),
            Codec::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(lz4_frame(), out);
                encoder.write_all(plain)?;
                encoder.finish().map(drop).map_err(io::Error::other)
            }
            Codec::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, self.level)?;
                encoder.set_pledged_src_size(u64::try_from(plain.len()).ok())?;
                encoder.write_all(plain)?;
                encoder.finish().map(drop)
            }
        }
    }
}

fn gzip_level(level: i32) -> flate2::Compression {
    u32::try_from(level).map_or_else(|_| flate2::Compression::default(), |level| flate2::Compression::new(level.min(9)))
}

/// Independent blocks of 64 KiB, the only kind that Java's clients read.
fn lz4_frame() -> lz4_flex::frame::FrameInfo {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};
    FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB)
}

/// In the framing of Java's streams, which every client reads.
fn pack_snappy(out: &mut Limited, plain: &[u8]) -> io::Result<()> {
    out.write_all(XERIAL_HEADER)?;
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).map_err(io::Error::other)?;
        let length = u32::try_from(packed.len()).map_err(io::Error::other)?;
        out.write_all(&length.to_be_bytes())?;
        out.write_all(&packed)?;
    }
    Ok(())
}

/// Memory that ends.
struct Limited {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Limited {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if more.len() > self.bytes_max.saturating_sub(self.bytes.len()) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
