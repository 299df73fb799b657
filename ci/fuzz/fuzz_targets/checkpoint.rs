//! Checkpoint images, superblocks and anchors: garbage as it is, and garbage whose checksums fit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watershed_core::checkpoint::{ImageHeader, ShardImage};
use watershed_core::superblock::{Anchor, KeptImage, Superblock, damaged_slots, directory_of};
use watershed_core::units::JournalId;
use watershed_fuzz::{JOURNAL, seal_image};

const ID: u64 = 3;

fuzz_target!(|data: &[u8]| {
    _ = Superblock::decode("superblock", data);
    _ = Superblock::decode_unchecked(data);
    _ = Anchor::decode("anchor", data, [0; 16], JournalId(JOURNAL));
    _ = (damaged_slots(data).count(), directory_of(data));
    let mut image = vec![0; 4096];
    image[24..72].copy_from_slice(&data.get(..48).map_or([0; 48], |head| head.try_into().unwrap()));
    image.extend_from_slice(data.get(48..).unwrap_or_default());
    let body = (image.len() - 4096) as u64;
    image[56..64].copy_from_slice(&body.to_le_bytes());
    seal_image(&mut image, ID);
    let Ok(header) = ImageHeader::decode("image", &image) else { return };
    let kept = KeptImage { id: ID, point: header.point };
    _ = ShardImage::decode("image", &image, JournalId(JOURNAL), &kept);
});
