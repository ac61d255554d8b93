//! The rules of governance a second time, written from their description and not from the fold:
//! short, slow and without reasons. The fold must say yes and no where this says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::signing::Person;
use super::stage::{DAY, SECOND};
use crate::access::{Identity, Role};
use crate::keyring::{Lifecycle, Version};
use crate::quorum::genesis::Recovery;
use crate::quorum::{
    Approvers, Execution, Mandate, Officer, OfficerRole, Operation, OperationKind, Phase, Policy,
    Proposal, ProposalId, Rule, Suspension, Target,
};
use crate::types::{KekName, KeypairId, Sha256};

/// What is tried, and the truth about its signature.
#[derive(Clone)]
pub(super) enum Move {
    Open(Proposal, Signed),
    Approve(ProposalId, Signed),
    Prove(ProposalId, Signed),
    Veto(ProposalId, Signed),
    Expire(ProposalId),
    Execute(Execution, Signed),
    Begin(Execution, Signed, Option<KeypairId>),
    Mandated(ProposalId, KeypairId),
    Fail(KeypairId),
    Activate(Version, ProposalId),
    Destroyed(KeypairId),
    Suspend(Suspension, Signed),
    HostStop(Option<KekName>),
}

/// Who signed what, for which purpose.
#[derive(Clone)]
pub(super) struct Signed {
    pub(super) by: &'static Person,
    pub(super) namespace: &'static str,
    pub(super) over: Vec<u8>,
}

pub(super) struct Case {
    pub(super) proposal: Arc<Proposal>,
    pub(super) approved: BTreeSet<String>,
    proven: BTreeSet<String>,
    met: Option<u64>,
    entered: u64,
    began: bool,
    end: Option<Phase>,
}

pub(super) struct Key {
    pub(super) id: KeypairId,
    pub(super) life: Lifecycle,
    pub(super) held: bool,
    spki: Sha256,
    made: u64,
}

struct Run {
    proposal: ProposalId,
    kek: Option<KekName>,
    spki: Option<Sha256>,
}

#[derive(Default)]
pub(super) struct Stopped {
    pub(super) newest: u64,
    by: BTreeSet<String>,
}

pub(super) struct Model {
    pub(super) instance: Sha256,
    pub(super) epoch: u64,
    pub(super) officers: Vec<Officer>,
    pub(super) policy: Policy,
    pub(super) recovery: Recovery,
    pub(super) recover: Rule,
    pub(super) cases: BTreeMap<ProposalId, Case>,
    pub(super) keks: BTreeMap<KekName, Vec<Key>>,
    pub(super) stops: BTreeMap<Option<KekName>, Stopped>,
    heard: BTreeSet<Vec<u8>>,
    running: BTreeMap<KeypairId, Run>,
    ids: BTreeSet<KeypairId>,
    pub(super) mandates: BTreeMap<KekName, (ProposalId, Mandate)>,
    pub(super) clients: BTreeMap<Identity, (Role, BTreeSet<KekName>)>,
    bound: BTreeSet<String>,
    pub(super) roots: Vec<Sha256>,
}

fn must(holds: bool) -> Option<()> {
    holds.then_some(())
}

impl Case {
    pub(super) fn phase(&self, at: u64) -> Phase {
        let lock = u64::try_from(self.proposal.time_lock.as_millis()).unwrap();
        match (self.end, self.met) {
            (Some(end), _) => end,
            _ if self.began => Phase::Executing,
            _ if at >= self.proposal.expires_at.0 => Phase::Expired,
            (None, None) => Phase::Open,
            (None, Some(met)) if at < met + lock => Phase::TimeLocked,
            (None, Some(_)) => Phase::Executable,
        }
    }

    fn destroys(&self) -> Option<KeypairId> {
        match &self.proposal.operation {
            Operation::DestroyVersion { keypair_id, .. } => Some(*keypair_id),
            _ => None,
        }
    }
}

impl Model {
    fn key_of(version: &Version) -> Key {
        Key {
            id: version.keypair_id,
            life: version.lifecycle,
            held: false,
            spki: version.spki_sha256,
            made: version.created_at.0,
        }
    }

    pub(super) fn new(stage: &super::stage::Stage) -> Self {
        let governance = &stage.governance;
        let keks = stage.keyring.keks();
        let keys = |all: &[Arc<Version>]| all.iter().map(|v| Self::key_of(v)).collect();
        let clients = stage.clients.iter();
        Self {
            instance: governance.instance_id(),
            epoch: 1,
            officers: governance.officers().to_vec(),
            policy: governance.policy().clone(),
            recovery: governance.recovery().unwrap().clone(),
            recover: governance.policy().rule(OperationKind::Recover),
            cases: BTreeMap::new(),
            keks: keks.map(|(kek, all)| (kek.clone(), keys(all))).collect(),
            stops: BTreeMap::new(),
            heard: BTreeSet::new(),
            running: BTreeMap::new(),
            ids: BTreeSet::new(),
            mandates: BTreeMap::new(),
            clients: clients
                .map(|(who, role, keks)| (who.clone(), (role, keks.clone())))
                .collect(),
            bound: BTreeSet::new(),
            roots: stage.roots.clone(),
        }
    }

    pub(super) fn who(&self, kind: OperationKind) -> Vec<Officer> {
        let all = self.officers.iter().cloned();
        match kind.approvers() {
            Approvers::Role(role) => all.filter(|officer| officer.role == role).collect(),
            Approvers::AnyOfficer => all.collect(),
            Approvers::Recovery => self.recovery.officers.clone(),
        }
    }

    fn signer(who: &[Officer], signed: &Signed, namespace: &str, text: &[u8]) -> Option<String> {
        must(signed.namespace == namespace && signed.over == text)?;
        let officer = who.iter().find(|officer| officer.key == signed.by.public)?;
        Some(officer.name.clone())
    }

    fn key(&mut self, id: KeypairId) -> Option<&mut Key> {
        self.keks.values_mut().flatten().find(|key| key.id == id)
    }

    fn active(&self, kek: &KekName) -> Option<&Key> {
        self.keks
            .get(kek)?
            .last()
            .filter(|key| key.life == Lifecycle::Active)
    }

    /// Whether the rules let it happen; then it has happened.
    pub(super) fn takes(&mut self, tried: &Move, at: u64) -> bool {
        let taken = match tried {
            Move::Open(proposal, signed) => self.open(proposal, signed, at),
            Move::Approve(id, signed) => self.approve(*id, signed, at),
            Move::Prove(id, signed) => self.prove(*id, signed, at),
            Move::Veto(id, signed) => self.veto(*id, signed, at),
            Move::Expire(id) => self.expire(*id, at),
            Move::Execute(order, signed) => self.execute(order, signed, at),
            Move::Begin(order, signed, id) => self.begin(order, signed, *id, at),
            Move::Mandated(mandate, id) => self.mandated(*mandate, *id, at),
            Move::Fail(id) => self.fail(*id),
            Move::Activate(version, proposal) => self.activate(version, *proposal),
            Move::Destroyed(id) => self.destroyed(*id),
            Move::Suspend(text, signed) => self.suspend(text, signed),
            Move::HostStop(kek) => self.stop(kek.clone(), "the host"),
        };
        if taken.is_some() {
            let next = Sha256::of(self.roots.last().unwrap().as_bytes());
            self.roots.push(next);
        }
        taken.is_some()
    }

    fn rule(&self, kind: OperationKind) -> Rule {
        match kind {
            OperationKind::Recover => self.recover,
            _ => self.policy.rule(kind),
        }
    }

    fn open(&mut self, proposal: &Proposal, signed: &Signed, at: u64) -> Option<()> {
        let kind = proposal.operation.kind();
        must(proposal.instance_id == self.instance && proposal.epoch == self.epoch)?;
        must(!self.cases.contains_key(&proposal.id))?;
        let by = Self::signer(&self.who(kind), signed, "proposal@kekd", proposal.text())?;
        must(by == proposal.proposer)?;
        let rule = self.rule(kind);
        must(rule.allowed && rule.threshold == proposal.threshold)?;
        must(rule.time_lock == proposal.time_lock)?;
        let life = proposal.expires_at.0 - proposal.opened_at.0;
        must(u128::from(life) == rule.lifetime.as_millis())?;
        must(proposal.opened_at.0 <= at + 300 * SECOND && at < proposal.expires_at.0)?;
        let root = self
            .roots
            .get(usize::try_from(proposal.head.size).ok()?.checked_sub(1)?);
        must(root == Some(&proposal.head.root))?;
        let own = || {
            self.cases
                .values()
                .filter(|case| case.proposal.proposer == by)
        };
        must(
            own().filter(|case| case.phase(at).is_open()).count()
                < self.policy.open_max_per_officer,
        )?;
        must(own().filter(|case| case.entered + DAY > at).count() < 64)?;
        self.fits(proposal, at)?;
        let case = Case {
            proposal: Arc::new(proposal.clone()),
            approved: BTreeSet::new(),
            proven: BTreeSet::new(),
            met: None,
            entered: at,
            began: false,
            end: None,
        };
        self.cases.insert(proposal.id, case);
        Some(())
    }

    fn open_case(&self, id: ProposalId, at: u64) -> Option<(&Case, OperationKind)> {
        let case = self
            .cases
            .get(&id)
            .filter(|case| case.phase(at).is_open())?;
        Some((case, case.proposal.operation.kind()))
    }

    fn approve(&mut self, id: ProposalId, signed: &Signed, at: u64) -> Option<()> {
        let (case, kind) = self.open_case(id, at)?;
        let by = Self::signer(
            &self.who(kind),
            signed,
            "approval@kekd",
            case.proposal.text(),
        )?;
        must(!case.approved.contains(&by))?;
        let own = self.policy.proposer_may_approve || kind == OperationKind::Recover;
        must(own || by != case.proposal.proposer)?;
        let case = self.cases.get_mut(&id)?;
        case.approved.insert(by);
        if case.met.is_none() && case.approved.len() >= case.proposal.threshold {
            case.met = Some(at);
            if let Some(version) = case.destroys() {
                self.key(version)?.held = true;
            }
        }
        Some(())
    }

    fn newcomers(&self, operation: &Operation) -> Vec<Officer> {
        let (Operation::ChangeOfficers { officers } | Operation::Recover { officers }) = operation
        else {
            return Vec::new();
        };
        let known = |officer: &&Officer| !self.officers.iter().any(|o| o.key == officer.key);
        officers.iter().filter(known).cloned().collect()
    }

    fn prove(&mut self, id: ProposalId, signed: &Signed, at: u64) -> Option<()> {
        let (case, _) = self.open_case(id, at)?;
        let new = self.newcomers(&case.proposal.operation);
        let by = Self::signer(&new, signed, "possession@kekd", case.proposal.text())?;
        must(self.cases.get_mut(&id)?.proven.insert(by))
    }

    fn veto(&mut self, id: ProposalId, signed: &Signed, at: u64) -> Option<()> {
        let (case, kind) = self.open_case(id, at)?;
        let mut who = self.who(kind);
        if kind == OperationKind::Recover {
            who.extend(self.officers.clone());
        }
        Self::signer(&who, signed, "veto@kekd", case.proposal.text())?;
        self.close(id, Phase::Vetoed)
    }

    fn expire(&mut self, id: ProposalId, at: u64) -> Option<()> {
        let case = self.cases.get(&id)?;
        must(case.end.is_none() && case.phase(at) == Phase::Expired)?;
        self.close(id, Phase::Expired)
    }

    fn close(&mut self, id: ProposalId, end: Phase) -> Option<()> {
        let case = self.cases.get_mut(&id).filter(|case| case.end.is_none())?;
        case.end = Some(end);
        let freed = case.destroys().filter(|_| case.met.is_some());
        if let Some(key) = freed.and_then(|id| self.key(id)) {
            key.held = false;
        }
        Some(())
    }
}

pub(super) fn name(target: &Target) -> Option<KekName> {
    match target {
        Target::All => None,
        Target::Kek(kek) => Some(kek.clone()),
    }
}

mod effects;
mod orders;
