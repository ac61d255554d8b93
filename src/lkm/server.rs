//! The doors: sources, slots, handshakes with a limit in time, HTTP/1.1 with every limit set, and an
//! orderly end. hyper has no limit on how long a connection lives, nor on what a client may leave
//! unread for ever; the age has one here.
//!
//! The invariant: a request that was read is answered. A connection that is to end says so in an answer
//! (`Connection: close`); only one that asks nothing ends without, after a time that every answer named
//! (`Keep-Alive: timeout`). What a client sends into such an end was not taken, and may be sent again.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::CONNECTION;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, info, warn};

use super::front_end::FrontEnd;
use super::local;
use super::sources::Sources;
use crate::slots::{Slot, Slots};

/// After a failed accept: out of file descriptors, most likely.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
/// Headers of one request.
const HEADERS_MAX: usize = 64;
/// Connections to the local door.
const LOCAL_MAX: usize = 16;
/// What the local door allows for a head, and for a whole connection.
const LOCAL_HEAD_MAX: Duration = Duration::from_secs(5);
const LOCAL_LIFE_MAX: Duration = Duration::from_secs(60);
/// How long a connection may still bring a request once the process stops, to be told in its answer
/// that it was the last.
const LAST_REQUEST_MAX: Duration = Duration::from_secs(1);
/// How long answers under way may take once the process stops; whoever has none then is told to try
/// again.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long an answer may take to leave.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// How long an idle connection is kept (RFC 2068, section 19.7.1; RFC 9112 has left it out, clients and
/// proxies have not).
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The doors, bound; nothing is accepted yet.
pub struct Listeners {
    /// The cloud's.
    pub https: TcpListener,
    /// This host's.
    pub local: TcpListener,
}

/// Serves until `shutdown` ends; then answers what is under way, for at most ten seconds with what it is
/// asked for, and after that with "try again".
pub async fn serve(
    front_end: Arc<FrontEnd>,
    tls: Arc<ArcSwap<ServerConfig>>,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(false);
    let mut doors = JoinSet::new();
    doors.spawn(https(
        Arc::clone(&front_end),
        tls,
        listeners.https,
        stopping.clone(),
    ));
    doors.spawn(locally(Arc::clone(&front_end), listeners.local, stopping));
    shutdown.await;
    info!("stopping");
    crate::systemd::stopping();
    stop.send_replace(true);
    let mut ended = pin!(async { while doors.join_next().await.is_some() {} });
    if tokio::time::timeout(DRAIN_MAX, ended.as_mut())
        .await
        .is_ok()
    {
        return;
    }
    warn!("requests were still under way after the stop; they are told to try again");
    front_end.give_up();
    if tokio::time::timeout(LEAVE_MAX, ended).await.is_err() {
        warn!("answers were not taken; their connections are cut");
    }
}

async fn https(
    front_end: Arc<FrontEnd>,
    tls: Arc<ArcSwap<ServerConfig>>,
    listener: TcpListener,
    stopping: watch::Receiver<bool>,
) {
    let limits = front_end.config.limits.clone();
    // Checked with the configuration: what cannot be read lets nobody in, here.
    let sources: Option<Sources> = front_end.config.https.allow_sources.parse().ok();
    let slots = Slots::new(limits.connections_max, limits.connections_per_address_max);
    let mut connections = JoinSet::new();
    let mut stop = stopping.clone();
    loop {
        while let Some(ended) = connections.try_join_next() {
            told(ended);
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, from)) = taken(accepted).await else {
            continue;
        };
        let slot = match admit(&front_end, sources.as_ref(), &slots, from) {
            Ok(slot) => slot,
            Err(reason) => {
                front_end.metrics.count("connections_refused", reason);
                debug!(%from, reason, "a connection was refused");
                continue;
            }
        };
        let door = Door {
            head_max: Duration::from_millis(limits.head_timeout_ms),
            head_bytes_max: limits.head_bytes_max,
            request_max: Duration::from_millis(limits.request_timeout_ms),
            life_max: Duration::from_millis(limits.connection_age_ms_max),
            stopping: stopping.clone(),
        };
        let handshake_max = Duration::from_millis(limits.handshake_timeout_ms);
        let acceptor = TlsAcceptor::from(tls.load_full());
        let front_end = Arc::clone(&front_end);
        connections.spawn(async move {
            let _slot: Slot = slot;
            let refused = match tokio::time::timeout(handshake_max, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    front_end.metrics.count("connections", "accepted");
                    let answer = |request| {
                        let front_end = Arc::clone(&front_end);
                        async move { front_end.answer(from, request).await }
                    };
                    return door.serve(stream, answer).await;
                }
                Ok(Err(error)) => {
                    debug!(%from, %error, "a handshake failed");
                    "TLS_HANDSHAKE_FAILED"
                }
                Err(_) => "TLS_HANDSHAKE_TIMEOUT",
            };
            front_end.metrics.count("connections_refused", refused);
        });
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        told(ended);
    }
}

fn admit(
    front_end: &FrontEnd,
    sources: Option<&Sources>,
    slots: &Arc<Slots>,
    from: SocketAddr,
) -> Result<Slot, &'static str> {
    if !sources.is_some_and(|sources| sources.allow(from.ip())) {
        if !front_end.config.https.allow_sources.is_empty() {
            debug!(%from, "not in https.allow_sources");
        }
        return Err("SOURCE_NOT_ALLOWED");
    }
    slots.take(from.ip().into()).map_err(|full| full.reason())
}

async fn locally(front_end: Arc<FrontEnd>, listener: TcpListener, stopping: watch::Receiver<bool>) {
    let slots = Slots::new(LOCAL_MAX, LOCAL_MAX);
    let mut connections = JoinSet::new();
    let mut stop = stopping.clone();
    loop {
        while let Some(ended) = connections.try_join_next() {
            told(ended);
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, from)) = taken(accepted).await else {
            continue;
        };
        let Ok(slot) = slots.take(from.ip().into()) else {
            continue;
        };
        let door = Door {
            head_max: LOCAL_HEAD_MAX,
            head_bytes_max: 8192,
            request_max: LOCAL_HEAD_MAX,
            life_max: LOCAL_LIFE_MAX,
            stopping: stopping.clone(),
        };
        let front_end = Arc::clone(&front_end);
        connections.spawn(async move {
            let _slot: Slot = slot;
            let answer = |request| {
                let front_end = Arc::clone(&front_end);
                async move { local::answer(&front_end, &request) }
            };
            door.serve(stream, answer).await;
        });
    }
    while let Some(ended) = connections.join_next().await {
        told(ended);
    }
}

/// A panic takes its connection along, and nothing else; it must not go unheard.
fn told(ended: Result<(), JoinError>) {
    if let Err(panic) = ended {
        error!(%panic, "serving a connection panicked");
    }
}

async fn taken(accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<(TcpStream, SocketAddr)> {
    match accepted {
        Ok((stream, from)) => {
            if let Err(error) = stream.set_nodelay(true) {
                warn!(%error, %from, "a connection waits before it sends");
            }
            Some((stream, from))
        }
        Err(error) => {
            warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            None
        }
    }
}

/// What one connection is allowed.
struct Door {
    head_max: Duration,
    head_bytes_max: usize,
    request_max: Duration,
    life_max: Duration,
    stopping: watch::Receiver<bool>,
}

impl Door {
    /// Serves one connection until it ends, is too old, or the process stops.
    async fn serve<S, F>(mut self, stream: S, answer: impl Fn(Request<Incoming>) -> F)
    where
        S: AsyncRead + AsyncWrite + Unpin,
        F: Future<Output = Response<Full<Bytes>>>,
    {
        let is_last = AtomicBool::new(false);
        let idle_max = self.idle_max();
        let service = service_fn(|request| {
            let answer = answer(request);
            let (is_last, idle_max) = (&is_last, &idle_max);
            async move {
                let mut response = answer.await;
                let headers = response.headers_mut();
                // What is in the answer already, stays: it ends the connection, too.
                if is_last.load(Ordering::Relaxed) {
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                } else if !headers.contains_key(CONNECTION) {
                    headers.insert(KEEP_ALIVE, idle_max.clone());
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_max)
            .max_headers(HEADERS_MAX)
            .max_buf_size(self.head_bytes_max)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let last_request_max = tokio::select! {
            ended = connection.as_mut() => return ended_by_itself(ended),
            // One that stays idle ends by itself, within the time that it was told.
            () = tokio::time::sleep(self.life_max) => self.head_max,
            _ = self.stopping.wait_for(|stop| *stop) => LAST_REQUEST_MAX,
        };
        is_last.store(true, Ordering::Relaxed);
        tokio::select! {
            ended = connection.as_mut() => return ended_by_itself(ended),
            () = tokio::time::sleep(last_request_max) => {}
            () = self.stops_soon() => {}
        }
        connection.as_mut().graceful_shutdown();
        let answered_max = self.request_max.saturating_add(LEAVE_MAX);
        if tokio::time::timeout(answered_max, connection)
            .await
            .is_err()
        {
            debug!("a connection was cut: its answer was not taken");
        }
    }

    /// The stop, and the time for one more request.
    async fn stops_soon(&mut self) {
        // An error says that the process is at its end.
        drop(self.stopping.wait_for(|stop| *stop).await);
        tokio::time::sleep(LAST_REQUEST_MAX).await;
    }

    /// What every answer says of how long an idle connection is kept: a second less than it is, for the
    /// way.
    fn idle_max(&self) -> HeaderValue {
        let seconds = self.head_max.as_secs().saturating_sub(1);
        HeaderValue::try_from(format!("timeout={seconds}"))
            .unwrap_or(HeaderValue::from_static("timeout=0"))
    }
}

fn ended_by_itself(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        debug!(%error, "a connection ended");
    }
}
