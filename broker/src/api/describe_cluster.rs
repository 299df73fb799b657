//! DescribeCluster (key 60), versions 0 to 2.
//!
//! - One broker, which is its own controller. From version 1 an endpoint type other than brokers (1) is
//!   UNSUPPORTED_ENDPOINT_TYPE: there are no controllers to connect to.
//! - Without an authorizer every operation on the cluster is allowed, if it was asked for.

use crate::server::dispatch::{Outcome, any_error};
use crate::server::node::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::generated::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use super::operations;

const BROKERS: i8 = 1;

pub(crate) fn handle(node: &Node, body: &DescribeClusterRequest) -> DescribeClusterResponse {
    if body.endpoint_type != BROKERS {
        let error = ErrorCode::UnsupportedEndpointType;
        return DescribeClusterResponse {
            error_code: error.code(),
            error_message: Some(error.message().to_owned()),
            endpoint_type: body.endpoint_type,
            ..DescribeClusterResponse::default()
        };
    }
    let cluster = node.cluster();
    DescribeClusterResponse {
        cluster_id: cluster.cluster_id.clone(),
        controller_id: cluster.node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: cluster.node_id,
            host: cluster.host.clone(),
            port: i32::from(cluster.port),
            rack: cluster.rack(),
            ..DescribeClusterBroker::default()
        }],
        cluster_authorized_operations: operations::cluster(body.include_cluster_authorized_operations),
        ..DescribeClusterResponse::default()
    }
}

impl Outcome for DescribeClusterResponse {
    fn has_error(&self) -> bool {
        any_error([self.error_code])
    }
}
