//! What an operation that needs no HSM changes, once it was judged: nothing here can fail.

use super::super::operation::{Operation, OperationKind, Target};
use super::super::proposal::ProposalId;
use super::{Effect, Governance, MandateInForce, Phase, RecordingPolicy, World};

impl Governance {
    /// What an operation without HSM changes. It was seen to fit.
    pub(super) fn take_effect(
        &mut self,
        id: ProposalId,
        operation: &Operation,
        world: &World<'_>,
    ) -> Vec<Effect> {
        match operation {
            Operation::SetRotationMandate(mandate) => {
                let in_force = MandateInForce {
                    id,
                    mandate: mandate.clone(),
                    set_at: world.at,
                    failed_at: None,
                };
                self.mandates.insert(mandate.version.kek.clone(), in_force);
                Vec::new()
            }
            Operation::WithdrawRotationMandate { kek } => {
                self.mandates.remove(kek);
                Vec::new()
            }
            Operation::Reinstate(target) => {
                let kek = match target {
                    Target::All => None,
                    Target::Kek(kek) => Some(kek.clone()),
                };
                self.stops.remove(&kek);
                vec![Effect::Lift(kek)]
            }
            Operation::RevokeVersion { keypair_id, .. } => vec![Effect::Compromise(*keypair_id)],
            Operation::CancelDestruction { proposal } => {
                let because = "an operation cancelled the destruction".to_owned();
                self.close(
                    *proposal,
                    Phase::Cancelled,
                    String::new(),
                    because,
                    world.at,
                )
            }
            Operation::AllowPkcs1V15 { kek } => vec![Effect::ForbidPkcs1V15(kek.clone(), false)],
            Operation::ForbidPkcs1V15 { kek } => vec![Effect::ForbidPkcs1V15(kek.clone(), true)],
            Operation::GrantUnwrap { identity, kek } => {
                vec![Effect::Grant(identity.clone(), kek.clone())]
            }
            Operation::WithdrawUnwrap { identity, kek } => {
                vec![Effect::Withdraw(identity.clone(), kek.clone())]
            }
            Operation::AssignRole { identity, role } => {
                vec![Effect::Assign(identity.clone(), *role)]
            }
            Operation::RemoveClient { identity } => vec![Effect::Remove(identity.clone())],
            Operation::BindRecordingPolicy { key, kek, fallback } => {
                let (kek, fallback) = (kek.clone(), fallback.clone());
                let policy = RecordingPolicy { kek, fallback };
                self.recording_policies.insert(key.clone(), policy);
                Vec::new()
            }
            Operation::UnbindRecordingPolicy { key } => {
                self.recording_policies.remove(key);
                Vec::new()
            }
            Operation::ChangeOfficers { officers } | Operation::Recover { officers } => {
                self.officers.clone_from(officers);
                self.new_epoch(world)
            }
            Operation::ChangePolicy(policy) => {
                self.policy = policy.clone();
                // What is shown is what holds: the rule for recover stays the genesis'.
                self.policy.set(OperationKind::Recover, self.recover);
                self.new_epoch(world)
            }
            // Judged before: these take two steps.
            Operation::CreateKek(_)
            | Operation::RotateKek { .. }
            | Operation::ImportKek { .. }
            | Operation::DestroyVersion { .. } => Vec::new(),
        }
    }

    /// Officers or policy changed: whatever is open was agreed on under other rules.
    fn new_epoch(&mut self, world: &World<'_>) -> Vec<Effect> {
        self.epoch = self.epoch.saturating_add(1);
        let open: Vec<ProposalId> = self
            .proposals
            .iter()
            .filter(|(_, standing)| standing.closed.is_none() && standing.executed_by.is_none())
            .map(|(id, _)| *id)
            .collect();
        let mut effects = Vec::new();
        for id in open {
            let because = format!("officers or policy changed; epoch {} began", self.epoch);
            effects.extend(self.close(id, Phase::Cancelled, String::new(), because, world.at));
        }
        effects
    }
}
