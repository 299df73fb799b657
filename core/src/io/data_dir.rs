//! A data directory: its identity, its layout of journals, and where each file lies.
//!
//! The names below it are those of `paths`. Refuses what is not ours, newer, or a directory that holds something else, and changes nothing then.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::Fault;
use crate::paths;
use crate::superblock::{Anchor, Superblock};
use crate::units::{BLOCK_BYTES, FileId, JournalId};

/// Directories that a data directory has, beside those of its journals.
const DIRECTORIES: [&str; 3] = [paths::SEGMENTS, paths::IMAGES, paths::JOURNALS];

/// A data directory that was opened: who it is and where its parts lie. Locking it is the caller's business.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
    superblock: Superblock,
}

/// What a new directory is to be.
#[derive(Clone, Debug)]
pub struct Identity {
    pub directory_id: [u8; 16],
    pub cluster_id: String,
    pub node_id: i32,
}

impl DataDir {
    /// Opens the directory, or makes a new one of an empty or missing path.
    pub fn open(path: &Path, shards: u16, fresh: Identity) -> Result<DataDir, Fault> {
        fs::create_dir_all(path).map_err(|error| failed("create", path, &error))?;
        let superblock = path.join(paths::SUPERBLOCK);
        match fs::read(&superblock) {
            Ok(bytes) => DataDir::known(path, &bytes, fresh.node_id),
            Err(error) if error.kind() == ErrorKind::NotFound => DataDir::make(path, shards, fresh),
            Err(error) => Err(failed("read", &superblock, &error)),
        }
    }

    /// Opens a directory that must be there, without a claim on its node.
    pub fn inspect(path: &Path) -> Result<DataDir, Fault> {
        let file = path.join(paths::SUPERBLOCK);
        let bytes = fs::read(&file).map_err(|error| failed("read", &file, &error))?;
        let superblock = Superblock::decode(&file.display().to_string(), &bytes)?;
        Ok(DataDir { path: path.to_owned(), superblock })
    }

    fn known(path: &Path, bytes: &[u8], node_id: i32) -> Result<DataDir, Fault> {
        let superblock = Superblock::decode(&path.join(paths::SUPERBLOCK).display().to_string(), bytes)?;
        let cluster_id = superblock.cluster_id.clone();
        superblock.check_owner(&cluster_id, node_id)?;
        Ok(DataDir { path: path.to_owned(), superblock })
    }

    fn make(path: &Path, shards: u16, fresh: Identity) -> Result<DataDir, Fault> {
        let entries = fs::read_dir(path).map_err(|error| failed("read", path, &error))?;
        let foreign = entries.flatten().map(|entry| entry.file_name()).find(|name| !is_ours(&name.to_string_lossy()));
        if let Some(name) = foreign {
            return Err(Fault::Refused(format!(
                "{} is no data directory and holds {}; give an empty one",
                path.display(),
                name.to_string_lossy()
            )));
        }
        let journals = (1..=u32::from(shards.max(1))).map(JournalId).collect();
        let mut directory = DataDir {
            path: path.to_owned(),
            superblock: Superblock {
                generation: 0,
                directory_id: fresh.directory_id,
                cluster_id: fresh.cluster_id,
                node_id: fresh.node_id,
                layout_generation: 1,
                journals,
                clean: false,
            },
        };
        make_directories(path)?;
        directory.write_superblock()?;
        Ok(directory)
    }

    /// A directory whose superblock is lost, read as if it had this one.
    pub(super) fn assumed(path: &Path, superblock: Superblock) -> DataDir {
        DataDir { path: path.to_owned(), superblock }
    }

    /// A new directory that holds nothing yet and is one only when it was published.
    pub(super) fn lay_out(path: &Path, superblock: Superblock) -> Result<DataDir, Fault> {
        make_directories(path)?;
        Ok(DataDir { path: path.to_owned(), superblock: Superblock { clean: false, ..superblock } })
    }

    /// Writes the superblock of a directory that was laid out.
    pub(super) fn publish(&mut self) -> Result<(), Fault> {
        self.write_superblock()
    }

    /// Names another layout of journals, durably. What the old ones held was taken over before.
    pub fn set_journals(&mut self, journals: Vec<JournalId>) -> Result<(), Fault> {
        self.superblock.journals = journals;
        self.superblock.layout_generation += 1;
        self.write_superblock()
    }

    fn write_superblock(&mut self) -> Result<(), Fault> {
        self.superblock.generation += 1;
        let (slot, bytes) = self.superblock.encode();
        let file = self.path.join(paths::SUPERBLOCK);
        let write = || {
            let mut opened = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&file)?;
            std::io::Seek::seek(&mut opened, std::io::SeekFrom::Start(slot as u64 * bytes.len() as u64))?;
            opened.write_all(&*bytes)?;
            opened.sync_all()?;
            fs::File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| failed("write", &file, &error))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn cluster_id(&self) -> &str {
        &self.superblock.cluster_id
    }

    pub fn directory_id(&self) -> [u8; 16] {
        self.superblock.directory_id
    }

    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The journals of the layout on disk, in the order of the shards.
    pub fn journals(&self) -> &[JournalId] {
        &self.superblock.journals
    }

    pub fn journal(&self, journal: JournalId) -> PathBuf {
        self.path.join(paths::journal(journal))
    }

    pub fn anchor(&self, journal: JournalId) -> PathBuf {
        self.path.join(paths::anchor(journal))
    }

    pub fn ring(&self, journal: JournalId, slot: u32) -> PathBuf {
        self.path.join(paths::ring(journal, slot))
    }

    /// Refuses a journal that was in use and whose anchor is not there: taken for a new one, it would begin empty.
    ///
    /// The first frame follows the first anchor, and so does every image.
    pub fn expect_unused(&self, journal: JournalId) -> Result<(), Fault> {
        let images = self.images();
        let prefix = paths::image_prefix(journal);
        let entries = fs::read_dir(&images).map_err(|error| failed("read", &images, &error))?;
        let has_image = entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        if has_image || holds_frame(&self.ring(journal, 0))? {
            let what = "the journal was in use, and its anchor is missing or cut";
            return Err(Fault::Corrupt { file: self.anchor(journal).display().to_string(), position: 0, what });
        }
        Ok(())
    }

    /// Refuses a ring of which a file is missing or cut: files are whole before the anchor counts them.
    pub fn expect_whole_ring(&self, anchor: &Anchor) -> Result<(), Fault> {
        for slot in 0..anchor.ring_files_count {
            let path = self.ring(anchor.journal, slot);
            let length = match fs::metadata(&path) {
                Ok(file) => file.len(),
                Err(error) if error.kind() == ErrorKind::NotFound => 0,
                Err(error) => return Err(failed("read", &path, &error)),
            };
            if length < anchor.ring_file_bytes {
                let what = "a file of the journal's ring is missing or cut";
                return Err(Fault::Corrupt { file: path.display().to_string(), position: length, what });
            }
        }
        Ok(())
    }

    pub fn images(&self) -> PathBuf {
        self.path.join(paths::IMAGES)
    }

    pub fn image(&self, journal: JournalId, image: u64) -> PathBuf {
        self.path.join(paths::image(journal, image))
    }

    pub fn image_in_progress(&self, journal: JournalId, image: u64) -> PathBuf {
        self.path.join(paths::image_temporary(journal, image))
    }

    pub fn segments(&self) -> PathBuf {
        self.path.join(paths::SEGMENTS)
    }

    pub fn segment(&self, file: FileId) -> PathBuf {
        self.path.join(paths::segment(file))
    }

    /// Every segment file that exists, with its length.
    pub fn segment_files(&self) -> Result<Vec<(FileId, u64)>, Fault> {
        let segments = self.segments();
        let entries = fs::read_dir(&segments).map_err(|error| failed("read", &segments, &error))?;
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("read", &segments, &error))?;
            let Ok(id) = u64::from_str_radix(&entry.file_name().to_string_lossy(), 16) else { continue };
            let length = entry.metadata().map_err(|error| failed("read", &entry.path(), &error))?.len();
            files.push((FileId(id), length));
        }
        Ok(files)
    }
}

/// Whether a frame was ever written at the beginning of that file of a ring.
fn holds_frame(path: &Path) -> Result<bool, Fault> {
    let mut block = [0; BLOCK_BYTES as usize];
    let read = fs::File::open(path).and_then(|mut file| file.read(&mut block));
    match read {
        Ok(length) => Ok(block.iter().take(length).any(|byte| *byte != 0)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("read", path, &error)),
    }
}

fn make_directories(path: &Path) -> Result<(), Fault> {
    for name in DIRECTORIES {
        let made = path.join(name);
        fs::create_dir_all(&made).map_err(|error| failed("create", &made, &error))?;
    }
    Ok(())
}

/// Names that an interrupted first start, or whoever locks the directory, may have left.
fn is_ours(name: &str) -> bool {
    DIRECTORIES.contains(&name) || name == "lost+found" || name.starts_with("lock") || name.starts_with(".lock")
}

fn failed(operation: &'static str, path: &Path, error: &std::io::Error) -> Fault {
    Fault::io(operation, path.display().to_string(), 0, error)
}
