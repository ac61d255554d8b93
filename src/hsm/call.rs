//! One call from start to end: a place in the line, a worker that serves, the request, the answer,
//! and a second try where the worker was lost. Invariants: a call is handed to at most two workers;
//! a call that changes the token is handed to one, and if that is lost the outcome is unknown.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{sleep_until, timeout_at};

use super::asker::Asker;
use super::error::HsmError;
use super::job::KeyRef;
use super::line::{Place, Turn};
use super::link::{Limit, Link, Outcome, Sent};
use super::loss::Loss;
use super::shared::Shared;
use crate::proto::worker::request::Op;
use crate::proto::worker::response::Result as Answered;

/// What is to be done, and within which limits.
pub(super) struct Call<'a> {
    pub(super) operation: &'static str,
    pub(super) op: Op,
    /// The key it is about, for messages.
    pub(super) key: Option<&'a KeyRef>,
    /// The most it may take inside the HSM.
    pub(super) limit: Limit,
    pub(super) kind: Kind<'a>,
}

/// What a call is to those around it.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// A client's, who waits until its deadline and no longer. Can be repeated.
    Client(&'a Asker<'a>),
    /// A client's, whom another token could serve: where the worker is lost this is the end of it
    /// here, at once.
    Routed(&'a Asker<'a>),
    /// The daemon's. Repeating it is the same as doing it once.
    Repeatable,
    /// The daemon's. It changes the token, and doing it twice is another change.
    Once,
}

/// An answer that is no failure.
pub(super) struct Done {
    pub(super) answered: Answered,
    /// From the call until a session took it.
    pub(super) queue: Duration,
}

impl Shared {
    /// Has the HSM do it.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Done, HsmError> {
        self.refusal()?;
        let started = Instant::now();
        let deadline = match call.kind {
            Kind::Client(asker) | Kind::Routed(asker) => asker.deadline,
            // A limit on the waiting; what runs has its own limit.
            Kind::Repeatable | Kind::Once => started + self.admin_limit().time,
        };
        if deadline <= started {
            return Err(HsmError::DeadlineExceeded);
        }
        let mut place = self.place(&call, deadline, None).await?;
        let mut generation = 0;
        let mut tries_left: u8 = match call.kind {
            Kind::Client(_) | Kind::Repeatable => 2,
            Kind::Routed(_) | Kind::Once => 1,
        };
        loop {
            let link = match call.kind {
                Kind::Routed(_) => self
                    .serving()
                    .filter(|link| link.generation > generation)
                    .ok_or_else(|| call.lost(Loss::Died(None)))?,
                Kind::Client(_) | Kind::Repeatable | Kind::Once => {
                    self.link(generation, deadline).await?
                }
            };
            let turn = place.turn();
            let sent = link.send(call.op.clone(), call.operation, Some(place), call.limit);
            let (outcome, is_at_door, id) = match sent {
                Sent::Waiting {
                    outcome,
                    is_at_door,
                    id,
                } => (outcome, is_at_door, id),
                // The worker has seen nothing of it, so this was no try.
                Sent::Ended(Some(returned)) => {
                    generation = link.generation;
                    place = returned;
                    continue;
                }
                Sent::Ended(None) => return Err(call.lost(Loss::Died(None))),
                Sent::Unfit(error) => {
                    return Err(HsmError::BadRequest {
                        operation: call.operation,
                        detail: error.to_string(),
                    });
                }
            };
            let outcome = match call.kind {
                Kind::Client(asker) | Kind::Routed(asker) if is_at_door => {
                    at_door(&link, id, asker, outcome).await?
                }
                // The call goes on without its caller, and keeps its place until it ends.
                Kind::Client(_) | Kind::Routed(_) => timeout_at(deadline.into(), outcome)
                    .await
                    .map_err(|_| HsmError::DeadlineExceeded)?,
                Kind::Repeatable | Kind::Once => outcome.await,
            };
            match outcome {
                Ok(Outcome::Answered {
                    answered: Answered::Failure(failure),
                    ..
                }) => return Err(HsmError::of_call(failure, call.operation, call.key)),
                Ok(Outcome::Answered { answered, begun_at }) => {
                    self.line.observe(begun_at.elapsed());
                    let queue = begun_at.duration_since(started);
                    return Ok(Done { answered, queue });
                }
                // No try either. The worker may be as well as before.
                Ok(Outcome::NotBegun) => place = self.place(&call, deadline, Some(turn)).await?,
                Ok(Outcome::Lost {
                    place: Some(returned),
                    ..
                }) if tries_left > 1 && Instant::now() < deadline => {
                    tries_left -= 1;
                    generation = link.generation;
                    place = returned;
                }
                Ok(Outcome::Lost { loss, .. }) => return Err(call.lost(loss)),
                Err(_) => return Err(call.lost(Loss::Died(None))),
            }
        }
    }

    /// A place in the line; `back` is the turn of a call that had one.
    async fn place(
        &self,
        call: &Call<'_>,
        deadline: Instant,
        back: Option<Turn>,
    ) -> Result<Place, HsmError> {
        match call.kind {
            Kind::Client(asker) | Kind::Routed(asker) => {
                let make_way = || self.make_way();
                self.line.place(asker, back, make_way).await
            }
            Kind::Repeatable | Kind::Once => self.line.own_place(deadline).await,
        }
    }
}

/// Waits as long as somebody waits for it, or until a session has taken it and ends with it. A call that
/// nobody waits for does not reach the HSM.
async fn at_door(
    link: &Link,
    id: u64,
    asker: &Asker<'_>,
    mut outcome: oneshot::Receiver<Outcome>,
) -> Result<Result<Outcome, oneshot::error::RecvError>, HsmError> {
    let deadline = asker.deadline.into();
    tokio::select! {
        biased;
        outcome = &mut outcome => return Ok(outcome),
        () = asker.left() => if link.withdraw(id) {
            return Err(HsmError::CallerLeft);
        },
        () = sleep_until(deadline) => {
            link.withdraw(id);
            return Err(HsmError::DeadlineExceeded);
        }
    }
    timeout_at(deadline, outcome)
        .await
        .map_err(|_| HsmError::DeadlineExceeded)
}

impl Call<'_> {
    const fn lost(&self, loss: Loss) -> HsmError {
        let operation = self.operation;
        match self.kind {
            Kind::Client(_) | Kind::Routed(_) | Kind::Repeatable => {
                HsmError::Lost { operation, loss }
            }
            Kind::Once => HsmError::OutcomeUnknown { operation, loss },
        }
    }
}
