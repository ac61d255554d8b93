//! The vigil over the token while the node serves. A token can be taken away, initialised again or
//! exchanged without any session noticing (the security officer's `C_InitToken` leaves sessions,
//! label and serial number as they were), so pin, anchor and keys are looked at again and again.
//!
//! Nothing is repaired, pinned or adopted here. The invariant: a token that is not tied to this
//! ledger releases nothing, and is used again only when it is tied as before.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::holdings::{self, Holdings};
use super::open::OpenError;
use super::proofs::Proofs;
use crate::hsm::{Hsm, HsmError, HsmState};
use crate::ledger::{Ledger, State};
use crate::types::KeypairId;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Between two looks that were asked for, so that callers cannot keep a session busy with looking.
const LOOK_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The part of one session's time that looking at all keys may take: one in so many. More where a call
/// met a contradiction, for then somebody is waiting to hear. The same for a replica.
pub(super) const SHARE_OF_ROUTINE: u32 = 100;
pub(super) const SHARE_OF_ASKED: u32 = 10;
/// Keys that are named; of more, the number.
const KEYS_SHOWN_MAX: usize = 8;

/// What the latest look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// The token is not, or no longer, the one this ledger is tied to: nothing may be released.
    pub(super) foreign: Option<String>,
    /// Keys of the ledger that are not there once and as they were, one sentence each.
    pub(super) keys: Vec<String>,
    /// The same for each of them, by `CKA_ID`.
    pub(super) at_fault: BTreeMap<[u8; 16], String>,
    /// Keys the ledger does not know. They stand in nobody's way.
    pub(super) strangers: Option<String>,
    /// Keys that were made and never became versions, for want of an end.
    pub(super) orphans: Option<String>,
    /// Keys of versions that were destroyed. They stand in nobody's way either.
    pub(super) remains: Option<String>,
}

impl Findings {
    /// Whether token and ledger agree.
    pub(super) const fn is_sound(&self) -> bool {
        self.foreign.is_none() && self.keys.is_empty()
    }

    /// One sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let aside = self.strangers.iter().chain(&self.orphans);
        let aside = aside.chain(&self.remains);
        let all = self.foreign.iter().chain(&self.keys).chain(aside);
        all.cloned().collect()
    }
}

/// The task that looks. It ends when this is dropped.
pub(super) struct Vigil {
    findings: watch::Receiver<Findings>,
    look_now: Arc<Notify>,
    task: AbortHandle,
}

impl Vigil {
    /// Begins, with what the start has found.
    pub(super) fn begin(
        hsm: Hsm,
        proofs: Proofs,
        ledger: Arc<Mutex<Ledger>>,
        found: Findings,
    ) -> Self {
        let (publisher, findings) = watch::channel(found);
        let look_now = Arc::new(Notify::new());
        let watcher = Watcher {
            hsm,
            proofs,
            ledger,
            publisher,
            look_now: Arc::clone(&look_now),
            amiss: HashSet::new(),
            pace: Pace::default(),
            owed: Cause::Routine,
        };
        Self {
            findings,
            look_now,
            task: tokio::spawn(watcher.run()).abort_handle(),
        }
    }

    /// What the latest look found.
    pub(super) fn findings(&self) -> Findings {
        self.findings.borrow().clone()
    }

    /// Whether token and ledger agreed at the latest look.
    pub(super) fn is_sound(&self) -> bool {
        self.findings.borrow().is_sound()
    }

    /// Whether the token may be asked to release anything.
    pub(super) fn is_ours(&self) -> bool {
        self.findings.borrow().foreign.is_none()
    }

    /// Follows what is found.
    pub(super) fn changed(&self) -> watch::Receiver<Findings> {
        self.findings.clone()
    }

    /// Has the token looked at soon: a call met something that contradicts the ledger.
    pub(super) fn hurry(&self) {
        self.look_now.notify_one();
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Watcher {
    hsm: Hsm,
    proofs: Proofs,
    ledger: Arc<Mutex<Ledger>>,
    publisher: watch::Sender<Findings>,
    look_now: Arc<Notify>,
    /// The keys that were not as the ledger says at the latest look.
    amiss: HashSet<[u8; 16]>,
    pace: Pace,
    /// The most urgent cause since all keys were looked at last.
    owed: Cause,
}

/// Why the token is looked at, the most urgent last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// It was time.
    Routine,
    /// A call met a contradiction.
    Asked,
    /// A new worker may have opened another token than the last one did.
    Worker,
}

/// How often all keys can be looked at: with very many of them a look takes seconds.
#[derive(Debug, Default)]
struct Pace {
    latest: Option<(Instant, Duration)>,
}

impl Pace {
    fn is_up(&self, cause: Cause) -> bool {
        let share = match cause {
            Cause::Routine => SHARE_OF_ROUTINE,
            Cause::Asked => SHARE_OF_ASKED,
            Cause::Worker => 1,
        };
        self.latest
            .is_none_or(|(ended, took)| ended.elapsed() >= took.saturating_mul(share))
    }

    fn took(&mut self, took: Duration) {
        self.latest = Some((Instant::now(), took));
    }
}

impl Watcher {
    async fn run(mut self) {
        let mut state = self.hsm.changed();
        loop {
            sleep(LOOK_INTERVAL_MIN).await;
            let cause = tokio::select! {
                () = sleep(LOOK_INTERVAL) => Cause::Routine,
                () = self.look_now.notified() => Cause::Asked,
                changed = state.changed() => match changed {
                    Ok(()) => Cause::Worker,
                    Err(_) => return,
                },
            };
            let is_ready = matches!(&*state.borrow_and_update(), HsmState::Ready);
            if !is_ready {
                // Said by the HSM's own state; what was found before stays.
                continue;
            }
            match self.look(cause).await {
                Ok(found) => self.publish(found),
                Err(HsmError::ShutDown) => return,
                Err(why) => debug!(%why, "the token could not be looked at"),
            }
        }
    }

    /// The ties each time. The keys as often as their number allows: what was found before stays.
    async fn look(&mut self, cause: Cause) -> Result<Findings, HsmError> {
        self.owed = self.owed.max(cause);
        let foreign = match holdings::check_ties(&self.hsm, &self.ledger).await {
            Ok(()) => None,
            Err(OpenError::Hsm(why)) => return Err(why),
            Err(disagreement) => Some(disagreement.to_string()),
        };
        let known = self.publisher.borrow().clone();
        let is_new = foreign != known.foreign;
        if is_new {
            // What it was, or is now, was proven by nobody.
            self.proofs.forget_all();
        }
        if is_new && foreign.is_some() {
            // At once: whether its keys can be listed changes nothing.
            let foreign = foreign.clone();
            self.publish(Findings {
                foreign,
                ..known.clone()
            });
        }
        if !is_new && !self.pace.is_up(self.owed) {
            return Ok(known);
        }
        let found = self.look_at_keys(foreign).await?;
        self.owed = Cause::Routine;
        Ok(found)
    }

    async fn look_at_keys(&mut self, foreign: Option<String>) -> Result<Findings, HsmError> {
        // Keys come and go while the token is looked at: demanded is what the ledger named before
        // and still names after, and strange is what it names neither way.
        let before = self.state();
        let began = Instant::now();
        let objects = self.hsm.inventory().await?;
        self.pace.took(began.elapsed());
        let after = self.state();
        let still: HashSet<_> = holdings::keys(&after)
            .map(|(key, _)| key.object_id)
            .collect();
        let holdings = Holdings::new(&objects);
        let (mut at_fault, mut keys) = (BTreeMap::new(), Vec::new());
        for (key, label) in holdings::keys(&before) {
            if !still.contains(&key.object_id) {
                continue;
            }
            if let Err(disagreement) = holdings.check(&key, &label) {
                at_fault.insert(key.object_id, disagreement.to_string());
                keys.push(disagreement.to_string());
            }
        }
        let amiss: HashSet<_> = at_fault.keys().copied().collect();
        // A key that was away or another is proven anew, and so is one that is back.
        let otherwise = amiss.union(&self.amiss).copied();
        self.proofs
            .forget(otherwise.filter_map(|id| KeypairId::try_from(&id[..]).ok()));
        self.amiss = amiss;
        let count = keys.len();
        keys.truncate(KEYS_SHOWN_MAX);
        if count > keys.len() {
            keys.push(format!("{count} keys in all are not as the ledger says"));
        }
        Ok(Findings {
            foreign,
            keys,
            at_fault,
            strangers: holdings::strangers(&objects, &after),
            orphans: holdings::orphans(&objects, &after),
            remains: holdings::remains(&objects, before.keyring()),
        })
    }

    fn state(&self) -> Arc<State> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(ledger.state())
    }

    fn publish(&self, found: Findings) {
        let before = self.publisher.borrow().clone();
        if found == before {
            return;
        }
        for problem in &found.problems() {
            if !before.problems().contains(problem) {
                match found.is_sound() {
                    true => warn!("{problem}"),
                    false => error!("{problem}"),
                }
            }
        }
        if found.is_sound() && !before.is_sound() {
            info!("token and ledger agree again");
        }
        self.publisher.send_replace(found);
    }
}
