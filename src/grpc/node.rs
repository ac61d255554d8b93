//! `kekd.v1.NodeService`: the state of this node, as it is known at this moment. Nothing here
//! waits.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::network::Network;
use super::peer::Peer;
use super::status::Refused;
use super::{convert, extension};
use crate::config::PRIMARY;
use crate::config::{HsmConfig, LimitsConfig};
use crate::flows::Node;
use crate::flows::coverage::{Cover, Coverage};
use crate::flows::status::ReplicaStatus;
use crate::hsm::{HsmState, HsmStatus, OracleAlarm};
use crate::proto::v1;
use crate::proto::v1::node_service_server::NodeService;
use crate::types::KekName;

/// Alarms in one answer.
const ALARMS_MAX: usize = 64;

/// The service.
pub struct NodeState {
    node: Arc<Node>,
    network: Arc<Network>,
    limits: v1::Limits,
    /// PKCS#11 sessions for work, as configured.
    sessions: u32,
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
            failures_max: limits.failures_max,
            failures_window_ms: limits.failures_window_ms,
        };
        Self {
            node,
            network,
            limits,
            sessions: count(hsm.sessions),
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
        let (connections_accepted, connections_refused) = self.network.counts();
        let mut problems = status.problems;
        problems.extend(self.network.problems().iter().cloned());
        let (ledger_size, ledger_root) = status.ledger;
        Ok(Response::new(v1::GetStatusResponse {
            ready: status.ready,
            problems,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance_id: status.instance_id.as_bytes().to_vec(),
            instance_name: status.instance_name,
            token: Some(v1::TokenStatus {
                name: PRIMARY.to_owned(),
                required: true,
                unwraps: status.served,
                ..token(&status.hsm, status.proven, self.sessions)
            }),
            replicas: status.replicas.iter().map(replica).collect(),
            ledger: Some(v1::LogStatus {
                size: ledger_size,
                root: ledger_root.as_bytes().to_vec(),
                // It is open and locked by this process; a fault in it stops the process.
                writable: true,
            }),
            audit: Some(v1::LogStatus {
                size: status.audit.head.size,
                root: status.audit.head.root.as_bytes().to_vec(),
                writable: status.audit.writable,
            }),
            counters: Some(v1::Counters {
                unwraps_released: status.counted.unwraps_released,
                unwraps_refused: status.counted.unwraps_refused,
                connections_accepted,
                connections_refused,
                refusals_unrecorded: status.counted.refusals_unrecorded,
            }),
            started_at_ms: status.started_at.0,
            limits: Some(self.limits),
            oracle_alarms: status
                .oracle_alarms
                .into_iter()
                .take(ALARMS_MAX)
                .map(alarm)
                .collect(),
        }))
    }

    async fn get_coverage(
        &self,
        request: Request<v1::GetCoverageRequest>,
    ) -> Result<Response<v1::GetCoverageResponse>, Status> {
        let kek = match request.get_ref().kek.as_str() {
            "" => None,
            name => {
                let name = name.parse::<KekName>();
                Some(name.map_err(|error| Refused::from(&error))?)
            }
        };
        let peer: Peer = extension(&request)?;
        let coverage = self.node.coverage(&peer.identity, kek.as_ref());
        let coverage = coverage.map_err(|why| Refused::from(&why))?;
        Ok(Response::new(covered(&coverage)))
    }
}

fn covered(coverage: &Coverage) -> v1::GetCoverageResponse {
    let tokens = coverage.tokens.iter().map(|token| v1::CoveringToken {
        name: token.name.clone(),
        required: token.is_required,
        state: state_name(&token.state).to_owned(),
    });
    let versions = coverage.versions.iter().map(|version| v1::CoveredVersion {
        kek: version.kek.to_string(),
        number: version.number,
        keypair_id: version.keypair_id.to_string(),
        state: match version.state {
            Some(state) => convert::state(state),
            None => v1::VersionState::PreActive,
        }
        .into(),
        covers: version.covers.iter().map(cover).collect(),
    });
    v1::GetCoverageResponse {
        tokens: tokens.collect(),
        versions: versions.collect(),
        covered: coverage.is_whole(),
    }
}

fn cover(cover: &Cover) -> v1::Cover {
    let (state, at, why) = match cover {
        Cover::Proven { at } => (v1::CoverState::Proven, at.0, ""),
        Cover::Missing(why) => (v1::CoverState::Missing, 0, why.as_str()),
        Cover::Wrong(why) => (v1::CoverState::Wrong, 0, why.as_str()),
        Cover::Lost(why) => (v1::CoverState::Lost, 0, why.as_str()),
        Cover::Unknown => (v1::CoverState::Unknown, 0, ""),
    };
    v1::Cover {
        state: state.into(),
        proven_at_ms: at,
        why: why.to_owned(),
    }
}

fn replica(replica: &ReplicaStatus) -> v1::TokenStatus {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    v1::TokenStatus {
        name: replica.name.clone(),
        required: replica.is_required,
        unwraps: replica.served,
        ..token(
            &replica.hsm,
            (replica.proven, replica.versions),
            count(replica.sessions),
        )
    }
}

const fn state_name(state: &HsmState) -> &'static str {
    match state {
        HsmState::Starting => "starting",
        HsmState::Ready => "ready",
        HsmState::Unavailable { .. } | HsmState::ShutDown => "unavailable",
        HsmState::Refused { .. } => "refused",
    }
}

fn alarm(alarm: OracleAlarm) -> v1::OracleAlarm {
    v1::OracleAlarm {
        caller: alarm.caller.to_string(),
        kek: alarm.kek.to_string(),
        since_ms: alarm.since.0,
        refused: alarm.refused,
    }
}

fn token(hsm: &HsmStatus, proven: (usize, usize), sessions: u32) -> v1::TokenStatus {
    let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
    let capabilities = hsm
        .capabilities
        .as_ref()
        .map(|c| c.names())
        .unwrap_or_default();
    let seen = hsm.token.as_ref();
    v1::TokenStatus {
        state: state_name(&hsm.state).to_owned(),
        label: seen.map_or_else(String::new, |token| token.label.clone()),
        serial: seen.map_or_else(String::new, |token| token.serial.clone()),
        model: seen.map_or_else(String::new, |token| token.model.clone()),
        capabilities: capabilities.into_iter().map(str::to_owned).collect(),
        sessions: if matches!(hsm.state, HsmState::Ready) {
            sessions
        } else {
            0
        },
        queue_len: count(hsm.queue_len),
        versions_proven: count(proven.0),
        versions: count(proven.1),
        worker_restarts: hsm.worker_restarts,
        worker_pid: hsm.worker_pid.unwrap_or_default(),
        ..v1::TokenStatus::default()
    }
}
