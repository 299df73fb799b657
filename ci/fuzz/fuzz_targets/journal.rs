//! A ring of the journal: garbage, and frames that check whatever they hold, through replay and through a whole recovery.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use watershed_core::store::StoreConfig;
use watershed_core::store::recovery::{Need, Recovery};
use watershed_core::superblock::Anchor;
use watershed_core::units::{JournalId, Now};
use watershed_fuzz::{JOURNAL, RUN, frame, frame_checksum};

/// Small, so that an input is read in few steps.
const RING_BYTES: u64 = 256 << 10;
const FRAME_BYTES_MAX: u32 = 64 << 10;
const FRAMES_MAX: usize = 4;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let ring = if choice % 4 == 0 { rest.to_vec() } else { frames(rest, usize::from(choice % 4)) };
    recover(&ring);
});

/// That many frames in a row, each of a part of the input.
fn frames(data: &[u8], count: usize) -> Vec<u8> {
    let mut ring = Vec::new();
    let mut previous = 0;
    for (index, part) in data.chunks(data.len().div_ceil(count.min(FRAMES_MAX)).max(1)).enumerate() {
        let made = frame(part, index as u64, ring.len() as u64, previous);
        previous = frame_checksum(&made);
        ring.extend(made);
    }
    ring
}

fn recover(ring: &[u8]) {
    let journal = JournalId(JOURNAL);
    let mut anchor = Anchor::new(journal, [0; 16], RING_BYTES, 1);
    anchor.run = RUN;
    let now = Now { monotonic_us: 1, wall_ms: 1 };
    let mut config = StoreConfig::default();
    config.journal.ring_file_bytes = RING_BYTES;
    config.journal.frame_bytes_max = FRAME_BYTES_MAX;
    let mut recovery = Recovery::new(config, anchor, BTreeMap::new(), now);
    while let Some(need) = recovery.need() {
        let bytes = match need {
            Need::Ring(read) => {
                let from = usize::try_from(read.position).unwrap().min(ring.len());
                let mut bytes = ring[from..ring.len().min(from + read.length as usize)].to_vec();
                bytes.resize(read.length as usize, 0);
                bytes
            }
            Need::Image { .. } | Need::Segment { .. } => Vec::new(),
        };
        if recovery.supply(&bytes).is_err() {
            return;
        }
        _ = recovery.take_restored();
    }
    _ = recovery.finish();
}
