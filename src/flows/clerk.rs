//! What the node does of its own accord: it brings stops into the ledger, ends what was begun, closes
//! what expired, ties the token to the newest head, and rotates where a mandate asks for it. It acts
//! on nothing but what the ledger says, and only with a clock that can be believed. What does not go
//! well keeps nothing else from being done, is said once, and is tried again.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::Node;
use super::desk::{Desk, NO_REST, Rest};
use super::pen::{PenError, Timing};
use super::schedule::Schedule;
use crate::clock::UnixMs;
use crate::hsm::HsmState;
use crate::ledger::Event;
use crate::proto::v1;
use crate::quorum::{MandateInForce, Pending};
use crate::types::KekName;

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// After a rotation under a mandate ended without effect, in milliseconds: an hour.
const RETRY_AFTER_MS: u64 = 3600 * 1000;
/// What was begun and cannot be ended.
const REST_OF_BEGUN: Rest = Rest {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
};
/// A rotation that cannot be begun.
const REST_OF_ROTATION: Rest = Rest {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(3600),
};

/// Makes rounds for as long as it is polled.
pub async fn keep(node: Arc<Node>) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut desk = Desk::default();
    loop {
        rounds.tick().await;
        node.round(&mut desk).await;
    }
}

impl Node {
    async fn round(self: &Arc<Self>, desk: &mut Desk) {
        // Without the HSM no entry can be signed.
        if !matches!(self.hsm.status().state, HsmState::Ready) || !self.vigil.is_ours() {
            return;
        }
        desk.did("stops", NO_REST, self.record_stops().await.map_err(said));
        if desk.is_up("what was begun") {
            let ended = self.resume().await.map_err(|why| why.to_string());
            desk.did("what was begun", REST_OF_BEGUN, ended);
        }
        self.catch_up_anchor().await;
        let clock = self.entry_time(Timing::OwnAccord);
        let suspect = clock.as_ref().map(|_| ()).map_err(ToString::to_string);
        desk.did("the clock", NO_REST, suspect);
        let Ok(now) = clock else { return };
        desk.did("the note of the time", NO_REST, self.note(now).await);
        desk.did("expiry", NO_REST, self.close_expired(now).await);
        self.rotate_what_is_due(now, desk).await;
    }

    /// Notes the time for the next process.
    async fn note(self: &Arc<Self>, now: UnixMs) -> Result<(), String> {
        let node = Arc::clone(self);
        let noted = spawn_blocking(move || {
            let mut noted = node.noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.note(now)
        });
        match noted.await {
            Ok(noted) => noted.map_err(|why| why.to_string()),
            Err(panic) => Err(panic.to_string()),
        }
    }

    async fn close_expired(&self, now: UnixMs) -> Result<(), String> {
        for id in self.snapshot().governance().overdue(now) {
            let proposal_id = id.0.as_bytes().to_vec();
            let event = Event::ProposalExpired(v1::ProposalExpired { proposal_id });
            self.append(event, Timing::OwnAccord).await.map_err(said)?;
            info!(proposal = %id, "the proposal expired");
        }
        Ok(())
    }

    async fn rotate_what_is_due(&self, now: UnixMs, desk: &mut Desk) {
        let state = self.snapshot();
        for (kek, mandate) in state.governance().mandates() {
            let Some(schedule) = Schedule::of(mandate, state.keyring()) else {
                continue;
            };
            self.announce(kek, &schedule, now);
            let mut stops = state.governance().stops();
            let is_stopped =
                self.stops().is_stopped(kek) || stops.any(|(of, _)| of.is_none_or(|of| of == kek));
            let failed_at = mandate.failed_at.map_or(0, |at| at.0);
            let is_too_soon = now.0 < failed_at.saturating_add(RETRY_AFTER_MS);
            if !schedule.is_due(now) || is_stopped || is_too_soon {
                continue;
            }
            let what = format!("the rotation of {kek}");
            if desk.is_up(&what) {
                let went = self.rotate(kek, mandate).await;
                desk.did(&what, REST_OF_ROTATION, went);
            }
        }
    }

    async fn rotate(&self, kek: &KekName, mandate: &MandateInForce) -> Result<(), String> {
        let Ok(_turn) = self.saga.try_lock() else {
            return Ok(());
        };
        // What is bound to fail is not begun: the ledger would grow by its failures for ever.
        let plan = self.plan_profile(&mandate.mandate.version);
        plan.map_err(|why| why.to_string())?;
        info!(%kek, mandate = %mandate.id, "a rotation is due");
        let keypair_id = super::make::random_id().map_err(|why| why.to_string())?;
        let event = Event::MandatedRotationBegun(v1::MandatedRotationBegun {
            mandate_id: mandate.id.0.as_bytes().to_vec(),
            keypair_id: keypair_id.as_bytes().to_vec(),
        });
        let state = self.append(event, Timing::OwnAccord).await.map_err(said)?;
        for pending in state.governance().pending() {
            if let Pending::Make(make) = pending
                && make.operation().keypair_id == keypair_id
            {
                let made = self.make(&make).await;
                return made.map_err(|why| why.to_string());
            }
        }
        Ok(())
    }

    /// Says once, at each distance the mandate asks for, that a rotation comes.
    fn announce(&self, kek: &KekName, schedule: &Schedule, now: UnixMs) {
        let Some(reached) = schedule.reached(now) else {
            return;
        };
        let mut announced = self
            .announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if announced.insert((schedule.active, reached)) {
            let (days_left, due_at) = (schedule.days_left(now), schedule.due_at.rfc3339());
            warn!(%kek, days_left, due_at, "a rotation under a mandate comes");
        }
    }

    /// Rotations that come within the distances their mandates announce them at, or that are over due
    /// and why, one sentence each.
    pub(super) fn rotations_ahead(&self, now: UnixMs) -> Vec<String> {
        let state = self.snapshot();
        let ahead = state.governance().mandates().filter_map(|(kek, mandate)| {
            let schedule = Schedule::of(mandate, state.keyring())?;
            let due_at = schedule.due_at.rfc3339();
            if !schedule.is_due(now) {
                schedule.reached(now)?;
                return Some(format!("{kek} is rotated under its mandate at {due_at}"));
            }
            let why = match self.plan_profile(&mandate.mandate.version) {
                Err(why) => format!(": {why}"),
                Ok(_) => String::new(),
            };
            Some(format!(
                "{kek} is to be rotated under its mandate since {due_at}{why}"
            ))
        });
        ahead.collect()
    }
}

fn said(why: PenError) -> String {
    match &why {
        PenError::Fatal => error!("the clerk's entry was not written"),
        PenError::Refused(_)
        | PenError::Clock(_)
        | PenError::Hsm(_)
        | PenError::Foreign(_)
        | PenError::Ledger(_) => {
            debug!(%why, "the clerk's entry was not written")
        }
    }
    super::saga::chain(&why)
}
