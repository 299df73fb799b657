//! ListOffsets (key 2), versions 1 to 11.
//!
//! - Latest (-1) is the high watermark, or the last stable offset under read_committed; earliest (-2, and -4 from version 8)
//!   is the log start; -3 (from 7) is the record of the largest timestamp. Latest tiered (-5, from 9) and earliest pending
//!   upload (-6, from 11) answer offset -1: nothing is tiered.
//! - A timestamp finds the first record at or after it; offset and timestamp -1 if there is none.
//! - A leader epoch that is not ours is 74 or 75.
//! - A partition that is named twice is INVALID_REQUEST, as in Kafka. `timeout_ms` has nothing to bound: nothing is remote.

use std::collections::BTreeSet;
use std::rc::Rc;

use watershed_core::units::TopicPartition;

use crate::server::calls::{Call, Reply};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::envelope::Envelope;
use crate::server::node::Node;
use crate::server::offsets::{self, OffsetAsk, OffsetFound};
use crate::server::reads::Reader;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use crate::wire::topic_ref::TopicRef;

use super::scatter::{Gathered, Scatter};

pub(crate) async fn handle(node: &Rc<Node>, request: &Envelope, body: ListOffsetsRequest) -> ListOffsetsResponse {
    let reader = Reader::of_isolation(body.isolation_level);
    let mut seen = BTreeSet::new();
    let mut scatter = Scatter::default();
    for topic in &body.topics {
        for partition in &topic.partitions {
            let twice = !seen.insert((topic.name.as_str(), partition.partition_index));
            let ask = match twice {
                true => Err(ErrorCode::InvalidRequest),
                false => ask(node, request.version, &topic.name, partition),
            };
            scatter.push(node, ask.map(|ask| (ask.at, ask)));
        }
    }
    let mut found = scatter
        .gather(
            node,
            |asks| Call::Offsets(reader, asks),
            |reply| match reply {
                Reply::Offsets(found) => Gathered::Each(found),
                other => Gathered::failed(&other),
            },
        )
        .await
        .into_iter();
    let mut answer = |partition: &ListOffsetsPartition| {
        response(partition, found.next().unwrap_or(Err(ErrorCode::UnknownServerError)))
    };
    let topics = body.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(&mut answer).collect(),
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}

fn ask(node: &Node, version: i16, topic: &str, partition: &ListOffsetsPartition) -> Result<OffsetAsk, ErrorCode> {
    if partition.timestamp < 0 && !knows_special(version, partition.timestamp) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let topic = node.topic_id(TopicRef::Name(topic))?;
    Ok(OffsetAsk {
        at: TopicPartition { topic, partition: partition.partition_index },
        timestamp: partition.timestamp,
        leader_epoch: partition.current_leader_epoch,
    })
}

/// Whether this version of the request may ask for the special timestamp.
fn knows_special(version: i16, timestamp: i64) -> bool {
    match timestamp {
        offsets::LATEST | offsets::EARLIEST => true,
        offsets::MAX_TIMESTAMP => version >= 7,
        offsets::EARLIEST_LOCAL => version >= 8,
        offsets::LATEST_TIERED => version >= 9,
        offsets::EARLIEST_PENDING_UPLOAD => version >= 11,
        _ => false,
    }
}

fn response(partition: &ListOffsetsPartition, found: Result<OffsetFound, ErrorCode>) -> ListOffsetsPartitionResponse {
    let plain = ListOffsetsPartitionResponse {
        partition_index: partition.partition_index,
        ..ListOffsetsPartitionResponse::default()
    };
    match found {
        Ok(found) => ListOffsetsPartitionResponse {
            offset: found.offset,
            timestamp: found.timestamp,
            leader_epoch: found.leader_epoch,
            ..plain
        },
        Err(error) => ListOffsetsPartitionResponse { error_code: error.code(), ..plain },
    }
}

impl Outcome for ListOffsetsResponse {
    fn has_error(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        any_error(partitions.map(|partition| partition.error_code))
    }
}
