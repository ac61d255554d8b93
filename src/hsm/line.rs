//! The line in front of the HSM. At most as many calls are inside the workers as the capacity says;
//! who goes next is in `line/roster.rs`, and to which worker is not decided here. Nothing waits
//! longer than its deadline or its caller, and a call that nobody waits for does not reach the HSM.
//! One short lock for each call that comes and each that goes.
//!
//! The order of locks: the roster's first, an allowance's (`quota.rs`) under it, and never two rosters
//! at once. A place that ends holds neither while it calls the next, here or in another token's line.

mod roster;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::asker::Asker;
use super::error::HsmError;
use super::quota::Allowance;
use crate::types::Lane;
pub(super) use roster::Turn;
use roster::{Entry, Rank, Roster};

/// Shortest and longest time a refused caller is told to wait.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(10);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// The line.
pub(super) struct Line {
    roster: Mutex<Roster>,
    /// A moving average of the time one call takes, in microseconds.
    typical_us: AtomicU64,
}

/// What becomes of a call at one moment.
enum Verdict<T> {
    /// It is inside.
    Go(T),
    /// Not now.
    Wait,
    /// Not at all.
    Refused(HsmError),
}

/// The right to be inside. It ends when dropped; the next in line is called then.
pub(super) struct Place {
    line: Arc<Line>,
    turn: Turn,
    allowance: Option<Arc<Allowance>>,
    /// Whether what was given to the HSM could not be decrypted.
    is_undecryptable: bool,
}

impl Line {
    /// `capacity` calls may be inside, and `len_max` of clients may wait.
    pub(super) fn new(capacity: usize, len_max: usize) -> Arc<Self> {
        Arc::new_cyclic(|line| Self {
            roster: Mutex::new(Roster::new(capacity, len_max, line.clone())),
            typical_us: AtomicU64::new(0),
        })
    }

    /// How many calls of clients wait.
    pub(super) fn clients(&self) -> usize {
        self.roster().clients()
    }

    /// How many wait, the daemon's own calls included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.roster().len()
    }

    /// How many are inside.
    #[cfg(test)]
    pub(super) fn inside(&self) -> usize {
        self.roster().inside()
    }

    /// Waits until a client's call may go in: until its deadline, and as long as its caller is there.
    /// `back` is its turn where it was inside before. Where an interactive call has to wait, `make_way`
    /// is to take back what can give way to it.
    pub(super) async fn place(
        self: &Arc<Self>,
        asker: &Asker<'_>,
        back: Option<Turn>,
        make_way: impl FnOnce(),
    ) -> Result<Place, HsmError> {
        if asker.has_left() {
            return Err(HsmError::CallerLeft);
        }
        let rank = Rank::Of(asker.lane, asker.caller);
        let joined = self.join(rank, Some(asker), asker.deadline, back)?;
        if matches!(joined, Joined::Waits(..)) && asker.lane == Lane::Interactive {
            make_way();
        }
        Self::called(joined, Some(asker), asker.deadline).await
    }

    /// The same for a call of the daemon itself, which goes before all others.
    pub(super) async fn own_place(self: &Arc<Self>, deadline: Instant) -> Result<Place, HsmError> {
        let joined = self.join(Rank::Own, None, deadline, None)?;
        Self::called(joined, None, deadline).await
    }

    async fn called(
        joined: Joined<'_>,
        asker: Option<&Asker<'_>>,
        deadline: Instant,
    ) -> Result<Place, HsmError> {
        let (called, waiting) = match joined {
            Joined::Inside(place) => return Ok(place),
            Joined::Waits(called, waiting) => (called, waiting),
        };
        let left = async {
            match asker {
                Some(asker) => asker.left().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = called => {
                waiting.was_called();
                // The line outlives those who wait in it.
                answer.unwrap_or(Err(HsmError::ShutDown))
            }
            () = left => Err(HsmError::CallerLeft),
            () = sleep_until(deadline.into()) => Err(HsmError::DeadlineExceeded),
        }
    }

    fn join<'a>(
        self: &'a Arc<Self>,
        rank: Rank<'a>,
        asker: Option<&Asker<'_>>,
        deadline: Instant,
        back: Option<Turn>,
    ) -> Result<Joined<'a>, HsmError> {
        let now = Instant::now();
        if deadline < now + self.least(rank) {
            self.doubt(deadline, now);
            return Err(HsmError::DeadlineExceeded);
        }
        let allowance = asker.and_then(|asker| asker.allowance.clone());
        let mut roster = self.roster();
        match roster.enter(asker, now) {
            Verdict::Go(turn) => {
                drop(roster);
                return Ok(Joined::Inside(self.inside_with(turn, allowance)));
            }
            Verdict::Refused(error) => return Err(error),
            Verdict::Wait => {}
        }
        let (answer, called) = oneshot::channel();
        let entry = Entry {
            deadline,
            allowance,
            answer,
        };
        let Some(ticket) = roster.wait(rank, entry, back) else {
            let ahead = match rank {
                Rank::Own => roster.len(),
                Rank::Of(lane, _) => roster.ahead_of(lane),
            };
            let at_once = roster.capacity();
            drop(roster);
            return Err(HsmError::Busy {
                retry_after: self.retry_after(ahead, at_once),
            });
        };
        let waiting = Waiting {
            line: self,
            rank,
            ticket: Some(ticket),
        };
        Ok(Joined::Waits(called, waiting))
    }

    /// Calls those whose turn it is.
    fn call(self: &Arc<Self>) {
        loop {
            let now = Instant::now();
            let called = self.roster().call_next(now, self.typical());
            let Some(called) = called else {
                return;
            };
            let answer = match called.outcome {
                Ok(turn) => Ok(self.inside_with(turn, called.entry.allowance)),
                Err(error) => {
                    if matches!(error, HsmError::DeadlineExceeded) {
                        self.doubt(called.entry.deadline, now);
                    }
                    Err(error)
                }
            };
            // Who has left in this very moment gives the place back by dropping it.
            drop(called.entry.answer.send(answer));
        }
    }

    /// The place of a call that the roster has let in.
    fn inside_with(self: &Arc<Self>, turn: Turn, allowance: Option<Arc<Allowance>>) -> Place {
        Place {
            line: Arc::clone(self),
            turn,
            allowance,
            is_undecryptable: false,
        }
    }

    /// Takes in how long one call took.
    pub(super) fn observe(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let seen = self.typical_us.load(Ordering::Relaxed);
        // Two calls that write at once lose one sample, which an estimate can bear.
        let next = seen.saturating_sub(seen / 8).saturating_add(us / 8);
        self.typical_us.store(next, Ordering::Relaxed);
    }

    /// A call was not begun because it would have taken too long, says the estimate. With every such
    /// call it is believed less, or nothing could ever show that it is wrong.
    fn doubt(&self, deadline: Instant, now: Instant) {
        if deadline > now {
            let seen = self.typical_us.load(Ordering::Relaxed);
            self.typical_us
                .store(seen.saturating_sub(seen / 8 + 1), Ordering::Relaxed);
        }
    }

    fn typical(&self) -> Duration {
        Duration::from_micros(self.typical_us.load(Ordering::Relaxed))
    }

    /// What a call must have left to be begun. The daemon's own need no answer in time.
    fn least(&self, rank: Rank<'_>) -> Duration {
        match rank {
            Rank::Own => Duration::ZERO,
            Rank::Of(..) => self.typical(),
        }
    }

    /// Half of what those who wait now should take: by then there is room again.
    fn retry_after(&self, waiting: usize, at_once: usize) -> Duration {
        let rounds = u32::try_from(waiting / at_once.max(1) / 2).unwrap_or(u32::MAX);
        self.typical()
            .saturating_mul(rounds)
            .clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        // Every change under the lock is whole: a panic elsewhere leaves nothing half done.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// With which the call comes back, should it have to wait again.
    pub(super) const fn turn(&self) -> Turn {
        self.turn
    }

    /// The HSM has answered. Whether what it was given could not be decrypted is all that counts.
    pub(super) fn settle(mut self, is_undecryptable: bool) {
        self.is_undecryptable = is_undecryptable;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // First the allowance: the next to be called may be waiting for it.
        let awaited_in = match &self.allowance {
            Some(allowance) if self.is_undecryptable => allowance.keep(),
            Some(allowance) => allowance.give_back(),
            None => Vec::new(),
        };
        self.line.roster().release();
        // One who waits for it in another token's line would not hear of it otherwise. This line comes
        // last, so that tokens that all wait for one allowance take turns.
        for line in awaited_in.iter().filter_map(Weak::upgrade) {
            if !Arc::ptr_eq(&line, &self.line) {
                line.call();
            }
        }
        self.line.call();
    }
}

/// How a call begins.
enum Joined<'a> {
    Inside(Place),
    Waits(oneshot::Receiver<Result<Place, HsmError>>, Waiting<'a>),
}

/// One who waits; leaves the line when dropped.
struct Waiting<'a> {
    line: &'a Line,
    rank: Rank<'a>,
    ticket: Option<u64>,
}

impl Waiting<'_> {
    fn was_called(mut self) {
        self.ticket = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.line.roster().leave(self.rank, ticket);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests;
