//! The threads of the worker. Each owns one session; jobs come by a bounded queue and answers go
//! out under a lock, in any order. The invariant: every job gets exactly one answer, also one that
//! panics.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::error::JobError;
use super::job;
use super::seat::Seat;
use super::token::Token;
use crate::hsm::frame;
use crate::proto::worker::{Response, request::Op, response::Result as Answer};

/// Most sessions a daemon may ask for.
const SESSIONS_MAX: u32 = 64;
/// Jobs that may wait. The daemon bounds what it sends by far less; beyond this the socket is
/// simply not read until a session is free.
const QUEUE_LEN_MAX: usize = 1024;

/// A request that needs a session.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) op: Op,
}

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
    jobs: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Opens the sessions and starts a thread for each.
    pub(super) fn start(
        token: &Arc<Token>,
        sessions: u32,
        replies: &Arc<Replies>,
    ) -> Result<Self, JobError> {
        if sessions == 0 || sessions > SESSIONS_MAX {
            let why = format!("a worker has 1 to {SESSIONS_MAX} sessions, not {sessions}");
            return Err(JobError::bad_request(why));
        }
        let (jobs, queue) = bounded(QUEUE_LEN_MAX);
        let mut threads = Vec::new();
        for number in 0..sessions {
            let seat = Seat::new(Arc::clone(token))?;
            let (queue, replies) = (queue.clone(), Arc::clone(replies));
            let thread = thread::Builder::new()
                .name(format!("hsm-{number}"))
                .spawn(move || work(seat, &queue, &replies))
                .map_err(|error| JobError::link_lost(format!("no thread: {error}")))?;
            threads.push(thread);
        }
        Ok(Self { jobs, threads })
    }

    /// Hands a job to the next free thread; waits where very many wait already. Whether there is a
    /// thread left to take it.
    pub(super) fn submit(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }

    /// Lets the threads finish what is queued and waits for them. All sessions are closed then.
    pub(super) fn finish(self) {
        drop(self.jobs);
        for thread in self.threads {
            // A thread answers for its panics job by job; there is nothing more to hear.
            drop(thread.join());
        }
    }
}

fn work(mut seat: Seat, queue: &Receiver<Job>, replies: &Replies) {
    for Job { id, op } in queue {
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
