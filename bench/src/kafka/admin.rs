//! Calls before and after the load: topics, producer ids, offsets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use watershed_broker::wire::apis::Api;
use watershed_broker::wire::generated::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use watershed_broker::wire::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use watershed_broker::wire::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use watershed_broker::wire::header::{parse_response, request_frame};
use watershed_broker::wire::message::Message;

use super::{CLIENT_ID, Identity, check};
use crate::load::Connection;

const TIMEOUT_MS: i32 = 60_000;
/// How long a new broker or topic may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);
const NOT_YET: Duration = Duration::from_millis(20);

pub(crate) const EARLIEST: i64 = -2;
pub(crate) const LATEST: i64 = -1;

/// A connection for one call at a time.
pub(crate) struct Admin {
    connection: Connection,
}

impl Admin {
    pub(crate) fn connect(target: SocketAddr) -> Result<Admin> {
        Ok(Admin { connection: Connection::open(target)? })
    }

    fn call<Q: Message, A: Message>(&mut self, api: Api, version: i16, request: &Q) -> Result<A> {
        let frame = self.connection.call(request_frame(api, version, 1, Some(CLIENT_ID), request))?;
        let (_, body_at) = parse_response(&frame, api, version)?;
        Ok(A::from_bytes(frame.get(body_at..).unwrap_or_default(), version)?)
    }

    /// Makes a topic and waits until its partitions serve.
    pub(crate) fn create_topic(&mut self, name: &str, partitions: u32, configs: &[(&str, &str)]) -> Result<()> {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        };
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: i32::try_from(partitions)?,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: configs.iter().map(config).collect(),
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, validate_only: false };
        let response: CreateTopicsResponse = self.call(Api::CreateTopics, 4, &request)?;
        for created in &response.topics {
            check(created.error_code, "create the topic").with_context(|| format!("{:?}", created.error_message))?;
        }
        let patience_ends = Instant::now() + PATIENCE;
        while let Err(error) = self.offset(name, i32::try_from(partitions)? - 1, LATEST) {
            ensure!(Instant::now() < patience_ends, "the topic does not serve: {error:#}");
            std::thread::sleep(NOT_YET);
        }
        Ok(())
    }

    /// The partition's first or end offset.
    pub(crate) fn offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<i64> {
        let partition = ListOffsetsPartition { partition_index: partition, current_leader_epoch: -1, timestamp };
        let topic = ListOffsetsTopic { name: topic.to_owned(), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
        let response: ListOffsetsResponse = self.call(Api::ListOffsets, 4, &request)?;
        let found = response.topics.first().and_then(|topic| topic.partitions.first()).context("an answer for it")?;
        check(found.error_code, "list offsets")?;
        Ok(found.offset)
    }

    /// A producer id of its own for an idempotent producer.
    pub(crate) fn identity(&mut self) -> Result<Identity> {
        let patience_ends = Instant::now() + PATIENCE;
        loop {
            let response: InitProducerIdResponse =
                self.call(Api::InitProducerId, 1, &InitProducerIdRequest::default())?;
            match check(response.error_code, "get a producer id") {
                Ok(()) => return Ok(Identity { id: response.producer_id, epoch: response.producer_epoch }),
                Err(error) => ensure!(Instant::now() < patience_ends, error),
            }
            std::thread::sleep(NOT_YET);
        }
    }
}
