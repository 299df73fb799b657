//! Fetch, versions 4 to 18: a borrowed view of the request, and a response in parts.
//!
//! The response never touches record bytes: it gives the buffers between them and says where each record set goes, so that
//! the driver sends all in one gathered write.

use super::apis::Api;
use super::error_code::ErrorCode;
use super::header;
use super::reader::{Reader, Result};
use super::topic_ref::{CurrentLeader, NodeEndpoint, TopicRef};
use super::writer::{Tags, Writer};

/// Partitions reserved before the first is read.
const RESERVED_COUNT_MAX: usize = 64;

/// A Fetch request over the bytes of its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest<'a> {
    pub version: i16,
    pub cluster_id: Option<&'a str>,
    /// -1 for a consumer.
    pub replica_id: i32,
    pub replica_epoch: i64,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    /// Isolation level 1: only what is stable, with the list of aborted transactions.
    pub is_read_committed: bool,
    pub session_id: i32,
    /// -1: no session (or its end); 0: a new one.
    pub session_epoch: i32,
    /// In request order; the partitions of one topic are neighbours.
    pub partitions: Vec<FetchPartition<'a>>,
    pub forgotten: Vec<ForgottenPartition<'a>>,
    pub rack_id: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition<'a> {
    pub topic: TopicRef<'a>,
    pub partition: i32,
    /// -1 if the client does not know it.
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    /// A follower's; -1 from consumers.
    pub log_start_offset: i64,
    pub partition_max_bytes: i32,
    pub replica_directory_id: [u8; 16],
    /// A follower's; `i64::MAX` if it does not say.
    pub high_watermark: i64,
}

/// A partition to take out of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForgottenPartition<'a> {
    pub topic: TopicRef<'a>,
    pub partition: i32,
}

impl<'a> FetchRequest<'a> {
    /// Reads a whole body.
    pub fn parse(body: &'a [u8], version: i16) -> Result<FetchRequest<'a>> {
        let mut r = Reader::new(body, Api::Fetch.is_flexible(version));
        let mut request = FetchRequest {
            version,
            cluster_id: None,
            replica_id: if version <= 14 { r.i32("replica_id")? } else { -1 },
            replica_epoch: -1,
            max_wait_ms: r.i32("max_wait_ms")?,
            min_bytes: r.i32("min_bytes")?,
            max_bytes: r.i32("max_bytes")?,
            is_read_committed: r.i8("isolation_level")? == 1,
            session_id: if version >= 7 { r.i32("session_id")? } else { 0 },
            session_epoch: if version >= 7 { r.i32("session_epoch")? } else { -1 },
            partitions: topics(&mut r, version)?,
            forgotten: if version >= 7 { forgotten(&mut r, version)? } else { Vec::new() },
            rack_id: if version >= 11 { r.str("rack_id")? } else { "" },
        };
        request.read_tags(&mut r)?;
        r.finish()?;
        Ok(request)
    }

    fn read_tags(&mut self, r: &mut Reader<'a>) -> Result<()> {
        r.tags(|tag, r| {
            match tag {
                0 => self.cluster_id = r.nullable_str("cluster_id")?,
                1 if self.version >= 15 => {
                    self.replica_id = r.i32("replica_id")?;
                    self.replica_epoch = r.i64("replica_epoch")?;
                    r.skip_tags()?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

fn topics<'a>(r: &mut Reader<'a>, version: i16) -> Result<Vec<FetchPartition<'a>>> {
    let partition_bytes_min = match version {
        ..=4 => 16,
        5..=8 => 24,
        9..=11 => 28,
        12.. => 33,
    };
    let mut partitions = Vec::new();
    let topics_count = r.count("topics", TopicRef::bytes_min(version, r.is_flexible()))?;
    for _ in 0..topics_count {
        let topic = TopicRef::decode(r, version)?;
        let partitions_count = r.count("partitions", partition_bytes_min)?;
        partitions.reserve(partitions_count.min(RESERVED_COUNT_MAX));
        for _ in 0..partitions_count {
            partitions.push(partition(r, topic, version)?);
        }
        r.skip_tags()?;
    }
    Ok(partitions)
}

fn partition<'a>(r: &mut Reader<'a>, topic: TopicRef<'a>, version: i16) -> Result<FetchPartition<'a>> {
    let mut partition = FetchPartition {
        topic,
        partition: r.i32("partition")?,
        current_leader_epoch: if version >= 9 { r.i32("current_leader_epoch")? } else { -1 },
        fetch_offset: r.i64("fetch_offset")?,
        last_fetched_epoch: if version >= 12 { r.i32("last_fetched_epoch")? } else { -1 },
        log_start_offset: if version >= 5 { r.i64("log_start_offset")? } else { -1 },
        partition_max_bytes: r.i32("partition_max_bytes")?,
        replica_directory_id: [0; 16],
        high_watermark: i64::MAX,
    };
    r.tags(|tag, r| {
        match tag {
            0 if version >= 17 => partition.replica_directory_id = r.uuid("replica_directory_id")?,
            1 if version >= 18 => partition.high_watermark = r.i64("high_watermark")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(partition)
}

fn forgotten<'a>(r: &mut Reader<'a>, version: i16) -> Result<Vec<ForgottenPartition<'a>>> {
    let mut forgotten = Vec::new();
    let topics_count = r.count("forgotten_topics_data", TopicRef::bytes_min(version, r.is_flexible()))?;
    for _ in 0..topics_count {
        let topic = TopicRef::decode(r, version)?;
        for _ in 0..r.count("partitions", 4)? {
            let partition = r.i32("partition")?;
            forgotten.push(ForgottenPartition { topic, partition });
        }
        r.skip_tags()?;
    }
    Ok(forgotten)
}

/// A transaction whose records a read-committed consumer must skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// Where the follower's log leaves the leader's: the last epoch that both have, and its end there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DivergingEpoch {
    pub epoch: i32,
    pub end_offset: i64,
}

/// One partition's answer; its record bytes stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchResult<'a> {
    pub topic: TopicRef<'a>,
    pub partition: i32,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub diverging_epoch: Option<DivergingEpoch>,
    pub current_leader: Option<CurrentLeader>,
    /// `None` unless the request was read-committed.
    pub aborted_transactions: Option<&'a [AbortedTransaction]>,
    /// -1: read from the leader.
    pub preferred_read_replica: i32,
    /// Bytes of the record set that the driver puts in this partition's place.
    pub records_bytes: usize,
}

impl<'a> FetchResult<'a> {
    /// An answer without records.
    pub fn refused(topic: TopicRef<'a>, partition: i32, error: ErrorCode) -> FetchResult<'a> {
        FetchResult {
            topic,
            partition,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records_bytes: 0,
        }
    }
}

/// A Fetch response; neighbours of one topic are written under one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchResponse<'a> {
    pub throttle_time_ms: i32,
    /// An error of the whole request (sessions); versions below 7 cannot say it.
    pub error: ErrorCode,
    pub session_id: i32,
    pub partitions: &'a [FetchResult<'a>],
    pub node_endpoints: &'a [NodeEndpoint<'a>],
}

/// A piece of a response, in the order of sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Bytes(Vec<u8>),
    /// The record set of `partitions[index]`, exactly its `records_bytes`.
    Records(usize),
}

impl FetchResponse<'_> {
    /// The whole frame, length and header included. The first part is always bytes, and no record part is empty.
    pub fn parts(&self, version: i16, correlation_id: i32) -> Vec<Part> {
        let mut head = vec![0; 4];
        header::write_response(&mut head, Api::Fetch, version, correlation_id);
        let mut gather = Gather {
            flexible: Api::Fetch.is_flexible(version),
            writer: Writer::onto(head, Api::Fetch.is_flexible(version)),
            parts: Vec::new(),
            records_bytes: 0,
        };
        self.encode(&mut gather, version);
        gather.finish()
    }

    fn encode(&self, out: &mut Gather, version: i16) {
        out.writer.i32(self.throttle_time_ms);
        if version >= 7 {
            out.writer.i16(self.error.code());
            out.writer.i32(self.session_id);
        }
        let topics = || self.partitions.chunk_by(|a, b| a.topic == b.topic);
        out.writer.length(Some(topics().count()));
        let mut index = 0;
        for partitions in topics() {
            if let Some(first) = partitions.first() {
                first.topic.encode(&mut out.writer, version);
            }
            out.writer.length(Some(partitions.len()));
            for each in partitions {
                encode_partition(&mut out.writer, each, version);
                out.records(index, each.records_bytes);
                out.writer.tags(partition_tags(each, version));
                index += 1;
            }
            out.writer.no_tags();
        }
        let mut tags = Tags::default();
        if version >= 16 && !self.node_endpoints.is_empty() {
            tags.put(0, |w| NodeEndpoint::encode_all(w, self.node_endpoints));
        }
        out.writer.tags(tags);
    }
}

/// Collects the parts of one frame.
struct Gather {
    flexible: bool,
    writer: Writer,
    parts: Vec<Part>,
    records_bytes: usize,
}

impl Gather {
    fn records(&mut self, index: usize, bytes: usize) {
        self.writer.length(Some(bytes));
        if bytes == 0 {
            return;
        }
        self.close();
        self.parts.push(Part::Records(index));
        self.records_bytes += bytes;
    }

    fn close(&mut self) {
        let written = std::mem::replace(&mut self.writer, Writer::new(self.flexible));
        self.parts.push(Part::Bytes(written.into_bytes()));
    }

    fn finish(mut self) -> Vec<Part> {
        self.close();
        let bytes_of = |part: &Part| match part {
            Part::Bytes(bytes) => bytes.len(),
            Part::Records(_) => 0,
        };
        let written: usize = self.parts.iter().map(bytes_of).sum();
        let length = i32::try_from(written + self.records_bytes - 4)
            .expect("a response is bounded by fetch.max.bytes, far below 2 GiB");
        if let Some(Part::Bytes(head)) = self.parts.first_mut()
            && let Some(place) = head.first_chunk_mut::<4>()
        {
            *place = length.to_be_bytes();
        }
        self.parts
    }
}

/// A partition's fields up to its records.
fn encode_partition(w: &mut Writer, result: &FetchResult<'_>, version: i16) {
    w.i32(result.partition);
    w.i16(result.error.code());
    w.i64(result.high_watermark);
    w.i64(result.last_stable_offset);
    if version >= 5 {
        w.i64(result.log_start_offset);
    }
    w.nullable_array(result.aborted_transactions, |w, each| {
        w.i64(each.producer_id);
        w.i64(each.first_offset);
        w.no_tags();
    });
    if version >= 11 {
        w.i32(result.preferred_read_replica);
    }
}

fn partition_tags(result: &FetchResult<'_>, version: i16) -> Tags {
    let mut tags = Tags::default();
    if version < 12 {
        return tags;
    }
    if let Some(diverging) = result.diverging_epoch {
        tags.put(0, |w| {
            w.i32(diverging.epoch);
            w.i64(diverging.end_offset);
            w.no_tags();
        });
    }
    if let Some(leader) = result.current_leader {
        tags.put(1, |w| leader.encode(w));
    }
    tags
}
