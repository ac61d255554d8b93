//! The HTTP/2 side: tonic's server with every limit set, because its defaults bound neither streams
//! nor header lists nor resets, and its timeouts answer with the wrong code.

use std::any::Any;
use std::future::Future;
use std::io;
use std::time::Duration;

use http::Response;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{error, warn};

use super::connection::Connection;
use crate::config::LimitsConfig;
use crate::grpc::deadline::DeadlineLayer;
use crate::grpc::gate::GateLayer;
use crate::grpc::status::Refused;

/// Streams a client may open and reset faster than they are begun (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// Streams kekd may have to reset for a client's errors (RUSTSEC-2024-0003).
const LOCAL_RESETS_MAX: usize = 64;
/// Bytes a client may send ahead on one stream, and on all together: what a full connection can
/// make kekd hold.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// How long calls under way may take to end once the node stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Serves `routes` behind `gate` to the connections that come, until `stop` ends; then waits for
/// what is under way, but not for ever.
pub(super) async fn serve(
    limits: &LimitsConfig,
    routes: Routes,
    gate: GateLayer,
    connections: mpsc::Receiver<io::Result<Connection>>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let deadline = DeadlineLayer {
        call_max: Duration::from_millis(limits.request_timeout_ms_max),
    };
    let stopped = watch::Sender::new(false);
    let stop = async {
        stop.await;
        stopped.send_replace(true);
    };
    let serving = Server::builder()
        .max_concurrent_streams(limits.streams_per_connection_max)
        .http2_max_header_list_size(limits.header_bytes_max)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(LOCAL_RESETS_MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(Duration::from_millis(limits.keepalive_interval_ms)))
        .http2_keepalive_timeout(Some(Duration::from_millis(limits.keepalive_timeout_ms)))
        // No grace: with one, tonic never asks a connection to end and only cuts it. The cut is
        // `Connection`'s.
        .max_connection_age(Duration::from_millis(limits.connection_age_ms_max))
        // From the outside in. The deadline is innermost, where it knows the call's own body type.
        .layer(CatchPanicLayer::custom(internal))
        .layer(gate)
        .layer(deadline)
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), stop);
    let mut draining = stopped.subscribe();
    tokio::select! {
        result = serving => result,
        () = async {
            // The sender outlives this; an error could only mean that there is nothing to wait for.
            if draining.wait_for(|stopped| *stopped).await.is_ok() {
                tokio::time::sleep(DRAIN_MAX).await;
            }
        } => {
            warn!("calls were still under way 10 s after the stop; they are cut off");
            Ok(())
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature is tower-http's"
)]
fn internal(panic: Box<dyn Any + Send>) -> Response<Body> {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    error!(panic = text, "a call panicked; only its caller is told");
    Status::from(Refused::internal()).into_http()
}
