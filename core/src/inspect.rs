//! What lies on disk, in a form for people: each record of the formats as lines of text.
//!
//! Reads only what it is given, trusts nothing and never fails: what does not check is said to be so.

use std::fmt;

use crate::checkpoint::{ImageHeader, ShardImage};
use crate::error::Fault;
use crate::journal::entry::Change;
use crate::journal::frame::{Frame, FrameHeader, FramePlace};
use crate::journal::{FrameEntry, Payload, Place};
use crate::superblock::{Anchor, KeptImage, Superblock};
use crate::units::{BLOCK_BYTES, JournalId};

/// A frame found in a ring's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameLine {
    pub slot: u32,
    pub position: u64,
    pub header: FrameHeader,
    pub entries: Vec<FrameEntry>,
    /// Everything in it checks.
    pub whole: bool,
}

/// Every frame in a ring's file, of whatever lap and run, by position.
pub fn frames(journal: JournalId, slot: u32, file: &[u8]) -> Vec<FrameLine> {
    let mut lines = Vec::new();
    let mut position = 0;
    while let Some(rest) = file.get(position..).filter(|rest| !rest.is_empty()) {
        let place = FramePlace { journal, slot, position: position as u64 };
        let frame = FrameHeader::decode(rest, place).and_then(|header| Frame::decode(header, rest));
        position += BLOCK_BYTES as usize;
        if let Some(frame) = frame {
            lines.push(FrameLine {
                slot,
                position: place.position,
                header: frame.header,
                entries: frame.entries,
                whole: frame.whole,
            });
        }
    }
    lines
}

impl fmt::Display for FrameLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.header;
        write!(
            f,
            "frame {} run {} at {}:{} bytes {} entries {} payload {} durable below {} checksum {:08x} after {:08x}{}",
            header.sequence,
            header.run,
            self.slot,
            self.position,
            header.total_bytes,
            header.entries_count,
            header.payload_bytes,
            header.durable_end,
            header.checksum,
            header.previous_checksum,
            if self.whole { "" } else { " DAMAGED" }
        )?;
        for entry in &self.entries {
            write!(f, "\n  {}", EntryLine(entry))?;
        }
        Ok(())
    }
}

/// An entry as one line.
pub struct EntryLine<'a>(pub &'a FrameEntry);

impl fmt::Display for EntryLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FrameEntry { stamp, entry, payload, .. } = self.0;
        write!(f, "{} {} ", stamp.0, entry.target)?;
        match entry.change {
            Change::Append(run) => {
                let (from, to, length) = (run.base_offset, run.end_offset, run.length);
                write!(f, "append {from}..{to} bytes {length} at {}:{}", run.segment_base, run.position)?;
                if let Place::Segment { file, .. } = run.place {
                    write!(f, " in file {:016x}", file.0)?;
                }
            }
            Change::LogStart { offset } => write!(f, "log start {offset}")?,
            Change::Epoch { epoch, start_offset } => write!(f, "epoch {epoch} from {start_offset}")?,
            Change::Truncate { end_offset } => write!(f, "truncate to {end_offset}")?,
            Change::Roll { base_offset, file } => write!(f, "roll {base_offset} file {:016x}", file.0)?,
            Change::Drop => write!(f, "drop")?,
            Change::Assign { leader_epoch } => write!(f, "assign epoch {leader_epoch}")?,
            Change::ProducerExpire { producer_id } => write!(f, "expire producer {producer_id}")?,
        }
        match payload {
            Payload::Damaged => write!(f, " DAMAGED"),
            _ => Ok(()),
        }
    }
}

/// The superblock's file as lines.
pub fn superblock(file: &str, bytes: &[u8]) -> String {
    match Superblock::decode(file, bytes) {
        Err(fault) => fault.to_string(),
        Ok(block) => format!(
            "directory {} cluster {} node {} layout {} generation {} {}\njournals {:?}",
            hex(&block.directory_id),
            block.cluster_id,
            block.node_id,
            block.layout_generation,
            block.generation,
            stop(block.clean),
            block.journals.iter().map(|journal| journal.0).collect::<Vec<_>>()
        ),
    }
}

/// An anchor as lines.
pub fn anchor(anchor: &Anchor) -> String {
    let mut text = format!(
        "journal {} run {} ring {} x {} bytes durable below {} generation {} {}",
        anchor.journal.0,
        anchor.run,
        anchor.ring_files_count,
        anchor.ring_file_bytes,
        anchor.durable_end,
        anchor.generation,
        stop(anchor.clean)
    );
    for KeptImage { id, point } in anchor.images.iter().flatten() {
        text += &format!(
            "\nimage {id:016x} replays from frame {} at {}:{} stamp {}",
            point.sequence, point.slot, point.position, point.stamp
        );
    }
    text
}

/// An image as lines, one for each partition.
pub fn image(file: &str, bytes: &[u8]) -> Result<String, Fault> {
    let header = ImageHeader::decode(file, bytes)?;
    let kept = KeptImage { id: header.id, point: header.point };
    let image = ShardImage::decode(file, bytes, header.journal, &kept)?;
    let mut text = format!(
        "image {:016x} of journal {} from frame {} sections {} bytes {} next file {} free files {}",
        header.id,
        header.journal.0,
        header.point.sequence,
        header.sections_count,
        header.body_bytes,
        image.shard.next_file_counter,
        image.shard.free_files.len()
    );
    for record in &image.partitions {
        let partition = &record.image;
        text += &format!(
            "\n{}-{} offsets {}..{} segments {} producers {} tail bytes {} stamp {}",
            crate::units::TopicId(partition.topic),
            partition.partition,
            partition.log_start,
            partition.log_end,
            partition.segments.len(),
            partition.producers.len(),
            record.tails.iter().map(|tail| tail.bytes.len()).sum::<usize>(),
            record.applied_stamp
        );
    }
    for service in &image.services {
        text += &format!("\nservice {} bytes {} stamp {}", service.name, service.bytes.len(), service.applied_stamp);
    }
    Ok(text)
}

fn stop(clean: bool) -> &'static str {
    if clean { "stopped cleanly" } else { "not stopped cleanly" }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Entry, Journal, JournalConfig};
    use crate::units::{Now, TopicPartition};

    #[test]
    fn frames_are_told_with_their_damage() {
        let mut journal = Journal::create(JournalConfig::default(), JournalId(2), 3, 1);
        let target = TopicPartition::default();
        let change = Change::LogStart { offset: 5 };
        journal.push(Entry { target, change }, Now::default());
        let plan = journal.next_frame().unwrap();
        let mut file = vec![0; 3 * BLOCK_BYTES as usize];
        journal.encode_frame(&plan, &mut file[..plan.length as usize], |_, _| {});
        let told = |file: &[u8]| {
            let lines: Vec<_> = frames(JournalId(2), 0, file).iter().map(FrameLine::to_string).collect();
            lines.join("\n")
        };
        let text = told(&file);
        assert!(text.starts_with("frame 1 run 3 at 0:0 bytes 4096 entries 1"), "{text}");
        assert!(text.ends_with("\n  1 AAAAAAAAAAAAAAAAAAAAAA-0 log start 5"), "{text}");
        file[140] ^= 1;
        assert!(told(&file).contains("DAMAGED"));
        file[40] ^= 1;
        assert_eq!(told(&file), "");
    }
}
