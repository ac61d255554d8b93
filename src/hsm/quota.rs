//! How many wrapped DEKs of one caller may fail to unwrap under one KEK. Whoever looks for a padding
//! oracle needs thousands of them (Bleichenbacher 1998, Manger 2001); an honest front-end has none.
//!
//! An attempt takes one of the pair's allowance before the HSM is touched. One that was not
//! undecryptable gives it back; an undecryptable one keeps it, and one comes back after another, the
//! last of them when the window has passed. The invariant: however many attempts run at once, no more
//! can fail than are left. Nothing here knows in which way a ciphertext was wrong.
//!
//! A pair's allowance is one for all tokens, and each token has a line of its own. Whoever settles an
//! attempt therefore gets the lines in which somebody waits for it, and has them look again. A line's
//! lock is taken before an allowance's: nothing here calls a line.
//!
//! All of it is in memory: a restart begins anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::line::Line;
use crate::access::Identity;
use crate::clock::{Clock, UnixMs};
use crate::types::KekName;

/// Pairs of a caller and a KEK that are remembered. Only those that hold a grant come here, so a
/// ledger must be large to get near it; beyond it a new pair waits until one is forgotten.
const PAIRS_MAX: usize = 16_384;
/// How often it is looked for pairs to be forgotten, once there are too many.
const PURGE_EVERY: Duration = Duration::from_secs(1);
/// The shortest time a refused caller is told to wait.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(10);

/// The allowances of all pairs.
pub struct Quota {
    max: u32,
    /// How long one takes to come back.
    step: Duration,
    clock: Clock,
    pairs: Mutex<Pairs>,
}

struct Pairs {
    of: HashMap<Identity, HashMap<KekName, Arc<Allowance>>>,
    len: usize,
    purged_at: Option<Instant>,
}

/// What one caller may still fail under one KEK.
pub struct Allowance {
    caller: Identity,
    kek: KekName,
    max: u32,
    step: Duration,
    clock: Clock,
    account: Mutex<Account>,
}

struct Account {
    /// How many attempts may still fail, those under way included.
    left: u32,
    under_way: u32,
    /// Since when the next one is on its way back; means something where some are gone.
    refilled_at: Instant,
    alarm: Option<Raised>,
    /// Lines in which somebody was told to wait since the latest attempt ended, each once.
    awaited_in: Vec<Weak<Line>>,
}

struct Raised {
    since: UnixMs,
    refused: u64,
}

/// What came of asking for one attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It may be made, and is to be settled.
    One,
    /// As many are under way as may fail: one of them must end first.
    Later,
    /// All are spent.
    Spent {
        /// When the next one is back.
        retry_after: Duration,
        /// Nobody was told so since the alarm was raised.
        is_first: bool,
    },
}

/// Somebody has spent what they may fail: perhaps the search for an oracle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OracleAlarm {
    /// Who.
    pub caller: Identity,
    /// Under which KEK.
    pub kek: KekName,
    /// Since when.
    pub since: UnixMs,
    /// Attempts refused for it so far. Only the first has an audit record.
    pub refused: u64,
}

impl Quota {
    /// At most `max` failures at once, the last of which is forgotten after `window`.
    pub fn new(max: u32, window: Duration, clock: Clock) -> Self {
        let max = max.max(1);
        Self {
            max,
            step: (window / max).max(Duration::from_micros(1)),
            clock,
            pairs: Mutex::new(Pairs {
                of: HashMap::new(),
                len: 0,
                purged_at: None,
            }),
        }
    }

    /// The allowance of a pair. None where too many pairs are remembered.
    pub fn allowance(&self, caller: &Identity, kek: &KekName) -> Option<Arc<Allowance>> {
        let mut pairs = self.pairs();
        let known = pairs.of.get(caller).and_then(|keks| keks.get(kek));
        if let Some(allowance) = known {
            return Some(Arc::clone(allowance));
        }
        if pairs.len >= PAIRS_MAX && !pairs.purge(Instant::now()) {
            return None;
        }
        let allowance = Arc::new(Allowance {
            caller: caller.clone(),
            kek: kek.clone(),
            max: self.max,
            step: self.step,
            clock: self.clock,
            account: Mutex::new(Account {
                left: self.max,
                under_way: 0,
                refilled_at: Instant::now(),
                alarm: None,
                awaited_in: Vec::new(),
            }),
        });
        let keks = pairs.of.entry(caller.clone()).or_default();
        keks.insert(kek.clone(), Arc::clone(&allowance));
        pairs.len += 1;
        Some(allowance)
    }

    /// The alarms now, in the order of callers and KEKs. One ends by itself when the whole allowance
    /// is back.
    pub fn alarms(&self) -> Vec<OracleAlarm> {
        let now = Instant::now();
        let mut alarms: Vec<OracleAlarm> = {
            let pairs = self.pairs();
            let all = pairs.of.values().flat_map(HashMap::values);
            all.filter_map(|allowance| allowance.alarm(now)).collect()
        };
        alarms.sort_by(|a, b| (&a.caller, &a.kek).cmp(&(&b.caller, &b.kek)));
        alarms
    }

    fn pairs(&self) -> MutexGuard<'_, Pairs> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pairs {
    /// Forgets pairs that nobody holds and that have their whole allowance. Whether there is room.
    fn purge(&mut self, now: Instant) -> bool {
        let is_due = |at: Instant| now.saturating_duration_since(at) >= PURGE_EVERY;
        if self.purged_at.is_none_or(is_due) {
            self.purged_at = Some(now);
            for keks in self.of.values_mut() {
                keks.retain(|_, allowance| {
                    Arc::strong_count(allowance) > 1 || !allowance.is_whole(now)
                });
            }
            self.of.retain(|_, keks| !keks.is_empty());
            self.len = self.of.values().map(HashMap::len).sum();
        }
        self.len < PAIRS_MAX
    }
}

impl Allowance {
    /// Takes one, for an attempt that goes to the HSM now. Where it has to wait, `line` is among the
    /// lines that the next attempt to be settled wakes: both under one lock, so that none ends unseen.
    pub(super) fn take(&self, now: Instant, line: &Weak<Line>) -> Taken {
        let mut account = self.account(now);
        if account.left == 0 {
            return account.refuse(now, self.step);
        }
        if account.under_way >= account.left {
            if !account.awaited_in.iter().any(|known| known.ptr_eq(line)) {
                account.awaited_in.push(Weak::clone(line));
            }
            return Taken::Later;
        }
        account.under_way += 1;
        Taken::One
    }

    /// The attempt was not undecryptable, or was never made. Returns the lines that are to look again.
    pub(super) fn give_back(&self) -> Vec<Weak<Line>> {
        let mut account = self.account(Instant::now());
        account.under_way = account.under_way.saturating_sub(1);
        std::mem::take(&mut account.awaited_in)
    }

    /// The attempt was undecryptable. Returns the lines that are to look again.
    pub(super) fn keep(&self) -> Vec<Weak<Line>> {
        self.keep_at(Instant::now())
    }

    fn keep_at(&self, now: Instant) -> Vec<Weak<Line>> {
        let mut account = self.account(now);
        if account.left == self.max {
            account.refilled_at = now;
        }
        account.under_way = account.under_way.saturating_sub(1);
        account.left = account.left.saturating_sub(1);
        let lines = std::mem::take(&mut account.awaited_in);
        if account.left == 0 && account.alarm.is_none() {
            account.alarm = Some(Raised {
                since: self.clock.now(),
                refused: 0,
            });
            drop(account);
            error!(
                caller = %self.caller,
                kek = %self.kek,
                failures = self.max,
                "ORACLE ALARM: this caller sends wrapped DEKs that do not unwrap; it is refused \
                 under this KEK until its quota recovers (limits.failures_max)"
            );
        }
        lines
    }

    fn alarm(&self, now: Instant) -> Option<OracleAlarm> {
        let account = self.account(now);
        account.alarm.as_ref().map(|raised| OracleAlarm {
            caller: self.caller.clone(),
            kek: self.kek.clone(),
            since: raised.since,
            refused: raised.refused,
        })
    }

    fn is_whole(&self, now: Instant) -> bool {
        let account = self.account(now);
        account.left == self.max && account.under_way == 0
    }

    /// The account as of now.
    fn account(&self, now: Instant) -> MutexGuard<'_, Account> {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        if account.refill(now, self.max, self.step) {
            info!(caller = %self.caller, kek = %self.kek, "the oracle alarm has ended");
        }
        account
    }
}

impl Account {
    /// Whether an alarm has ended with it.
    fn refill(&mut self, now: Instant, max: u32, step: Duration) -> bool {
        if self.left == max {
            return false;
        }
        let waited = now.saturating_duration_since(self.refilled_at);
        let earned = waited.as_nanos() / step.as_nanos().max(1);
        match u32::try_from(earned) {
            Ok(earned) if earned < max - self.left => {
                self.left += earned;
                self.refilled_at += step.saturating_mul(earned);
                false
            }
            Ok(_) | Err(_) => {
                self.left = max;
                self.alarm.take().is_some()
            }
        }
    }

    fn refuse(&mut self, now: Instant, step: Duration) -> Taken {
        let waited = now.saturating_duration_since(self.refilled_at);
        let refused = self.alarm.as_mut().map_or(0, |raised| {
            raised.refused = raised.refused.saturating_add(1);
            raised.refused
        });
        Taken::Spent {
            retry_after: step.saturating_sub(waited).max(RETRY_AFTER_MIN),
            is_first: refused == 1,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests;
