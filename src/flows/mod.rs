//! The only places where the HSM, the ledger and the audit log meet: `init` gives birth to an
//! instance, `open` checks that everything agrees, `unwrap` releases DEKs, `keys`, `ledger` and `status`
//! read.
//! Nothing here knows of gRPC, TLS or PKCS#11 return codes.

pub mod audit;
mod awaited;
pub mod clerk;
pub mod coverage;
mod desk;
pub mod govern;
mod holdings;
pub mod import;
pub mod init;
pub mod inspect;
pub mod keys;
mod label;
pub mod ledger;
mod make;
pub mod notary;
mod noted;
pub mod open;
mod pen;
pub mod profiles;
mod proofs;
mod prover;
mod ration;
mod recipient;
mod replica_proof;
mod replicas;
mod saga;
mod schedule;
mod shares;
pub mod status;
mod stop;
pub mod suspend;
mod time;
pub mod unwrap;
mod vigil;
mod waiting;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, watch};
use tracing::error;

use crate::access::{AccessError, Caller, Identity};
use crate::audit::{AuditError, Draft, Journal, Outcome};
use crate::clock::{Clock, UnixMs};
use crate::config::Config;
use crate::hsm::{Capabilities, Fleet, Hsm, HsmState, Quota};
use crate::ledger::{Ledger, LedgerReader, State};
use crate::merkle::Head;
use crate::types::{KeypairId, RequestId};

use awaited::Awaited;
use import::Certified;
use notary::Notary;
use noted::Noted;
use pen::Pen;
use proofs::Proofs;
use prover::Prover;
use ration::Ration;
use replicas::Replicas;
use shares::Shares;
use status::Counters;
use stop::Switch;
use time::Timekeeper;
use vigil::{Findings, Vigil};

/// Why a node must stop.
#[derive(Debug, thiserror::Error)]
pub enum NodeFailure {
    /// The audit log can take no more records.
    #[error(transparent)]
    Audit(AuditError),
    /// The outcome of a write to the ledger is unknown.
    #[error("the ledger can no longer be written, and whether the last entry was is unknown: {0}")]
    Ledger(String),
}

/// An open node: everything a flow stands on. Only [`open::open`] makes one.
pub struct Node {
    snapshot: ArcSwap<State>,
    /// The primary token, the only one that signs, makes and destroys.
    hsm: Hsm,
    /// The versions that were proven on its token.
    proofs: Proofs,
    /// Proves what nobody asked for yet.
    _prover: Prover,
    /// All tokens: who unwraps.
    fleet: Arc<Fleet>,
    _replicas: Replicas,
    /// Versions that wait for replicas.
    awaited: Arc<Awaited>,
    coverage_timeout_ms: u64,
    /// Holds the ledger, and with it the lock on the state folder: one kekd per folder.
    vigil: Vigil,
    /// Reads the ledger beside whoever writes it.
    ledger_reader: Arc<LedgerReader>,
    journal: Journal,
    switch: Switch,
    /// The right to write the ledger.
    pen: Pen,
    /// Number of entries of the newest head that the token is known to be tied to, by one anchor.
    anchored: Mutex<Option<u64>>,
    /// Signs the head of the audit log.
    notary: Notary,
    /// Places for those who follow the audit log.
    followers: Arc<Semaphore>,
    /// Held while something is made or destroyed in the HSM.
    saga: AsyncMutex<()>,
    time: Timekeeper,
    noted: Mutex<Noted>,
    /// Transport keys of imports that wait, so that asking again asks nothing of the HSM.
    certified: Mutex<Vec<Certified>>,
    /// What the token was shown to do at the start.
    capabilities: Capabilities,
    profiles_dir: Option<PathBuf>,
    /// What the clerk has announced of rotations to come.
    announced: Mutex<BTreeSet<(KeypairId, u32)>>,
    /// Attempts; each that is begun takes a place in the audit log's queue.
    attempts: Arc<Shares>,
    /// What each caller may fail under each KEK.
    quota: Quota,
    /// What of each caller's refusals is recorded.
    ration: Ration,
    /// Counted since the start of the process.
    pub counters: Counters,
    started_at: UnixMs,
}

impl Node {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part that was opened by itself, and only `open` puts them together"
    )]
    fn new(
        config: &Config,
        audit_anchored: Option<Head>,
        ledger: Arc<Mutex<Ledger>>,
        ledger_reader: LedgerReader,
        capabilities: Capabilities,
        fleet: Arc<Fleet>,
        proofs: Proofs,
        journal: Journal,
        switch: Switch,
        clock: Clock,
        found: Findings,
        anchored: Option<u64>,
    ) -> Self {
        let state = {
            let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(ledger.state())
        };
        let noted = Noted::read(&config.state_dir);
        let awaited = Arc::new(Awaited::read(&config.state_dir));
        let hsm = fleet.primary().clone();
        let replicas = fleet.replicas().iter();
        let sessions = replicas.fold(config.hsm.sessions, |sum, one| {
            sum.saturating_add(one.hsm().sessions())
        });
        let at_hsm = config.hsm.queue_len_max.saturating_add(sessions);
        let in_all = config.audit.queue_len_max.saturating_add(at_hsm);
        let vigil = Vigil::begin(hsm.clone(), proofs.clone(), Arc::clone(&ledger), found);
        let (of_prover, found) = (Arc::clone(&ledger), vigil.changed());
        Self {
            snapshot: ArcSwap::new(state),
            _replicas: Replicas::begin(&fleet, &ledger, &awaited, clock),
            awaited,
            coverage_timeout_ms: config.hsm.coverage_timeout_ms,
            fleet,
            _prover: Prover::begin(hsm.clone(), proofs.clone(), of_prover, found),
            proofs,
            vigil,
            pen: Pen::new(ledger),
            anchored: Mutex::new(anchored),
            notary: Notary::new(config.audit.checkpoint_interval_ms, audit_anchored),
            followers: Arc::new(Semaphore::new(audit::FOLLOWERS_MAX)),
            saga: AsyncMutex::new(()),
            time: Timekeeper::new(clock, noted.at()),
            noted: Mutex::new(noted),
            certified: Mutex::default(),
            capabilities,
            profiles_dir: config.hsm.profiles_dir.clone(),
            announced: Mutex::default(),
            hsm,
            ledger_reader: Arc::new(ledger_reader),
            journal,
            switch,
            // As many as fill the HSM's queue and one batch of records.
            attempts: Shares::new(in_all, at_hsm.saturating_add(config.audit.batch_len_max)),
            quota: Quota::new(
                config.limits.failures_max,
                Duration::from_millis(config.limits.failures_window_ms),
                clock,
            ),
            ration: Ration::new(config.limits.refusals_recorded_per_minute_max),
            counters: Counters::default(),
            started_at: clock.now(),
        }
    }

    /// The state as the ledger tells it now. Taking it needs no lock.
    fn snapshot(&self) -> Arc<State> {
        self.snapshot.load_full()
    }

    fn transport_keys(&self) -> MutexGuard<'_, Vec<Certified>> {
        self.certified
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller behind an authenticated identity, as the ledger names it now.
    pub fn caller(&self, identity: &Identity) -> Result<Caller, AccessError> {
        self.snapshot().clients().caller(identity)
    }

    /// Records, as far as that is possible without waiting, that a connection was refused before it
    /// had an identity kekd accepts. `reason` is stable and machine readable.
    pub fn record_refused_connection(&self, peer: &str, reason: &'static str) {
        let Ok(request_id) = RequestId::random() else {
            return;
        };
        self.journal.try_record(Draft {
            outcome: Outcome::ConnectionRefused,
            reason,
            ..Draft::new(peer.to_owned(), request_id)
        });
    }

    /// Whether an unwrap can succeed now, under every KEK that is not stopped by itself. A stop of
    /// all makes a node not ready.
    pub fn is_ready(&self) -> bool {
        let serves = matches!(self.hsm.status().state, HsmState::Ready);
        (serves || self.replicas_serve_all())
            && self.vigil.is_sound()
            && self.proofs.is_sound()
            && self.journal.status().writable
            && !self.is_all_stopped()
    }

    /// Whether everything is stopped, by the ledger or before it.
    fn is_all_stopped(&self) -> bool {
        let state = self.snapshot();
        let mut stops = state.governance().stops();
        self.stops().is_all_stopped() || stops.any(|(kek, _)| kek.is_none())
    }

    /// Follows [`Node::is_ready`] for as long as the receiver lives.
    pub fn readiness(self: &Arc<Self>) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(self.is_ready());
        let node = Arc::clone(self);
        tokio::spawn(async move {
            let (mut hsm, mut journal) = (node.hsm.changed(), node.journal.changed());
            let (mut vigil, mut stops) = (node.vigil.changed(), node.stops().changed());
            let (mut ledger, mut proofs) = (node.pen.published(), node.proofs.changed());
            let mut fleet = node.fleet.changed();
            loop {
                let goes_on = tokio::select! {
                    () = sender.closed() => false,
                    changed = hsm.changed() => changed.is_ok(),
                    changed = journal.changed() => changed.is_ok(),
                    changed = vigil.changed() => changed.is_ok(),
                    changed = ledger.changed() => changed.is_ok(),
                    changed = proofs.changed() => changed.is_ok(),
                    changed = stops.changed() => changed.is_ok(),
                    changed = fleet.changed() => changed.is_ok(),
                };
                let ready = goes_on && node.is_ready();
                sender.send_if_modified(|last| std::mem::replace(last, ready) != ready);
                if !goes_on {
                    return;
                }
            }
        });
        receiver
    }

    /// Waits until the audit log or the ledger can never again be written in this process. The node
    /// must stop.
    pub async fn failed(&self) -> NodeFailure {
        tokio::select! {
            audit = self.journal.failed() => NodeFailure::Audit(audit),
            why = self.pen.broken() => NodeFailure::Ledger(why),
        }
    }

    /// Signs the head of the audit log, ends the worker processes, and then the audit log with all that waits for its place in it.
    /// Calls that still come are refused.
    pub async fn close(&self) {
        self.notarise_the_end().await;
        self.fleet.shutdown().await;
        if let Err(error) = self.journal.clone().close().await {
            error!(%error, "the audit log did not end in order");
        }
    }
}
