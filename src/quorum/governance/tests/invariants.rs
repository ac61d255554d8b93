//! What must hold of the fold after every step, whatever was tried. Judged from what the fold took in
//! and shows, not from the reference model. No test is here.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Move, Signed};
use super::stage::{HOUR, SECOND, Stage};
use crate::access::Role;
use crate::keyring::{Lifecycle, VersionState};
use crate::quorum::{Execution, Operation, OperationKind, Phase, ProposalId, Target};
use crate::types::{KekName, KeypairId};

/// What was seen so far.
#[derive(Default)]
pub(super) struct History {
    /// The keys that approved, and when.
    approvals: BTreeMap<ProposalId, Vec<(String, u64)>>,
    acted: BTreeSet<ProposalId>,
    closed: BTreeMap<ProposalId, Phase>,
    destroyed: BTreeSet<KeypairId>,
    stopped: BTreeSet<Option<KekName>>,
    /// The epoch whose officers were looked at.
    epoch: u64,
}

impl History {
    /// Looks at a move that the fold took in.
    pub(super) fn took(&mut self, before: &Stage, tried: &Move) {
        match tried {
            Move::Approve(id, signed) => {
                self.an_old_epoch_never_acts(before, *id);
                let key = signed.by.public.to_openssh();
                self.approvals
                    .entry(*id)
                    .or_default()
                    .push((key, before.now.0));
            }
            Move::Execute(order, signed) | Move::Begin(order, signed, _) => {
                self.no_execution_without_m_distinct_live_officers(before, order, signed);
                self.no_execution_before_both_clocks_passed_the_lock(before, order);
                self.a_closed_proposal_never_acts(order.proposal);
                self.an_old_epoch_never_acts(before, order.proposal);
                let first = self.acted.insert(order.proposal);
                assert!(first, "every_proposal_acts_at_most_once");
                let proposal = &before.standing(order.proposal).proposal;
                if let Operation::Reinstate(target) = &proposal.operation {
                    self.stopped.remove(&super::model::name(target));
                }
            }
            Move::Suspend(text, _) => {
                self.stopped.insert(match &text.target {
                    Target::All => None,
                    Target::Kek(kek) => Some(kek.clone()),
                });
            }
            Move::HostStop(kek) => {
                self.stopped.insert(kek.clone());
            }
            Move::Destroyed(id) => {
                self.destroyed.insert(*id);
            }
            Move::Open(..) | Move::Prove(..) | Move::Veto(..) | Move::Expire(_) => {}
            Move::Mandated(..) | Move::Fail(_) | Move::Activate(..) => {}
        }
    }

    fn live(before: &Stage, kind: OperationKind) -> Vec<String> {
        let who = before.governance.electorate(kind.approvers());
        who.iter().map(|officer| officer.key.to_openssh()).collect()
    }

    fn no_execution_without_m_distinct_live_officers(
        &self,
        before: &Stage,
        order: &Execution,
        signed: &Signed,
    ) {
        let here = "no_execution_without_m_distinct_live_officers";
        let proposal = &before.standing(order.proposal).proposal;
        let live = Self::live(before, order.kind);
        assert!(
            live.contains(&signed.by.public.to_openssh()),
            "{here}: the executor"
        );
        let given = self
            .approvals
            .get(&order.proposal)
            .cloned()
            .unwrap_or_default();
        let keys: BTreeSet<_> = given.into_iter().map(|(key, _)| key).collect();
        let own = before.governance.proposer_may_approve(order.kind);
        let who = before.governance.electorate(order.kind.approvers());
        let proposer = who.iter().find(|officer| officer.name == proposal.proposer);
        let proposer = proposer.map(|officer| officer.key.to_openssh());
        let counted = keys.iter().filter(|key| live.contains(key));
        let counted = counted
            .filter(|key| own || Some(*key) != proposer.as_ref())
            .count();
        let needed = before.governance.rule(order.kind).threshold.max(2);
        assert!(counted >= needed, "{here}: {counted} of {needed}");
    }

    fn no_execution_before_both_clocks_passed_the_lock(&self, before: &Stage, order: &Execution) {
        let here = "no_execution_before_both_clocks_passed_the_lock";
        let rule = before.governance.rule(order.kind);
        let given = &self.approvals[&order.proposal];
        let met = given[rule.threshold - 1].1;
        let end = met + u64::try_from(rule.time_lock.as_millis()).unwrap();
        assert!(before.now.0 >= end, "{here}: the node's");
        assert!(order.at.0 >= end / SECOND * SECOND, "{here}: the officer's");
        assert!(order.at.0.abs_diff(before.now.0) <= HOUR, "{here}: apart");
        if order.kind == OperationKind::DestroyVersion {
            assert!(before.now.0 - met >= 7 * 24 * HOUR, "{here}: seven days");
        }
    }

    fn a_closed_proposal_never_acts(&self, id: ProposalId) {
        assert!(
            !self.closed.contains_key(&id),
            "a_closed_proposal_never_acts"
        );
    }

    fn an_old_epoch_never_acts(&self, before: &Stage, id: ProposalId) {
        let epoch = before.standing(id).proposal.epoch;
        assert_eq!(epoch, before.governance.epoch(), "an_old_epoch_never_acts");
    }

    /// Looks at the state itself.
    pub(super) fn holds(&mut self, stage: &Stage) {
        self.a_closed_proposal_stays_closed(stage);
        self.a_stopped_kek_unwraps_nothing_until_a_quorum_reinstates(stage);
        self.destroyed_never_comes_back(stage);
        at_most_one_active_version_per_kek(stage);
        if self.epoch != stage.governance.epoch() {
            self.epoch = stage.governance.epoch();
            officers_are_distinct(stage);
        }
        nobody_holds_two_roles(stage);
    }

    fn a_closed_proposal_stays_closed(&mut self, stage: &Stage) {
        for standing in stage.governance.proposals() {
            if let Some(closure) = &standing.closed {
                let known = self
                    .closed
                    .entry(standing.proposal.id)
                    .or_insert(closure.phase);
                assert_eq!(*known, closure.phase, "a_closed_proposal_never_acts");
            }
        }
    }

    fn a_stopped_kek_unwraps_nothing_until_a_quorum_reinstates(&self, stage: &Stage) {
        for version in stage.keyring.versions() {
            let stopped =
                self.stopped.contains(&None) || self.stopped.contains(&Some(version.kek.clone()));
            assert!(
                !stopped || !version.state().unwraps(),
                "a_stopped_kek_unwraps_nothing_until_a_quorum_reinstates"
            );
        }
    }

    fn destroyed_never_comes_back(&self, stage: &Stage) {
        for id in &self.destroyed {
            let state = stage.keyring.version(*id).unwrap().state();
            assert_eq!(state, VersionState::Destroyed, "destroyed_never_comes_back");
        }
    }
}

fn at_most_one_active_version_per_kek(stage: &Stage) {
    for (kek, versions) in stage.keyring.keks() {
        let active = versions
            .iter()
            .filter(|version| version.lifecycle == Lifecycle::Active);
        assert!(
            active.count() <= 1,
            "at_most_one_active_version_per_kek: {kek}"
        );
    }
}

fn officers_are_distinct(stage: &Stage) {
    let recovery = stage.governance.recovery().unwrap();
    let all = || stage.governance.officers().iter().chain(&recovery.officers);
    let keys: BTreeSet<_> = all().map(|officer| officer.key.to_openssh()).collect();
    let names: BTreeSet<_> = all().map(|officer| &officer.name).collect();
    assert_eq!(keys.len(), all().count(), "nobody_holds_two_roles: a key");
    assert_eq!(names.len(), all().count(), "nobody_holds_two_roles: a name");
}

fn nobody_holds_two_roles(stage: &Stage) {
    for (identity, role, keks) in stage.clients.iter() {
        let fits = keks.is_empty() || role == Role::UnwrapClient;
        assert!(fits, "nobody_holds_two_roles: {identity}");
    }
}
