//! How governance looks on the wire: one moment of it, encoded. Nothing is decided here.

use std::sync::Arc;

use crate::clock::UnixMs;
use crate::flows::Node;
use crate::ledger::State;
use crate::proto::v1;
use crate::quorum::{Officer, OperationKind, Phase, Standing};

/// One moment.
pub(super) struct View<'a> {
    node: &'a Node,
    state: Arc<State>,
    /// The node's clock.
    now: UnixMs,
    /// The time by which it is said where a proposal stands.
    likely: UnixMs,
}

impl<'a> View<'a> {
    pub(super) fn of(node: &'a Node) -> Self {
        let (state, now) = node.governed();
        Self {
            node,
            state,
            now,
            likely: node.likely_time(),
        }
    }

    pub(super) fn proposal(&self, standing: &Standing) -> v1::Proposal {
        let governance = self.state.governance();
        let proposal = &standing.proposal;
        let closed = standing.closed.as_ref();
        let phase = standing.phase(self.likely);
        let ms = |at: Option<UnixMs>| at.map_or(0, |at| at.0);
        let by = closed.map(|closure| closure.by.clone());
        let because = closed.map(|closure| closure.because.clone());
        v1::Proposal {
            id: proposal.id.0.as_bytes().to_vec(),
            statement: proposal.text().to_vec(),
            phase: phase_of(phase).into(),
            // What counted then; officers may have changed since.
            approvals: match phase.is_open() {
                true => governance.counting(standing),
                false => standing.approvals.clone(),
            },
            threshold: count(governance.threshold(proposal)),
            executable_at_ms: ms(standing.executable_at()),
            possession_missing: match phase.is_open() {
                true => governance.possession_missing(standing),
                false => Vec::new(),
            },
            closed_because: because.unwrap_or_default(),
            closed_by: by.unwrap_or_default(),
            keypair_id: standing
                .keypair_id
                .map_or_else(String::new, |id| id.to_string()),
            waits_for: (standing.keypair_id)
                .filter(|_| phase == Phase::Executing)
                .and_then(|id| self.node.waits_for(id))
                .unwrap_or_default(),
        }
    }

    pub(super) fn proposals(&self, all: bool, max: usize) -> Vec<v1::Proposal> {
        let proposals = self.state.governance().proposals();
        let wanted = proposals.filter(|standing| {
            let phase = standing.phase(self.likely);
            all || phase.is_open() || phase == Phase::Executing
        });
        let wanted = wanted.take(max);
        wanted.map(|standing| self.proposal(standing)).collect()
    }

    pub(super) fn governance(&self, node: &Node) -> v1::GetGovernanceResponse {
        let (state, governance) = (&self.state, self.state.governance());
        let policy = governance.policy();
        let rules = OperationKind::ALL.into_iter().map(|kind| {
            let rule = governance.rule(kind);
            v1::Rule {
                operation: kind.name().to_owned(),
                approvers: kind.approvers().to_string(),
                threshold: count(rule.threshold),
                time_lock_seconds: rule.time_lock.as_secs(),
                lifetime_seconds: rule.lifetime.as_secs(),
                allowed: rule.allowed,
            }
        });
        let officers = governance.officers().iter();
        let of_recovery = governance.recovery().map(|set| set.officers.as_slice());
        let officers = officers.map(|one| officer(one, one.role.name()));
        let officers = officers.chain(
            of_recovery
                .unwrap_or_default()
                .iter()
                .map(|one| officer(one, "recovery")),
        );
        let profiles = node.profiles().into_iter();
        v1::GetGovernanceResponse {
            instance_id: state.instance_id().as_bytes().to_vec(),
            instance_name: state.instance_name().to_owned(),
            epoch: governance.epoch(),
            ledger_size: state.size(),
            ledger_root: state.root().as_bytes().to_vec(),
            now_ms: self.now.0,
            officers: officers.collect(),
            rules: rules.collect(),
            proposer_may_approve: policy.proposer_may_approve,
            open_max_per_officer: count(policy.open_max_per_officer),
            mandates: self.mandates(),
            stops: self.stops(node),
            recording_policies: self.recording_policies(),
            warnings: node.governance_warnings(),
            policy: policy.text(),
            profiles: profiles
                .map(|(name, sha256)| v1::Profile {
                    name,
                    sha256: sha256.as_bytes().to_vec(),
                })
                .collect(),
        }
    }

    fn mandates(&self) -> Vec<v1::Mandate> {
        let keyring = self.state.keyring();
        let mandates = self.state.governance().mandates();
        let mandates = mandates.map(|(kek, in_force)| v1::Mandate {
            kek: kek.to_string(),
            mandate_id: in_force.id.0.as_bytes().to_vec(),
            period_days: in_force.mandate.period_days,
            until_ms: in_force.mandate.until.0,
            due_at_ms: in_force.due_at(keyring).map_or(0, |due| due.0),
        });
        mandates.collect()
    }

    fn stops(&self, node: &Node) -> Vec<v1::Stop> {
        let recorded = self.state.governance().stops().map(|(kek, stop)| v1::Stop {
            kek: kek.map_or_else(String::new, ToString::to_string),
            by: stop.by.clone(),
            at_ms: stop.at.0,
        });
        let mut stops: Vec<v1::Stop> = recorded.collect();
        for stop in node.stops().pending() {
            let kek = stop.target.map_or_else(String::new, |kek| kek.to_string());
            if !stops.iter().any(|known| known.kek == kek) {
                let by = "not in the ledger yet".to_owned();
                stops.push(v1::Stop { kek, by, at_ms: 0 });
            }
        }
        stops
    }

    fn recording_policies(&self) -> Vec<v1::RecordingPolicy> {
        let policies = self.state.governance().recording_policies();
        let policies = policies.map(|(key, policy)| v1::RecordingPolicy {
            key: key.to_owned(),
            kek: policy.kek.to_string(),
            fallback_kek: policy
                .fallback
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
        });
        policies.collect()
    }
}

fn officer(officer: &Officer, role: &str) -> v1::Officer {
    v1::Officer {
        name: officer.name.clone(),
        role: role.to_owned(),
        key: officer.key.to_openssh(),
        fingerprint: officer.key.fingerprint(),
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

const fn phase_of(phase: Phase) -> v1::ProposalPhase {
    match phase {
        Phase::Open => v1::ProposalPhase::Open,
        Phase::TimeLocked => v1::ProposalPhase::TimeLocked,
        Phase::Executable => v1::ProposalPhase::Executable,
        Phase::Executing => v1::ProposalPhase::Executing,
        Phase::Executed => v1::ProposalPhase::Executed,
        Phase::Vetoed => v1::ProposalPhase::Vetoed,
        Phase::Expired => v1::ProposalPhase::Expired,
        Phase::Cancelled => v1::ProposalPhase::Cancelled,
        Phase::Failed => v1::ProposalPhase::Failed,
    }
}
