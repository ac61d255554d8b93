//! The worker process: the PKCS#11 module, the PIN and the sessions, and nothing else. No network,
//! no ledger, no files but the PIN file, its mark and the module's own. It is started by the daemon
//! with two sockets, answers requests until they are closed, and may be killed at any time. This is
//! the only folder that names the binding `cryptoki`; what goes in and out is
//! `proto/kekd/worker/v1/worker.proto`.
//!
//! Threads: one opens the token and answers pings, and one per session takes requests from the other
//! socket (`pool.rs`). Nothing here has a deadline: a module that hangs is cured from outside, by SIGKILL.

mod answers;
mod attack;
mod attribute;
mod cage;
mod data_object;
mod destroy;
mod error;
mod generate;
mod handles;
mod implicit_rejection;
mod import;
mod inventory;
mod job;
mod key;
mod known_answer;
mod login;
mod mechanism;
mod pin;
mod pool;
mod probe;
mod public_key;
mod read_back;
mod return_value;
mod rewrap;
mod seat;
mod settle;
mod sign;
mod temporary;
mod token;
mod unwrap;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use prost::Message;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::process::{DumpableBehavior, Signal};

use self::error::JobError;
use self::pool::{Pool, Replies};
use self::token::Token;
use super::frame::{self, FrameError};
use crate::proto::worker::{Open, Opened, Pong, Request, request::Op, response::Result as Answer};

/// Why the worker ended otherwise than by its socket being closed. All are fatal for it; the daemon
/// starts another.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Standard input and output are no sockets.
    #[error("hsm-worker is started by kekd, with sockets as its input and output; not by hand")]
    NotStartedByKekd,
    /// The process could not be made safe to hold a PIN.
    #[error("the worker process cannot be protected")]
    Unprotected(#[source] io::Error),
    /// The socket failed, or what came was no frame.
    #[error("the worker cannot read its requests")]
    Frame(#[from] FrameError),
    /// What came was no request.
    #[error("the worker was sent something that is no request")]
    Request(#[from] prost::DecodeError),
    /// The module did not end in order.
    #[error("the PKCS#11 module did not finalise: {0}")]
    Finalise(String),
}

/// The worker process: what `kekd hsm-worker` runs. Standard input is its end of the socketpair for
/// opening, pings and all answers, standard output that of the one from which sessions take requests.
///
/// The daemon must start it from a thread that lives as long as itself: the kernel kills the worker
/// when the *thread* that started it ends (`PR_SET_PDEATHSIG`, prctl(2)).
pub fn run() -> Result<(), WorkerError> {
    let socket = given(io::stdin().as_fd(), SocketType::STREAM)?;
    let requests = given(io::stdout().as_fd(), SocketType::SEQPACKET)?;
    // What a module prints is for nobody, and would go to the daemon.
    let nowhere = File::create("/dev/null").map_err(WorkerError::Unprotected)?;
    rustix::stdio::dup2_stdout(nowhere).map_err(|error| WorkerError::Unprotected(error.into()))?;
    // No core dump, and no other process of this user may read the PIN in /proc/PID/mem.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| WorkerError::Unprotected(error.into()))?;
    // A worker whose module hangs would outlive a daemon that was killed. One whose daemon died
    // before this line reads the end of its socket next, and ends.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| WorkerError::Unprotected(error.into()))?;
    serve(UnixStream::from(socket), requests)
}

fn given(socket: BorrowedFd<'_>, kind: SocketType) -> Result<OwnedFd, WorkerError> {
    if rustix::net::sockopt::socket_type(socket) != Ok(kind) {
        return Err(WorkerError::NotStartedByKekd);
    }
    socket
        .try_clone_to_owned()
        .map_err(WorkerError::Unprotected)
}

/// Answers requests until the socket is closed, then ends the module in order. Takes the process
/// for itself: `C_Initialize` is once per process.
pub fn serve(socket: UnixStream, requests: OwnedFd) -> Result<(), WorkerError> {
    let writer = socket.try_clone().map_err(FrameError::Socket)?;
    let replies = Arc::new(Replies::new(writer));
    let mut state = State::New;
    let requests = Arc::new(requests);
    let outcome = answer_all(&socket, &requests, &replies, &mut state);
    let State::Open { token, pool } = state else {
        return outcome;
    };
    // Modules crash when they are finalised in use: first the threads, then the module.
    pool.finish();
    if let Some(token) = Arc::into_inner(token) {
        token
            .close()
            .map_err(|error| WorkerError::Finalise(error.to_string()))?;
    }
    outcome
}

/// Where the worker is. One login per start: there is no way back to `New`.
enum State {
    New,
    Failed,
    Open { token: Arc<Token>, pool: Pool },
}

fn answer_all(
    socket: &UnixStream,
    requests: &Arc<OwnedFd>,
    replies: &Arc<Replies>,
    state: &mut State,
) -> Result<(), WorkerError> {
    loop {
        await_request(socket)?;
        let Some(body) = frame::read(socket)? else {
            return Ok(());
        };
        let Request { id, op } = Request::decode(&body[..])?;
        let refuse = |why: &str| replies.send(id, Err(JobError::bad_request(why)));
        match (op, &*state) {
            (None, _) => refuse("the request asks for nothing this worker knows"),
            (Some(Op::Ping(_)), _) => replies.send(id, Ok(Answer::Pong(Pong {}))),
            (Some(Op::Open(request)), State::New) => match open(&request, requests, replies) {
                Ok((opened, token, pool)) => {
                    *state = State::Open { token, pool };
                    replies.send(id, Ok(Answer::Opened(opened)));
                }
                Err(error) => {
                    *state = State::Failed;
                    replies.send(id, Err(error));
                }
            },
            (Some(Op::Open(_)), _) => refuse("a worker opens its token once"),
            (Some(_), _) => refuse("this is for a session, which takes its requests elsewhere"),
        }
    }
}

/// Waits for bytes to read. A thread that waits inside read(2) is woken for nothing each time the
/// daemon takes an answer, because the socket then has room to write; one in poll(2) is not.
fn await_request(socket: &UnixStream) -> Result<(), FrameError> {
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    match poll(&mut polled, None) {
        // The read that follows says what there is, if anything.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(FrameError::Socket(error.into())),
    }
}

fn open(
    request: &Open,
    requests: &Arc<OwnedFd>,
    replies: &Arc<Replies>,
) -> Result<(Opened, Arc<Token>, Pool), JobError> {
    let (token, opened) = Token::open(request)?;
    let token = Arc::new(token);
    let pool = Pool::start(&token, request.sessions, requests, replies)?;
    Ok((opened, token, pool))
}
