//! `grpc.health.v1`: SERVING while an unwrap can succeed, for the node as a whole and for each of
//! its services. The first word is NOT_SERVING; only readiness makes it otherwise.

use std::future::Future;

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

/// "" is the node as a whole (gRPC health checking protocol).
const SERVICES: [&str; 4] = [
    "",
    "kekd.v1.UnwrapService",
    "kekd.v1.KeysService",
    "kekd.v1.NodeService",
];

/// The service, and the task that keeps it true. The task ends when readiness does, that is when
/// the node is gone, or when the node stops; then watchers' streams end too.
pub async fn health(
    mut readiness: watch::Receiver<bool>,
    mut stopping: watch::Receiver<bool>,
) -> (HealthService, impl Future<Output = ()> + Send) {
    let mut reporter = HealthReporter::new();
    set(&reporter, false).await;
    let service = HealthService::from_health_reporter(reporter.clone());
    let keep_true = async move {
        loop {
            let ready = *readiness.borrow_and_update();
            set(&reporter, ready).await;
            tokio::select! {
                changed = readiness.changed() => if changed.is_err() { break },
                _ = stopping.wait_for(|stopping| *stopping) => break,
            }
        }
        set(&reporter, false).await;
        for service in SERVICES {
            reporter.clear_service_status(service).await;
        }
    };
    (service, keep_true)
}

async fn set(reporter: &HealthReporter, ready: bool) {
    let status = if ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use tokio_stream::StreamExt as _;
    use tonic::Request;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_server::Health as _;

    use super::*;

    #[tokio::test]
    async fn health_follows_readiness_and_watchers_end_with_the_node() {
        let (ready, readiness) = watch::channel(false);
        let stop = watch::Sender::new(false);
        let reporter_ends = stop.subscribe();
        let (service, keep_true) = health(readiness, reporter_ends).await;
        let keeper = tokio::spawn(keep_true);
        let request = || {
            let service = "kekd.v1.UnwrapService".to_owned();
            Request::new(HealthCheckRequest { service })
        };
        let mut seen = service.watch(request()).await.unwrap().into_inner();
        let mut next = async || seen.next().await.map(|s| s.unwrap().status);
        assert_eq!(next().await, Some(2), "NOT_SERVING before readiness");
        ready.send_replace(true);
        assert_eq!(next().await, Some(1), "SERVING when ready");
        ready.send_replace(false);
        assert_eq!(next().await, Some(2), "NOT_SERVING when no longer ready");
        stop.send_replace(true);
        // It says NOT_SERVING once more, or is gone before that is read.
        while let Some(status) = next().await {
            assert_eq!(status, 2, "a stopping node must not say SERVING");
        }
        keeper.await.unwrap();
    }
}
