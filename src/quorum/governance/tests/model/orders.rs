//! Orders: executions, what the HSM was asked for and what came of it, and stops.

use std::sync::Arc;

use super::{Case, Model, Run, Signed, must, name};
use crate::keyring::{Lifecycle, Version};
use crate::quorum::governance::tests::stage::{DAY, HOUR, SECOND};
use crate::quorum::{Execution, Operation, OperationKind, Phase, Proposal, ProposalId, Suspension};
use crate::types::{KekName, KeypairId};

impl Model {
    /// Everything an order must be.
    pub(super) fn ordered(
        &self,
        order: &Execution,
        signed: &Signed,
        at: u64,
    ) -> Option<Arc<Proposal>> {
        let case = self.cases.get(&order.proposal)?;
        let proposal = &case.proposal;
        let kind = proposal.operation.kind();
        must(order.instance_id == self.instance && order.kind == kind)?;
        must(order.effect == proposal.operation.effect())?;
        let by = Self::signer(&self.who(kind), signed, "execution@kekd", order.text())?;
        must(by == order.officer && case.phase(at) == Phase::Executable)?;
        let lock = u64::try_from(proposal.time_lock.as_millis()).unwrap();
        must(order.at.0 >= (case.met? + lock) / SECOND * SECOND)?;
        must(order.at < proposal.expires_at && order.at.0.abs_diff(at) <= HOUR)?;
        let new = self.newcomers(&proposal.operation);
        must(
            new.iter()
                .all(|officer| case.proven.contains(&officer.name)),
        )?;
        self.fits(proposal, at)?;
        Some(Arc::clone(proposal))
    }

    pub(super) fn begin(
        &mut self,
        order: &Execution,
        signed: &Signed,
        id: Option<KeypairId>,
        at: u64,
    ) -> Option<()> {
        let proposal = self.ordered(order, signed, at)?;
        let (kek, spki) = match &proposal.operation {
            Operation::CreateKek(v) | Operation::RotateKek { version: v, .. } => {
                (Some(&v.kek), None)
            }
            Operation::ImportKek {
                version,
                spki_sha256,
            } => (Some(&version.kek), Some(*spki_sha256)),
            Operation::DestroyVersion { .. } => (None, None),
            _ => return None,
        };
        must(kek.is_some() == id.is_some())?;
        let id = match &proposal.operation {
            Operation::DestroyVersion { keypair_id, .. } => *keypair_id,
            _ => self.fresh(id?)?,
        };
        let proposal = order.proposal;
        self.running.insert(
            id,
            Run {
                proposal,
                kek: kek.cloned(),
                spki,
            },
        );
        self.cases.get_mut(&order.proposal)?.began = true;
        Some(())
    }

    fn fresh(&mut self, id: KeypairId) -> Option<KeypairId> {
        must(self.key(id).is_none() && self.ids.insert(id)).map(|()| id)
    }

    pub(super) fn mandated(
        &mut self,
        id: ProposalId,
        keypair_id: KeypairId,
        at: u64,
    ) -> Option<()> {
        let (_, mandate) = self
            .mandates
            .values()
            .find(|(known, _)| *known == id)?
            .clone();
        must(self.rule(OperationKind::SetRotationMandate).allowed)?;
        let kek = mandate.version.kek.clone();
        let made = self.active(&kek)?.made;
        must(at >= made + u64::from(mandate.interval_days_min) * DAY && at < mandate.until.0)?;
        must(!self.stops.contains_key(&None) && !self.stops.contains_key(&Some(kek.clone())))?;
        must(!self.is_being_made(&kek))?;
        let keypair_id = self.fresh(keypair_id)?;
        let run = Run {
            proposal: id,
            kek: Some(kek),
            spki: None,
        };
        self.running.insert(keypair_id, run);
        Some(())
    }

    pub(super) fn is_being_made(&self, kek: &KekName) -> bool {
        self.running
            .values()
            .any(|run| run.kek.as_ref() == Some(kek))
    }

    pub(super) fn fail(&mut self, id: KeypairId) -> Option<()> {
        let run = self.running.remove(&id)?;
        self.close(run.proposal, Phase::Failed);
        Some(())
    }

    pub(super) fn activate(&mut self, version: &Version, proposal: ProposalId) -> Option<()> {
        let run = self.running.get(&version.keypair_id)?;
        must(run.proposal == proposal && run.kek.as_ref() == Some(&version.kek))?;
        must(run.spki.is_none_or(|spki| spki == version.spki_sha256))?;
        must(
            self.keks
                .values()
                .flatten()
                .all(|key| key.spki != version.spki_sha256),
        )?;
        let number = self.keks.get(&version.kek).map_or(0, Vec::len) + 1;
        must(usize::try_from(version.number) == Ok(number))?;
        self.running.remove(&version.keypair_id);
        let all = self.keks.entry(version.kek.clone()).or_default();
        if let Some(retired) = all.last_mut().filter(|key| key.life == Lifecycle::Active) {
            retired.life = Lifecycle::Deactivated;
        }
        all.push(Self::key_of(version));
        self.close(proposal, Phase::Executed);
        Some(())
    }

    pub(super) fn destroyed(&mut self, id: KeypairId) -> Option<()> {
        let proposal = self
            .running
            .get(&id)
            .filter(|run| run.kek.is_none())?
            .proposal;
        self.running.remove(&id);
        self.close(proposal, Phase::Executed)?;
        self.key(id)?.life = Lifecycle::Destroyed;
        Some(())
    }

    pub(super) fn suspend(&mut self, text: &Suspension, signed: &Signed) -> Option<()> {
        must(text.instance_id == self.instance)?;
        let by = Self::signer(&self.officers, signed, "suspension@kekd", text.text())?;
        must(by == text.officer && !self.heard.contains(text.text()))?;
        let kek = name(&text.target);
        self.stop(kek, &by)?;
        self.heard.insert(text.text().to_vec());
        Some(())
    }

    pub(super) fn stop(&mut self, kek: Option<KekName>, by: &str) -> Option<()> {
        must(kek.as_ref().is_none_or(|kek| self.keks.contains_key(kek)))?;
        let newest = u64::try_from(self.roots.len()).unwrap();
        if let Some(stopped) = self.stops.get(&kek) {
            // Again only where a proposal waits that would undo it.
            let undoes = |case: &Case| {
                matches!(&case.proposal.operation, Operation::Reinstate(what) if name(what) == kek)
                    && case.end.is_none()
                    && !case.began
                    && case.proposal.head.size > stopped.newest
            };
            must(!stopped.by.contains(by) || self.cases.values().any(undoes))?;
        }
        let stopped = self.stops.entry(kek).or_default();
        stopped.newest = newest;
        stopped.by.insert(by.to_owned());
        Some(())
    }
}
