//! Producing: records gathered into batches by partition, each written once even when an answer is lost.
//!
//! A keyed record goes where Java's clients put it; one without a key goes with its neighbours to one partition at a time.
//! Batches carry a producer id and a sequence, so that one which is sent again is not written again.

use std::collections::BTreeMap;

use crate::wire::apis::Api;
use crate::wire::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::wire::generated::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use crate::wire::records::{BatchBuilder, Codec};

use super::error::check;
use super::fetch::Headers;
use super::{ClientError, Cluster, Result, murmur};

const INIT_PRODUCER_ID: (i16, i16) = (0, 5);
/// Versions that name topics by name, with record batches.
const PRODUCE: (i16, i16) = (3, 12);
/// A batch is sent when it has grown to this.
const BATCH_BYTES: usize = 512 << 10;
const ACK_MS: i32 = 30_000;
const DUPLICATE_SEQUENCE: i16 = 46;

/// One record on its way out.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
    /// `None`: by the key, or by turns.
    pub partition: Option<i32>,
    /// `None`: now.
    pub timestamp_ms: Option<i64>,
}

/// How a producer sends.
#[derive(Clone, Copy, Debug)]
pub struct ProducerOptions {
    pub compression: Codec,
    /// -1: all replicas, 1: the leader.
    pub acks: i16,
}

/// Sends to one topic.
pub struct Producer<'c> {
    cluster: &'c mut Cluster,
    topic: String,
    options: ProducerOptions,
    partitions: Vec<i32>,
    leaders: BTreeMap<i32, i32>,
    producer: (i64, i16),
    sequences: BTreeMap<i32, i32>,
    open: BTreeMap<i32, (BatchBuilder, i32)>,
    /// Where records without a key go until the next batch.
    sticky: usize,
    sent_count: u64,
}

impl<'c> Producer<'c> {
    pub fn new(cluster: &'c mut Cluster, topic: &str, options: ProducerOptions) -> Result<Producer<'c>> {
        let partitions: Vec<i32> = cluster.places(topic)?.into_iter().map(|(_, partition)| partition).collect();
        if partitions.is_empty() {
            return Err(ClientError::Missing(format!("topic {topic} has no partitions")));
        }
        let request = InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..InitProducerIdRequest::default() };
        let granted = cluster.retrying(|cluster| {
            let answer: InitProducerIdResponse = cluster.ask_any(Api::InitProducerId, INIT_PRODUCER_ID, &request)?;
            check(answer.error_code, None, || "asking for a producer id".to_owned()).map(|()| answer)
        })?;
        Ok(Producer {
            cluster,
            topic: topic.to_owned(),
            options,
            partitions,
            leaders: BTreeMap::new(),
            producer: (granted.producer_id, granted.producer_epoch),
            sequences: BTreeMap::new(),
            open: BTreeMap::new(),
            sticky: 0,
            sent_count: 0,
        })
    }

    /// Takes a record; sends its batch when that is large enough.
    pub fn push(&mut self, record: &Outgoing, now_ms: i64) -> Result<()> {
        let partition = self.partition(record)?;
        let timestamp_ms = record.timestamp_ms.unwrap_or(now_ms);
        let (batch, count) = self.open.entry(partition).or_insert_with(|| (BatchBuilder::new(timestamp_ms), 0));
        let headers: Vec<(&str, Option<&[u8]>)> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        batch.push_with_headers(timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers);
        *count += 1;
        match batch.bytes() >= BATCH_BYTES {
            true => self.send(partition),
            false => Ok(()),
        }
    }

    /// Sends everything that was taken.
    pub fn flush(&mut self) -> Result<()> {
        let open: Vec<i32> = self.open.keys().copied().collect();
        open.into_iter().try_for_each(|partition| self.send(partition))
    }

    /// Records that are acknowledged.
    pub fn sent_count(&self) -> u64 {
        self.sent_count
    }

    fn partition(&self, record: &Outgoing) -> Result<i32> {
        if let Some(partition) = record.partition {
            let missing = || ClientError::Missing(format!("topic {} has no partition {partition}", self.topic));
            return self.partitions.contains(&partition).then_some(partition).ok_or_else(missing);
        }
        let count = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
        let place = match &record.key {
            Some(key) => murmur::partition_of(key, count) as usize,
            None => self.sticky % self.partitions.len(),
        };
        Ok(self.partitions.get(place).copied().unwrap_or_default())
    }

    fn send(&mut self, partition: i32) -> Result<()> {
        let Some((batch, count)) = self.open.remove(&partition) else { return Ok(()) };
        self.sticky += 1;
        let sequence = self.sequences.entry(partition).or_insert(0);
        let (id, epoch) = self.producer;
        let batch = batch.producer(id, epoch, *sequence).build_with(self.options.compression.into());
        *sequence = sequence.wrapping_add(count) & i32::MAX;
        let data = PartitionProduceData { index: partition, records: Some(batch) };
        let topic =
            TopicProduceData { name: self.topic.clone(), partition_data: vec![data], ..TopicProduceData::default() };
        let request = ProduceRequest {
            acks: self.options.acks,
            timeout_ms: ACK_MS,
            topic_data: vec![topic],
            ..ProduceRequest::default()
        };
        let (name, leaders) = (&self.topic, &mut self.leaders);
        self.cluster.retrying(|cluster| {
            let leader = leader(cluster, leaders, name, partition)?;
            let answer: Result<ProduceResponse> =
                cluster.broker(leader).and_then(|broker| broker.ask(Api::Produce, PRODUCE, &request));
            let judged = answer.and_then(|answer| judge(&answer, name));
            if judged.is_err() {
                leaders.clear();
            }
            judged
        })?;
        self.sent_count += u64::try_from(count).unwrap_or_default();
        Ok(())
    }
}

/// Who leads the partition, as far as was told.
fn leader(cluster: &mut Cluster, known: &mut BTreeMap<i32, i32>, topic: &str, partition: i32) -> Result<i32> {
    if let Some(leader) = known.get(&partition) {
        return Ok(*leader);
    }
    let place = (topic.to_owned(), partition);
    let leader = cluster.by_leader([&place])?.into_keys().next().unwrap_or(-1);
    known.insert(partition, leader);
    Ok(leader)
}

fn judge(answer: &ProduceResponse, topic: &str) -> Result<()> {
    let parts = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    for part in parts.filter(|part| part.error_code != DUPLICATE_SEQUENCE) {
        check(part.error_code, part.error_message.as_deref(), || format!("producing to {topic}-{}", part.index))?;
    }
    Ok(())
}
