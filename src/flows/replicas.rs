//! The watch over replicas while the node serves: one task for each. It lists what the replica holds,
//! proves what is not proven, and withdraws what vanished. The invariant: what a replica is asked for
//! was proven through the worker that serves now; with the next worker all of it is proven anew.
//!
//! Nothing in a replica is made, adopted or removed, and no replica keeps another, or the node, from
//! its work.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::awaited::Awaited;
use super::holdings::{self, Holdings};
use super::replica_proof::{ReplicaProver, Subject, Unproven};
use super::vigil::{SHARE_OF_ASKED, SHARE_OF_ROUTINE};
use crate::clock::Clock;
use crate::hsm::{Fleet, HsmError, HsmState, KeyRef, Replica, Standing};
use crate::keyring::Lifecycle;
use crate::ledger::{Ledger, State};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// The same while a version waits for this replica: somebody is cloning.
const LOOK_INTERVAL_AWAITED: Duration = Duration::from_secs(2);
/// Between two looks that were asked for; and no less than the latest took.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(500);
/// A key that failed its proof is tried again after this: each try costs the token several acts.
const RETRY_WRONG: Duration = Duration::from_secs(30);
/// Keys proven in one look; the next look goes on.
const PROVEN_AT_ONCE_MAX: usize = 64;

/// The tasks. They end when this is dropped.
pub(super) struct Replicas(Vec<AbortHandle>);

impl Replicas {
    pub(super) fn begin(
        fleet: &Arc<Fleet>,
        ledger: &Arc<Mutex<Ledger>>,
        awaited: &Arc<Awaited>,
        clock: Clock,
    ) -> Self {
        let prover = Arc::new(ReplicaProver::new(fleet.primary().clone()));
        let watchers = fleet.replicas().iter().map(|replica| Watcher {
            fleet: Arc::clone(fleet),
            replica: Arc::clone(replica),
            prover: Arc::clone(&prover),
            ledger: Arc::clone(ledger),
            awaited: Arc::clone(awaited),
            clock,
            generation: 0,
            took: Duration::ZERO,
            resting: HashMap::new(),
            not_yet: HashMap::new(),
        });
        Self(
            watchers
                .map(|watcher| tokio::spawn(watcher.run()).abort_handle())
                .collect(),
        )
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

struct Watcher {
    fleet: Arc<Fleet>,
    replica: Arc<Replica>,
    prover: Arc<ReplicaProver>,
    ledger: Arc<Mutex<Ledger>>,
    awaited: Arc<Awaited>,
    clock: Clock,
    /// The worker that the latest look went through.
    generation: u64,
    /// How long the latest look took to list the token.
    took: Duration,
    /// Keys that failed their proof, and when they are tried again.
    resting: HashMap<[u8; 16], Instant>,
    /// Keys whose proof could not be made, and why: said once.
    not_yet: HashMap<[u8; 16], String>,
}

impl Watcher {
    async fn run(mut self) {
        let mut state = self.replica.hsm().changed();
        let mut told = None;
        loop {
            let now = state.borrow_and_update().clone();
            if !matches!(now, HsmState::Ready) {
                // Another copy of the token may be there when it is back: nothing of this one is
                // demanded of it before it serves.
                self.replica.hsm().keep_known_answers(|_| false);
            }
            self.tell(&mut told, &now);
            if let Some(generation) = self.replica.hsm().generation() {
                match self.look(generation).await {
                    Ok(()) => {}
                    Err(HsmError::ShutDown) => return,
                    Err(why) => {
                        let token = self.replica.name();
                        debug!(token, %why, "the replica could not be looked at");
                    }
                }
            }
            self.fleet.announce();
            sleep(LOOK_INTERVAL_MIN.max(self.took)).await;
            tokio::select! {
                () = sleep(self.interval()) => {}
                () = self.replica.hurried() => {}
                changed = state.changed() => if changed.is_err() { return },
            }
        }
    }

    fn interval(&self) -> Duration {
        let awaited = self.awaited.subjects();
        let mut awaited = awaited.iter();
        match awaited.any(|subject| !self.replica.proves(&subject.key.object_id)) {
            true => LOOK_INTERVAL_AWAITED.max(self.took.saturating_mul(SHARE_OF_ASKED)),
            false => LOOK_INTERVAL.max(self.took.saturating_mul(SHARE_OF_ROUTINE)),
        }
    }

    /// Says once what became of the token.
    fn tell(&self, told: &mut Option<String>, now: &HsmState) {
        let token = self.replica.name();
        let why = match now {
            HsmState::Unavailable { why } | HsmState::Refused { why } => Some(why.to_string()),
            HsmState::Starting | HsmState::Ready | HsmState::ShutDown => None,
        };
        match (&why, matches!(now, HsmState::Ready)) {
            (Some(why), _) if told.as_ref() != Some(why) => {
                warn!(token, why, "a replica does not serve");
            }
            (None, true) if told.is_some() => info!(token, "the replica's token is open again"),
            (Some(_) | None, _) => {}
        }
        if why.is_some() || matches!(now, HsmState::Ready) {
            *told = why;
        }
    }

    async fn look(&mut self, generation: u64) -> Result<(), HsmError> {
        if self.generation != generation {
            self.generation = generation;
            self.resting.clear();
            self.not_yet.clear();
            self.replica.keep_only(|_| false);
        }
        let began = Instant::now();
        let objects = self.replica.hsm().inventory().await?;
        self.took = began.elapsed();
        let state = self.state();
        let subjects = self.subjects(&state);
        let wanted: HashSet<[u8; 16]> = subjects.iter().map(|one| one.key.object_id).collect();
        self.replica.keep_only(|id| wanted.contains(id));
        self.replica
            .hsm()
            .keep_known_answers(|id| wanted.contains(id));
        let remains = holdings::remains(&objects, state.keyring());
        self.replica.set_aside(remains.into_iter().collect());

        let holdings = Holdings::new(&objects);
        let mut unproven = Vec::new();
        for subject in subjects {
            let id = subject.key.object_id;
            match ReplicaProver::is_listed(&holdings, &subject) {
                Err(why) => {
                    self.withdraw(&subject, why);
                    // Seen again at each look, at no cost.
                    self.resting.remove(&id);
                }
                Ok(()) if self.replica.proves(&id) || self.rests(&id) => {}
                Ok(()) => unproven.push(subject),
            }
        }
        if unproven.len() > PROVEN_AT_ONCE_MAX {
            unproven.truncate(PROVEN_AT_ONCE_MAX);
            self.replica.hurry();
        }
        let rejection_key = KeyRef::from(state.implicit_rejection_key());
        self.prove(unproven, &rejection_key, generation).await;
        Ok(())
    }

    /// What the replica should hold: first what waits for it, then what recordings are wrapped under
    /// now, then the rest.
    fn subjects(&self, state: &State) -> Vec<Subject> {
        let mut subjects = self.awaited.subjects();
        let is_active = |active: bool| {
            let versions = holdings::in_token(state);
            versions.filter(move |version| (version.lifecycle == Lifecycle::Active) == active)
        };
        let versions = is_active(true).chain(is_active(false));
        subjects.extend(versions.map(|version| Subject::from(&**version)));
        subjects
    }

    /// As many at once as half of the sessions: callers use the replica meanwhile.
    async fn prove(&mut self, subjects: Vec<Subject>, rejection_key: &KeyRef, generation: u64) {
        let at_once = (self.replica.hsm().sessions() / 2).max(1);
        let mut waiting = subjects.into_iter();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < at_once
                && let Some(subject) = waiting.next()
            {
                let (prover, rejection_key) = (Arc::clone(&self.prover), rejection_key.clone());
                let replica = self.replica.hsm().clone();
                under_way.spawn(async move {
                    let proof = prover.prove(&replica, &rejection_key, &subject).await;
                    (subject, proof)
                });
            }
            match under_way.join_next().await {
                None => return,
                Some(Ok((subject, Ok(())))) => self.proven(&subject, generation),
                Some(Ok((subject, Err(why)))) => self.withdraw(&subject, why),
                Some(Err(panic)) => {
                    warn!(%panic, token = self.replica.name(), "a proof panicked");
                }
            }
        }
    }

    fn proven(&mut self, subject: &Subject, generation: u64) {
        let (token, key) = (self.replica.name(), &subject.label);
        // Through a worker that is gone by now it says nothing.
        if self.replica.hsm().generation() != Some(generation) {
            return;
        }
        self.not_yet.remove(&subject.key.object_id);
        let at = self.clock.now();
        let proven = Standing::Proven { at, generation };
        self.replica.stand(subject.key.object_id, proven);
        info!(token, key, "the replica proves a key");
        self.fleet.announce();
    }

    fn withdraw(&mut self, subject: &Subject, why: Unproven) {
        let (token, key, id) = (self.replica.name(), &subject.label, subject.key.object_id);
        let standing = match why {
            Unproven::Later(why) => {
                if self.not_yet.get(&id) != Some(&why) {
                    warn!(
                        token,
                        key, why, "a proof could not be made; it is tried again"
                    );
                    self.not_yet.insert(id, why);
                }
                return;
            }
            Unproven::Missing(why) => Standing::Missing(why),
            Unproven::Wrong(why) => {
                self.resting.insert(id, Instant::now() + RETRY_WRONG);
                Standing::Wrong(why)
            }
        };
        // A worker to come must not want it.
        self.replica.hsm().forget_known_answers(&subject.key);
        let (Standing::Missing(why) | Standing::Wrong(why)) = &standing else {
            return;
        };
        let why = why.clone();
        if self.replica.stand(id, standing) {
            warn!(token, key, why, "the replica is not asked for a key");
            self.fleet.announce();
        }
    }

    fn rests(&self, id: &[u8; 16]) -> bool {
        let again = self.resting.get(id);
        again.is_some_and(|again| *again > Instant::now())
            && matches!(self.replica.standing(id), Some(Standing::Wrong(_)))
    }

    fn state(&self) -> Arc<State> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(ledger.state())
    }
}
