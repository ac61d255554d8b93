//! The connection under HTTP/2: TCP and TLS, or a Unix socket. It remembers what the transport
//! stack above it forgets: the alert that ended a connection, and whether kekd ever said anything
//! on it. With TLS 1.3 that is the only sign of a client certificate that kekd refused.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::AlertDescription;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::endpoint::{Endpoint, TlsFiles};
use super::error::ConnectError;
use super::tls;
use crate::unix_socket::UnixSocket;

/// What is known of the newest connection of one client.
#[derive(Debug)]
pub(super) struct Link {
    peer: String,
    seen: Mutex<Seen>,
}

/// What the newest connection saw of its peer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// The peer has said something after the handshake.
    pub heard: bool,
    /// The connection is TLS.
    pub tls: bool,
    /// The peer's last word was this fatal alert.
    pub alert: Option<AlertDescription>,
}

impl Link {
    pub(super) fn new(peer: String) -> Self {
        Self {
            peer,
            seen: Mutex::default(),
        }
    }

    /// The peer's address, for messages.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    pub(super) fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Makes connections to one endpoint, each within the timeout.
pub(super) struct Connector {
    endpoint: Arc<Endpoint>,
    timeout: Duration,
    link: Arc<Link>,
}

impl Connector {
    pub(super) fn new(endpoint: Endpoint, timeout: Duration, link: Arc<Link>) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            timeout,
            link,
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let endpoint = Arc::clone(&self.endpoint);
        let link = Arc::clone(&self.link);
        let timeout = self.timeout;
        Box::pin(async move {
            let tls = matches!(*endpoint, Endpoint::Tcp { .. });
            link.note(|seen| {
                *seen = Seen {
                    tls,
                    ..Seen::default()
                }
            });
            let io = tokio::time::timeout(timeout, dial(&endpoint))
                .await
                .map_err(|_| ConnectError::TimedOut {
                    peer: endpoint.to_string(),
                    timeout_ms: timeout.as_millis(),
                })??;
            Ok(TokioIo::new(Wire { io, link }))
        })
    }
}

async fn dial(endpoint: &Endpoint) -> Result<Box<dyn Io>, ConnectError> {
    let unreachable = |cause: io::Error| ConnectError::Unreachable {
        peer: endpoint.to_string(),
        kind: cause.kind(),
        cause: cause.to_string(),
    };
    match endpoint {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            Ok(Box::new(UnixSocket::new(stream).map_err(unreachable)?))
        }
        Endpoint::Tcp { host, port, files } => {
            let config = read_files(files).await?;
            let name = ServerName::try_from(host.clone())
                .map_err(|_| ConnectError::HostName { host: host.clone() })?;
            let stream = TcpStream::connect((host.as_str(), *port))
                .await
                .map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            let stream = TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await
                .map_err(|cause| ConnectError::handshake(endpoint.to_string(), cause))?;
            Ok(Box::new(stream))
        }
    }
}

async fn read_files(files: &TlsFiles) -> Result<rustls::ClientConfig, ConnectError> {
    let files = files.clone();
    match tokio::task::spawn_blocking(move || tls::client_config(&files)).await {
        Ok(config) => Ok(config?),
        Err(_) => Err(ConnectError::Stopped),
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl Io for UnixSocket {}
impl Io for tokio_rustls::client::TlsStream<TcpStream> {}

/// One connection, with an eye on what the peer says last.
pub(super) struct Wire {
    io: Box<dyn Io>,
    link: Arc<Link>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        match &polled {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                self.link.note(|seen| seen.heard = true);
            }
            Poll::Ready(Err(error)) => {
                let alert = alert_in(error);
                self.link.note(|seen| seen.alert = seen.alert.or(alert));
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        polled
    }
}

fn alert_in(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        Some(_) | None => None,
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
