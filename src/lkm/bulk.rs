//! The bulk lane: unwraps over long-lived streams, many under way on each. A stream that breaks, ends
//! or falls silent is let go and another is opened for the next call; what was under way on it is
//! answered "try again".

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tracing::warn;

use super::kekd::NoDek;
use crate::client::{Answers, Client, ClientError, Released, UnwrapCall};
use crate::types::RequestId;

/// Calls under way on one stream; kekd's own default limit is twice as much.
const CALLS_PER_STREAM: usize = 32;
/// After this a stream takes no new calls: kekd proves connections anew once an hour.
const STREAM_AGE_MAX: Duration = Duration::from_secs(300);

type Outcome = Result<Released, NoDek>;
type Pending = Arc<StdMutex<HashMap<String, oneshot::Sender<Outcome>>>>;

/// The streams.
pub(super) struct Bulk {
    lines: Vec<Line>,
    next: AtomicUsize,
    timeout: Duration,
}

struct Line {
    client: Client,
    live: Mutex<Option<Live>>,
}

/// An open stream.
#[derive(Clone)]
struct Live {
    calls: mpsc::Sender<UnwrapCall>,
    pending: Pending,
    born: Instant,
}

impl Bulk {
    /// As many streams as `calls_max` under way need, each on a connection of its own.
    pub(super) fn new(
        calls_max: usize,
        timeout: Duration,
        connect: impl Fn() -> Result<Client, ClientError>,
    ) -> Result<Self, ClientError> {
        let line = |_| {
            Ok(Line {
                client: connect()?,
                live: Mutex::new(None),
            })
        };
        let count = calls_max.div_ceil(CALLS_PER_STREAM).max(1);
        Ok(Self {
            lines: (0..count).map(line).collect::<Result<_, ClientError>>()?,
            next: AtomicUsize::new(0),
            timeout,
        })
    }

    /// Unwraps one DEK.
    pub(super) async fn unwrap(&self, call: UnwrapCall) -> Outcome {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.lines.len().max(1);
        let Some(line) = self.lines.get(index) else {
            return Err(NoDek::unavailable("there is no stream to kekd"));
        };
        let born = Instant::now();
        match tokio::time::timeout(self.timeout, line.unwrap(call)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                line.let_go(born).await;
                Err(NoDek::unavailable("kekd did not answer in time"))
            }
        }
    }
}

impl Line {
    async fn unwrap(&self, mut call: UnwrapCall) -> Outcome {
        let live = self.live().await?;
        let (answered, answer) = oneshot::channel();
        let id = live.enter(&mut call, answered)?;
        let _left = Entry {
            pending: &live.pending,
            id,
        };
        let broke = || NoDek::unavailable("the stream to kekd broke");
        live.calls.send(call).await.map_err(|_| broke())?;
        answer.await.map_err(|_| broke())?
    }

    /// The open stream, or a new one.
    async fn live(&self) -> Result<Live, NoDek> {
        let mut live = self.live.lock().await;
        if let Some(open) = &*live
            && !open.calls.is_closed()
            && open.born.elapsed() < STREAM_AGE_MAX
        {
            return Ok(open.clone());
        }
        let (calls, queue) = mpsc::channel(CALLS_PER_STREAM);
        let answers = self
            .client
            .unwrap_stream(ReceiverStream::new(queue))
            .await?;
        let pending = Pending::default();
        tokio::spawn(take(answers, Arc::clone(&pending)));
        let open = Live {
            calls,
            pending,
            born: Instant::now(),
        };
        Ok(live.insert(open).clone())
    }

    /// Forgets a stream that was there at `before` and gave no answer since.
    async fn let_go(&self, before: Instant) {
        let mut live = self.live.lock().await;
        if live.as_ref().is_some_and(|open| open.born <= before) {
            *live = None;
        }
    }
}

impl Live {
    /// Gives the call an id that no other on this stream has.
    fn enter(
        &self,
        call: &mut UnwrapCall,
        answered: oneshot::Sender<Outcome>,
    ) -> Result<String, NoDek> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let id = match call.request_id.take() {
            Some(id) if !pending.contains_key(id.as_str()) => id,
            Some(_) | None => {
                let none = |_| NoDek::unavailable("the operating system gives no randomness");
                RequestId::random().map_err(none)?
            }
        };
        let text = id.as_str().to_owned();
        call.request_id = Some(id);
        pending.insert(text.clone(), answered);
        Ok(text)
    }
}

/// A call's entry, taken back however the call ends.
struct Entry<'a> {
    pending: &'a Pending,
    id: String,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.remove(&self.id);
    }
}

/// Hands every answer to who waits for it, until the stream ends.
async fn take(mut answers: Answers, pending: Pending) {
    let ended = loop {
        match answers.next().await {
            Some(Ok(answer)) => {
                let waits = {
                    let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
                    pending.remove(&answer.request_id)
                };
                let outcome = answer.outcome.map_err(|refusal| NoDek::from(&refusal));
                // Who waited may have given up; then the DEK is wiped here.
                waits.map(|waits| waits.send(outcome).is_ok());
            }
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = ended.filter(|_| !pending.is_empty()) {
        warn!(%error, calls = pending.len(), "a stream to kekd broke with calls under way");
    }
    pending.clear();
}
