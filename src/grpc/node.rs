//! `kekd.v1.NodeService`: the state of this node, as it is known at this moment. Nothing here
//! waits.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::network::Network;
use crate::config::{HsmConfig, LimitsConfig};
use crate::flows::Node;
use crate::proto::v1;
use crate::proto::v1::node_service_server::NodeService;

/// The service.
pub struct NodeState {
    node: Arc<Node>,
    network: Arc<Network>,
    limits: v1::Limits,
}

impl NodeState {
    /// The service over an open node.
    pub fn new(
        node: Arc<Node>,
        network: Arc<Network>,
        limits: &LimitsConfig,
        hsm: &HsmConfig,
    ) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let limits = v1::Limits {
            connections_max: count(limits.connections_max),
            streams_per_connection_max: limits.streams_per_connection_max,
            queue_len_max: count(hsm.queue_len_max),
            request_bytes_max: count(limits.request_bytes_max),
            hsm_call_timeout_ms: hsm.call_timeout_ms,
        };
        Self {
            node,
            network,
            limits,
        }
    }
}

#[tonic::async_trait]
impl NodeService for NodeState {
    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let status = self.node.status();
        let (accepted, refused) = self.network.counts();
        let mut problems = status.problems;
        problems.extend(self.network.problems().iter().cloned());
        Ok(Response::new(v1::GetStatusResponse {
            ready: status.ready,
            problems,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            counters: Some(v1::Counters {
                connections_accepted: accepted,
                connections_refused: refused,
                ..v1::Counters::default()
            }),
            limits: Some(self.limits),
            ..v1::GetStatusResponse::default()
        }))
    }
}
