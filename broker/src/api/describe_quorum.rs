//! DescribeQuorum (key 55), versions 0 to 2.
//!
//! - The metadata quorum of a cluster of one: this broker is its leader and only voter, caught up at every moment. The ends
//!   are those of the metadata log on its host's shard.
//! - A partition other than `__cluster_metadata`-0 is UNKNOWN_TOPIC_OR_PARTITION.
//! - Left out: observers (there are none).

use std::rc::Rc;

use watershed_core::io::shard::LogState;

use crate::server::calls::{Call, Reply};
use crate::server::dispatch::{Outcome, any_error};
use crate::server::metadata::HOST;
use crate::server::metadata_log::{self, TOPIC};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node as QuorumNode, QuorumPartition, QuorumTopic,
    ReplicaState,
};

pub(crate) async fn handle(node: &Rc<Node>, body: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let state = metadata_state(node).await;
    let topics = body.topics.into_iter().map(|topic| {
        let is_metadata = topic.topic_name == TOPIC;
        let partitions = topic.partitions.iter().map(|asked| match (&state, asked.partition_index) {
            (Ok(state), 0) if is_metadata => quorum(node, state),
            (Err(error), 0) if is_metadata => failed(0, *error),
            (_, partition) => failed(partition, ErrorCode::UnknownTopicOrPartition),
        });
        QuorumTopic { partitions: partitions.collect(), topic_name: topic.topic_name }
    });
    DescribeQuorumResponse {
        topics: topics.collect(),
        nodes: vec![quorum_node(node)],
        ..DescribeQuorumResponse::default()
    }
}

async fn metadata_state(node: &Rc<Node>) -> Result<LogState, ErrorCode> {
    match node.call(HOST, Call::LogStates).await {
        Reply::LogStates(states) => states
            .into_iter()
            .find_map(|(at, state)| (at == metadata_log::LOG).then_some(state))
            .ok_or(ErrorCode::UnknownServerError),
        _ => Err(ErrorCode::UnknownServerError),
    }
}

fn quorum(node: &Node, state: &LogState) -> QuorumPartition {
    let now_ms = node.shard.now().wall_ms;
    let voter = ReplicaState {
        replica_id: node.cluster().node_id,
        replica_directory_id: node.cluster().directory_id,
        log_end_offset: state.log_end,
        last_fetch_timestamp: now_ms,
        last_caught_up_timestamp: now_ms,
    };
    QuorumPartition {
        leader_id: node.cluster().node_id,
        leader_epoch: state.leader_epoch,
        high_watermark: state.high_watermark,
        current_voters: vec![voter],
        ..QuorumPartition::default()
    }
}

fn failed(partition_index: i32, error: ErrorCode) -> QuorumPartition {
    QuorumPartition {
        partition_index,
        error_code: error.code(),
        error_message: Some(error.message().to_owned()),
        ..QuorumPartition::default()
    }
}

fn quorum_node(node: &Node) -> QuorumNode {
    let cluster = node.cluster();
    let listener = Listener { name: "PLAINTEXT".to_owned(), host: cluster.host.clone(), port: cluster.port };
    QuorumNode { node_id: cluster.node_id, listeners: vec![listener] }
}

impl Outcome for DescribeQuorumResponse {
    fn has_error(&self) -> bool {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        any_error(partitions.map(|partition| partition.error_code))
    }
}
