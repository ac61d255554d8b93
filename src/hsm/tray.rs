//! The tray from which a worker's sessions take their requests: a socket that keeps messages apart
//! (`SOCK_SEQPACKET`, unix(7)). Whichever thread is free takes one, whole, and no other is woken for
//! it. We hold both ends, so that what no session has taken can be taken back.
//! The invariants: a request is with one side only, a session's or ours; and requests lie in the
//! order in which they were put.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use prost::Message as _;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socketpair};

use super::frame::{FrameError, REQUEST_LEN_MAX};
use crate::proto::worker::Request;

/// The tray of one worker. There is no plaintext in requests, so nothing here needs wiping.
pub(super) struct Tray {
    ours: OwnedFd,
    theirs: OwnedFd,
    /// What the socket did not take at once, the oldest first.
    unsent: VecDeque<Vec<u8>>,
}

impl Tray {
    /// A tray, and the end of it that the worker's sessions read.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let for_worker = theirs.try_clone()?;
        let tray = Self {
            ours,
            theirs,
            unsent: VecDeque::new(),
        };
        Ok((tray, for_worker))
    }

    /// Puts a request behind the others. Does not wait.
    pub(super) fn put(&mut self, request: &Request) -> Result<(), FrameError> {
        let found = request.encoded_len();
        if found > REQUEST_LEN_MAX {
            return Err(FrameError::RequestTooLong { found });
        }
        self.unsent.push_back(request.encode_to_vec());
        self.flush();
        Ok(())
    }

    /// Moves on what the socket did not take before. It takes as many messages as
    /// `net.unix.max_dgram_qlen` says, and sessions that are free make room at once.
    pub(super) fn flush(&mut self) {
        while let Some(request) = self.unsent.front() {
            match send(
                &self.ours,
                request,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(_) => drop(self.unsent.pop_front()),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Takes back all that no session has taken, the oldest first.
    pub(super) fn clear(&mut self) -> Vec<Request> {
        let mut buffer = vec![0; REQUEST_LEN_MAX];
        let mut untaken = Vec::new();
        loop {
            match recv(&self.theirs, &mut *buffer, RecvFlags::DONTWAIT) {
                // None is empty: a worker has shut its end down.
                Ok((0, _)) => break,
                Ok((len, _)) => untaken.push(buffer.get(..len).unwrap_or_default().to_vec()),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        untaken.extend(self.unsent.drain(..));
        // All of them were encoded here.
        let requests = untaken.iter().map(|bytes| Request::decode(&**bytes));
        requests.filter_map(Result::ok).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use rustix::net::{Shutdown, shutdown};

    use super::*;
    use crate::proto::worker::request::Op;
    use crate::proto::worker::{ReadData, WriteData};

    fn request(id: u64) -> Request {
        let labels = vec!["x".repeat(400)];
        let op = Some(Op::ReadData(ReadData { labels }));
        Request { id, op }
    }

    /// What a session would take next.
    fn taken(worker: &OwnedFd) -> u64 {
        let mut buffer = [0; 1024];
        let (len, _) = recv(worker, &mut buffer[..], RecvFlags::DONTWAIT).unwrap();
        Request::decode(buffer.get(..len).unwrap()).unwrap().id
    }

    fn ids(requests: &[Request]) -> Vec<u64> {
        requests.iter().map(|request| request.id).collect()
    }

    #[test]
    fn what_was_not_taken_is_taken_back_in_order() {
        let (mut tray, worker) = Tray::new().unwrap();
        // More than the socket takes at once, whatever the machine's setting.
        for id in 0..2000 {
            tray.put(&request(id)).unwrap();
        }
        assert!(!tray.unsent.is_empty());
        assert_eq!([taken(&worker), taken(&worker)], [0, 1]);
        let untaken = tray.clear();
        assert_eq!(ids(&untaken), (2..2000).collect::<Vec<_>>());
        assert_eq!(untaken.first(), Some(&request(2)));
        assert_eq!(tray.clear(), []);
        tray.put(&request(7)).unwrap();
        assert_eq!(taken(&worker), 7);
    }

    #[test]
    fn what_the_socket_did_not_take_follows_in_order() {
        let (mut tray, worker) = Tray::new().unwrap();
        for id in 0..2000 {
            tray.put(&request(id)).unwrap();
        }
        for id in 0..2000 {
            assert_eq!(taken(&worker), id);
            tray.flush();
        }
        assert!(tray.unsent.is_empty());
    }

    #[test]
    fn what_is_shut_down_is_cleared() {
        let (mut tray, worker) = Tray::new().unwrap();
        tray.put(&request(1)).unwrap();
        shutdown(&worker, Shutdown::Read).unwrap();
        assert_eq!(ids(&tray.clear()), [1]);
        tray.put(&request(2)).unwrap();
        assert_eq!(ids(&tray.clear()), [2]);
    }

    #[test]
    fn a_request_has_a_longest() {
        let (mut tray, worker) = Tray::new().unwrap();
        let write = |len| Request {
            id: 1,
            op: Some(Op::WriteData(WriteData {
                value: vec![0; len],
                ..WriteData::default()
            })),
        };
        let head = write(REQUEST_LEN_MAX).encoded_len() - REQUEST_LEN_MAX;
        tray.put(&write(REQUEST_LEN_MAX - head)).unwrap();
        let mut buffer = vec![0; REQUEST_LEN_MAX + 1];
        let (len, _) = recv(&worker, &mut *buffer, RecvFlags::DONTWAIT).unwrap();
        assert_eq!(len, REQUEST_LEN_MAX);
        let long = tray.put(&write(REQUEST_LEN_MAX - head + 1)).unwrap_err();
        assert!(matches!(long, FrameError::RequestTooLong { .. }), "{long}");
        assert_eq!(tray.clear(), []);
    }
}
