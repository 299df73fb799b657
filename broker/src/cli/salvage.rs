//! `salvage`: what is sound in a damaged data directory, copied into a new one. The old one is locked and never written.

use std::io::{self, Write};
use std::path::Path;

use watershed_core::io::data_dir::Identity;
use watershed_core::io::salvage::{Salvaged, SalvagedPartition, salvage};
use watershed_core::units::TopicId;
use watershed_daemon::directory_lock::DirectoryLock;

use super::inspect::refusal;
use super::progress::copying;
use super::{Exit, Failure};
use crate::SERVICE;
use crate::server::random;
use crate::settings::Settings;

/// Copies what is sound and says what is lost.
pub(super) fn run(settings: &Settings, from: &Path, to: &Path) -> Result<(), Failure> {
    let _lock = DirectoryLock::hold(&SERVICE, from)?;
    let identity = Identity {
        directory_id: random::uuid(),
        cluster_id: TopicId(random::uuid()).to_string(),
        node_id: settings.node_id,
    };
    let salvaged = copying(from, to, "salvaging", || salvage(from, to, identity)).map_err(refusal)?;
    let written = io::stdout().write_all(as_text(to, &salvaged).as_bytes());
    written.map_err(|cause| Failure::new(Exit::Io, format!("standard output: {cause}")))
}

fn as_text(to: &Path, salvaged: &Salvaged) -> String {
    let rows: Vec<[String; 3]> = salvaged.partitions.iter().map(row).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let (names, kept) = (width(0), width(1));
    let mut lines: Vec<String> =
        rows.iter().map(|[name, keeps, lost]| format!("{name:<names$}  {keeps:<kept$}  {lost}")).collect();
    let damages = salvaged.damages.iter();
    lines.extend(damages.map(|damage| format!("damage  {} at {}: {}", damage.file, damage.position, damage.what)));
    lines.extend(salvaged.notes.iter().map(|note| format!("note    {note}")));
    let with_losses = salvaged.partitions.iter().filter(|partition| partition.lost_end > partition.kept_end).count();
    let count = salvaged.partitions.len();
    lines.push(format!("{}: {count} partitions, {with_losses} with losses", to.display()));
    lines.join("\n") + "\n"
}

fn row(partition: &SalvagedPartition) -> [String; 3] {
    let SalvagedPartition { key, kept_from, kept_end, lost_end } = partition;
    let lost = match lost_end > kept_end {
        true => format!("lost {kept_end}..{lost_end}"),
        false => "nothing lost".to_owned(),
    };
    [key.to_string(), format!("kept {kept_from}..{kept_end}"), lost]
}
