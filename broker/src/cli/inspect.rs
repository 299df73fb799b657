//! `inspect`: a data directory as a start would see it, and every byte of it that does not check. Changes nothing.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};
use watershed_core::error::Fault;
use watershed_core::inspect::EntryLine;
use watershed_core::io::examine::{Damage, Examination, ExaminedJournal, ExaminedPartition, examine};
use watershed_daemon::directory_lock::DirectoryLock;

use super::{Exit, Failure};

/// How often a directory in use is read until two readings agree.
const READINGS_MAX: usize = 4;

/// Prints what the directory holds and fails if something is damaged.
pub(super) fn print(directory: &Path, json: bool, frames: bool) -> Result<(), Failure> {
    let in_use = DirectoryLock::is_held(directory);
    let examination = read(directory, frames, in_use).map_err(refusal)?;
    let text = match json {
        true => format!("{:#}\n", as_json(&examination, in_use)),
        false => as_text(directory, &examination, in_use),
    };
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|cause| Failure::new(Exit::Io, format!("standard output: {cause}")))?;
    match examination.is_damaged() {
        true => Err(Failure::new(Exit::Damage, format!("{} is damaged", directory.display()))),
        false => Ok(()),
    }
}

/// A directory in use changes while it is read: only damage that two readings find counts.
fn read(directory: &Path, frames: bool, in_use: bool) -> Result<Examination, Fault> {
    let mut examination = examine(directory, frames)?;
    for _ in 1..READINGS_MAX {
        if !in_use || !examination.is_damaged() {
            break;
        }
        let before = std::mem::replace(&mut examination, examine(directory, frames)?);
        if before.damages == examination.damages {
            break;
        }
    }
    Ok(examination)
}

/// What is not our directory, is newer or is not there is the directory's fault.
pub(super) fn refusal(fault: Fault) -> Failure {
    match fault {
        Fault::Refused(_) | Fault::Io { .. } => Failure::new(Exit::DataDirectory, fault),
        other => other.into(),
    }
}

fn as_text(directory: &Path, examination: &Examination, in_use: bool) -> String {
    let block = &examination.superblock;
    let mut text = String::new();
    line(&mut text, "directory", format_args!("{}{}", directory.display(), if in_use { " (in use)" } else { "" }));
    line(&mut text, "id", format_args!("{}", hex(&block.directory_id)));
    line(&mut text, "cluster", format_args!("{}  node {}", block.cluster_id, block.node_id));
    line(&mut text, "superblock", format_args!("generation {}  layout {}", block.generation, block.layout_generation));
    for journal in &examination.journals {
        text.push('\n');
        journal_text(&mut text, journal);
    }
    text.push('\n');
    damage_text(&mut text, examination);
    text
}

fn line(text: &mut String, name: &str, rest: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{name:<12}{rest}");
}

fn journal_text(text: &mut String, examined: &ExaminedJournal) {
    let number = examined.journal.0;
    let Some(anchor) = &examined.anchor else {
        return line(text, "journal", format_args!("{number}  not started, or its anchor is damaged"));
    };
    let stopped = if anchor.clean { "stopped cleanly" } else { "not stopped cleanly" };
    line(
        text,
        "journal",
        format_args!("{number}  run {}  {stopped}  durable below frame {}", anchor.run, anchor.durable_end),
    );
    for image in &examined.images {
        let (id, from) = (image.kept.id, image.kept.point.sequence);
        let (bytes, count) = (image.bytes, image.partitions_count);
        line(text, "  image", format_args!("{id}  {count} partitions  {bytes} bytes  replays from frame {from}"));
    }
    ring_text(text, examined);
    partitions_text(text, &examined.partitions);
    if examined.unused_files_count > 0 {
        line(text, "  unused", format_args!("{} segment files; a start removes them", examined.unused_files_count));
    }
}

fn ring_text(text: &mut String, examined: &ExaminedJournal) {
    let ring = &examined.ring;
    let end = ring
        .end
        .map_or_else(String::new, |end| format!("  next frame {} at {}:{}", end.sequence, end.slot, end.position));
    line(
        text,
        "  ring",
        format_args!("{} frames  {} entries  {} bytes{end}", ring.frames_count, ring.entries_count, ring.bytes),
    );
    if let Some((slot, position)) = ring.torn {
        line(text, "  torn tail", format_args!("at {slot}:{position}: a frame was never finished; a start cuts it"));
    }
    if let Some(sequence) = examined.cut {
        line(text, "  cut", format_args!("before frame {sequence}: a run was never finished; a start cuts it"));
    }
    for frame in &ring.frames {
        let _ = writeln!(text, "  {}", frame.to_string().replace('\n', "\n  "));
    }
}

fn partitions_text(text: &mut String, partitions: &[ExaminedPartition]) {
    let head = ["  partition", "offsets", "batches", "bytes", "segments", "producers", "open bytes"].map(str::to_owned);
    let rows = partitions.iter().map(|partition| {
        [
            format!("  {}", partition.key),
            format!("{}..{}", partition.log_start, partition.log_end),
            partition.batches_count.to_string(),
            partition.bytes.to_string(),
            partition.segments_count.to_string(),
            partition.producers_count.to_string(),
            partition.open_bytes.to_string(),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
}

fn damage_text(text: &mut String, examination: &Examination) {
    if !examination.is_damaged() {
        return line(text, "damage", format_args!("none"));
    }
    for Damage { file, position, what } in &examination.damages {
        line(text, "damage", format_args!("{file} at {position}: {what}"));
    }
    for partition in examination.journals.iter().flat_map(|journal| &journal.partitions) {
        if let Some(why) = &partition.closed {
            line(text, "closed", format_args!("{}: {why}", partition.key));
        }
    }
}

fn as_json(examination: &Examination, in_use: bool) -> Value {
    let block = &examination.superblock;
    let damages = examination.damages.iter();
    json!({
        "directory_id": hex(&block.directory_id),
        "cluster_id": block.cluster_id,
        "node_id": block.node_id,
        "layout_generation": block.layout_generation,
        "in_use": in_use,
        "damaged": examination.is_damaged(),
        "journals": examination.journals.iter().map(journal_json).collect::<Vec<_>>(),
        "damages": damages.map(damage_json).collect::<Vec<_>>(),
    })
}

pub(super) fn damage_json(damage: &Damage) -> Value {
    json!({ "file": damage.file, "position": damage.position, "what": damage.what })
}

fn journal_json(examined: &ExaminedJournal) -> Value {
    let ring = &examined.ring;
    let images = examined.images.iter().map(|image| {
        json!({ "id": image.kept.id, "bytes": image.bytes, "partitions": image.partitions_count,
            "frame": image.kept.point.sequence })
    });
    let frames = ring.frames.iter().map(|frame| {
        let entries = frame.entries.iter().map(|entry| EntryLine(entry).to_string());
        json!({ "sequence": frame.header.sequence, "run": frame.header.run, "slot": frame.slot,
            "position": frame.position, "bytes": frame.header.total_bytes, "entries": entries.collect::<Vec<_>>() })
    });
    json!({
        "journal": examined.journal.0,
        "run": examined.anchor.map(|anchor| anchor.run),
        "clean": examined.anchor.map(|anchor| anchor.clean),
        "images": images.collect::<Vec<_>>(),
        "ring": {
            "frames": ring.frames_count,
            "entries": ring.entries_count,
            "bytes": ring.bytes,
            "next_frame": ring.end.map(|end| end.sequence),
            "torn": ring.torn.map(|(slot, position)| json!({ "slot": slot, "position": position })),
            "cut_before_frame": examined.cut,
        },
        "frames": frames.collect::<Vec<_>>(),
        "partitions": examined.partitions.iter().map(partition_json).collect::<Vec<_>>(),
        "unused_files": examined.unused_files_count,
    })
}

fn partition_json(partition: &ExaminedPartition) -> Value {
    json!({
        "topic_id": partition.key.topic.to_string(),
        "partition": partition.key.partition,
        "log_start": partition.log_start,
        "log_end": partition.log_end,
        "segments": partition.segments_count,
        "batches": partition.batches_count,
        "bytes": partition.bytes,
        "producers": partition.producers_count,
        "open_bytes": partition.open_bytes,
        "closed": partition.closed,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
