//! The wire: decode, call one flow, encode. Each service is a file of its own; what they share is
//! who may call (`rights`, `gate`), how long a call may take (`deadline`), what a refusal looks like
//! (`status`) and what the network side knows of itself (`network`). No rule about keys lives here.

mod audit;
mod convert;
pub mod deadline;
mod escort;
pub mod gate;
pub mod hang_up;
pub mod health;
mod judged;
mod keys;
mod ledger;
pub mod network;
pub mod node;
pub mod peer;
mod quorum;
mod quorum_view;
pub mod refusals;
mod rights;
pub mod status;
pub mod unwrap;

use std::sync::Arc;

use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

use crate::config::Config;
use crate::flows::Node;
use crate::proto::v1;
use network::Network;
use status::Refused;

/// Longest request of an officer: a statement of 64 KiB with a signature of 16 KiB.
const GOVERN_BYTES_MAX: usize = 96 * 1024;

/// All services over an open node. The gate stands in front of them.
pub fn routes(
    node: &Arc<Node>,
    network: &Arc<Network>,
    config: &Config,
    health: HealthService,
) -> Routes {
    let message_max = config.limits.request_bytes_max;
    let unwrap = unwrap::Unwrap::new(Arc::clone(node), Arc::clone(network), &config.limits);
    let state = node::NodeState::new(
        Arc::clone(node),
        Arc::clone(network),
        &config.limits,
        &config.hsm,
    );
    let mut routes = Routes::builder();
    routes
        .add_service(
            v1::unwrap_service_server::UnwrapServiceServer::new(unwrap)
                .max_decoding_message_size(message_max),
        )
        .add_service(
            v1::keys_service_server::KeysServiceServer::new(keys::Keys::new(Arc::clone(node)))
                .max_decoding_message_size(message_max),
        )
        .add_service(
            v1::ledger_service_server::LedgerServiceServer::new(ledger::LedgerReads::new(
                Arc::clone(node),
            ))
            .max_decoding_message_size(message_max),
        )
        .add_service(
            v1::audit_service_server::AuditServiceServer::new(audit::AuditReads::new(
                Arc::clone(node),
                Arc::clone(network),
            ))
            .max_decoding_message_size(message_max),
        )
        .add_service(
            v1::quorum_service_server::QuorumServiceServer::new(quorum::Quorum::new(Arc::clone(
                node,
            )))
            .max_decoding_message_size(GOVERN_BYTES_MAX),
        )
        .add_service(
            v1::node_service_server::NodeServiceServer::new(state)
                .max_decoding_message_size(message_max),
        );
    add_public(&mut routes, message_max, health);
    routes.routes()
}

/// Health and reflection.
pub fn add_public(
    routes: &mut tonic::service::RoutesBuilder,
    message_max: usize,
    health: HealthService,
) {
    routes.add_service(HealthServer::new(health).max_decoding_message_size(message_max));
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // The second is the same by its old name, the only one that Python's client knows.
    match (descriptors().build_v1(), descriptors().build_v1alpha()) {
        (Ok(reflection), Ok(of_old)) => {
            routes
                .add_service(reflection.max_decoding_message_size(message_max))
                .add_service(of_old.max_decoding_message_size(message_max));
        }
        // The descriptors come from our own build, and a test reads them.
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "reflection cannot describe the services");
        }
    }
}

/// What a layer put beside the request. That it is missing is a bug, and answered as one.
fn extension<T: Clone + Send + Sync + 'static>(
    request: &tonic::Request<impl Sized>,
) -> Result<T, Refused> {
    request.extensions().get::<T>().cloned().ok_or_else(|| {
        tracing::error!(wanted = std::any::type_name::<T>(), "a layer is missing");
        Refused::internal()
    })
}
