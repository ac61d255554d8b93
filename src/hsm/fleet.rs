//! Several tokens that hold the same keys: the primary, which alone signs, makes and destroys, and
//! replicas, which unwrap beside it. Here is who serves one call, and who serves it when the first is
//! lost. Whether a replica's key is the right one is for the flows to find out; what they found is
//! kept in `replica.rs`.
//!
//! The invariants: a replica is asked only for keys that it has proven to this process, through the
//! very worker that serves now; a call is given to two tokens at most; a verdict on a ciphertext is
//! never asked for twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use super::asker::Asker;
use super::call::Kind;
use super::error::HsmError;
use super::handle::Hsm;
use super::job::{Answer, KeyRef, RewrapJob, UnwrapJob, WorkerCommand};
use super::loss::Loss;
use super::replica::{Replica, Standing};
use crate::audit::Sealed;
use crate::config::Config;
use crate::types::{Dek, Next, RewrappedDek};

/// The primary's place among the members; replicas follow in the order of the configuration.
const PRIMARY: usize = 0;

/// What came of one call, whichever tokens it was given to.
pub struct Routed<T> {
    /// The last word on it.
    pub answer: Result<Answer<T>, HsmError>,
    /// What the primary's key failed with, where another token had the last word then.
    pub primary_fault: Option<HsmError>,
}

/// All tokens of a node.
pub struct Fleet {
    primary: Hsm,
    /// Calls that the primary answered, for an even choice among tokens that are equally busy.
    served: AtomicU64,
    replicas: Vec<Arc<Replica>>,
    changed: watch::Sender<()>,
}

impl From<Hsm> for Fleet {
    /// One token alone.
    fn from(primary: Hsm) -> Self {
        Self {
            primary,
            served: AtomicU64::new(0),
            replicas: Vec::new(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Fleet {
    /// Starts a worker for each token and returns at once. `pin_mark_file` is the primary's; those of
    /// the replicas lie beside it, with their names behind.
    pub fn start(config: &Config, command: &WorkerCommand, pin_mark_file: &Path) -> Self {
        let mut fleet = Self::from(Hsm::start(
            config.hsm.clone(),
            command.clone(),
            pin_mark_file.to_owned(),
        ));
        for token in &config.token {
            let variables: BTreeMap<_, _> = token.environment.clone();
            let command = WorkerCommand {
                environment: variables,
                ..command.clone()
            };
            let mut mark = pin_mark_file.as_os_str().to_owned();
            mark.push(format!("-{}", token.name));
            let hsm = Hsm::start(token.hsm(&config.hsm), command, mark.into());
            let replica = Replica::new(token.name.clone(), token.required, hsm);
            fleet.replicas.push(Arc::new(replica));
        }
        fleet
    }

    /// The token that signs, makes keys, and holds pin and anchors.
    pub const fn primary(&self) -> &Hsm {
        &self.primary
    }

    /// The others.
    pub fn replicas(&self) -> &[Arc<Replica>] {
        &self.replicas
    }

    /// Calls that the primary answered.
    pub fn served_by_primary(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Whether a new version has to wait until replicas hold it.
    pub fn has_required(&self) -> bool {
        self.replicas.iter().any(|replica| replica.is_required())
    }

    /// The names of required replicas that do not prove this key now.
    pub fn required_without(&self, object_id: &[u8; 16]) -> Vec<&str> {
        let without = self
            .replicas
            .iter()
            .filter(|replica| replica.is_required() && !replica.proves(object_id));
        without.map(|replica| replica.name()).collect()
    }

    /// Changes with what any replica was found to hold, and with its state.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Tells those who follow [`Fleet::changed`].
    pub fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Drops the tests of a key on all tokens: later workers do not mind its absence.
    pub fn forget_known_answers(&self, key: &KeyRef) {
        self.primary.forget_known_answers(key);
        for replica in &self.replicas {
            replica.hsm().forget_known_answers(key);
        }
    }

    /// Has all replicas looked at soon.
    pub fn hurry(&self) {
        for replica in &self.replicas {
            replica.hurry();
        }
    }

    /// Decrypts a DEK, as [`Hsm::unwrap`] does, on the token that has most room.
    /// The primary is left out where it has not proven the key to this process and a replica has.
    pub async fn unwrap(
        &self,
        job: &UnwrapJob,
        asker: &Asker<'_>,
        use_primary: bool,
    ) -> Routed<Sealed<Dek>> {
        let mut route = Route::new(self, &job.key, asker, use_primary);
        loop {
            let Some(leg) = route.leg() else {
                return route.end(Err(gone("Unwrap")));
            };
            let answer = leg.hsm.unwrap_as(job, leg.kind).await;
            if route.ends(&leg, answer.as_ref().err()) {
                return route.end(answer);
            }
        }
    }

    /// Unwraps a DEK and wraps it for a recipient, as [`Hsm::rewrap`] does, on the token that has
    /// most room.
    pub async fn rewrap(
        &self,
        job: &RewrapJob,
        asker: &Asker<'_>,
        use_primary: bool,
    ) -> Routed<Sealed<RewrappedDek>> {
        let mut route = Route::new(self, &job.key, asker, use_primary);
        loop {
            let Some(leg) = route.leg() else {
                return route.end(Err(gone("Rewrap")));
            };
            let answer = leg.hsm.rewrap_as(job, leg.kind).await;
            if route.ends(&leg, answer.as_ref().err()) {
                return route.end(answer);
            }
        }
    }

    /// Whether a replica would serve this key now.
    pub fn has_replica_for(&self, object_id: &[u8; 16]) -> bool {
        self.replicas
            .iter()
            .any(|replica| replica.proves(object_id))
    }

    /// Whether any token would serve this key now.
    pub fn serves(&self, object_id: &[u8; 16]) -> bool {
        self.able(object_id, None).next().is_some()
    }

    /// Has all workers leave, and waits for that.
    pub async fn shutdown(&self) {
        // All at once: each may take its time.
        let mut leaving = JoinSet::new();
        let replicas = self.replicas.iter().map(|replica| replica.hsm());
        for hsm in std::iter::once(&self.primary).chain(replicas) {
            let hsm = hsm.clone();
            leaving.spawn(async move { hsm.shutdown().await });
        }
        while leaving.join_next().await.is_some() {}
    }

    fn hsm(&self, member: usize) -> &Hsm {
        match member.checked_sub(1).and_then(|at| self.replicas.get(at)) {
            Some(replica) => replica.hsm(),
            None => &self.primary,
        }
    }

    fn replica(&self, member: usize) -> Option<&Replica> {
        let at = member.checked_sub(1)?;
        self.replicas.get(at).map(|replica| &**replica)
    }

    fn served(&self, member: usize) -> &AtomicU64 {
        self.replica(member)
            .map_or(&self.served, |replica| &replica.served)
    }

    /// Members that serve this key now.
    fn able(&self, object_id: &[u8; 16], but: Option<usize>) -> impl Iterator<Item = usize> {
        let primary = self.primary.generation().map(|_| PRIMARY);
        let replicas = self.replicas.iter().enumerate();
        let replicas = replicas.filter(move |(_, replica)| replica.proves(object_id));
        primary
            .into_iter()
            .chain(replicas.map(|(at, _)| at.saturating_add(1)))
            .filter(move |member| Some(*member) != but)
    }
}

/// One call on its way through the fleet.
struct Route<'a> {
    fleet: &'a Fleet,
    key: &'a KeyRef,
    asker: &'a Asker<'a>,
    /// Whether the primary may be asked.
    use_primary: bool,
    /// The member that failed.
    failed: Option<usize>,
    /// What the primary's key failed with, where that was the primary.
    primary_fault: Option<HsmError>,
}

/// The next member to be asked.
struct Leg<'a> {
    member: usize,
    hsm: &'a Hsm,
    kind: Kind<'a>,
}

impl<'a> Route<'a> {
    const fn new(
        fleet: &'a Fleet,
        key: &'a KeyRef,
        asker: &'a Asker<'a>,
        use_primary: bool,
    ) -> Self {
        Self {
            fleet,
            key,
            asker,
            use_primary,
            failed: None,
            primary_fault: None,
        }
    }

    fn end<T>(self, answer: Result<Answer<T>, HsmError>) -> Routed<T> {
        Routed {
            answer,
            primary_fault: self.primary_fault,
        }
    }

    /// The next member; `None` where none may be asked.
    fn leg(&self) -> Option<Leg<'a>> {
        let best = match self.fleet.replicas.is_empty() {
            true => None,
            false => self.best(),
        };
        // Where nobody serves, the primary says why, or comes back in time.
        let member = best.or_else(|| self.use_primary.then_some(PRIMARY))?;
        let has_other = self.able(Some(member)).next().is_some();
        let kind = match self.failed.is_none() && best.is_some() && has_other {
            true => Kind::Routed(self.asker),
            false => Kind::Client(self.asker),
        };
        Some(Leg {
            member,
            hsm: self.fleet.hsm(member),
            kind,
        })
    }

    fn able(&self, but: Option<usize>) -> impl Iterator<Item = usize> {
        let may_be_asked = |member: &usize| self.use_primary || *member != PRIMARY;
        let able = self.fleet.able(&self.key.object_id, but);
        able.filter(may_be_asked)
    }

    /// Of those who may be asked the one with the fewest calls for each of its sessions; among equals
    /// the one that served least.
    fn best(&self) -> Option<usize> {
        self.able(self.failed).min_by_key(|member| {
            let hsm = self.fleet.hsm(*member);
            let load = hsm.load().saturating_mul(1024) / hsm.sessions().max(1);
            (load, self.fleet.served(*member).load(Ordering::Relaxed))
        })
    }

    /// Whether this answer is the last word; otherwise another member is to be asked.
    fn ends(&mut self, leg: &Leg<'_>, error: Option<&HsmError>) -> bool {
        let Some(why) = error else {
            self.fleet
                .served(leg.member)
                .fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let is_about_the_key = matches!(
            why,
            HsmError::KeyMissing { .. }
                | HsmError::KeyAmbiguous { .. }
                | HsmError::KeyMismatch { .. }
                | HsmError::Untested { .. }
                | HsmError::KeyUnwell { .. }
        );
        if is_about_the_key && let Some(replica) = self.fleet.replica(leg.member) {
            replica.stand(self.key.object_id, Standing::Wrong(why.to_string()));
            replica.hurry();
        }
        // What is the caller's: another token would say the same, or nobody waits.
        let is_final = matches!(
            why,
            HsmError::Busy { .. }
                | HsmError::FailuresTooMany { .. }
                | HsmError::CallerLeft
                | HsmError::DeadlineExceeded
        );
        let may_be_served = !is_final && why.next() != Next::CallerFault;
        if self.failed.is_some() || self.fleet.replicas.is_empty() || !may_be_served {
            return true;
        }
        let is_routed = matches!(leg.kind, Kind::Routed(_));
        let has_other = self.able(Some(leg.member)).next().is_some();
        if (!is_routed && !has_other) || Instant::now() >= self.asker.deadline {
            return true;
        }
        let token = self.fleet.replica(leg.member);
        let token = token.map_or(crate::config::PRIMARY, Replica::name);
        warn!(token, %why, "a call goes to another token");
        self.failed = Some(leg.member);
        // What the primary has proven is for the flows to withdraw.
        self.primary_fault = (is_about_the_key && leg.member == PRIMARY).then(|| why.clone());
        false
    }
}

/// The one that could have served is gone.
const fn gone(operation: &'static str) -> HsmError {
    let loss = Loss::Died(None);
    HsmError::Lost { operation, loss }
}
