//! Who may go next. Pure bookkeeping under the lock of `line.rs`: no waiting, no waking, and nothing
//! about which worker or token does the work.
//!
//! The order: the daemon's own calls; then the interactive lane before the bulk lane, save that bulk
//! gets one turn in [`BULK_ONE_IN`]; in a lane one caller after another; of one caller the oldest. The
//! invariants: no more are inside than the capacity, no more wait than there is room for, every call
//! that waits is called once or leaves, and neither a lane nor a caller waits for ever while there
//! are turns.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Line, Place, Verdict};
use crate::access::Identity;
use crate::hsm::asker::Asker;
use crate::hsm::error::HsmError;
use crate::hsm::quota::{Allowance, Taken};
use crate::types::Lane;

/// While both lanes wait, one turn in so many is for bulk.
pub(super) const BULK_ONE_IN: u32 = 8;
/// Places for the daemon's own calls (signing a checkpoint, writing the head anchor), so that
/// callers who fill the queue cannot stop them. Such calls are few: one per writer.
const OWN_PLACES: usize = 16;
/// One place in so many is kept for callers who hold none.
const KEPT_ONE_IN: usize = 8;
/// How many calls of one caller are looked at for one whose failures allow it, at one turn.
const LOOKED_AT_MAX: usize = 16;

/// Where a call waits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rank<'a> {
    /// Among the daemon's own.
    Own,
    /// In a lane, behind the caller's other calls.
    Of(Lane, &'a Identity),
}

/// One call that waits.
pub(super) struct Entry {
    pub(super) deadline: Instant,
    pub(super) allowance: Option<Arc<Allowance>>,
    pub(super) answer: oneshot::Sender<Result<Place, HsmError>>,
}

/// What a call goes in with.
#[derive(Debug, Clone, Copy)]
pub(in crate::hsm) struct Turn {
    /// Its place among its caller's calls, should it have to wait again.
    ticket: u64,
    /// Some: it gives way to an interactive call as long as no session has taken it, because none waited
    /// when it was called. So many were called before it since bulk had its turn.
    gives_way: Option<u32>,
    /// Whether a client waits for it, and not the daemon itself.
    is_clients: bool,
}

impl Turn {
    /// Whether an interactive call may have the place, as long as no session has taken this call.
    pub(in crate::hsm) const fn gives_way(self) -> bool {
        self.gives_way.is_some()
    }

    /// Whether it is a client's, and not the daemon's own.
    pub(in crate::hsm) const fn is_clients(self) -> bool {
        self.is_clients
    }
}

/// A call whose turn it is: inside from now on, or told why not.
pub(super) struct Called {
    pub(super) entry: Entry,
    pub(super) outcome: Result<Turn, HsmError>,
}

/// Everybody who is inside or waits.
pub(super) struct Roster {
    /// The line that this is the roster of, for those who are told to wait for an allowance.
    line: Weak<Line>,
    capacity: usize,
    inside: usize,
    /// By ticket, the oldest first.
    own: BTreeMap<u64, Entry>,
    interactive: Ranks,
    bulk: Ranks,
    /// Interactive calls called since bulk had its turn, while bulk waited.
    passed_over: u32,
    next_ticket: u64,
}

impl Roster {
    /// `capacity` may be inside, `len_max` may wait: each lane has half of the room.
    pub(super) fn new(capacity: usize, len_max: usize, line: Weak<Line>) -> Self {
        Self {
            line,
            capacity,
            inside: 0,
            own: BTreeMap::new(),
            interactive: Ranks::new(len_max - len_max / 2),
            bulk: Ranks::new(len_max / 2),
            passed_over: 0,
            next_ticket: 0,
        }
    }

    /// How many wait, the daemon's own calls included.
    pub(super) fn len(&self) -> usize {
        self.own.len() + self.clients()
    }

    /// How many calls of clients wait.
    pub(super) const fn clients(&self) -> usize {
        self.interactive.len + self.bulk.len
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many are inside.
    #[cfg(test)]
    pub(super) const fn inside(&self) -> usize {
        self.inside
    }

    /// How many wait that a new call in `lane` would wait behind, more or less.
    pub(super) const fn ahead_of(&self, lane: Lane) -> usize {
        match lane {
            Lane::Interactive => self.interactive.len,
            Lane::Bulk => self.interactive.len + self.bulk.len,
        }
    }

    /// Whether a call that has just come may go in at once. It overtakes nobody who could go: while
    /// there is capacity, nobody who could go waits.
    pub(super) fn enter(&mut self, asker: Option<&Asker<'_>>, now: Instant) -> Verdict<Turn> {
        if self.inside >= self.capacity {
            return Verdict::Wait;
        }
        let verdict = asker.map_or(Verdict::Go(()), |asker| {
            judge(asker.allowance.as_deref(), now, &self.line)
        });
        match verdict {
            Verdict::Go(()) => {
                self.inside += 1;
                let is_bulk = asker.is_some_and(|asker| asker.lane == Lane::Bulk);
                Verdict::Go(Turn {
                    ticket: self.next_ticket(),
                    gives_way: self.gives_way().filter(|_| is_bulk),
                    is_clients: asker.is_some(),
                })
            }
            Verdict::Wait => Verdict::Wait,
            Verdict::Refused(error) => Verdict::Refused(error),
        }
    }

    /// Lets a call wait, where there is room; one that was inside before and comes back has its room.
    /// Its ticket.
    pub(super) fn wait(&mut self, rank: Rank<'_>, entry: Entry, back: Option<Turn>) -> Option<u64> {
        let ticket = back.map_or_else(|| self.next_ticket(), |turn| turn.ticket);
        if let Some(passed_over) = back.and_then(|turn| turn.gives_way) {
            // One more was called before bulk, which has had no turn.
            self.passed_over = self.passed_over.max(passed_over + 1);
        }
        match rank {
            Rank::Own if self.own.len() >= OWN_PLACES => return None,
            Rank::Own => drop(self.own.insert(ticket, entry)),
            Rank::Of(lane, caller) if back.is_some() => {
                self.lane(lane).come_back(caller, ticket, entry);
            }
            Rank::Of(lane, caller) => self.lane(lane).join(caller, ticket, entry)?,
        }
        Some(ticket)
    }

    /// Whether a bulk call that goes in now gives way: not where its turn is due, nor before one that
    /// waits and could not go.
    fn gives_way(&self) -> Option<u32> {
        let is_due = self.passed_over + 1 >= BULK_ONE_IN;
        (!is_due && self.interactive.len == 0).then_some(self.passed_over)
    }

    const fn next_ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// A call waits no longer. Where it was called before, nothing is to be done.
    pub(super) fn leave(&mut self, rank: Rank<'_>, ticket: u64) {
        match rank {
            Rank::Own => drop(self.own.remove(&ticket)),
            Rank::Of(lane, caller) => self.lane(lane).leave(caller, ticket),
        }
    }

    /// One who was inside has left.
    pub(super) const fn release(&mut self) {
        self.inside = self.inside.saturating_sub(1);
    }

    /// The next whose turn it is, or who is not to be served at all, if there is one. `least` is what
    /// a call needs at least: one that has less left is not begun.
    pub(super) fn call_next(&mut self, now: Instant, least: Duration) -> Option<Called> {
        if self.inside >= self.capacity {
            return None;
        }
        if let Some((ticket, entry)) = self.own.pop_first() {
            self.inside += 1;
            return Some(Called {
                entry,
                outcome: Ok(Turn {
                    ticket,
                    gives_way: None,
                    is_clients: false,
                }),
            });
        }
        let bulk_waits = self.bulk.len > 0;
        let gives_way = self.gives_way();
        let lanes = if self.passed_over + 1 >= BULK_ONE_IN {
            [Lane::Bulk, Lane::Interactive]
        } else {
            [Lane::Interactive, Lane::Bulk]
        };
        for lane in lanes {
            let ranks = match lane {
                Lane::Interactive => &mut self.interactive,
                Lane::Bulk => &mut self.bulk,
            };
            let Some(mut called) = ranks.call_next(now, least, &self.line) else {
                continue;
            };
            if let Ok(turn) = &mut called.outcome {
                self.inside += 1;
                turn.gives_way = gives_way.filter(|_| lane == Lane::Bulk);
                self.passed_over = match lane {
                    Lane::Interactive if bulk_waits => self.passed_over.saturating_add(1),
                    Lane::Interactive | Lane::Bulk => 0,
                };
            }
            return Some(called);
        }
        None
    }

    const fn lane(&mut self, lane: Lane) -> &mut Ranks {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

/// Whether a call's failures allow it now; where they do, one is taken, and where it has to wait for
/// one, `line` is called when one is back.
fn judge(allowance: Option<&Allowance>, now: Instant, line: &Weak<Line>) -> Verdict<()> {
    match allowance.map_or(Taken::One, |allowance| allowance.take(now, line)) {
        Taken::One => Verdict::Go(()),
        Taken::Later => Verdict::Wait,
        Taken::Spent {
            retry_after,
            is_first,
        } => Verdict::Refused(HsmError::FailuresTooMany {
            retry_after,
            is_first,
        }),
    }
}

/// The callers of one lane, each with its own calls.
struct Ranks {
    room: usize,
    len: usize,
    callers: HashMap<Arc<Identity>, BTreeMap<u64, Entry>>,
    /// Those of `callers`, in the order of their turns.
    turns: VecDeque<Arc<Identity>>,
}

impl Ranks {
    fn new(room: usize) -> Self {
        Self {
            room: room.max(1),
            len: 0,
            callers: HashMap::new(),
            turns: VecDeque::new(),
        }
    }

    /// None: there is no room, or the caller has its even part.
    fn join(&mut self, caller: &Identity, ticket: u64, entry: Entry) -> Option<()> {
        if self.len >= self.room {
            return None;
        }
        if let Some(calls) = self.callers.get_mut(caller) {
            let shared = self.room - self.room / KEPT_ONE_IN;
            if calls.len() >= (shared / self.turns.len().max(1)).max(1) {
                return None;
            }
            calls.insert(ticket, entry);
        } else {
            let caller = Arc::new(caller.clone());
            self.turns.push_back(Arc::clone(&caller));
            self.callers
                .insert(caller, BTreeMap::from([(ticket, entry)]));
        }
        self.len += 1;
        Some(())
    }

    /// Among its caller's calls where it was, and its caller is the next.
    fn come_back(&mut self, caller: &Identity, ticket: u64, entry: Entry) {
        let caller = Arc::new(caller.clone());
        self.turns.retain(|name| *name != caller);
        self.turns.push_front(Arc::clone(&caller));
        let calls = self.callers.entry(caller).or_default();
        calls.insert(ticket, entry);
        self.len += 1;
    }

    fn leave(&mut self, caller: &Identity, ticket: u64) {
        let Some(calls) = self.callers.get_mut(caller) else {
            return;
        };
        if calls.remove(&ticket).is_none() {
            return;
        }
        self.len -= 1;
        if calls.is_empty() {
            self.callers.remove(caller);
            self.turns.retain(|name| **name != *caller);
        }
    }

    fn call_next(&mut self, now: Instant, least: Duration, line: &Weak<Line>) -> Option<Called> {
        for _ in 0..self.turns.len() {
            let caller = self.turns.pop_front()?;
            let Some(calls) = self.callers.get_mut(&caller) else {
                continue;
            };
            let called = next_of(calls, now, least, line);
            let has_more = !calls.is_empty();
            if !has_more {
                self.callers.remove(&caller);
            } else if called
                .as_ref()
                .is_some_and(|called| called.outcome.is_err())
            {
                // That was no turn.
                self.turns.push_front(caller);
            } else {
                self.turns.push_back(caller);
            }
            if called.is_some() {
                self.len -= 1;
                return called;
            }
        }
        None
    }
}

/// The oldest call of one caller that can be decided now.
fn next_of(
    calls: &mut BTreeMap<u64, Entry>,
    now: Instant,
    least: Duration,
    line: &Weak<Line>,
) -> Option<Called> {
    let decided = calls
        .iter()
        .take(LOOKED_AT_MAX)
        .find_map(|(ticket, entry)| {
            if entry.deadline < now + least {
                return Some((*ticket, Err(HsmError::DeadlineExceeded)));
            }
            match judge(entry.allowance.as_deref(), now, line) {
                Verdict::Go(()) => Some((*ticket, Ok(()))),
                Verdict::Refused(error) => Some((*ticket, Err(error))),
                Verdict::Wait => None,
            }
        });
    let (ticket, outcome) = decided?;
    let entry = calls.remove(&ticket)?;
    let outcome = outcome.map(|()| Turn {
        ticket,
        gives_way: None,
        is_clients: true,
    });
    Some(Called { entry, outcome })
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
mod tests;
