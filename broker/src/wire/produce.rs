//! Produce, versions 3 to 13: a borrowed view of the request over its frame, and the response.
//!
//! Record sets are never copied: the view holds their places in the frame. What is inside a record set is the business of
//! [`super::records`].

use std::ops::{ControlFlow, Range};

use watershed_core::limits::SOLO_RUN_BYTES_MIN;

use super::apis::Api;
use super::error_code::ErrorCode;
use super::header;
use super::reader::{Reader, Result};
use super::topic_ref::{CurrentLeader, NodeEndpoint, TopicRef};
use super::writer::{Tags, Writer};

/// Partitions reserved before the first is read.
const RESERVED_COUNT_MAX: usize = 64;

/// A Produce request over the bytes of its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest<'a> {
    pub version: i16,
    pub transactional_id: Option<&'a str>,
    /// -1 (all), 0 or 1; anything else is for the caller to refuse.
    pub acks: i16,
    pub timeout_ms: i32,
    /// In request order; the partitions of one topic are neighbours.
    pub partitions: Vec<ProducePartition<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition<'a> {
    pub topic: TopicRef<'a>,
    pub partition: i32,
    /// Where the record set lies in the frame; `None` if it is null.
    pub records: Option<Range<usize>>,
}

impl<'a> ProduceRequest<'a> {
    /// Reads the body, which begins at `body_at`, of a frame (without length prefix) of which the record set `gap` may lie
    /// elsewhere; without one it is empty. Places count from the beginning of the frame as it was sent.
    pub fn parse(frame: &'a [u8], gap: Range<usize>, body_at: usize, version: i16) -> Result<ProduceRequest<'a>> {
        let mut r = Reader::around(frame, gap, Api::Produce.is_flexible(version));
        r.skip(body_at, "header")?;
        let transactional_id = r.nullable_str("transactional_id")?;
        let acks = r.i16("acks")?;
        let timeout_ms = r.i32("timeout_ms")?;
        let mut partitions = Vec::new();
        each_partition(&mut r, version, &mut |partition, siblings| {
            if partitions.is_empty() {
                partitions.reserve_exact(siblings.min(RESERVED_COUNT_MAX));
            }
            partitions.push(partition);
            ControlFlow::Continue(())
        })?;
        r.skip_tags()?;
        r.finish()?;
        Ok(ProduceRequest { version, transactional_id, acks, timeout_ms, partitions })
    }
}

/// Walks the topics, from their count on; `visit` gets each partition and how many its topic has.
fn each_partition<'a>(
    r: &mut Reader<'a>,
    version: i16,
    visit: &mut impl FnMut(ProducePartition<'a>, usize) -> ControlFlow<()>,
) -> Result<()> {
    let flexible = r.is_flexible();
    let partition_bytes_min = if flexible { 4 + 1 + 1 } else { 4 + 4 };
    let topics_count = r.count("topic_data", TopicRef::bytes_min(version, flexible))?;
    for _ in 0..topics_count {
        let topic = TopicRef::decode(r, version)?;
        let partitions_count = r.count("partition_data", partition_bytes_min)?;
        for _ in 0..partitions_count {
            let partition = r.i32("index")?;
            let records = r.nullable_range("records")?;
            let found = ProducePartition { topic, partition, records };
            if visit(found, partitions_count).is_break() {
                return Ok(());
            }
            r.skip_tags()?;
        }
        r.skip_tags()?;
    }
    Ok(())
}

/// The first record set of at least [`SOLO_RUN_BYTES_MIN`] in a Produce frame of `frame_bytes` of which only `prefix` has
/// arrived, so that the set can be received into a block of its own. `None` if there is none, if it begins beyond the
/// prefix, or if the frame is something else or malformed (which the whole frame's parser will say).
pub fn first_large_batch(prefix: &[u8], frame_bytes: usize) -> Option<Range<usize>> {
    let header = header::parse(prefix).ok()?;
    if header.api != Api::Produce {
        return None;
    }
    let flexible = Api::Produce.is_flexible(header.version);
    let mut r = Reader::over_prefix(prefix, frame_bytes, flexible);
    r.skip(header.body_at, "header").ok()?;
    r.nullable_str("transactional_id").ok()?;
    r.i16("acks").ok()?;
    r.i32("timeout_ms").ok()?;
    let mut large = None;
    // An error only says that the prefix ends; what was found before it stands.
    let _ = each_partition(&mut r, header.version, &mut |partition, _| match partition.records {
        Some(range) if range.len() >= SOLO_RUN_BYTES_MIN as usize => {
            large = Some(range);
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    large
}

/// One partition's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceResult<'a> {
    pub topic: TopicRef<'a>,
    pub partition: i32,
    pub error: ErrorCode,
    /// The offset of the first record; -1 with an error.
    pub base_offset: i64,
    /// -1 unless the topic's timestamps are the broker's.
    pub log_append_time_ms: i64,
    pub log_start_offset: i64,
    pub error_message: Option<&'a str>,
    pub current_leader: Option<CurrentLeader>,
}

impl<'a> ProduceResult<'a> {
    /// The answer for records that were written.
    pub fn written(topic: TopicRef<'a>, partition: i32, base_offset: i64) -> ProduceResult<'a> {
        ProduceResult {
            topic,
            partition,
            error: ErrorCode::None,
            base_offset,
            log_append_time_ms: -1,
            log_start_offset: -1,
            error_message: None,
            current_leader: None,
        }
    }

    /// The answer for records that were refused.
    pub fn refused(topic: TopicRef<'a>, partition: i32, error: ErrorCode) -> ProduceResult<'a> {
        ProduceResult { error, ..ProduceResult::written(topic, partition, -1) }
    }
}

/// A Produce response; neighbours of one topic are written under one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse<'a> {
    pub partitions: &'a [ProduceResult<'a>],
    pub throttle_time_ms: i32,
    pub node_endpoints: &'a [NodeEndpoint<'a>],
}

impl ProduceResponse<'_> {
    /// The whole frame, length and header included.
    pub fn frame(&self, version: i16, correlation_id: i32) -> Vec<u8> {
        let mut frame = Vec::with_capacity(64 + 64 * self.partitions.len());
        frame.extend_from_slice(&[0; 4]);
        header::write_response(&mut frame, Api::Produce, version, correlation_id);
        let mut writer = Writer::onto(frame, Api::Produce.is_flexible(version));
        self.encode(&mut writer, version);
        header::sealed(writer.into_bytes())
    }

    fn encode(&self, w: &mut Writer, version: i16) {
        let topics = || self.partitions.chunk_by(|a, b| a.topic == b.topic);
        w.length(Some(topics().count()));
        for partitions in topics() {
            if let Some(first) = partitions.first() {
                first.topic.encode(w, version);
            }
            w.array(partitions, |w, each| encode_partition(w, each, version));
            w.no_tags();
        }
        w.i32(self.throttle_time_ms);
        let mut tags = Tags::default();
        if version >= 10 && !self.node_endpoints.is_empty() {
            tags.put(0, |w| NodeEndpoint::encode_all(w, self.node_endpoints));
        }
        w.tags(tags);
    }
}

fn encode_partition(w: &mut Writer, result: &ProduceResult<'_>, version: i16) {
    w.i32(result.partition);
    w.i16(result.error.code());
    w.i64(result.base_offset);
    w.i64(result.log_append_time_ms);
    if version >= 5 {
        w.i64(result.log_start_offset);
    }
    if version >= 8 {
        // Errors of single records: we refuse batches as a whole.
        w.length(Some(0));
        w.nullable_str(result.error_message);
    }
    let mut tags = Tags::default();
    if let Some(leader) = result.current_leader.filter(|_| version >= 10) {
        tags.put(0, |w| leader.encode(w));
    }
    w.tags(tags);
}
