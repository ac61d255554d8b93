//! A connected Unix socket that wakes nobody for nothing. Whoever watches a socket for room to write is
//! woken each time its peer has read something, and the peer, which has a request or an answer in hand
//! then, does the waking. tokio's own socket is always watched for both, its two ends of a pipe for one
//! each, and read(2), writev(2) and epoll(7) are the same for pipes and sockets. So this one is read as
//! the end of a pipe is, and watched for room only while it has none.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::{Errno, retry_on_intr, writev};
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};

/// A connected stream socket (unix(7)).
#[derive(Debug)]
pub struct UnixSocket {
    socket: Receiver,
    /// The same socket once more, while it takes nothing.
    full: Option<Sender>,
}

impl UnixSocket {
    /// Takes over a socket. Must be called inside a runtime.
    ///
    /// # Errors
    /// Where the kernel watches no more descriptors (`epoll_ctl(2)`).
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        let socket = OwnedFd::from(socket.into_std()?);
        Ok(Self {
            socket: Receiver::from_owned_fd_unchecked(socket)?,
            full: None,
        })
    }

    /// Sends at once what the socket has room for; where it has none, the same socket, watched for it.
    fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<Result<usize, Sender>> {
        match retry_on_intr(|| writev(&self.socket, slices)) {
            Err(Errno::AGAIN) => {
                let again = self.socket.as_fd().try_clone_to_owned()?;
                Ok(Err(Sender::from_owned_fd_unchecked(again)?))
            }
            sent => Ok(Ok(sent?)),
        }
    }
}

impl AsyncRead for UnixSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for UnixSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut full = match self.full.take() {
            Some(full) => full,
            None => match self.send(slices)? {
                Ok(sent) => return Poll::Ready(Ok(sent)),
                Err(full) => full,
            },
        };
        let sent = Pin::new(&mut full).poll_write_vectored(cx, slices);
        if sent.is_pending() {
            self.full = Some(full);
        }
        sent
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is kept back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(&self.socket, Shutdown::Write).map_err(io::Error::from))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::fs;

    use rustix::fs::fstat;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// EPOLLOUT, as /proc/PID/fdinfo has it (proc(5)).
    const ROOM: u32 = 0x4;

    fn pair() -> (UnixSocket, UnixSocket) {
        let (one, other) = UnixStream::pair().unwrap();
        (
            UnixSocket::new(one).unwrap(),
            UnixSocket::new(other).unwrap(),
        )
    }

    /// What a socket is watched for, by its inode number, by any epoll of this process.
    fn watched_for(inode: u64) -> Vec<u32> {
        let inode = format!("ino:{inode:x}");
        let infos = fs::read_dir("/proc/self/fdinfo").unwrap();
        let infos = infos.filter_map(|info| fs::read_to_string(info.ok()?.path()).ok());
        let watched = infos.flat_map(|info| {
            let lines = info.lines().filter_map(|line| {
                let mut words = line.split_whitespace();
                words.find(|word| *word == "events:")?;
                let events = u32::from_str_radix(words.next()?, 16).unwrap();
                words.any(|word| word == inode).then_some(events)
            });
            lines.collect::<Vec<_>>()
        });
        watched.collect()
    }

    #[tokio::test]
    async fn room_is_watched_for_only_while_there_is_none() {
        let (mut one, mut other) = pair();
        let inode = fstat(&one.socket).unwrap().st_ino;
        one.write_all(b"a").await.unwrap();
        let quiet = watched_for(inode);
        assert!(!quiet.is_empty(), "it is not watched at all");
        assert!(quiet.iter().all(|events| events & ROOM == 0), "{quiet:x?}");

        let bytes = vec![7; 4 << 20];
        let sending = tokio::spawn(async move {
            one.write_all(&bytes).await.unwrap();
            one
        });
        // One thread: once this goes on, the other has filled the socket and waits.
        tokio::task::yield_now().await;
        let mut received = vec![0; 1 + (4 << 20)];
        other.read_exact(&mut received).await.unwrap();
        assert!(received.iter().skip(1).all(|byte| *byte == 7));
        let one = sending.await.unwrap();
        assert!(one.full.is_none());
        assert_eq!(watched_for(inode), quiet);
    }

    #[tokio::test]
    async fn a_full_socket_sends_on_once_there_is_room_or_nobody_reads() {
        let (mut one, mut other) = pair();
        let fill = vec![0; 1 << 20];
        let filled = |one: &mut UnixSocket| {
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            let mut sent = 0;
            while let Poll::Ready(len) = Pin::new(&mut *one).poll_write(cx, &fill) {
                sent += len.unwrap();
            }
            sent
        };
        let sent = filled(&mut one);
        let watched = watched_for(fstat(&one.socket).unwrap().st_ino);
        assert!(watched.iter().any(|events| events & ROOM != 0));
        other.read_exact(&mut vec![0; sent]).await.unwrap();
        assert_eq!(one.write(b"b").await.unwrap(), 1);
        assert!(one.full.is_none());

        filled(&mut one);
        drop(other);
        let error = one.write_all(b"c").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let mut rest = Vec::new();
        // What the peer did not read is lost, and both sides are told.
        let ended = one.read_to_end(&mut rest).await;
        assert!(
            ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset),
            "{rest:?}"
        );
    }

    #[tokio::test]
    async fn an_end_that_is_shut_down_is_read_to_its_end() {
        let (mut one, mut other) = pair();
        one.write_all(b"last").await.unwrap();
        one.shutdown().await.unwrap();
        let mut said = String::new();
        other.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "last");
        other.write_all(b"heard").await.unwrap();
        drop(other);
        said.clear();
        one.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "heard");
    }
}
