//! Names of the files in a data directory, relative to it. The only place that knows them; `FORMAT.md` lists them.

use crate::units::{FileId, JournalId};

pub const SUPERBLOCK: &str = "superblock";
pub const SEGMENTS: &str = "segments";
pub const IMAGES: &str = "images";
pub const JOURNALS: &str = "journals";

/// A journal's own directory.
pub fn journal(journal: JournalId) -> String {
    format!("{JOURNALS}/{:08x}", journal.0)
}

pub fn anchor(id: JournalId) -> String {
    format!("{}/anchor", journal(id))
}

pub fn ring(id: JournalId, slot: u32) -> String {
    format!("{}/ring-{slot:04}", journal(id))
}

pub fn image(journal: JournalId, image: u64) -> String {
    format!("{IMAGES}/{:08x}-{image:016x}", journal.0)
}

/// What the file names of all images of a journal begin with.
pub fn image_prefix(journal: JournalId) -> String {
    format!("{:08x}-", journal.0)
}

/// The image's name until it is whole.
pub fn image_temporary(journal: JournalId, id: u64) -> String {
    image(journal, id) + ".tmp"
}

pub fn segment(file: FileId) -> String {
    format!("{SEGMENTS}/{:016x}", file.0)
}
