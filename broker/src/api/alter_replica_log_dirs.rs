//! AlterReplicaLogDirs (key 34), versions 1 and 2.
//!
//! - There is one data directory: a replica may be told to stay there (0), any other directory is none of ours (57).
//! - Judged in Kafka's order: a topic's name that leaves no room for the name of a directory under way (17), the directory,
//!   then the partition (3 if there is none). A partition that is named twice is meant to go where it was named last.

use std::collections::BTreeMap;

use watershed_core::units::TopicPartition;

use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::alter_replica_log_dirs::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
};
use crate::wire::topic_ref::TopicRef;

/// The longest name of a partition's directory, to which Kafka adds `.`, 32 digits and `-future` while it moves.
const DIRECTORY_NAME_BYTES_MAX: usize = 255 - 1 - 32 - "-future".len();

pub(crate) fn handle(node: &Node, body: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let results = wanted(body).into_iter().map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult {
        partitions: partitions.into_iter().map(|(partition, dir)| result(node, &topic_name, partition, &dir)).collect(),
        topic_name,
    });
    AlterReplicaLogDirsResponse { results: results.collect(), ..AlterReplicaLogDirsResponse::default() }
}

/// Where each partition is meant to go.
fn wanted(body: AlterReplicaLogDirsRequest) -> BTreeMap<String, BTreeMap<i32, String>> {
    let mut wanted: BTreeMap<String, BTreeMap<i32, String>> = BTreeMap::new();
    for dir in body.dirs {
        for topic in dir.topics {
            let partitions = topic.partitions.into_iter().map(|partition| (partition, dir.path.clone()));
            wanted.entry(topic.name).or_default().extend(partitions);
        }
    }
    wanted
}

fn result(node: &Node, topic: &str, partition_index: i32, dir: &str) -> AlterReplicaLogDirPartitionResult {
    let judged = judge(node, topic, partition_index, dir);
    let error_code = judged.err().unwrap_or(ErrorCode::None).code();
    AlterReplicaLogDirPartitionResult { partition_index, error_code }
}

fn judge(node: &Node, topic: &str, partition: i32, dir: &str) -> Result<(), ErrorCode> {
    if format!("{topic}-{partition}").len() > DIRECTORY_NAME_BYTES_MAX {
        return Err(ErrorCode::InvalidTopic);
    }
    if dir != node.cluster().log_dir {
        return Err(ErrorCode::LogDirNotFound);
    }
    let topic = node.topic_id(TopicRef::Name(topic))?;
    node.owner(TopicPartition { topic, partition }).map(drop)
}

impl Outcome for AlterReplicaLogDirsResponse {
    fn has_error(&self) -> bool {
        let partitions = self.results.iter().flat_map(|topic| &topic.partitions);
        any_error(partitions.map(|partition| partition.error_code))
    }
}
