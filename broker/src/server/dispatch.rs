//! Dispatch: from a frame to the handler of its API.
//!
//! What cannot be read ends the connection, as in Kafka; only an unknown version of ApiVersions is answered. A body is
//! decoded before this returns, so the frame may be reused as soon as the work is started.

use std::future::Future;
use std::rc::Rc;

use crate::api;
use crate::wire::apis::{Api, Unsupported};
use crate::wire::error_code::ErrorCode;
use crate::wire::header::{self, HeaderError};
use crate::wire::message::Message;
use crate::wire::reader::Reader;

use super::connection::{Answer, Connection, End};
use super::envelope::Envelope;
use super::frame::Frame;
use super::node::Node;
use super::response::Response;
use watershed_core::io::bell::Local;

/// What the header of a frame says.
pub(crate) enum Opened {
    Request(Envelope),
    /// It needs no handler.
    Answered(Response),
}

/// Work that was started: `None` if nothing is to be said.
pub(crate) type Work = Local<Option<Answer>>;

/// Reads the header.
pub(crate) fn open(connection: &Connection, frame: &[u8]) -> Result<Opened, End> {
    match header::parse(frame) {
        Ok(header) => Ok(Opened::Request(Envelope::of(&connection.node, &header))),
        Err(HeaderError::Unsupported { why: Unsupported::Version { api: Api::ApiVersions, .. }, correlation_id }) => {
            Ok(Opened::Answered(Response {
                pieces: vec![api::api_versions::unsupported_version(correlation_id).into()],
                failed: true,
                parked_us: 0,
            }))
        }
        Err(error) => Err(End::Refused(error.to_string())),
    }
}

/// Starts the request. When this returns, every part of it is enqueued where its order matters.
pub(crate) async fn start(connection: &Rc<Connection>, envelope: &Envelope, frame: Frame<'_>) -> Result<Work, End> {
    match envelope.api {
        Api::Produce => api::produce::start(connection, envelope, frame).await,
        Api::Fetch => api::fetch::start(connection, envelope, &frame),
        _ => start_plain(connection, envelope, &frame),
    }
}

/// The APIs whose messages are generated.
fn start_plain(connection: &Rc<Connection>, envelope: &Envelope, frame: &Frame<'_>) -> Result<Work, End> {
    let node = Rc::clone(&connection.node);
    let request = envelope.clone();
    match envelope.api {
        Api::Produce | Api::Fetch => unreachable!("these have parsers of their own"),
        Api::ApiVersions => plain(envelope, frame, {
            let connection = Rc::clone(connection);
            async move |body| api::api_versions::handle(&connection, &request, &body)
        }),
        Api::Metadata => plain(envelope, frame, async move |body| api::metadata::handle(&node, &request, body).await),
        Api::ListOffsets => {
            plain(envelope, frame, async move |body| api::list_offsets::handle(&node, &request, body).await)
        }
        Api::FindCoordinator => {
            plain(envelope, frame, async move |body| api::find_coordinator::handle(&node, &request, body).await)
        }
        Api::CreateTopics => {
            plain(envelope, frame, async move |body| api::create_topics::handle(&node, &request, body).await)
        }
        Api::DeleteTopics => {
            plain(envelope, frame, async move |body| api::delete_topics::handle(&node, &request, body).await)
        }
        Api::DeleteRecords => plain(envelope, frame, async move |body| api::delete_records::handle(&node, body).await),
        Api::InitProducerId => {
            plain(envelope, frame, async move |body| api::init_producer_id::handle(&node, body).await)
        }
        Api::OffsetForLeaderEpoch => {
            plain(envelope, frame, async move |body| api::offset_for_leader_epoch::handle(&node, body).await)
        }
        Api::OffsetCommit
        | Api::OffsetFetch
        | Api::OffsetDelete
        | Api::JoinGroup
        | Api::SyncGroup
        | Api::Heartbeat
        | Api::LeaveGroup
        | Api::ListGroups
        | Api::DescribeGroups
        | Api::DeleteGroups => start_group(connection, envelope, frame),
        Api::CreatePartitions => {
            plain(envelope, frame, async move |body| api::create_partitions::handle(&node, &request, body).await)
        }
        Api::DescribeCluster => plain(envelope, frame, async move |body| api::describe_cluster::handle(&node, &body)),
        Api::DescribeTopicPartitions => {
            plain(envelope, frame, async move |body| api::describe_topic_partitions::handle(&node, body))
        }
        Api::DescribeConfigs
        | Api::AlterConfigs
        | Api::IncrementalAlterConfigs
        | Api::ListConfigResources
        | Api::DescribeClientQuotas
        | Api::AlterClientQuotas => start_configs(node, envelope, frame),
        Api::AlterReplicaLogDirs
        | Api::DescribeLogDirs
        | Api::ElectLeaders
        | Api::AlterPartitionReassignments
        | Api::ListPartitionReassignments
        | Api::DescribeQuorum
        | Api::DescribeProducers
        | Api::DescribeTransactions
        | Api::DescribeUserScramCredentials
        | Api::ListTransactions => start_state(node, envelope, frame),
    }
}

/// The APIs of configurations and quotas.
fn start_configs(node: Rc<Node>, envelope: &Envelope, frame: &[u8]) -> Result<Work, End> {
    match envelope.api {
        Api::DescribeConfigs => plain(envelope, frame, async move |body| api::describe_configs::handle(&node, body)),
        Api::AlterConfigs => plain(envelope, frame, async move |body| api::alter_configs::handle(&node, body).await),
        Api::IncrementalAlterConfigs => {
            plain(envelope, frame, async move |body| api::incremental_alter_configs::handle(&node, body).await)
        }
        Api::ListConfigResources => {
            let version = envelope.version;
            plain(envelope, frame, async move |body| api::list_config_resources::handle(&node, version, body))
        }
        Api::DescribeClientQuotas => {
            plain(envelope, frame, async move |body| api::describe_client_quotas::handle(&node, body))
        }
        Api::AlterClientQuotas => {
            plain(envelope, frame, async move |body| api::alter_client_quotas::handle(&node, body).await)
        }
        _ => unreachable!("no API of configurations"),
    }
}

/// The APIs that tell of logs and leaders.
fn start_state(node: Rc<Node>, envelope: &Envelope, frame: &[u8]) -> Result<Work, End> {
    match envelope.api {
        Api::AlterReplicaLogDirs => {
            plain(envelope, frame, async move |body| api::alter_replica_log_dirs::handle(&node, body))
        }
        Api::DescribeLogDirs => {
            plain(envelope, frame, async move |body| api::describe_log_dirs::handle(&node, body).await)
        }
        Api::ElectLeaders => plain(envelope, frame, async move |body| api::elect_leaders::handle(&node, body)),
        Api::AlterPartitionReassignments => {
            plain(envelope, frame, async move |body| api::alter_partition_reassignments::handle(&node, body))
        }
        Api::ListPartitionReassignments => {
            plain(envelope, frame, async move |body| api::list_partition_reassignments::handle(&body))
        }
        Api::DescribeQuorum => {
            plain(envelope, frame, async move |body| api::describe_quorum::handle(&node, body).await)
        }
        Api::DescribeProducers => {
            plain(envelope, frame, async move |body| api::describe_producers::handle(&node, body).await)
        }
        Api::DescribeTransactions => plain(envelope, frame, async move |body| api::describe_transactions::handle(body)),
        Api::DescribeUserScramCredentials => {
            plain(envelope, frame, async move |body| api::describe_user_scram_credentials::handle(body))
        }
        Api::ListTransactions => plain(envelope, frame, async move |body| api::list_transactions::handle(body)),
        _ => unreachable!("no API of logs and leaders"),
    }
}

/// The APIs of consumer groups.
fn start_group(connection: &Rc<Connection>, envelope: &Envelope, frame: &Frame<'_>) -> Result<Work, End> {
    let (node, request) = (Rc::clone(&connection.node), envelope.clone());
    let connection = Rc::clone(connection);
    match envelope.api {
        Api::OffsetCommit => {
            plain(envelope, frame, async move |body| api::offset_commit::handle(&node, &request, body).await)
        }
        Api::OffsetFetch => {
            plain(envelope, frame, async move |body| api::offset_fetch::handle(&node, &request, body).await)
        }
        Api::OffsetDelete => plain(envelope, frame, async move |body| api::offset_delete::handle(&node, body).await),
        Api::JoinGroup => {
            plain(envelope, frame, async move |body| api::join_group::handle(&connection, &request, body).await)
        }
        Api::SyncGroup => plain(envelope, frame, async move |body| api::sync_group::handle(&connection, body).await),
        Api::Heartbeat => plain(envelope, frame, async move |body| api::heartbeat::handle(&node, body).await),
        Api::LeaveGroup => {
            plain(envelope, frame, async move |body| api::leave_group::handle(&node, &request, body).await)
        }
        Api::ListGroups => plain(envelope, frame, async move |body| api::list_groups::handle(&node, body).await),
        Api::DescribeGroups => {
            plain(envelope, frame, async move |body| api::describe_groups::handle(&node, &request, body).await)
        }
        Api::DeleteGroups => plain(envelope, frame, async move |body| api::delete_groups::handle(&node, body).await),
        _ => unreachable!("no API of groups"),
    }
}

/// A response that can say whether some part of it is an error.
pub(crate) trait Outcome {
    fn has_error(&self) -> bool;
}

/// Decodes the body now and runs the handler later.
fn plain<Q, A, F>(envelope: &Envelope, frame: &[u8], handler: impl FnOnce(Q) -> F + 'static) -> Result<Work, End>
where
    Q: Message + 'static,
    A: Message + Outcome + 'static,
    F: Future<Output = A> + 'static,
{
    let (envelope, body) = (envelope.clone(), decode::<Q>(envelope, frame)?);
    Ok(Box::pin(async move {
        let mut body = handler(body).await;
        body.throttle(envelope.settle().await);
        let failed = body.has_error();
        Some(Answer::Send(Response::of(&envelope, &body, failed)))
    }))
}

/// Reads a body. Bytes behind it are left alone, as Kafka does: librdkafka sends some after a Metadata request for all topics.
fn decode<Q: Message>(envelope: &Envelope, frame: &[u8]) -> Result<Q, End> {
    let body = frame.get(envelope.body_at..).unwrap_or_default();
    let mut reader = Reader::new(body, Q::is_flexible(envelope.version));
    Q::decode(&mut reader, envelope.version).map_err(|error| malformed(envelope, &error.to_string()))
}

/// The end of a connection whose request cannot be read.
pub(crate) fn malformed(envelope: &Envelope, what: &str) -> End {
    let (api, version) = (envelope.api, envelope.version);
    End::Refused(format!("{api:?} version {version} is malformed: {what}"))
}

/// Whether one of these codes is an error.
pub(crate) fn any_error(codes: impl IntoIterator<Item = i16>) -> bool {
    codes.into_iter().any(|code| code != ErrorCode::None.code())
}
