//! Writing one entry of the ledger: judged, signed in the HSM, committed, published, anchored. There
//! is one pen, and whoever holds it writes alone.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use super::Node;
use super::holdings;
use super::open::OpenError;
use super::time::ClockSuspect;
use crate::clock::UnixMs;
use crate::hsm::{DataKind, HsmError, KeyRef};
use crate::ledger::{ANCHOR_LABEL, Anchor, Event, Ledger, LedgerError, State};
use crate::quorum::Refusal;
use crate::types::Next;

/// Why an entry was not written. But for `Fatal`, the ledger is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PenError {
    /// The entry does not stand.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The clock is not believed.
    #[error(transparent)]
    Clock(#[from] ClockSuspect),
    /// The HSM did not sign, or signed wrongly.
    #[error("the HSM did not sign the ledger's new head")]
    Hsm(#[from] HsmError),
    /// The token is not tied to this ledger, or no longer: it was exchanged, or another node wrote.
    #[error("{0}")]
    Foreign(String),
    /// The ledger takes no entry now.
    #[error(transparent)]
    Ledger(LedgerError),
    /// The outcome is unknown, or the ledger contradicts itself: the node stops.
    #[error("the ledger can no longer be written; the node stops")]
    Fatal,
}

/// What an entry's time rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// The clock must be believed, and after a long silence agree with the time that an officer's
    /// statement has.
    Stated(UnixMs),
    /// The clock must be believed for what the node does of its own accord, and for acts of officers
    /// that have no time of their own.
    OwnAccord,
    /// The entry must be written whatever the clock says: where it is not confirmed, the entry has
    /// the time of the one before, so that a clock that is wrong does not reach the ledger.
    Regardless,
}

/// See the head of this file.
pub(super) struct Pen {
    ledger: Arc<Mutex<Ledger>>,
    held: AsyncMutex<()>,
    broken: watch::Sender<Option<String>>,
    published: watch::Sender<()>,
}

impl Pen {
    pub(super) fn new(ledger: Arc<Mutex<Ledger>>) -> Self {
        Self {
            ledger,
            held: AsyncMutex::new(()),
            broken: watch::Sender::new(None),
            published: watch::Sender::new(()),
        }
    }

    /// Changes with every entry, once requests are judged by it.
    pub(super) fn published(&self) -> watch::Receiver<()> {
        self.published.subscribe()
    }

    /// Waits until the ledger can never again be written in this process.
    pub(super) async fn broken(&self) -> String {
        let mut broken = self.broken.subscribe();
        match broken.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // The sender lives as long as this.
            Err(_) => std::future::pending().await,
        }
    }

    /// What went wrong between judging and committing: known to be without effect, or fatal.
    fn sort(&self, error: LedgerError) -> PenError {
        if error.next() == Next::Fatal {
            error!(%error, "the ledger can no longer be written");
            self.broken.send_replace(Some(error.to_string()));
            return PenError::Fatal;
        }
        match error.into_refusal() {
            Ok(refusal) => PenError::Refused(refusal),
            Err(error) => PenError::Ledger(error),
        }
    }

    async fn with_ledger<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, PenError> {
        let ledger = Arc::clone(&self.ledger);
        let done =
            spawn_blocking(move || act(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner)));
        match done.await {
            Ok(done) => done.map_err(|error| self.sort(error)),
            Err(panic) => {
                error!(%panic, "writing the ledger panicked");
                self.broken.send_replace(Some(panic.to_string()));
                Err(PenError::Fatal)
            }
        }
    }
}

impl Node {
    /// Writes one entry, and publishes the state it makes before this returns.
    pub(super) async fn append(
        &self,
        event: Event,
        timing: Timing,
    ) -> Result<Arc<State>, PenError> {
        let _held = self.pen.held.lock().await;
        let is_rotation = matches!(event, Event::KekVersionActivated(_));
        let at = self.entry_time(timing)?;
        self.token_is_tied().await?;
        let prepared = self
            .pen
            .with_ledger(move |ledger| ledger.prepare(event, at))
            .await?;
        let key = KeyRef::from(self.snapshot().log_signing_key());
        let signature = self.hsm.sign_digest(&key, &prepared.digest()).await?;
        let state = self
            .pen
            .with_ledger(move |ledger| ledger.commit(prepared, &signature))
            .await?;
        self.snapshot.store(Arc::clone(&state));
        self.pen.published.send_replace(());
        self.anchor(&state).await;
        if is_rotation {
            self.notary.hurry();
        }
        Ok(state)
    }

    /// Looks at pin and anchor before each entry: a node on a copy of this ledger, and on this token,
    /// has written where the anchor is ahead or of another history. It must neither be written over
    /// nor followed.
    async fn token_is_tied(&self) -> Result<(), PenError> {
        match holdings::check_ties(&self.hsm, &self.pen.ledger).await {
            Ok(()) => Ok(()),
            Err(OpenError::Hsm(why)) => Err(PenError::Hsm(why)),
            Err(disagreement) => {
                error!(%disagreement, "no entry is written: the token is not tied to this ledger");
                self.vigil.hurry();
                Err(PenError::Foreign(disagreement.to_string()))
            }
        }
    }

    /// Ties the token to the newest head, where that is not done yet. Behind by the entries since
    /// the last that was anchored, an older copy of the ledger would be taken for the newest.
    pub(super) async fn catch_up_anchor(&self) {
        let _held = self.pen.held.lock().await;
        let state = self.snapshot();
        let anchored = *self.anchored.lock().unwrap_or_else(PoisonError::into_inner);
        if anchored != Some(state.size()) && self.token_is_tied().await.is_ok() {
            self.anchor(&state).await;
        }
    }

    async fn anchor(&self, state: &State) {
        let anchor = Anchor {
            instance_id: state.instance_id(),
            head: state.head(),
        };
        let value = anchor.to_bytes();
        match self
            .hsm
            .write_data(ANCHOR_LABEL, &value, DataKind::Replace)
            .await
        {
            Ok(()) => {
                let mut anchored = self.anchored.lock().unwrap_or_else(PoisonError::into_inner);
                *anchored = Some(state.size());
            }
            Err(why) => {
                warn!(%why, "the token could not be tied to the new head; tried again soon")
            }
        }
    }

    /// The time that an entry would have now.
    pub(super) fn entry_time(&self, timing: Timing) -> Result<UnixMs, ClockSuspect> {
        let newest = self.snapshot().latest();
        match timing {
            Timing::Stated(stated) => self.time.confirmed_by(newest, stated),
            Timing::OwnAccord => self.time.confirmed(newest),
            Timing::Regardless => Ok(self.time.confirmed(newest).unwrap_or(newest)),
        }
    }
}
