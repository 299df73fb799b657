//! The segment files that are kept open, those longest unused closed first.
//!
//! Invariant: `files` and `by_use` name the same files.

use std::collections::{BTreeMap, HashMap};

use super::file::File;
use crate::units::FileId;

pub(super) struct OpenFiles {
    files: HashMap<FileId, (u64, File)>,
    by_use: BTreeMap<u64, FileId>,
    uses_count: u64,
    count_max: usize,
}

impl OpenFiles {
    pub(super) fn new(count_max: usize) -> OpenFiles {
        OpenFiles { files: HashMap::new(), by_use: BTreeMap::new(), uses_count: 0, count_max }
    }

    pub(super) fn get(&mut self, id: FileId) -> Option<File> {
        let (used, file) = self.files.get_mut(&id)?;
        self.by_use.remove(used);
        self.uses_count += 1;
        *used = self.uses_count;
        self.by_use.insert(self.uses_count, id);
        Some(file.clone())
    }

    pub(super) fn insert(&mut self, id: FileId, file: File) {
        self.remove(id);
        self.uses_count += 1;
        self.files.insert(id, (self.uses_count, file));
        self.by_use.insert(self.uses_count, id);
        while self.files.len() > self.count_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.files.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, id: FileId) {
        if let Some((used, _)) = self.files.remove(&id) {
            self.by_use.remove(&used);
        }
    }
}
