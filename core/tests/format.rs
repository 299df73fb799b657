//! `FORMAT.md` says what the code does: each table's places are the code's, and encoded samples hold nothing else.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use watershed_core::checkpoint::{self, ImageWriter, ShardRecord};
use watershed_core::journal::frame::{self, FRAME_HEADER_BYTES};
use watershed_core::journal::{Append, Change, Entry, Journal, JournalConfig, JournalPoint, Origin, Place, entry};
use watershed_core::paths;
use watershed_core::superblock::{self, Anchor, KEPT_IMAGE_BYTES, KeptImage, SLOT_BYTES, Superblock};
use watershed_core::units::{FileId, JournalId, Now, Stamp, TopicId, TopicPartition};

/// A table's row: place, length, name of the field.
type Row = (usize, usize, String);

fn section(heading: &str) -> &'static str {
    let document = include_str!("../FORMAT.md");
    let (_, rest) = document.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n#").next().unwrap()
}

fn cells(heading: &str) -> Vec<Vec<String>> {
    let rows = section(heading).lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
    cells.skip(1).collect()
}

fn table(heading: &str) -> Vec<Row> {
    let rows = cells(heading).into_iter().map(|row| {
        let name = row[2].split(':').next().unwrap().to_owned();
        (row[0].parse().unwrap(), row[1].parse().unwrap(), name)
    });
    rows.collect()
}

/// The document's table has exactly the code's fields, at the code's places, without overlap, inside the record.
fn compare(heading: &str, record_bytes: usize, fields: &[(&str, usize)]) -> Vec<Row> {
    let rows = table(heading);
    let documented: Vec<_> = rows.iter().map(|(place, _, name)| (name.as_str(), *place)).collect();
    assert_eq!(documented, fields, "{heading}");
    let ends = rows.iter().skip(1).map(|row| row.0).chain([record_bytes]);
    for (row, end) in rows.iter().zip(ends) {
        assert!(row.0 + row.1 <= end, "{heading}: {} reaches beyond {end}", row.2);
    }
    rows
}

/// Outside the documented fields a sample is zero, and every field of it holds something.
fn holds_nothing_else(heading: &str, rows: &[Row], sample: &[u8]) {
    let named = |at: usize| rows.iter().any(|(place, length, _)| (*place..place + length).contains(&at));
    for (at, byte) in sample.iter().enumerate() {
        assert!(named(at) || *byte == 0, "{heading}: byte {at} is not documented");
    }
    for (place, length, name) in rows {
        assert!(
            sample[*place..place + length].iter().any(|byte| *byte != 0),
            "{heading}: {name} is empty in the sample"
        );
    }
}

macro_rules! fields {
    ($module:ident: $($name:ident),+ $(,)?) => { [$((stringify!($name), $module::$name)),+] };
}

const POINT: JournalPoint = JournalPoint { sequence: 5, slot: 1, position: 4096, previous_checksum: 77, stamp: 9 };

fn anchor() -> Anchor {
    let kept = KeptImage { id: 1, point: POINT };
    let anchor = Anchor::new(JournalId(3), [1; 16], 16 << 20, 2).with_image(kept, 6).next_run();
    anchor.clean_stop(7)
}

#[test]
fn superblock_and_anchor_lie_as_documented() {
    use superblock::at::{self, anchor as a, superblock as s};
    let mut fields = fields!(at: MAGIC, VERSION, GENERATION, DIRECTORY_ID, CHECKSUM).to_vec();
    fields
        .extend(fields!(s: NODE_ID, CLUSTER_ID, CLUSTER_ID_LENGTH, JOURNALS_COUNT, LAYOUT_GENERATION, CLEAN, JOURNALS));
    fields.sort_by_key(|field| field.1);
    let rows = compare("### Superblock", SLOT_BYTES, &fields);
    let block = Superblock {
        generation: 3,
        directory_id: [1; 16],
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qk".to_owned(),
        node_id: 1,
        layout_generation: 1,
        journals: vec![JournalId(1), JournalId(2)],
        clean: true,
    };
    let (slot, bytes) = block.encode();
    assert_eq!(slot, 1);
    holds_nothing_else("### Superblock", &rows, &*bytes);

    let mut fields = fields!(at: MAGIC, VERSION, GENERATION, DIRECTORY_ID, CHECKSUM).to_vec();
    fields.extend(fields!(a: JOURNAL, RUN, RING_FILE_BYTES, RING_FILES_COUNT, CLEAN, DURABLE_END, IMAGES));
    fields.sort_by_key(|field| field.1);
    let rows = compare("### Anchor", SLOT_BYTES, &fields);
    let (_, bytes) = anchor().encode();
    holds_nothing_else("### Anchor", &rows, &*bytes);

    use superblock::at::kept as k;
    let fields = fields!(k: ID, SEQUENCE, POSITION, STAMP, SLOT, PREVIOUS_CHECKSUM);
    let rows = compare("### Kept image", KEPT_IMAGE_BYTES, &fields);
    holds_nothing_else("### Kept image", &rows, &bytes[a::IMAGES..][..KEPT_IMAGE_BYTES]);
}

fn run(place: Place) -> Append {
    Append {
        leader_epoch: 1,
        base_offset: 1,
        end_offset: 2,
        segment_base: 1,
        position: 4096,
        length: 100,
        max_timestamp: 1,
        place,
    }
}

/// A frame of these changes; inline bytes are 0xab.
fn frame_of(changes: &[Change]) -> Vec<u8> {
    let mut journal = Journal::resume(JournalConfig::default(), JournalId(3), 2, POINT, POINT.ring_point(), 2);
    let target = TopicPartition { topic: TopicId([7; 16]), partition: 2 };
    for change in changes {
        journal.push(Entry { target, change: *change }, Now { monotonic_us: 1, wall_ms: 1 });
    }
    let plan = journal.next_frame().unwrap();
    let mut bytes = vec![0; plan.length as usize];
    journal.encode_frame(&plan, &mut bytes, |_, place| place.fill(0xab));
    bytes
}

#[test]
fn frames_and_entries_lie_as_documented() {
    use entry::at as e;
    use frame::at as h;
    let fields = fields!(h: MAGIC, VERSION, JOURNAL, RUN, SEQUENCE, DURABLE_END, LAST_STAMP, WALL_MS, PREVIOUS_CHECKSUM,
        TOTAL_BYTES, ENTRIES_COUNT, PAYLOAD_BYTES, DIRECTORY_CHECKSUM, CHECKSUM);
    let header_rows = compare("### Frame header", FRAME_HEADER_BYTES, &fields);
    let fields = fields!(e: KIND, PLACE, PARTITION, TOPIC, LEADER_EPOCH, LENGTH, STAMP, FIRST, END_OFFSET, SEGMENT_BASE, FILE,
        MAX_TIMESTAMP, POSITION, PAYLOAD_AT, PAYLOAD_CHECKSUM, BASE_SEQUENCE, PRODUCER_ID, PRODUCER_EPOCH, ATTRIBUTES,
        CHECKSUM);
    let entry_rows = compare("### Entry", entry::ENTRY_BYTES, &fields);

    let bytes = frame_of(&[Change::Append(run(Place::Inline)), Change::Roll { base_offset: 1, file: FileId(9) }]);
    let (header, rest) = bytes.split_at(FRAME_HEADER_BYTES);
    holds_nothing_else("### Frame header", &header_rows, header);
    let (first, rest) = rest.split_at(entry::ENTRY_BYTES);
    let (_, rest) = rest.split_at(entry::ENTRY_BYTES);
    let rows_without = |unused: &[&str]| -> Vec<Row> {
        entry_rows.iter().filter(|row| !unused.contains(&row.2.as_str())).cloned().collect()
    };
    let of_references = ["FILE", "BASE_SEQUENCE", "PRODUCER_ID", "PRODUCER_EPOCH", "ATTRIBUTES"];
    holds_nothing_else("### Entry", &rows_without(&of_references), first);
    let origin = Origin { producer_id: 1, producer_epoch: 1, base_sequence: 1, attributes: 1 };
    let place = Place::Segment { file: FileId(9), checksum: 1, origin: Some(origin) };
    let reference = frame_of(&[Change::Append(run(place))]);
    let entry = &reference[FRAME_HEADER_BYTES..][..entry::ENTRY_BYTES];
    holds_nothing_else("### Entry", &rows_without(&["PAYLOAD_AT"]), entry);

    // header | directory | payloads | zeroes | directory | header
    let directory = &bytes[FRAME_HEADER_BYTES..][..2 * entry::ENTRY_BYTES];
    let (payload, rest) = rest.split_at(100);
    assert_eq!(payload, [0xab; 100]);
    let (rest, header_copy) = rest.split_at(rest.len() - FRAME_HEADER_BYTES);
    let (zeroes, directory_copy) = rest.split_at(rest.len() - directory.len());
    assert_eq!((header_copy, directory_copy), (header, directory));
    assert!(zeroes.iter().all(|byte| *byte == 0));
    assert_eq!(bytes.len(), 4096);
}

#[test]
fn kinds_are_numbered_as_documented() {
    use entry::kind as k;
    let numbers = fields!(k: APPEND, LOG_START, EPOCH, TRUNCATE, ROLL, REPLACE, DROP, ASSIGN, PRODUCER_EXPIRE);
    let documented: Vec<_> =
        cells("### Kinds").iter().map(|row| (row[1].clone(), row[0].parse::<u8>().unwrap())).collect();
    assert_eq!(documented, numbers.map(|(name, number)| (name.to_owned(), number)));
}

#[test]
fn images_lie_as_documented() {
    use checkpoint::at::{self as i, section as s};
    let fields = fields!(i: MAGIC, VERSION, JOURNAL, ID, SEQUENCE, POSITION, STAMP, SLOT, PREVIOUS_CHECKSUM, BODY_BYTES,
        SECTIONS_COUNT, CHECKSUM);
    let rows = compare("### Image header", checkpoint::IMAGE_HEADER_BYTES, &fields);
    let (bytes, needed) = ImageWriter::new(JournalId(3), 4, POINT).finish(&ShardRecord::default());
    assert_eq!(needed, Stamp(POINT.stamp));
    holds_nothing_else("### Image header", &rows, &bytes[..checkpoint::IMAGE_HEADER_BYTES]);
    let rows = compare("### Section header", checkpoint::SECTION_HEADER_BYTES, &fields!(s: KIND, LENGTH, CHECKSUM));
    let section = &bytes[checkpoint::IMAGE_HEADER_BYTES..][..checkpoint::SECTION_HEADER_BYTES];
    holds_nothing_else("### Section header", &rows, section);
}

#[test]
fn magics_and_versions_are_documented() {
    for (heading, magic, version) in [
        ("### Superblock", superblock::SUPERBLOCK_MAGIC, superblock::SUPERBLOCK_VERSION),
        ("### Anchor", superblock::ANCHOR_MAGIC, superblock::ANCHOR_VERSION),
        ("### Frame header", frame::FRAME_MAGIC, frame::FRAME_VERSION),
        ("### Image header", checkpoint::IMAGE_MAGIC, checkpoint::IMAGE_VERSION),
    ] {
        let said = format!("Magic `{}`, version {version}.", String::from_utf8_lossy(&magic));
        assert!(section(heading).contains(&said), "{heading} lacks: {said}");
    }
}

#[test]
fn files_are_named_as_documented() {
    let journal = JournalId(3);
    let names = [
        paths::SUPERBLOCK.to_owned(),
        paths::anchor(journal),
        paths::ring(journal, 1),
        paths::image(journal, 4),
        paths::segment(FileId::new(journal, 5)),
    ];
    let documented: Vec<_> = cells("## Data directory").iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(documented, names);
    assert_eq!(paths::image_temporary(journal, 4), names[3].clone() + ".tmp");
}
