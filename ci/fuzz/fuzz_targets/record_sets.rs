//! Record sets as producers send them and as a fetch by time opens them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watershed_broker::wire::produce::first_large_batch;
use watershed_broker::wire::records;
use watershed_core::checksum::crc32c;

const UNPACKED_BYTES_MAX: usize = 4 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((version, set)) = data.split_first() else { return };
    let version = i16::from(version % 14);
    _ = first_large_batch(set, set.len());
    _ = records::check(set, version);
    let mut sealed = set.to_vec();
    if sealed.len() < 61 {
        return;
    }
    let length = (sealed.len() - 12) as i32;
    sealed[8..12].copy_from_slice(&length.to_be_bytes());
    sealed[16] = 2;
    let sum = crc32c(&sealed[21..]);
    sealed[17..21].copy_from_slice(&sum.to_be_bytes());
    _ = records::check(&sealed, version);
    let Ok(payload) = records::Payload::open(&sealed, UNPACKED_BYTES_MAX) else { return };
    for record in payload.records() {
        let Ok(record) = record else { break };
        _ = record.headers();
        _ = record.control_kind();
        _ = payload.place(&record);
    }
    _ = payload.first_at_or_after(i64::from(sealed[20]));
});
