//! What the node knows of itself. Reading it waits for nothing: not for the HSM, not for a disk.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Node;
use crate::audit::JournalStatus;
use crate::clock::UnixMs;
use crate::hsm::{HsmState, HsmStatus, OracleAlarm};
use crate::ledger::State;
use crate::types::Sha256;

/// Sentences about callers in one status, of each kind.
const ALARMS_SAID_MAX: usize = 64;

/// Counters since the start of the process. Relaxed: they are read by people.
#[derive(Debug, Default)]
pub struct Counters {
    released: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    pub(super) fn count_unwrap(&self, released: bool) {
        let counter = if released {
            &self.released
        } else {
            &self.refused
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// DEKs released.
    pub unwraps_released: u64,
    /// Unwraps refused or failed.
    pub unwraps_refused: u64,
    /// Those of them that are not in the audit log: beyond their caller's quota or ration.
    pub refusals_unrecorded: u64,
}

/// The state of the node at one moment.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// Whether an unwrap can succeed now, under every KEK that is not stopped by itself.
    pub ready: bool,
    /// What stands in the way or needs an operator, one sentence each.
    pub problems: Vec<String>,
    /// SHA-256 of the genesis entry.
    pub instance_id: Sha256,
    /// The instance's name.
    pub instance_name: String,
    /// The primary token.
    pub hsm: HsmStatus,
    /// Versions that were proven on its token since the start, and versions that it must hold.
    pub proven: (usize, usize),
    /// Calls that it answered.
    pub served: u64,
    /// The replicas.
    pub replicas: Vec<ReplicaStatus>,
    /// Entries of the ledger, and the Merkle root over them.
    pub ledger: (u64, Sha256),
    /// The audit log.
    pub audit: JournalStatus,
    /// Callers whose wrapped DEKs do not unwrap.
    pub oracle_alarms: Vec<OracleAlarm>,
    /// Counters.
    pub counted: Counted,
    /// When the process started.
    pub started_at: UnixMs,
}

/// A replica at one moment.
#[derive(Debug, Clone)]
pub struct ReplicaStatus {
    /// Its name.
    pub name: String,
    /// Whether new versions wait for it.
    pub is_required: bool,
    /// Its token and worker.
    pub hsm: HsmStatus,
    /// Its sessions for work, as configured.
    pub sessions: usize,
    /// Calls that it answered.
    pub served: u64,
    /// Versions that it has proven to hold, and is asked for.
    pub proven: usize,
    /// Versions that it should hold.
    pub versions: usize,
}

impl Node {
    /// The state of the node now.
    pub fn status(&self) -> NodeStatus {
        let state = self.snapshot();
        let hsm = self.hsm.status();
        let audit = self.journal.status();
        let found = self.vigil.findings();
        let mut problems = found.problems();
        problems.extend(self.proofs.problems());
        match &hsm.state {
            HsmState::Ready => {}
            HsmState::Starting => problems.push("the HSM worker is starting".to_owned()),
            HsmState::Unavailable { why, .. } | HsmState::Refused { why } => {
                problems.push(why.to_string());
            }
            HsmState::ShutDown => problems.push("the HSM is shut down".to_owned()),
        }
        problems.extend(self.replica_problems());
        problems.extend(audit.why_not.clone());
        problems.extend(self.stops_said(&state));
        problems.extend(self.clock_suspect());
        let oracle_alarms = self.quota.alarms();
        problems.extend(oracle_alarms.iter().take(ALARMS_SAID_MAX).map(said));
        problems.extend(self.ration.problems().into_iter().take(ALARMS_SAID_MAX));
        if audit.unrecorded > 0 {
            let count = audit.unrecorded;
            problems.push(format!(
                "{count} refused connections are not in the audit log: its queue was full"
            ));
        }
        NodeStatus {
            ready: self.is_ready(),
            problems,
            instance_id: state.instance_id(),
            instance_name: state.instance_name().to_owned(),
            ledger: (state.size(), state.root()),
            hsm,
            proven: self.proofs.count(&state),
            served: self.fleet.served_by_primary(),
            replicas: self.replicas(&state),
            audit,
            oracle_alarms,
            counted: self.counted(),
            started_at: self.started_at,
        }
    }

    fn replicas(&self, state: &State) -> Vec<ReplicaStatus> {
        let replicas = self.fleet.replicas().iter();
        let replicas = replicas.map(|replica| {
            let versions = || super::holdings::in_token(state);
            let proven = versions().filter(|version| replica.proves(version.keypair_id.as_bytes()));
            ReplicaStatus {
                name: replica.name().to_owned(),
                is_required: replica.is_required(),
                hsm: replica.hsm().status(),
                sessions: replica.hsm().sessions(),
                served: replica.served(),
                proven: proven.count(),
                versions: versions().count(),
            }
        });
        replicas.collect()
    }

    /// What is stopped: not in the ledger yet, and by the ledger.
    fn stops_said(&self, state: &State) -> Vec<String> {
        let stops = self.stops();
        let mut problems = stops.problems();
        for (kek, stop) in state.governance().stops() {
            let what = kek.map_or_else(
                || "every KEK is stopped".to_owned(),
                |kek| format!("the KEK {kek} is stopped"),
            );
            let at = stop.at.rfc3339();
            problems.push(format!(
                "{what} by {} since {at}; only a quorum lifts it",
                stop.by
            ));
        }
        for kek in stops
            .pending()
            .iter()
            .filter_map(|stop| stop.target.as_ref())
        {
            if state.keyring().kek(kek).is_err() {
                problems.push(format!("no KEK has the name {kek}, which is stopped"));
            }
        }
        problems
    }

    fn counted(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            unwraps_released: read(&self.counters.released),
            unwraps_refused: read(&self.counters.refused),
            refusals_unrecorded: self.ration.unrecorded(),
        }
    }
}

fn said(alarm: &OracleAlarm) -> String {
    let OracleAlarm {
        caller,
        kek,
        since,
        refused,
    } = alarm;
    let since = since.rfc3339();
    format!(
        "ORACLE ALARM: {caller} sends wrapped DEKs that do not unwrap under {kek}, since {since}; \
         {refused} calls were refused for it"
    )
}
