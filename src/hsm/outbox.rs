//! Requests on their way to the worker. A frame is written by whoever sends it, which spares each
//! call the wait for another task; only what the socket does not take at once waits for the pump.
//! The invariant: frames leave whole and in the order in which they were sent, and nobody waits.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// Our end of the socket, for writing. When the last one to hold it lets go, the worker's input ends.
pub(super) struct Outbox {
    socket: OwnedWriteHalf,
    waiting: Mutex<Waiting>,
    waiting_max: usize,
    pump: Notify,
    is_closed: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Zeroizing<Vec<u8>>>,
    /// Bytes of the first frame that were written.
    written: usize,
}

/// A frame that was not taken: too many wait, or the socket has failed. Nothing of it was written.
pub(super) struct Unsent;

impl Outbox {
    /// At most so many frames wait for a worker that does not read.
    pub(super) fn new(socket: OwnedWriteHalf, waiting_max: usize) -> Self {
        Self {
            socket,
            waiting: Mutex::default(),
            waiting_max,
            pump: Notify::new(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Sends a frame, now where the socket takes it.
    pub(super) fn send(&self, frame: Zeroizing<Vec<u8>>) -> Result<(), Unsent> {
        let mut waiting = self.waiting();
        if waiting.frames.len() >= self.waiting_max {
            return Err(Unsent);
        }
        if waiting.frames.is_empty() {
            waiting.written = match self.socket.try_write(&frame) {
                Ok(written) if written == frame.len() => return Ok(()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return Err(Unsent),
            };
        }
        waiting.frames.push_back(frame);
        drop(waiting);
        self.pump.notify_one();
        Ok(())
    }

    /// Takes no more: the pump ends when what waits is written.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.pump.notify_one();
    }

    /// Writes what waits, whenever there is something, until closed.
    pub(super) async fn pump(&self) -> io::Result<()> {
        loop {
            while !self.write_waiting()? {
                self.socket.writable().await?;
            }
            if self.is_closed.load(Ordering::Acquire) {
                return Ok(());
            }
            self.pump.notified().await;
        }
    }

    /// Whether nothing waits any more.
    fn write_waiting(&self) -> io::Result<bool> {
        let mut waiting = self.waiting();
        while let Some(frame) = waiting.frames.front() {
            let rest = frame.get(waiting.written..).unwrap_or_default();
            let (len, wrote) = match self.socket.try_write(rest) {
                Ok(wrote) => (rest.len(), wrote),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            if wrote == len {
                waiting.frames.pop_front();
                waiting.written = 0;
            } else {
                waiting.written += wrote;
            }
        }
        Ok(true)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream as StdUnixStream;
    use std::sync::Arc;

    use tokio::net::UnixStream;

    use super::*;

    fn outbox(waiting_max: usize) -> (Arc<Outbox>, StdUnixStream) {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (_, write) = UnixStream::from_std(ours).unwrap().into_split();
        (Arc::new(Outbox::new(write, waiting_max)), theirs)
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order_though_the_socket_is_full() {
        const LEN: usize = 100_000;
        let (outbox, mut theirs) = outbox(64);
        let pump = tokio::spawn({
            let outbox = Arc::clone(&outbox);
            async move { outbox.pump().await }
        });
        for byte in 0..32 {
            assert!(outbox.send(Zeroizing::new(vec![byte; LEN])).is_ok());
        }
        outbox.close();
        drop(outbox);
        let read = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all
        });
        pump.await.unwrap().unwrap();
        let all = read.await.unwrap();
        assert_eq!(all.len(), 32 * LEN);
        for (byte, frame) in (0..).zip(all.chunks(LEN)) {
            assert!(frame.iter().all(|found| *found == byte));
        }
    }

    #[tokio::test]
    async fn a_worker_that_does_not_read_holds_up_so_many_frames_and_no_more() {
        let (outbox, _theirs) = outbox(2);
        let sent = (0..100).take_while(|_| outbox.send(Zeroizing::new(vec![0; 100_000])).is_ok());
        assert!(sent.count() < 20);
    }

    #[tokio::test]
    async fn a_worker_that_is_gone_takes_no_frame() {
        let (outbox, theirs) = outbox(2);
        drop(theirs);
        outbox.socket.writable().await.unwrap();
        assert!(outbox.send(Zeroizing::new(vec![0; 8])).is_err());
    }
}
