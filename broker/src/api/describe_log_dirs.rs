//! DescribeLogDirs (key 35), versions 1 to 4.
//!
//! - One data directory, with the bytes that each partition's log holds, as its owner counts them; null asks for all
//!   partitions, and what does not exist is left out. From version 4 the space of its file system.
//! - A partition never lags behind itself, and none is moved to another directory.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use watershed_core::units::TopicPartition;

use crate::server::calls::{Call, Reply};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::errors;
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};

pub(crate) async fn handle(node: &Rc<Node>, body: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let described = match sizes(node).await {
        Ok(sizes) => result(node, &topics(node, body.topics.as_deref(), &sizes)),
        Err(error) => failed(node, error),
    };
    DescribeLogDirsResponse { results: vec![described], ..DescribeLogDirsResponse::default() }
}

/// The bytes of every log of every shard.
async fn sizes(node: &Rc<Node>) -> Result<BTreeMap<TopicPartition, u64>, ErrorCode> {
    let mut pending = Vec::new();
    for shard in node.peers.all() {
        pending.push(node.begin(shard, Call::LogStates).await);
    }
    let mut sizes = BTreeMap::new();
    for reply in pending {
        match reply.await {
            Reply::LogStates(states) => sizes.extend(states.into_iter().map(|(at, state)| (at, state.size_bytes))),
            _ => return Err(ErrorCode::UnknownServerError),
        }
    }
    Ok(sizes)
}

/// The topics that are asked for, with those of their partitions that have a log.
fn topics(
    node: &Node,
    asked: Option<&[DescribableLogDirTopic]>,
    sizes: &BTreeMap<TopicPartition, u64>,
) -> Vec<DescribeLogDirsTopic> {
    let wanted: Option<BTreeSet<(&str, i32)>> = asked.map(|topics| topics.iter().flat_map(partitions_of).collect());
    let catalog = node.catalog.borrow();
    let described = catalog.topics().map(|topic| {
        let is_wanted =
            |at: &TopicPartition| wanted.as_ref().is_none_or(|wanted| wanted.contains(&(&*topic.name, at.partition)));
        let partitions = topic.places().filter(is_wanted).filter_map(|at| Some(partition(at, *sizes.get(&at)?)));
        DescribeLogDirsTopic { name: topic.name.clone(), partitions: partitions.collect() }
    });
    described.filter(|topic| !topic.partitions.is_empty()).collect()
}

fn partitions_of(topic: &DescribableLogDirTopic) -> impl Iterator<Item = (&str, i32)> {
    topic.partitions.iter().map(|partition| (&*topic.topic, *partition))
}

fn partition(at: TopicPartition, bytes: u64) -> DescribeLogDirsPartition {
    DescribeLogDirsPartition {
        partition_index: at.partition,
        partition_size: i64::try_from(bytes).unwrap_or(i64::MAX),
        ..DescribeLogDirsPartition::default()
    }
}

fn result(node: &Node, topics: &[DescribeLogDirsTopic]) -> DescribeLogDirsResult {
    match node.shard.space() {
        Ok(space) => DescribeLogDirsResult {
            log_dir: node.cluster().log_dir.clone(),
            topics: topics.to_vec(),
            total_bytes: i64::try_from(space.total_bytes).unwrap_or(i64::MAX),
            usable_bytes: i64::try_from(space.free_bytes).unwrap_or(i64::MAX),
            ..DescribeLogDirsResult::default()
        },
        Err(fault) => {
            tracing::warn!(%fault, "the space of the data directory cannot be told");
            failed(node, errors::of_fault(&fault))
        }
    }
}

fn failed(node: &Node, error: ErrorCode) -> DescribeLogDirsResult {
    let log_dir = node.cluster().log_dir.clone();
    DescribeLogDirsResult { error_code: error.code(), log_dir, ..DescribeLogDirsResult::default() }
}

impl Outcome for DescribeLogDirsResponse {
    fn has_error(&self) -> bool {
        any_error(self.results.iter().map(|result| result.error_code))
    }
}
