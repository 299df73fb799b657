//! DescribeProducers (key 61), version 0.
//!
//! - The idempotent producers that each partition's owner remembers, answered once what they were read from is durable.
//! - The time is the largest of a producer's last batch, as in Kafka; after a start from a checkpoint the time of its append
//!   until the producer writes again.
//! - Left out: transactions (none can be open), so coordinator epoch and first offset are -1.

use std::rc::Rc;

use watershed_core::partition::ActiveProducer;
use watershed_core::units::TopicPartition;

use crate::server::calls::{Call, Reply};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use crate::wire::topic_ref::TopicRef;

use super::scatter::{Gathered, Scatter};

pub(crate) async fn handle(node: &Rc<Node>, body: DescribeProducersRequest) -> DescribeProducersResponse {
    let mut scatter = Scatter::default();
    for topic in &body.topics {
        let id = node.topic_id(TopicRef::Name(&topic.name));
        for &partition in &topic.partition_indexes {
            let ask = id.map(|topic| {
                let at = TopicPartition { topic, partition };
                (at, at)
            });
            scatter.push(node, ask);
        }
    }
    let mut found = scatter
        .gather(node, Call::Producers, |reply| match reply {
            Reply::Producers(producers) => Gathered::Each(producers),
            other => Gathered::failed(&other),
        })
        .await
        .into_iter();
    let mut answer =
        |&partition_index: &i32| response(partition_index, found.next().unwrap_or(Err(ErrorCode::UnknownServerError)));
    let topics = body.topics.iter().map(|topic| TopicResponse {
        name: topic.name.clone(),
        partitions: topic.partition_indexes.iter().map(&mut answer).collect(),
    });
    DescribeProducersResponse { topics: topics.collect(), ..DescribeProducersResponse::default() }
}

fn response(partition_index: i32, found: Result<Vec<ActiveProducer>, ErrorCode>) -> PartitionResponse {
    let plain = PartitionResponse { partition_index, ..PartitionResponse::default() };
    match found {
        Ok(producers) => PartitionResponse { active_producers: producers.iter().map(producer).collect(), ..plain },
        Err(error) => {
            PartitionResponse { error_code: error.code(), error_message: Some(error.message().to_owned()), ..plain }
        }
    }
}

fn producer(producer: &ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp_ms,
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    }
}

impl Outcome for DescribeProducersResponse {
    fn has_error(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        any_error(partitions.map(|partition| partition.error_code))
    }
}
