//! What other programs' bytes become inside a coordinator and the catalog: records of the offsets log and the metadata log, member metadata.
#![no_main]

use libfuzzer_sys::fuzz_target;
use watershed_broker::catalog::MetadataRecord;
use watershed_broker::groups::GroupRecord;

fuzz_target!(|data: &[u8]| {
    let Some((split, rest)) = data.split_first() else { return };
    let (key, value) = rest.split_at(usize::from(*split).min(rest.len()));
    for value in [Some(value), None] {
        if let Ok(record) = GroupRecord::decode(key, value) {
            // What was read is written as something that reads and writes as the same.
            let written = (record.key(), record.value());
            let again = GroupRecord::decode(&written.0, written.1.as_deref()).expect("it reads what it wrote");
            assert_eq!((again.key(), again.value()), written);
        }
    }
    if let Ok(record) = MetadataRecord::decode(rest) {
        _ = MetadataRecord::decode(&record.encode()).expect("a record that was read is written as one that reads");
    }
});
