//! An accepted connection: a socket, its peer, its slot, and what cuts it. One clock cuts a client
//! that begins something (the HTTP/2 preface, a frame, a header block) and does not end it; another
//! cuts a connection that outlived its age although it was asked to end; and a call may hang up on a
//! client that takes no answers. hyper has none of these.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::frames::Frames;
use crate::grpc::peer::Peer;
use crate::slots::Slot;
use crate::unix_socket::UnixSocket;

/// The two doors a connection comes through.
pub(super) enum Socket {
    /// TCP with TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// A Unix socket.
    Unix(UnixSocket),
}

impl Socket {
    fn reader(&mut self) -> Pin<&mut (dyn AsyncRead + Send + Unpin)> {
        Pin::new(match self {
            Self::Tls(stream) => stream.as_mut(),
            Self::Unix(stream) => stream,
        })
    }

    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        Pin::new(match self {
            Self::Tls(stream) => stream.as_mut(),
            Self::Unix(stream) => stream,
        })
    }
}

/// A connection that has an identity.
pub(super) struct Connection {
    socket: Socket,
    peer: Peer,
    /// Held until the connection is gone.
    _slot: Slot,
    frames: Frames,
    whole_max: Duration,
    /// Runs while the client is in the middle of something.
    whole_ends: Pin<Box<Sleep>>,
    /// The end of the connection, whatever happens.
    life_ends: Pin<Box<Sleep>>,
    /// A call ends it.
    hung_up: Pin<Box<OwnedNotified>>,
}

impl Connection {
    /// A client may take `whole_max` for anything it begins, and the connection lives `life_max`.
    pub(super) fn new(
        socket: Socket,
        peer: Peer,
        slot: Slot,
        whole_max: Duration,
        life_max: Duration,
    ) -> Self {
        Self {
            socket,
            hung_up: Box::pin(peer.hang_up.asked()),
            peer,
            _slot: slot,
            frames: Frames::new(),
            whole_max,
            whole_ends: Box::pin(sleep(whole_max)),
            life_ends: Box::pin(sleep(life_max)),
        }
    }

    fn cut(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        let late = |what| Some(io::Error::new(io::ErrorKind::TimedOut, what));
        if self.life_ends.as_mut().poll(cx).is_ready() {
            return late("the connection outlived its age");
        }
        if self.hung_up.as_mut().poll(cx).is_ready() {
            return late("the client took no answers");
        }
        if !self.frames.is_between() && self.whole_ends.as_mut().poll(cx).is_ready() {
            return late("the client did not end what it began");
        }
        None
    }

    fn note(&mut self, sent: &[u8]) {
        let (wholes, was_between) = (self.frames.wholes(), self.frames.is_between());
        self.frames.advance(sent);
        let began = was_between || self.frames.wholes() != wholes;
        if began && !self.frames.is_between() {
            self.whole_ends
                .as_mut()
                .reset(Instant::now() + self.whole_max);
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match self.socket.reader().poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                self.note(buffer.filled().get(before..).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // Only a client that keeps us waiting is late: bytes that are here are read first.
            Poll::Pending => self
                .cut(cx)
                .map_or(Poll::Pending, |late| Poll::Ready(Err(late))),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.socket.writer().poll_write(cx, bytes) {
            Poll::Pending => self
                .cut(cx)
                .map_or(Poll::Pending, |late| Poll::Ready(Err(late))),
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.writer().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.writer().poll_shutdown(cx)
    }
}
