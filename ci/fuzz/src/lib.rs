//! What the fuzz targets share: seals that make checksums fit, so that the fuzzer reaches what lies behind them.
//!
//! Places and seeds are those of `core/FORMAT.md`.

use watershed_core::checksum::{Seeded, crc32c};

pub const JOURNAL: u32 = 1;
pub const RUN: u64 = 1;
const FRAME_HEADER_BYTES: usize = 128;
const ENTRY_BYTES: usize = 112;
const BLOCK_BYTES: usize = 4096;
const IMAGE_HEADER_BYTES: usize = 4096;
const SECTION_HEADER_BYTES: usize = 16;
const SECTIONS_MAX: usize = 64;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn seeded(seed: &[u64], bytes: &[u8]) -> [u8; 4] {
    let mut sum = Seeded::new(seed);
    sum.update(bytes);
    sum.finish().to_le_bytes()
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// A frame whose entries and payload are the input's, with every checksum as a writer would have set it.
pub fn frame(input: &[u8], sequence: u64, position: u64, previous_checksum: u32) -> Vec<u8> {
    let count = usize::from(input.first().copied().unwrap_or(0) % 6);
    let (entries, payload) = input.get(1..).unwrap_or_default().split_at(
        (count * ENTRY_BYTES).min(input.len().saturating_sub(1)) / ENTRY_BYTES * ENTRY_BYTES,
    );
    let count = entries.len() / ENTRY_BYTES;
    let payload_at = FRAME_HEADER_BYTES + entries.len();
    let total = (payload_at + payload.len() + entries.len() + FRAME_HEADER_BYTES).next_multiple_of(BLOCK_BYTES);
    let mut frame = vec![0; total];
    put(&mut frame, payload_at, payload);
    for (index, entry) in entries.chunks_exact(ENTRY_BYTES).enumerate() {
        let mut entry = entry.to_vec();
        entry[0] %= 11;
        let from = get_u32(&entry, 84) as usize;
        let range = frame.get(from..from.saturating_add(get_u32(&entry, 28) as usize));
        let sum = range.map_or(0, crc32c).to_le_bytes();
        put(&mut entry, 88, &sum);
        let sum = seeded(&[u64::from(JOURNAL), RUN, sequence, index as u64], &entry[..108]);
        put(&mut entry, 108, &sum);
        put(&mut frame, FRAME_HEADER_BYTES + index * ENTRY_BYTES, &entry);
    }
    let directory = frame[FRAME_HEADER_BYTES..payload_at].to_vec();
    let header = frame_header(sequence, position, previous_checksum, &frame, count, payload.len(), &directory);
    put(&mut frame, 0, &header);
    put(&mut frame, total - FRAME_HEADER_BYTES - directory.len(), &directory);
    put(&mut frame, total - FRAME_HEADER_BYTES, &header);
    frame
}

fn frame_header(
    sequence: u64,
    position: u64,
    previous_checksum: u32,
    frame: &[u8],
    count: usize,
    payload_bytes: usize,
    directory: &[u8],
) -> [u8; FRAME_HEADER_BYTES] {
    let mut header = [0; FRAME_HEADER_BYTES];
    put(&mut header, 0, b"WSJFRAME");
    put(&mut header, 8, &2u32.to_le_bytes());
    put(&mut header, 12, &JOURNAL.to_le_bytes());
    put(&mut header, 16, &RUN.to_le_bytes());
    put(&mut header, 24, &sequence.to_le_bytes());
    put(&mut header, 40, &(sequence * 100).to_le_bytes());
    put(&mut header, 56, &previous_checksum.to_le_bytes());
    put(&mut header, 60, &(frame.len() as u32).to_le_bytes());
    put(&mut header, 64, &(count as u32).to_le_bytes());
    put(&mut header, 68, &(payload_bytes as u32).to_le_bytes());
    put(&mut header, 72, &crc32c(directory).to_le_bytes());
    let sum = seeded(&[u64::from(JOURNAL), RUN, sequence, 0, position], &header[..124]);
    put(&mut header, 124, &sum);
    header
}

/// The checksum that a frame's header ends with.
pub fn frame_checksum(frame: &[u8]) -> u32 {
    get_u32(frame, FRAME_HEADER_BYTES - 4)
}

/// Makes the header and every section of an image check, as far as its lengths let them.
pub fn seal_image(image: &mut [u8], id: u64) {
    if image.len() < IMAGE_HEADER_BYTES {
        return;
    }
    put(image, 0, b"WSIMAGE1");
    put(image, 8, &1u32.to_le_bytes());
    put(image, 12, &JOURNAL.to_le_bytes());
    put(image, 16, &id.to_le_bytes());
    let mut at = IMAGE_HEADER_BYTES;
    for index in 0..SECTIONS_MAX {
        let Some(head) = image.get(at..at + SECTION_HEADER_BYTES) else { break };
        let (kind, length) = (get_u32(head, 0), get_u32(head, 4) as usize);
        let from = at + SECTION_HEADER_BYTES;
        let Some(archive) = image.get(from..from.saturating_add(length)) else { break };
        let sum = seeded(&[u64::from(JOURNAL), id, index as u64, u64::from(kind)], archive);
        put(image, at + 8, &sum);
        at = (from + length).next_multiple_of(SECTION_HEADER_BYTES);
    }
    let sum = seeded(&[], &image[..4092]);
    put(image, 4092, &sum);
}
