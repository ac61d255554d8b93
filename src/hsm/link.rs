//! The talk with one worker process: requests out, answers in, and who waits for which. A link ends
//! once and for good; then every call under way is told, with its place in the queue given back.
//!
//! More calls are let in than there are sessions. The others are *at the door*: their requests lie in
//! the tray, so that a session that comes free has its next call at once and need not wait for us. No
//! time runs for them, and until a session takes one it can be taken back.
//! Invariant: a place ([`Place`]) is free again only when the worker has answered or is lost, or the
//! call was taken back, whatever became of the caller: otherwise a session is busy with it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{SendFlags, send};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

use super::frame::{FrameError, decode, encode};
use super::inbox::Inbox;
use super::job::is_undecryptable;
use super::line::Place;
use super::loss::Loss;
use super::tray::Tray;
use crate::proto::worker::request::Op;
use crate::proto::worker::response::Result as Answered;
use crate::proto::worker::{Ping, Request, Response};

/// A call's limit inside the HSM, and the setting that says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) time: Duration,
    pub(super) setting: &'static str,
}

/// How a call ended.
pub(super) enum Outcome {
    /// With the worker's answer.
    Answered {
        answered: Answered,
        /// When a session took it, as far as we can tell.
        begun_at: Instant,
    },
    /// With the worker, which may have begun it.
    Lost {
        loss: Loss,
        /// The call's place, for a second try.
        place: Option<Place>,
    },
    /// Not at all: it was taken back, and its place is another's.
    NotBegun,
}

/// What came of handing a request to the worker.
pub(super) enum Sent {
    /// It is on its way.
    Waiting {
        id: u64,
        outcome: oneshot::Receiver<Outcome>,
        /// No session was free for it.
        is_at_door: bool,
    },
    /// The link had ended before; the worker has seen nothing of it.
    Ended(Option<Place>),
    /// It is too long. A fault of ours.
    Unfit(FrameError),
}

struct Entry {
    reply: oneshot::Sender<Outcome>,
    place: Option<Place>,
    operation: &'static str,
    limit: Limit,
    /// None: it is at the door.
    begun_at: Option<Instant>,
}

impl Entry {
    fn overdue_at(&self) -> Option<Instant> {
        Some(self.begun_at? + self.limit.time)
    }
}

struct State {
    next_id: u64,
    sessions: usize,
    entries: HashMap<u64, Entry>,
    /// Those of `entries` that no session has taken, the oldest first.
    at_door: VecDeque<u64>,
    /// The ping under way and when it left.
    ping: Option<(u64, Instant)>,
    answered: u64,
    /// None once the link has ended or closes.
    ways: Option<Ways>,
}

/// The ways to the worker. When they are dropped its input ends.
struct Ways {
    /// To its reading thread, for opening and pings.
    control: OwnedWriteHalf,
    /// To its sessions, for all else.
    tray: Tray,
}

/// One worker as the daemon talks to it.
pub(super) struct Link {
    /// Which worker this is, counted from 1.
    pub(super) generation: u64,
    state: Mutex<State>,
    loss: watch::Sender<Option<Loss>>,
}

/// The task that reads answers. It ends when this is dropped.
pub(super) struct Pump(AbortHandle);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Takes over our ends of the sockets to a worker with so many sessions.
    pub(super) fn start(
        socket: UnixStream,
        tray: Tray,
        generation: u64,
        sessions: usize,
    ) -> (Arc<Self>, Pump) {
        let (read, control) = socket.into_split();
        let link = Arc::new(Self {
            generation,
            state: Mutex::new(State {
                next_id: 1,
                sessions,
                entries: HashMap::new(),
                at_door: VecDeque::new(),
                ping: None,
                answered: 0,
                ways: Some(Ways { control, tray }),
            }),
            loss: watch::Sender::new(None),
        });
        let reader = tokio::spawn(pump_in(Arc::clone(&link), Inbox::new(read)));
        (link, Pump(reader.abort_handle()))
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
        let id = state.next_id();
        let is_at_door = !state.has_free_session();
        let Some(ways) = &mut state.ways else {
            return Sent::Ended(place);
        };
        match ways.send(&Request { id, op: Some(op) }) {
            Ok(()) => {}
            Err(FrameError::Socket(_)) => {
                drop(state);
                self.lose(Loss::Died(None));
                return Sent::Ended(place);
            }
            Err(error) => return Sent::Unfit(error),
        }
        let (reply, outcome) = oneshot::channel();
        let entry = Entry {
            reply,
            place,
            operation,
            limit,
            begun_at: (!is_at_door).then(Instant::now),
        };
        state.entries.insert(id, entry);
        if is_at_door {
            state.at_door.push_back(id);
        }
        Sent::Waiting {
            id,
            outcome,
            is_at_door,
        }
    }

    /// Takes a call back that is at the door; its caller hears no more of it. Whether it was there.
    pub(super) fn withdraw(&self, id: u64) -> bool {
        let back = self.state().take_back(|at_door, _| at_door == id);
        // Not under the lock: its place goes to the next.
        !back.is_empty()
    }

    /// Takes back what is at the door and gives way to an interactive call.
    pub(super) fn make_way(&self) {
        let gives_way = |place: &Place| place.turn().gives_way();
        let back = self
            .state()
            .take_back(|_, entry| entry.place.as_ref().is_some_and(gives_way));
        for entry in back {
            // First the place: whoever has to wait again waits behind the one it goes to.
            drop(entry.place);
            drop(entry.reply.send(Outcome::NotBegun));
        }
    }

    /// Asks the worker for a sign of life, unless it still owes one.
    pub(super) fn ping(&self) {
        let mut state = self.state();
        if state.ping.is_some() {
            return;
        }
        let id = state.next_id();
        let Some(ways) = &mut state.ways else {
            return;
        };
        let op = Some(Op::Ping(Ping {}));
        // One that cannot be sent counts as unanswered.
        drop(ways.send(&Request { id, op }));
        state.ping = Some((id, Instant::now()));
    }

    /// When the next call or ping is overdue, if one is under way.
    pub(super) fn next_overdue(&self, ping_limit: Duration) -> Option<Instant> {
        let state = self.state();
        let ping = state.ping.map(|(_, sent_at)| sent_at + ping_limit);
        let calls = state.entries.values().filter_map(Entry::overdue_at).min();
        [ping, calls].into_iter().flatten().min()
    }

    /// What is overdue now.
    pub(super) fn overdue(&self, ping_limit: Duration) -> Option<Loss> {
        let now = Instant::now();
        let state = self.state();
        let is_overdue = |entry: &&Entry| entry.overdue_at().is_some_and(|at| at <= now);
        if let Some(entry) = state.entries.values().find(is_overdue) {
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

    /// How many of them are at the door and a client's.
    pub(super) fn clients_at_door(&self) -> usize {
        let state = self.state();
        let entries = state.at_door.iter().filter_map(|id| state.entries.get(id));
        let places = entries.filter_map(|entry| entry.place.as_ref());
        places.filter(|place| place.turn().is_clients()).count()
    }

    /// How many calls the worker has answered; pings do not count.
    pub(super) fn answered(&self) -> u64 {
        self.state().answered
    }

    /// Ends the link. The first reason is the one that counts.
    pub(super) fn lose(&self, loss: Loss) {
        let (entries, untaken) = {
            let mut state = self.state();
            let untaken = state.ways.as_mut().map(|ways| ways.tray.clear());
            state.close();
            state.ping = None;
            state.at_door.clear();
            (std::mem::take(&mut state.entries), untaken)
        };
        let untaken = untaken.unwrap_or_default();
        self.loss.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| loss.clone());
            is_first
        });
        let loss = self.loss.borrow().clone().unwrap_or(loss);
        for (id, entry) in entries {
            let outcome = match untaken.iter().any(|request| request.id == id) {
                true => Outcome::NotBegun,
                false => Outcome::Lost {
                    loss: loss.clone(),
                    place: entry.place,
                },
            };
            // A caller who no longer waits gives its place back by dropping it.
            drop(entry.reply.send(outcome));
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
        if let Answered::Failure(failure) = &answered
            && let Some(loss) = Loss::of_failure(failure)
        {
            return Err(loss);
        }
        let entry = {
            let mut state = self.state();
            if state.ping.is_some_and(|(ping, _)| ping == id) {
                state.ping = None;
                return Ok(());
            }
            state.answered = state.answered.saturating_add(1);
            state.remove(id)
        };
        let Some(entry) = entry else {
            return Err(Loss::Garbled(format!("an answer to no request ({id})")));
        };
        // The session is free whether or not the caller still waits.
        if let Some(place) = entry.place {
            place.settle(is_undecryptable(&answered));
        }
        drop(entry.reply.send(Outcome::Answered {
            answered,
            begun_at: entry.begun_at.unwrap_or_else(Instant::now),
        }));
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self) {
        self.ways = None;
    }

    fn has_free_session(&self) -> bool {
        self.entries.len() - self.at_door.len() < self.sessions
    }

    /// A call has its answer, and its session takes the next.
    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.at_door.retain(|at_door| *at_door != id);
        if self.has_free_session()
            && let Some(next) = self.at_door.pop_front()
            && let Some(next) = self.entries.get_mut(&next)
        {
            next.begun_at = Some(Instant::now());
        }
        if let Some(ways) = &mut self.ways {
            ways.tray.flush();
        }
        Some(entry)
    }

    /// Takes back those that are at the door and wanted, where no session was quicker.
    fn take_back(&mut self, is_wanted: impl Fn(u64, &Entry) -> bool) -> Vec<Entry> {
        let Self {
            entries,
            at_door,
            ways: Some(ways),
            ..
        } = self
        else {
            return Vec::new();
        };
        let is_wanted = |id: &u64| entries.get(id).is_some_and(|entry| is_wanted(*id, entry));
        let wanted: Vec<u64> = at_door.iter().copied().filter(is_wanted).collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        let mut back = Vec::new();
        for request in ways.tray.clear() {
            if wanted.contains(&request.id) {
                at_door.retain(|id| *id != request.id);
                back.extend(entries.remove(&request.id));
            } else {
                // Cannot fail: it was in the tray before.
                drop(ways.tray.put(&request));
            }
        }
        back
    }

    const fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }
}

impl Ways {
    fn send(&mut self, request: &Request) -> Result<(), FrameError> {
        let Some(Op::Open(_) | Op::Ping(_)) = &request.op else {
            return self.tray.put(request);
        };
        // Two at most are under way, and small: the socket takes them whole. Past the runtime, which
        // does not know yet that a new socket can be written to.
        let frame = encode(request)?;
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match send(self.control.as_ref(), &frame, flags) {
            Ok(sent) if sent == frame.len() => Ok(()),
            Ok(_) => Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }
}

async fn pump_in(link: Arc<Link>, mut inbox: Inbox<OwnedReadHalf>) {
    loop {
        let outcome = match inbox.next().await {
            Ok(body) => link.deliver(body),
            Err(FrameError::Socket(_)) => Err(Loss::Died(None)),
            Err(FrameError::TooLong { found } | FrameError::RequestTooLong { found }) => {
                Err(Loss::Garbled(format!("a message of {found} bytes")))
            }
        };
        if let Err(loss) = outcome {
            link.lose(loss);
            return;
        }
    }
}
