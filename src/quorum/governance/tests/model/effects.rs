//! What each operation asks for and does, in the rules written a second time.

use super::*;

impl Model {
    /// Whether an operation has something to act on.
    pub(super) fn fits(&self, proposal: &Proposal, at: u64) -> Option<()> {
        let known = |kek: &KekName| self.keks.contains_key(kek);
        let find = |id: KeypairId| self.keks.values().flatten().find(|key| key.id == id);
        match &proposal.operation {
            Operation::CreateKek(new) => must(!known(&new.kek) && !self.is_being_made(&new.kek)),
            Operation::ImportKek {
                version,
                spki_sha256,
            } => {
                must(!known(&version.kek) && !self.is_being_made(&version.kek))?;
                must(
                    self.keks
                        .values()
                        .flatten()
                        .all(|key| key.spki != *spki_sha256),
                )?;
                must(
                    self.running
                        .values()
                        .all(|run| run.spki != Some(*spki_sha256)),
                )
            }
            Operation::RotateKek { version, retires } => {
                must(known(&version.kek) && !self.is_being_made(&version.kek))?;
                must(self.active(&version.kek).map(|key| key.id) == *retires)
            }
            Operation::SetRotationMandate(mandate) => {
                must(known(&mandate.version.kek) && mandate.until.0 > at)
            }
            Operation::WithdrawRotationMandate { kek } => must(self.mandates.contains_key(kek)),
            Operation::Reinstate(target) => {
                must(self.stops.get(&name(target))?.newest < proposal.head.size)
            }
            Operation::RevokeVersion { keypair_id, .. } => {
                let life = find(*keypair_id)?.life;
                must(matches!(life, Lifecycle::Active | Lifecycle::Deactivated))
            }
            Operation::DestroyVersion { keypair_id, .. } => {
                let life = find(*keypair_id)?.life;
                must(matches!(
                    life,
                    Lifecycle::Deactivated | Lifecycle::Compromised
                ))?;
                must(self.cases.values().all(|case| {
                    case.proposal.id == proposal.id
                        || case.end.is_some()
                        || case.destroys() != Some(*keypair_id)
                }))
            }
            Operation::CancelDestruction { proposal } => {
                let case = self.cases.get(proposal)?;
                must(case.destroys().is_some() && case.phase(at).is_open())
            }
            Operation::AllowPkcs1V15 { kek } | Operation::ForbidPkcs1V15 { kek } => {
                must(known(kek))
            }
            Operation::GrantUnwrap { identity, kek } => {
                must(known(kek))?;
                let held = self.clients.get(identity);
                must(
                    held.is_none_or(|(role, keks)| {
                        *role == Role::UnwrapClient && !keks.contains(kek)
                    }),
                )
            }
            Operation::WithdrawUnwrap { identity, kek } => {
                must(self.clients.get(identity)?.1.contains(kek))
            }
            Operation::AssignRole { identity, .. } => must(!self.clients.contains_key(identity)),
            Operation::RemoveClient { identity } => must(self.clients.contains_key(identity)),
            Operation::BindRecordingPolicy { kek, fallback, .. } => {
                must(known(kek) && fallback.as_ref().is_none_or(known))
            }
            Operation::UnbindRecordingPolicy { key } => must(self.bound.contains(key)),
            Operation::ChangeOfficers { officers } | Operation::Recover { officers } => {
                must(*officers != self.officers)?;
                let also = |o: &Officer, r: &Officer| o.key.is_same_key(&r.key) || o.name == r.name;
                let recovery = &self.recovery.officers;
                must(!officers.iter().any(|o| recovery.iter().any(|r| also(o, r))))?;
                self.can_govern(&self.policy, officers, true)
            }
            Operation::ChangePolicy(policy) => {
                let recover = policy.rule(OperationKind::Recover);
                must(!recover.allowed || recover.threshold <= self.recovery.officers.len())?;
                self.can_govern(policy, &self.officers, false)
            }
        }
    }

    /// Who must approve can, and what can be decided now can be decided then.
    fn can_govern(&self, policy: &Policy, officers: &[Officer], new: bool) -> Option<()> {
        for kind in OperationKind::ALL {
            let count = |officers: &[Officer]| match kind.approvers() {
                Approvers::Role(OfficerRole::KeyCustodian) => officers
                    .iter()
                    .filter(|o| o.role == OfficerRole::KeyCustodian)
                    .count(),
                Approvers::Role(OfficerRole::PolicyOfficer) => officers
                    .iter()
                    .filter(|o| o.role == OfficerRole::PolicyOfficer)
                    .count(),
                Approvers::AnyOfficer => officers.len(),
                Approvers::Recovery => 99,
            };
            let enough = |policy: &Policy, officers: &[Officer]| {
                let proposer = usize::from(!policy.proposer_may_approve);
                count(officers) >= policy.rule(kind).threshold + proposer
            };
            if !policy.rule(kind).allowed || kind == OperationKind::Recover {
                continue;
            }
            let all = if new { count(officers) } else { officers.len() };
            must(policy.rule(kind).threshold <= all)?;
            let needed =
                kind.approvers() == Approvers::AnyOfficer || enough(&self.policy, &self.officers);
            must(!needed || enough(policy, officers))?;
        }
        Some(())
    }

    pub(super) fn execute(&mut self, order: &Execution, signed: &Signed, at: u64) -> Option<()> {
        let proposal = self.ordered(order, signed, at)?;
        must(!proposal.operation.kind().needs_hsm())?;
        self.close(proposal.id, Phase::Executed)?;
        match proposal.operation.clone() {
            Operation::SetRotationMandate(mandate) => {
                let kek = mandate.version.kek.clone();
                self.mandates.insert(kek, (proposal.id, mandate));
            }
            Operation::WithdrawRotationMandate { kek } => {
                self.mandates.remove(&kek);
            }
            Operation::Reinstate(target) => {
                self.stops.remove(&name(&target));
            }
            Operation::RevokeVersion { keypair_id, .. } => {
                self.key(keypair_id)?.life = Lifecycle::Compromised;
            }
            Operation::CancelDestruction { proposal } => {
                self.close(proposal, Phase::Cancelled)?;
            }
            Operation::GrantUnwrap { identity, kek } => {
                let grants = self.clients.entry(identity);
                let none = (Role::UnwrapClient, BTreeSet::new());
                grants.or_insert(none).1.insert(kek);
            }
            Operation::WithdrawUnwrap { identity, kek } => {
                self.clients.get_mut(&identity)?.1.remove(&kek);
            }
            Operation::AssignRole { identity, role } => {
                self.clients.insert(identity, (role, BTreeSet::new()));
            }
            Operation::RemoveClient { identity } => {
                self.clients.remove(&identity);
            }
            Operation::BindRecordingPolicy { key, .. } => {
                self.bound.insert(key);
            }
            Operation::UnbindRecordingPolicy { key } => {
                self.bound.remove(&key);
            }
            Operation::ChangeOfficers { officers } | Operation::Recover { officers } => {
                self.officers = officers;
                self.next_epoch();
            }
            Operation::ChangePolicy(policy) => {
                self.policy = policy;
                self.policy.set(OperationKind::Recover, self.recover);
                self.next_epoch();
            }
            _ => {}
        }
        Some(())
    }

    fn next_epoch(&mut self) {
        self.epoch += 1;
        let open = self
            .cases
            .values()
            .filter(|case| case.end.is_none() && !case.began);
        let open: Vec<_> = open.map(|case| case.proposal.id).collect();
        for id in open {
            self.close(id, Phase::Cancelled);
        }
    }
}
