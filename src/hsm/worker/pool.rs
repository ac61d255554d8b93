//! The threads of the worker. Each owns one session and takes one request after another from the socket
//! that they share; answers go out under a lock, in any order. The invariant: every request gets exactly
//! one answer, also one that panics.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use prost::Message as _;
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};

use super::error::JobError;
use super::job;
use super::seat::Seat;
use super::token::Token;
use crate::hsm::frame::{self, REQUEST_LEN_MAX};
use crate::proto::worker::{Request, Response, response::Result as Answer};

/// Most sessions a daemon may ask for.
const SESSIONS_MAX: u32 = 64;

/// The way back to the daemon.
pub(super) struct Replies(Mutex<UnixStream>);

impl Replies {
    pub(super) const fn new(socket: UnixStream) -> Self {
        Self(Mutex::new(socket))
    }

    /// Sends one answer. A daemon that is gone does not hear it; the reading thread notices.
    pub(super) fn send(&self, id: u64, outcome: Result<Answer, JobError>) {
        let answer = outcome.unwrap_or_else(|error| Answer::Failure(error.failure()));
        if self.write(id, answer).is_err() {
            let error = JobError::Unsupported {
                what: "the answer does not fit a frame".to_owned(),
                return_value: None,
            };
            drop(self.write(id, Answer::Failure(error.failure())));
        }
    }

    fn write(&self, id: u64, answer: Answer) -> io::Result<()> {
        let response = Response {
            id,
            result: Some(answer),
        };
        let bytes = frame::encode(&response).map_err(io::Error::other)?;
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&bytes)
    }
}

/// The threads and the way to them.
pub(super) struct Pool {
    requests: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Opens the sessions and starts a thread for each.
    pub(super) fn start(
        token: &Arc<Token>,
        sessions: u32,
        requests: &Arc<OwnedFd>,
        replies: &Arc<Replies>,
    ) -> Result<Self, JobError> {
        if sessions == 0 || sessions > SESSIONS_MAX {
            let why = format!("a worker has 1 to {SESSIONS_MAX} sessions, not {sessions}");
            return Err(JobError::bad_request(why));
        }
        let mut threads = Vec::new();
        for number in 0..sessions {
            let seat = Seat::new(Arc::clone(token))?;
            let (requests, replies) = (Arc::clone(requests), Arc::clone(replies));
            let thread = thread::Builder::new()
                .name(format!("hsm-{number}"))
                .spawn(move || work(seat, &requests, &replies))
                .map_err(|error| JobError::link_lost(format!("no thread: {error}")))?;
            threads.push(thread);
        }
        Ok(Self {
            requests: Arc::clone(requests),
            threads,
        })
    }

    /// Lets the threads finish what they were sent and waits for them. All sessions are closed then.
    pub(super) fn finish(self) {
        // What lies there is still taken. Cannot fail on a socket that is connected.
        shutdown(&*self.requests, Shutdown::Read).ok();
        for thread in self.threads {
            // A thread answers for its panics job by job; there is nothing more to hear.
            drop(thread.join());
        }
    }
}

fn work(mut seat: Seat, requests: &OwnedFd, replies: &Replies) {
    // There is no plaintext in requests, so the buffer needs no wiping.
    let mut buffer = vec![0; REQUEST_LEN_MAX];
    while let Some(bytes) = take(requests, &mut buffer) {
        let Ok(Request { id, op: Some(op) }) = Request::decode(bytes) else {
            // An answer to nothing: the daemon ends a worker it does not understand.
            let why = "the request asks for nothing this worker knows";
            replies.send(0, Err(JobError::bad_request(why)));
            continue;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| job::run(&mut seat, op)));
        let outcome = outcome.unwrap_or_else(|_| {
            Err(JobError::link_lost(
                "the request made the worker panic; its standard error says where",
            ))
        });
        if outcome.is_err() {
            seat.retire_session();
        }
        replies.send(id, outcome);
        seat.tidy();
    }
}

/// The next request; none where the daemon sends no more.
fn take<'a>(requests: &OwnedFd, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let len = loop {
        match recv(requests, &mut *buffer, RecvFlags::empty()) {
            Ok((len, _)) => break len,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    };
    buffer.get(..len).filter(|bytes| !bytes.is_empty())
}
