//! The process: builds everything in order, runs until told to stop, stops in reverse. What the
//! services do is not here, nor how a node is opened.

mod accept;
mod connection;
mod crl;
mod frames;
mod handshake;
mod listen;
mod reload;
mod tls;
mod transport;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::info;

pub use crl::CrlError;
pub use listen::{ListenError, Listeners, SocketListener};
pub use tls::TlsError;

use crate::access::Identity;
use crate::clock::Clock;
use crate::config::{Config, TcpConfig};
use crate::flows::{Node, NodeFailure, clerk, notary};
use crate::grpc::gate::{Authorise, GateLayer};
use crate::grpc::health::health;
use crate::grpc::network::Network;
use crate::{grpc, systemd};

/// Connections that have an identity and wait to be served; beyond these, handshakes wait.
const IDENTIFIED_MAX: usize = 16;

/// Between two looks at what `systemctl status` should say.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Why the process does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// TLS cannot be set up from its files: the operator's to mend.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The operating system lets us hear no signals.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    /// The HTTP/2 server ended by itself.
    #[error("the gRPC server ended: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The audit log or the ledger can never again be written in this process. Fatal: it must start
    /// again and read what is on disk.
    #[error("the node cannot go on: {0}")]
    Node(NodeFailure),
}

/// Serves `node` on `listeners` until `shutdown` ends or the node fails. Then it reads no new
/// request, answers what is under way for at most ten seconds, and returns.
///
/// # Errors
/// Where TLS cannot be set up, and where the node failed.
pub async fn run(
    config: &Config,
    node: &Arc<Node>,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let record = Arc::clone(node);
    let network = Arc::new(Network::new(
        Clock::System,
        Box::new(move |who, reason| record.record_refused_connection(who, reason)),
    ));
    let callers = Arc::clone(node);
    let authorise: Authorise =
        Arc::new(move |identity: &Identity, action| callers.caller(identity)?.require(action));
    let readiness = node.readiness();
    let (health, keep_health) = health(readiness.clone(), network.stopping()).await;
    let routes = grpc::routes(node, &network, config, health);

    // Dropping these ends the tasks.
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_health);
    tasks.spawn(keep_status(
        Arc::clone(node),
        Arc::clone(&network),
        readiness,
    ));
    tasks.spawn(keep_watchdog(Arc::clone(node)));
    tasks.spawn(clerk::keep(Arc::clone(node)));
    tasks.spawn(notary::keep(Arc::clone(node)));
    let connections = open(config, &network, listeners, &mut tasks)?;

    let mut failure = None;
    let stop = async {
        failure = tokio::select! {
            () = shutdown => None,
            error = node.failed() => Some(error),
        };
        info!("stopping");
        systemd::stopping();
        network.stop();
    };
    systemd::ready();
    info!("serving");
    let gate = GateLayer::new(Arc::clone(&network), authorise);
    transport::serve(&config.limits, routes, gate, connections, stop).await?;
    info!("stopped");
    failure.map_or(Ok(()), |error| Err(ServeError::Node(error)))
}

/// Whether the files that the network side needs can be used, before anything is opened.
///
/// # Errors
/// Where TLS cannot be set up from them.
pub fn check_files(config: &Config) -> Result<(), ServeError> {
    if let Some(tcp) = &config.tcp {
        tls::TlsMaterial::load(tcp)?;
    }
    Ok(())
}

/// Opens the doors: what comes out are connections that have an identity.
fn open(
    config: &Config,
    network: &Arc<Network>,
    listeners: Listeners,
    tasks: &mut JoinSet<()>,
) -> Result<mpsc::Receiver<std::io::Result<connection::Connection>>, ServeError> {
    let (identified, connections) = mpsc::channel(IDENTIFIED_MAX);
    let doors = accept::Doors::new(Arc::clone(network), config, identified);
    if let (Some(listener), Some(tcp)) = (listeners.tcp, &config.tcp) {
        let files = tls_files(tcp, network)?;
        let hangup = signal(SignalKind::hangup()).map_err(ServeError::Signals)?;
        tasks.spawn(doors.clone().tcp(listener, files.server()));
        let every = files.interval();
        tasks.spawn(crate::reload::watch(files, every, hangup));
    }
    if let Some(listener) = listeners.unix {
        tasks.spawn(doors.unix(listener));
    }
    Ok(connections)
}

fn tls_files(tcp: &TcpConfig, network: &Arc<Network>) -> Result<reload::TlsFiles, TlsError> {
    reload::TlsFiles::load(tcp.clone(), Arc::clone(network))
}

/// One line for `systemctl status`, whenever it changes.
async fn keep_status(node: Arc<Node>, network: Arc<Network>, mut readiness: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(STATUS_INTERVAL);
    let mut told = String::new();
    loop {
        let ready = *readiness.borrow_and_update();
        let mut problems = node.status().problems;
        problems.extend(network.problems().iter().cloned());
        let text = status_line(ready, &problems);
        if text != told {
            systemd::status(&text);
            told = text;
        }
        tokio::select! {
            _ = ticks.tick() => (),
            changed = readiness.changed() => if changed.is_err() {
                return;
            }
        }
    }
}

fn status_line(ready: bool, problems: &[String]) -> String {
    let word = if ready { "serving" } else { "not ready" };
    match problems {
        [] => word.to_owned(),
        problems => format!("{word}: {}", problems.join("; ")),
    }
}

/// The ping comes from the event loop: where that stands still, so does the ping. It is held back
/// while the audit log's writer stands still. It says nothing of the HSM.
async fn keep_watchdog(node: Arc<Node>) {
    let Some(every) = systemd::watchdog_interval() else {
        return;
    };
    // The writer beats at least once a second; so WatchdogSec must be 4 or more.
    let mut ticks = tokio::time::interval(every.max(Duration::from_secs(2)));
    let mut last = None;
    loop {
        ticks.tick().await;
        let beats = node.status().audit.beats;
        if last.replace(beats) == Some(beats) {
            tracing::error!("the audit log's writer stands still; systemd is told nothing");
        } else {
            systemd::watchdog();
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot unwrap has failed"
)]
mod tests;
