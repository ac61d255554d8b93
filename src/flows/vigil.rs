//! The vigil over the token while the node serves. A token can be taken away, initialised again or
//! exchanged without any session noticing (the security officer's `C_InitToken` leaves sessions,
//! label and serial number as they were), so pin, anchor and keys are looked at again and again.
//!
//! Nothing is repaired, pinned or adopted here. The invariant: a token that is not tied to this
//! ledger releases nothing, and is used again only when it is tied as before.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::holdings;
use super::open::OpenError;
use crate::hsm::{Hsm, HsmError, HsmState};
use crate::ledger::{Ledger, State};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Between two looks that were asked for, so that callers cannot keep a session busy with looking.
const LOOK_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Keys that are named; of more, the number.
const KEYS_SHOWN_MAX: usize = 8;

/// What the latest look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// The token is not, or no longer, the one this ledger is tied to: nothing may be released.
    pub(super) foreign: Option<String>,
    /// Keys of the ledger that are not there once and as they were, one sentence each.
    pub(super) keys: Vec<String>,
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
    pub(super) fn begin(hsm: Hsm, ledger: Arc<Mutex<Ledger>>, found: Findings) -> Self {
        let (publisher, findings) = watch::channel(found);
        let look_now = Arc::new(Notify::new());
        let watcher = Watcher {
            hsm,
            ledger,
            publisher,
            look_now: Arc::clone(&look_now),
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
    ledger: Arc<Mutex<Ledger>>,
    publisher: watch::Sender<Findings>,
    look_now: Arc<Notify>,
}

impl Watcher {
    async fn run(self) {
        let mut state = self.hsm.changed();
        loop {
            sleep(LOOK_INTERVAL_MIN).await;
            tokio::select! {
                () = sleep(LOOK_INTERVAL) => {}
                () = self.look_now.notified() => {}
                // A new worker may have opened another token than the last one did.
                changed = state.changed() => if changed.is_err() { return },
            }
            let is_ready = matches!(&*state.borrow_and_update(), HsmState::Ready);
            if !is_ready {
                // Said by the HSM's own state; what was found before stays.
                continue;
            }
            match self.look().await {
                Ok(found) => self.publish(found),
                Err(HsmError::ShutDown) => return,
                Err(why) => debug!(%why, "the token could not be looked at"),
            }
        }
    }

    async fn look(&self) -> Result<Findings, HsmError> {
        let foreign = match holdings::check_ties(&self.hsm, &self.ledger).await {
            Ok(_) => None,
            Err(OpenError::Hsm(why)) => return Err(why),
            Err(disagreement) => Some(disagreement.to_string()),
        };
        // Keys come and go while the token is looked at: demanded is what the ledger named before
        // and still names after, and strange is what it names neither way.
        let before = self.state();
        let objects = self.hsm.inventory().await?;
        let after = self.state();
        let still: HashSet<_> = holdings::keys(&after)
            .map(|(key, _)| key.object_id)
            .collect();
        let mut keys: Vec<String> = holdings::keys(&before)
            .filter(|(key, _)| still.contains(&key.object_id))
            .filter_map(|(key, label)| holdings::check_key(&objects, &key, &label).err())
            .map(|disagreement| disagreement.to_string())
            .collect();
        let count = keys.len();
        keys.truncate(KEYS_SHOWN_MAX);
        if count > keys.len() {
            keys.push(format!("{count} keys in all are not as the ledger says"));
        }
        Ok(Findings {
            foreign,
            keys,
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
