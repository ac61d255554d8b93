//! The talk with one worker process: requests out, answers in, and who waits for which. A link ends
//! once and for good; then every call under way is told, with its place in the queue given back.
//! Invariant: a place ([`Place`]) is free again only when the worker has answered or
//! is lost, whatever became of the caller, because until then a session is busy with the call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

use super::frame::{FrameError, decode, encode};
use super::inbox::Inbox;
use super::line::Place;
use super::loss::Loss;
use super::outbox::Outbox;
use crate::proto::worker::request::Op;
use crate::proto::worker::response::Result as Answered;
use crate::proto::worker::{Failure, FailureKind, Ping, Request, Response};
use crate::types::DEK_LEN;

/// A call's limit inside the HSM, and the setting that says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) time: Duration,
    pub(super) setting: &'static str,
}

/// How a call ended: with the worker's answer, or with the worker.
pub(super) type Outcome = Result<Answered, Lost>;

/// The worker ended before it answered.
pub(super) struct Lost {
    pub(super) loss: Loss,
    /// The call's place, for a second try.
    pub(super) place: Option<Place>,
}

/// What came of handing a request to the worker.
pub(super) enum Sent {
    /// It is on its way.
    Waiting(oneshot::Receiver<Outcome>),
    /// The link had ended before; the worker has seen nothing of it.
    Ended(Option<Place>),
    /// It does not fit a frame. A fault of ours.
    Unfit(FrameError),
}

struct Entry {
    reply: oneshot::Sender<Outcome>,
    place: Option<Place>,
    operation: &'static str,
    limit: Limit,
    overdue_at: Instant,
}

struct State {
    next_id: u64,
    entries: HashMap<u64, Entry>,
    /// The ping under way and when it left.
    ping: Option<(u64, Instant)>,
    answered: u64,
    /// None once the link has ended or closes.
    outbox: Option<Arc<Outbox>>,
}

/// One worker as the daemon talks to it.
pub(super) struct Link {
    /// Which worker this is, counted from 1.
    pub(super) generation: u64,
    state: Mutex<State>,
    loss: watch::Sender<Option<Loss>>,
}

/// The two tasks that move bytes. They end when this is dropped.
pub(super) struct Pumps(AbortHandle, AbortHandle);

impl Drop for Pumps {
    fn drop(&mut self) {
        self.0.abort();
        self.1.abort();
    }
}

impl Link {
    /// Takes over our end of the socketpair. At most `in_flight_max` calls may be under way.
    pub(super) fn start(
        socket: UnixStream,
        generation: u64,
        in_flight_max: usize,
    ) -> (Arc<Self>, Pumps) {
        let (read, write) = socket.into_split();
        // Beside the calls: the supervisor's own (open, known answer) and a ping.
        let outbox = Arc::new(Outbox::new(write, in_flight_max.saturating_add(2)));
        let link = Arc::new(Self {
            generation,
            state: Mutex::new(State {
                next_id: 1,
                entries: HashMap::new(),
                ping: None,
                answered: 0,
                outbox: Some(Arc::clone(&outbox)),
            }),
            loss: watch::Sender::new(None),
        });
        let reader = tokio::spawn(pump_in(Arc::clone(&link), Inbox::new(read)));
        let writer = tokio::spawn(pump_out(Arc::clone(&link), outbox));
        (link, Pumps(reader.abort_handle(), writer.abort_handle()))
    }

    /// Hands a request to the worker. Does not wait, so a caller cannot leave half a request
    /// behind. `place` is kept until the worker has answered.
    pub(super) fn send(
        &self,
        op: Op,
        operation: &'static str,
        place: Option<Place>,
        limit: Limit,
    ) -> Sent {
        let mut state = self.state();
        let Some(outbox) = state.outbox.clone() else {
            return Sent::Ended(place);
        };
        let id = state.next_id();
        let frame = match encode(&Request { id, op: Some(op) }) {
            Ok(frame) => frame,
            Err(error) => return Sent::Unfit(error),
        };
        if outbox.send(frame).is_err() {
            // Never full while calls hold places; else the worker has just ended.
            return Sent::Ended(place);
        }
        let (reply, answer) = oneshot::channel();
        let entry = Entry {
            reply,
            place,
            operation,
            limit,
            overdue_at: Instant::now() + limit.time,
        };
        state.entries.insert(id, entry);
        Sent::Waiting(answer)
    }

    /// Asks the worker for a sign of life, unless it still owes one.
    pub(super) fn ping(&self) {
        let mut state = self.state();
        if state.ping.is_some() {
            return;
        }
        let Some(outbox) = state.outbox.clone() else {
            return;
        };
        let id = state.next_id();
        let ping = Request {
            id,
            op: Some(Op::Ping(Ping {})),
        };
        if let Ok(frame) = encode(&ping) {
            // Where the worker reads nothing the ping may not fit, and counts as unanswered.
            drop(outbox.send(frame));
            state.ping = Some((id, Instant::now()));
        }
    }

    /// When the next call or ping is overdue, if one is under way.
    pub(super) fn next_overdue(&self, ping_limit: Duration) -> Option<Instant> {
        let state = self.state();
        let ping = state.ping.map(|(_, sent_at)| sent_at + ping_limit);
        let calls = state.entries.values().map(|entry| entry.overdue_at).min();
        [ping, calls].into_iter().flatten().min()
    }

    /// What is overdue now.
    pub(super) fn overdue(&self, ping_limit: Duration) -> Option<Loss> {
        let now = Instant::now();
        let state = self.state();
        if let Some(entry) = state.entries.values().find(|entry| entry.overdue_at <= now) {
            return Some(Loss::Overdue {
                operation: entry.operation,
                limit_ms: u64::try_from(entry.limit.time.as_millis()).unwrap_or(u64::MAX),
                setting: entry.limit.setting,
            });
        }
        let (_, sent_at) = state.ping?;
        (sent_at + ping_limit <= now).then_some(Loss::Frozen(ping_limit))
    }

    /// How many calls are under way; pings do not count.
    pub(super) fn in_flight(&self) -> usize {
        self.state().entries.len()
    }

    /// How many calls the worker has answered; pings do not count.
    pub(super) fn answered(&self) -> u64 {
        self.state().answered
    }

    /// Ends the link. The first reason is the one that counts.
    pub(super) fn lose(&self, loss: Loss) {
        let entries = {
            let mut state = self.state();
            state.close();
            state.ping = None;
            std::mem::take(&mut state.entries)
        };
        self.loss.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| loss.clone());
            is_first
        });
        let loss = self.loss.borrow().clone().unwrap_or(loss);
        for entry in entries.into_values() {
            let lost = Lost {
                loss: loss.clone(),
                place: entry.place,
            };
            // A caller who no longer waits gives its place back by dropping it.
            drop(entry.reply.send(Err(lost)));
        }
    }

    /// Waits until the link has ended.
    pub(super) async fn ended(&self) -> Loss {
        let mut loss = self.loss.subscribe();
        // Cannot fail: the sender is part of `self`.
        match loss.wait_for(Option::is_some).await {
            Ok(loss) => loss.clone().unwrap_or(Loss::Died(None)),
            Err(_) => Loss::Died(None),
        }
    }

    /// Takes no further request. The worker sees the end of its input and leaves.
    pub(super) fn close(&self) {
        self.state().close();
    }

    fn deliver(&self, body: Zeroizing<Vec<u8>>) -> Result<(), Loss> {
        let response: Response =
            decode(body).map_err(|error| Loss::Garbled(format!("no protobuf of ours: {error}")))?;
        let id = response.id;
        let Some(answered) = response.result else {
            return Err(Loss::Garbled(format!("an empty answer to request {id}")));
        };
        if let Answered::Failure(failure) = &answered {
            ends_link(failure)?;
        }
        let entry = {
            let mut state = self.state();
            if state.ping.is_some_and(|(ping, _)| ping == id) {
                state.ping = None;
                return Ok(());
            }
            state.answered = state.answered.saturating_add(1);
            state.entries.remove(&id)
        };
        let Some(entry) = entry else {
            return Err(Loss::Garbled(format!("an answer to no request ({id})")));
        };
        // The session is free whether or not the caller still waits.
        if let Some(place) = entry.place {
            place.settle(is_undecryptable(&answered));
        }
        drop(entry.reply.send(Ok(answered)));
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            outbox.close();
        }
    }

    const fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }
}

/// Whether the HSM could make no DEK of what it was given. Told from the answer itself and not from
/// what the caller hears, who may be gone.
fn is_undecryptable(answered: &Answered) -> bool {
    if let Answered::Failure(failure) = answered {
        failure.kind() == FailureKind::BadCiphertext
    } else if let Answered::Unwrapped(unwrapped) = answered {
        unwrapped.dek.len() != DEK_LEN
    } else {
        false
    }
}

/// Whether a failure is about more than the call that met it.
fn ends_link(failure: &Failure) -> Result<(), Loss> {
    match failure.kind() {
        FailureKind::LinkLost => Err(Loss::LinkLost {
            detail: failure.detail.clone(),
            return_value: failure.return_value.clone(),
        }),
        // Not only when opening: a session that was lost is logged in anew in the middle of a call.
        FailureKind::PinRefused | FailureKind::PinWithheld | FailureKind::PinUnreadable => {
            Err(Loss::LoginRefused(failure.clone()))
        }
        FailureKind::Unspecified
        | FailureKind::BadCiphertext
        | FailureKind::KeyMissing
        | FailureKind::KeyAmbiguous
        | FailureKind::KeyMismatch
        | FailureKind::TokenNotFound
        | FailureKind::Module
        | FailureKind::Unsupported
        | FailureKind::BadRequest
        | FailureKind::RefusedByToken
        | FailureKind::Untested
        | FailureKind::KeyUnwell => Ok(()),
    }
}

async fn pump_in(link: Arc<Link>, mut inbox: Inbox<OwnedReadHalf>) {
    loop {
        let outcome = match inbox.next().await {
            Ok(body) => link.deliver(body),
            Err(FrameError::Socket(_)) => Err(Loss::Died(None)),
            Err(FrameError::TooLong { found }) => {
                Err(Loss::Garbled(format!("a message of {found} bytes")))
            }
        };
        if let Err(loss) = outcome {
            link.lose(loss);
            return;
        }
    }
}

/// Its share of the outbox goes with it: then the worker's input ends.
async fn pump_out(link: Arc<Link>, outbox: Arc<Outbox>) {
    if outbox.pump().await.is_err() {
        link.lose(Loss::Died(None));
    }
}
