//! The only places where the HSM, the ledger and the audit log meet: `init` gives birth to an
//! instance, `open` checks that everything agrees, `unwrap` releases DEKs, `keys` and `status` read.
//! Nothing here knows of gRPC, TLS or PKCS#11 return codes.

mod holdings;
pub mod init;
pub mod inspect;
pub mod keys;
mod label;
mod make;
pub mod open;
mod recipient;
mod shares;
pub mod status;
pub mod unwrap;
mod vigil;

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tracing::error;

use crate::access::{AccessError, Caller, Identity};
use crate::audit::{Draft, Journal, Outcome};
use crate::clock::{Clock, UnixMs};
use crate::config::Config;
use crate::hsm::{Hsm, HsmState};
use crate::ledger::{Ledger, State};
use crate::types::RequestId;

use shares::Shares;
use status::Counters;
use vigil::{Findings, Vigil};

/// An open node: everything a flow stands on. Only [`open::open`] makes one.
pub struct Node {
    snapshot: ArcSwap<State>,
    hsm: Hsm,
    /// Holds the ledger, and with it the lock on the state folder: one kekd per folder.
    vigil: Vigil,
    journal: Journal,
    /// Attempts; each that is begun takes a place in the audit log's queue.
    attempts: Arc<Shares>,
    /// Turns at the HSM.
    turns: Arc<Shares>,
    /// Counted since the start of the process.
    pub counters: Counters,
    started_at: UnixMs,
}

impl Node {
    fn new(
        config: &Config,
        state: Arc<State>,
        ledger: Arc<Mutex<Ledger>>,
        hsm: Hsm,
        journal: Journal,
        clock: Clock,
        found: Findings,
    ) -> Self {
        let sessions = config.hsm.sessions;
        let at_hsm = config.hsm.queue_len_max.saturating_add(sessions);
        let in_all = config.audit.queue_len_max.saturating_add(at_hsm);
        Self {
            snapshot: ArcSwap::new(state),
            vigil: Vigil::begin(hsm.clone(), ledger, found),
            hsm,
            journal,
            // As many as fill the HSM's queue and one batch of records.
            attempts: Shares::new(in_all, at_hsm.saturating_add(config.audit.batch_len_max)),
            // Two for each session: the next is there when one ends, and nobody else waits long.
            turns: Shares::new(at_hsm, sessions.saturating_mul(2)),
            counters: Counters::default(),
            started_at: clock.now(),
        }
    }

    /// The state as the ledger tells it now. Taking it needs no lock.
    fn snapshot(&self) -> Arc<State> {
        self.snapshot.load_full()
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

    /// Whether an unwrap can succeed now, under every KEK.
    pub fn is_ready(&self) -> bool {
        matches!(self.hsm.status().state, HsmState::Ready)
            && self.vigil.is_sound()
            && self.journal.status().writable
    }

    /// Follows [`Node::is_ready`] for as long as the receiver lives.
    pub fn readiness(self: &Arc<Self>) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(self.is_ready());
        let node = Arc::clone(self);
        tokio::spawn(async move {
            let (mut hsm, mut journal) = (node.hsm.changed(), node.journal.changed());
            let mut vigil = node.vigil.changed();
            loop {
                let goes_on = tokio::select! {
                    () = sender.closed() => false,
                    changed = hsm.changed() => changed.is_ok(),
                    changed = journal.changed() => changed.is_ok(),
                    changed = vigil.changed() => changed.is_ok(),
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

    /// Waits until the audit log can never again take a record in this process. The node must stop.
    pub async fn failed(&self) -> crate::audit::AuditError {
        self.journal.failed().await
    }

    /// Ends the worker process, and then the audit log with all that waits for its place in it.
    /// Calls that still come are refused.
    pub async fn close(&self) {
        self.hsm.shutdown().await;
        if let Err(error) = self.journal.clone().close().await {
            error!(%error, "the audit log did not end in order");
        }
    }
}
