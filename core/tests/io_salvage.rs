//! Damage of each kind: examined, it is named with file and position; salvaged, the rest opens and is as it was written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod directories;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use directories::{LARGE, SMALL, append, check, on_shard, refusal, scratch};
use watershed_core::checksum::crc32c;
use watershed_core::inspect::FrameLine;
use watershed_core::io::data_dir::{DataDir, Identity};
use watershed_core::io::examine::{Damage, Examination, examine};
use watershed_core::io::salvage::{Salvaged, salvage};
use watershed_core::journal::entry::ENTRY_BYTES;
use watershed_core::units::{FileId, JournalId};

const JOURNAL: JournalId = JournalId(1);
const PER_RUN: i64 = 12;
const END: i64 = 3 * PER_RUN;

/// Two clean runs, which leave two images, and one that ends without warning.
fn written(name: &str) -> PathBuf {
    let path = scratch(name);
    for run in 0..3 {
        on_shard(&path, move |shard| async move {
            append(&shard, PER_RUN).await;
            if run < 2 {
                shard.close().await.unwrap();
            }
        });
    }
    path
}

fn flip(file: &Path, position: u64) {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    opened.read_exact_at(&mut byte, position).unwrap();
    opened.write_all_at(&[byte[0] ^ 0x40], position).unwrap();
}

fn contents(path: &Path, into: &mut BTreeMap<PathBuf, u32>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() {
            contents(&entry, into);
        } else {
            let sum = crc32c(&std::fs::read(&entry).unwrap());
            into.insert(entry, sum);
        }
    }
}

fn snapshot(path: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    contents(path, &mut found);
    found
}

fn examined(path: &Path) -> Examination {
    let before = snapshot(path);
    let examination = examine(path, true).unwrap();
    assert_eq!(snapshot(path), before, "an examination changes nothing");
    examination
}

fn names(examination: &Examination, file: &Path, position: u64) {
    let named = |damage: &Damage| damage.file == file.display().to_string() && damage.position == position;
    assert!(examination.damages.iter().any(named), "{position} of {}: {:?}", file.display(), examination.damages);
}

/// Salvages, and checks that the new directory opens with exactly what was said to be kept; returns kept and lost ends.
fn salvaged(path: &Path) -> (Salvaged, [(i64, i64); 2]) {
    let to = path.with_extension("salvaged");
    let _ = std::fs::remove_dir_all(&to);
    let before = snapshot(path);
    let identity = Identity { directory_id: [1; 16], cluster_id: "other".to_owned(), node_id: 1 };
    let told = salvage(path, &to, identity).unwrap();
    assert_eq!(snapshot(path), before, "a salvage does not touch the old directory");
    let ends = [SMALL, LARGE].map(|key| {
        let found = told.partitions.iter().find(|partition| partition.key == key).unwrap();
        (found.kept_end, found.lost_end)
    });
    assert!(!examined(&to).is_damaged());
    assert_eq!(examined(&to).superblock.directory_id, [9; 16]);
    on_shard(&to, move |shard| async move {
        check(&shard, SMALL, ends[0].0).await;
        check(&shard, LARGE, ends[1].0).await;
        if ends == [(END, END); 2] {
            append(&shard, 2).await;
            check(&shard, LARGE, END + 2).await;
        }
    });
    (told, ends)
}

/// A frame of the last run, behind both images, that holds a record of `SMALL` inline.
fn late_frame(examination: &Examination) -> FrameLine {
    let frames = &examination.journals[0].ring.frames;
    let of_small = |frame: &&FrameLine| {
        frame.header.run == 3 && frame.entries.iter().any(|e| e.entry.target == SMALL && e.entry.inline_bytes() > 0)
    };
    frames.iter().filter(of_small).nth(4).unwrap().clone()
}

#[test]
fn a_sound_directory_is_told_whole_and_salvages_to_the_same() {
    let path = written("salvage_sound");
    let examination = examined(&path);
    assert!(!examination.is_damaged(), "{:?}", examination.damages);
    let journal = &examination.journals[0];
    assert_eq!(journal.images.len(), 2);
    assert!(journal.ring.frames_count > 40 && journal.ring.torn.is_none());
    let told: Vec<_> = journal.partitions.iter().map(|p| (p.key, p.log_end, p.batches_count as i64)).collect();
    assert_eq!(told, [(SMALL, END, END), (LARGE, END, END)]);
    assert!(journal.partitions.iter().any(|partition| partition.open_bytes > 0));
    let (told, ends) = salvaged(&path);
    assert_eq!((ends, told.damages), ([(END, END); 2], vec![]));
}

#[test]
fn a_flipped_byte_of_a_segment_ends_its_log_there() {
    let path = written("salvage_segment");
    let dir = DataDir::inspect(&path).unwrap();
    let mut files = dir.segment_files().unwrap();
    files.sort();
    // The batches that lie at the beginning of the two partitions' first segments.
    for (file, _) in files.iter().take(2) {
        flip(&dir.segment(*file), 70);
    }
    let examination = examined(&path);
    for file in [FileId::new(JOURNAL, 0), FileId::new(JOURNAL, 1)] {
        names(&examination, &dir.segment(file), 0);
    }
    let (_, ends) = salvaged(&path);
    assert_eq!(ends, [(0, END); 2]);
}

#[test]
fn batches_before_a_damaged_one_are_kept() {
    let path = written("salvage_segment_middle");
    let dir = DataDir::inspect(&path).unwrap();
    let of_large = dir.segment(FileId::new(JOURNAL, 1));
    let bytes = std::fs::read(&of_large).unwrap();
    // The first reference begins at the third block: two small batches fill two blocks.
    assert_eq!(bytes[8192..8200], 2i64.to_be_bytes());
    flip(&of_large, 8192 + 50_000);
    names(&examined(&path), &of_large, 8192);
    let (told, ends) = salvaged(&path);
    assert_eq!(ends, [(END, END), (2, END)]);
    assert_eq!(told.damages[0].position, 8192);
}

#[test]
fn a_missing_segment_is_damage_too() {
    let path = written("salvage_segment_missing");
    let dir = DataDir::inspect(&path).unwrap();
    let file = dir.segment(FileId::new(JOURNAL, 1));
    std::fs::remove_file(&file).unwrap();
    names(&examined(&path), &file, 0);
    assert_eq!(salvaged(&path).1, [(END, END), (0, END)]);
}

#[test]
fn a_flipped_byte_of_a_frames_records_ends_its_log_there_and_no_other() {
    let path = written("salvage_frame");
    let frame = late_frame(&examined(&path));
    let ring = DataDir::inspect(&path).unwrap().ring(JOURNAL, frame.slot);
    flip(&ring, frame.position + 128 + (ENTRY_BYTES * frame.entries.len()) as u64 + 10);
    let examination = examined(&path);
    names(&examination, &ring, frame.position);
    assert!(examination.journals[0].partitions[0].closed.is_some());
    let ends = salvaged(&path).1;
    assert_eq!(ends[1], (END, END));
    assert!((2 * PER_RUN..END).contains(&ends[0].0) && ends[0].1 == END, "{ends:?}");
}

#[test]
fn a_frame_of_which_nothing_can_be_read_ends_the_journal_there() {
    let path = written("salvage_frame_lost");
    let frame = late_frame(&examined(&path));
    let ring = DataDir::inspect(&path).unwrap().ring(JOURNAL, frame.slot);
    flip(&ring, frame.position + 20);
    flip(&ring, frame.position + u64::from(frame.header.total_bytes) - 20);
    names(&examined(&path), &ring, frame.position);
    let ends = salvaged(&path).1;
    for (kept, lost_end) in ends {
        assert!((2 * PER_RUN..END).contains(&kept) && lost_end == END, "{ends:?}");
    }
}

#[test]
fn a_damaged_image_is_replaced_by_the_older_one_or_by_what_the_ring_holds() {
    let path = written("salvage_image");
    let dir = DataDir::inspect(&path).unwrap();
    flip(&dir.image(JOURNAL, 2), 4096 + 40);
    names(&examined(&path), &dir.image(JOURNAL, 2), 4096);
    assert_eq!(salvaged(&path).1, [(END, END); 2]);
    flip(&dir.image(JOURNAL, 1), 30);
    let examination = examined(&path);
    names(&examination, &dir.image(JOURNAL, 1), 0);
    // The ring was never full: its first frame is still there.
    assert_eq!(salvaged(&path).1, [(END, END); 2]);
}

#[test]
fn a_lost_anchor_is_found_again_in_ring_and_images() {
    let path = written("salvage_anchor");
    let anchor = DataDir::inspect(&path).unwrap().anchor(JOURNAL);
    flip(&anchor, 50);
    flip(&anchor, 4096 + 50);
    names(&examined(&path), &anchor, 0);
    // The directory's identity is in the superblock.
    assert_eq!(salvaged(&path).1, [(END, END); 2]);
}

/// Opened, either would be taken for a journal that holds less.
#[test]
fn a_cut_anchor_or_ring_is_named_and_refused_at_a_start() {
    let path = written("salvage_cut");
    let dir = DataDir::inspect(&path).unwrap();
    for (file, length) in [(dir.ring(JOURNAL, 0), 2 << 20), (dir.anchor(JOURNAL), 0)] {
        let whole = std::fs::read(&file).unwrap();
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length).unwrap();
        names(&examined(&path), &file, length);
        let told = refusal(&path).to_string();
        assert!(told.contains(&format!("{} is damaged at {length}", file.display())), "{told}");
        std::fs::write(&file, whole).unwrap();
    }
    assert!(!examined(&path).is_damaged());
    on_shard(&path, |shard| async move { check(&shard, LARGE, END).await });
}

#[test]
fn one_damaged_slot_of_an_anchor_loses_nothing() {
    let path = written("salvage_anchor_slot");
    let anchor = DataDir::inspect(&path).unwrap().anchor(JOURNAL);
    for slot in 0..2 {
        flip(&anchor, slot * 4096 + 50);
        names(&examined(&path), &anchor, slot * 4096);
        assert_eq!(salvaged(&path).1, [(END, END); 2]);
        flip(&anchor, slot * 4096 + 50);
    }
}

/// The slot that is left may be the older one, of a clean stop before everything else that was written.
#[test]
fn a_cut_slot_of_an_anchor_loses_nothing() {
    let path = written("salvage_cut_slot");
    let anchor = DataDir::inspect(&path).unwrap().anchor(JOURNAL);
    let whole = std::fs::read(&anchor).unwrap();
    for (cut, missing) in [(whole[..4096].to_vec(), 4096), ([&[0; 4096], &whole[4096..]].concat(), 0)] {
        std::fs::write(&anchor, cut).unwrap();
        names(&examined(&path), &anchor, missing);
        assert_eq!(salvaged(&path).1, [(END, END); 2]);
        on_shard(&path, |shard| async move { check(&shard, LARGE, END).await });
    }
}

#[test]
fn a_lost_superblock_is_named_and_its_journals_are_found() {
    let path = written("salvage_superblock");
    let file = path.join("superblock");
    let slot = (std::fs::metadata(&file).unwrap().len() / 4096 - 1) * 4096;
    flip(&file, slot + 30);
    let fault = examine(&path, false).unwrap_err().to_string();
    assert!(fault.contains(&format!("{} is damaged at", file.display())), "{fault}");
    let (told, ends) = salvaged(&path);
    assert_eq!(ends, [(END, END); 2]);
    assert_eq!(told.notes, ["cluster cluster and node 1 are from the damaged superblock"]);
}

#[test]
fn what_is_no_data_directory_is_refused_and_a_full_one_is_not_written_to() {
    let path = written("salvage_refusals");
    let identity = || Identity { directory_id: [1; 16], cluster_id: "other".to_owned(), node_id: 1 };
    assert!(salvage(&path, &path, identity()).is_err());
    let empty = scratch("salvage_refusals_empty");
    assert!(examine(&empty, false).is_err());
    std::fs::create_dir_all(&empty).unwrap();
    let to = scratch("salvage_refusals_to");
    assert!(salvage(&empty, &to, identity()).is_err());
    assert!(!to.exists());
}
