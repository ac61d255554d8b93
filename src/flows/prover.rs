//! When versions are proven (`proofs.rs` says what that is): so many before the node serves, any other
//! before its first use, and all of them by and by. This file has the order, and the task that proves
//! what nobody asked for yet. The invariant: that task takes one session at most, a quarter of its
//! time, and none while callers wait.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::sleep;
use tracing::info;

use super::Node;
use super::holdings;
use super::label;
use super::open::OpenError;
use super::proofs::{Proofs, Unproven, prove};
use super::unwrap::UnwrapError;
use super::vigil::Findings;
use crate::hsm::{Hsm, HsmState};
use crate::keyring::{Version, VersionState};
use crate::ledger::{Ledger, State};

/// Between two looks for what is due, and between two looks whether callers wait.
const ROUND: Duration = Duration::from_secs(10);
const CALM: Duration = Duration::from_millis(50);
/// The rest after a proof, in times that it took: the task uses a quarter of one session.
const REST: u32 = 3;

/// All versions that the token must hold, in the order in which they are proven: the active ones, then
/// those that unwrap, then the stopped ones; the newest of each first.
pub(super) fn in_order(state: &State) -> Vec<Arc<Version>> {
    let mut versions: Vec<_> = holdings::in_token(state).cloned().collect();
    versions.sort_by_cached_key(|version| {
        let state = version.state();
        let rank = (state != VersionState::Active, !state.unwraps());
        let newest = (Reverse(version.created_at), Reverse(version.number));
        (rank, newest, version.kek.clone())
    });
    versions
}

/// Proves the first `count` versions, as many at once as there are sessions. The first that is not as
/// it should be is the error.
pub(super) async fn prove_first(
    hsm: &Hsm,
    proofs: &Proofs,
    state: &State,
    count: usize,
    at_once: usize,
) -> Result<(), OpenError> {
    let mut under_way = JoinSet::new();
    for version in in_order(state).into_iter().take(count) {
        if under_way.len() >= at_once.max(1) {
            settled(under_way.join_next().await)?;
        }
        let (hsm, proofs) = (hsm.clone(), proofs.clone());
        under_way.spawn(async move {
            prove(&hsm, &version, &label::of(&version)).await?;
            proofs.passed(version.keypair_id);
            Ok(())
        });
    }
    while !under_way.is_empty() {
        settled(under_way.join_next().await)?;
    }
    Ok(())
}

fn settled(check: Option<Result<Result<(), OpenError>, JoinError>>) -> Result<(), OpenError> {
    match check {
        Some(Ok(outcome)) => outcome,
        // Nothing else ends a check: they are aborted only when nobody waits for them any more.
        Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
        None => Ok(()),
    }
}

/// The task that proves what nobody asked for. It ends when this is dropped.
pub(super) struct Prover(AbortHandle);

impl Prover {
    /// Begins. `found` is what the vigil finds: a token that is not ours is not looked at.
    pub(super) fn begin(
        hsm: Hsm,
        proofs: Proofs,
        ledger: Arc<Mutex<Ledger>>,
        found: watch::Receiver<Findings>,
    ) -> Self {
        let rounds = Rounds {
            hsm,
            proofs,
            ledger,
            found,
        };
        Self(tokio::spawn(rounds.run()).abort_handle())
    }
}

impl Drop for Prover {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Rounds {
    hsm: Hsm,
    proofs: Proofs,
    ledger: Arc<Mutex<Ledger>>,
    found: watch::Receiver<Findings>,
}

impl Rounds {
    async fn run(self) {
        let mut is_told = true;
        loop {
            let due: Vec<_> = in_order(&self.state())
                .into_iter()
                .filter(|version| self.proofs.is_due(version.keypair_id))
                .collect();
            for version in due {
                self.calm().await;
                if !self.is_in_token(&version) || !self.proofs.is_due(version.keypair_id) {
                    continue;
                }
                let began = Instant::now();
                self.proofs.renew(&version).await;
                sleep(began.elapsed().saturating_mul(REST)).await;
            }
            let (proven, all) = self.proofs.count(&self.state());
            if proven == all && !is_told {
                info!(versions = all, "every version is proven");
            }
            is_told = proven == all;
            sleep(ROUND).await;
        }
    }

    /// Waits until the token is ours and serves, and no caller waits for it.
    async fn calm(&self) {
        loop {
            let hsm = self.hsm.status();
            let is_ours = self.found.borrow().foreign.is_none();
            if matches!(hsm.state, HsmState::Ready) && hsm.queue_len == 0 && is_ours {
                return;
            }
            sleep(CALM).await;
        }
    }

    fn is_in_token(&self, version: &Version) -> bool {
        holdings::is_in_token(&self.state(), version.keypair_id)
    }

    fn state(&self) -> Arc<State> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(ledger.state())
    }
}

impl Node {
    /// Returns once this process has proven the version on a token: whether the primary is one. Where it
    /// is not and a replica is, the replica serves, and the primary's proof comes by and by.
    pub(super) async fn proven_somewhere(
        &self,
        version: &Arc<Version>,
        deadline: Instant,
    ) -> Result<bool, UnwrapError> {
        let id = version.keypair_id;
        if matches!(self.proofs.found(id), Some(Ok(_))) {
            return Ok(true);
        }
        if self.fleet.has_replica_for(id.as_bytes()) {
            return Ok(false);
        }
        self.proven(version, deadline).await.map(|()| true)
    }

    /// Returns once this process has proven the version on the primary.
    async fn proven(&self, version: &Arc<Version>, deadline: Instant) -> Result<(), UnwrapError> {
        let proven = self.proofs.require(version, deadline).await;
        proven.map_err(|why| match why {
            Unproven::Unavailable(_) => UnwrapError::unavailable(),
            Unproven::DeadlineExceeded => UnwrapError::DeadlineExceeded,
            // The log has it, once, and the status for as long as it is so.
            Unproven::Refused(_) | Unproven::NoResult => UnwrapError::Internal,
        })
    }
}
