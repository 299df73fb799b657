//! From one run of the process to the next: a stop in order leaves an image beside the files of blocks, and a start takes it.
//!
//! An image is taken once: it is removed before anything changes, so that a process that is killed leaves none, and what
//! it held is unknown to the next one, never empty. Files that no image speaks of are removed. All of this happens
//! before a shard serves or after it has ended, with ordinary file calls.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use watershed_core::error::Fault;
use watershed_core::io::executor::machine_now;

use super::shard::{ShardConfig, file_name};
use crate::store::Store;

const IMAGE: &str = "image";

fn fault(operation: &'static str, path: &Path, error: &io::Error) -> Fault {
    Fault::io(operation, path.display().to_string(), 0, error)
}

/// What the last run left, if it ended in order and this one has as many shards.
pub(super) fn take(config: &ShardConfig) -> Result<Store, Fault> {
    let directory = &config.directory;
    fs::create_dir_all(directory).map_err(|error| fault("make", directory, &error))?;
    let image = directory.join(IMAGE);
    let store = match fs::read(&image) {
        Ok(bytes) => restored(config, &image, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(fault("read", &image, &error)),
    };
    let store = store.unwrap_or_else(|| Store::new(config.store));
    sweep(directory, &store, None)?;
    sync(directory)?;
    Ok(store)
}

/// Removes every file that the store does not know, but `image`.
fn sweep(directory: &Path, store: &Store, image: Option<&str>) -> Result<(), Fault> {
    let files = store.files().map(|(shuffle, _)| file_name(shuffle));
    let kept: BTreeSet<String> = files.chain(image.map(str::to_owned)).collect();
    for entry in fs::read_dir(directory).map_err(|error| fault("list", directory, &error))?.flatten() {
        if !entry.file_name().to_str().is_some_and(|name| kept.contains(name)) {
            match fs::remove_file(entry.path()) {
                // The shard was removing it as it ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|error| fault("remove", &entry.path(), &error))?,
            }
        }
    }
    Ok(())
}

fn restored(config: &ShardConfig, image: &Path, bytes: &[u8]) -> Option<Store> {
    let refuse = |why: &dyn std::fmt::Display| {
        tracing::warn!(image = %image.display(), "what the last run left is not taken over: {why}");
    };
    let store = Store::restore(config.store, bytes, config.image_of, machine_now());
    let store = store.inspect_err(|error| refuse(error)).ok()?;
    for (shuffle, bytes) in store.files() {
        let path = config.directory.join(file_name(shuffle));
        let length = fs::metadata(&path).map_or(0, |found| found.len());
        if length < bytes {
            refuse(&format!("{} has {length} of {bytes} bytes", path.display()));
            return None;
        }
    }
    Some(store)
}

/// Leaves the store for the next run.
pub(super) fn leave(config: &ShardConfig, store: &Store) -> Result<(), Fault> {
    for (shuffle, _) in store.files() {
        sync(&config.directory.join(file_name(shuffle)))?;
    }
    let unfinished: PathBuf = config.directory.join("image.tmp");
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(&store.image(config.image_of))?;
        file.sync_all()
    });
    written.map_err(|error| fault("write", &unfinished, &error))?;
    let image = config.directory.join(IMAGE);
    fs::rename(&unfinished, &image).map_err(|error| fault("rename", &unfinished, &error))?;
    sweep(&config.directory, store, Some(IMAGE))?;
    sync(&config.directory)
}

/// A file, or the names in a directory.
fn sync(path: &Path) -> Result<(), Fault> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| fault("flush", path, &error))
}
