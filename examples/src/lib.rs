//! The least Kafka client that examples need: one connection that produces and fetches, by the broker's own wire.
//!
//! A program would use its usual Kafka client instead; this one keeps the examples free of other libraries.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use watershed_broker::wire::apis::Api;
use watershed_broker::wire::generated::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use watershed_broker::wire::generated::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use watershed_broker::wire::generated::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use watershed_broker::wire::header;
use watershed_broker::wire::message::Message;
use watershed_broker::wire::records::{BatchBuilder, Payload};

const METADATA: i16 = 12;
/// The last version that names topics by name.
const BY_NAME: i16 = 12;
const RESPONSE_BYTES_MAX: u32 = 64 << 20;

/// A connection to a broker.
pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Connects to a broker's address.
    pub fn connect(address: SocketAddr) -> Result<Client> {
        Ok(Client { stream: TcpStream::connect(address)?, correlation_id: 0 })
    }

    /// Asks for a topic, which creates it; gives the number of its partitions.
    pub fn topic(&mut self, name: &str) -> Result<usize> {
        let topic = MetadataRequestTopic { name: Some(name.to_owned()), ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        let response: MetadataResponse = self.ask(Api::Metadata, METADATA, &request)?;
        Ok(response.topics.first().context("no topic")?.partitions.len())
    }

    /// Produces one record and waits for its acknowledgement; gives its offset.
    pub fn produce(&mut self, topic: &str, partition: i32, value: &[u8]) -> Result<i64> {
        let mut batch = BatchBuilder::new(now_ms());
        batch.push(now_ms(), None, Some(value));
        let partition_data = vec![PartitionProduceData { index: partition, records: Some(batch.build()) }];
        let topic = TopicProduceData { name: topic.to_owned(), partition_data, ..TopicProduceData::default() };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..ProduceRequest::default() };
        let response: ProduceResponse = self.ask(Api::Produce, BY_NAME, &request)?;
        let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
        let answer = answer.context("no answer")?;
        ensure!(answer.error_code == 0, "produce: error {}", answer.error_code);
        Ok(answer.base_offset)
    }

    /// The values from `offset` on, waiting up to ten seconds for the first.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Result<Vec<Vec<u8>>> {
        let asked = FetchPartition {
            partition,
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        };
        let topic = FetchTopic { topic: topic.to_owned(), partitions: vec![asked], ..FetchTopic::default() };
        let request =
            FetchRequest { max_wait_ms: 10_000, min_bytes: 1, topics: vec![topic], ..FetchRequest::default() };
        let response: FetchResponse = self.ask(Api::Fetch, BY_NAME, &request)?;
        let answer = response.responses.first().and_then(|topic| topic.partitions.first()).context("no answer")?;
        ensure!(answer.error_code == 0, "fetch: error {}", answer.error_code);
        values(answer.records.as_deref().unwrap_or_default())
    }

    fn ask<Q: Message, A: Message>(&mut self, api: Api, version: i16, request: &Q) -> Result<A> {
        self.correlation_id += 1;
        let frame = header::request_frame(api, version, self.correlation_id, Some("example"), request);
        self.stream.write_all(&frame)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        ensure!(length <= RESPONSE_BYTES_MAX, "a response of {length} bytes");
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame)?;
        let (_, body_at) = header::parse_response(&frame, api, version)?;
        Ok(A::from_bytes(frame.get(body_at..).unwrap_or_default(), version)?)
    }
}

fn values(mut batches: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut values = Vec::new();
    while !batches.is_empty() {
        let payload = Payload::open(batches, 1 << 20)?;
        for record in payload.records() {
            values.push(record?.value.unwrap_or_default().to_vec());
        }
        batches = batches.get(payload.header().bytes as usize..).unwrap_or_default();
    }
    Ok(values)
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
