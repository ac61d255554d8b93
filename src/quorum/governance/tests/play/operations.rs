//! Operations that are put forward at random: mostly such as could be meant.

use super::moves::{KEKS, people};
use super::{Dice, Life};
use crate::access::Role;
use crate::clock::UnixMs;
use crate::keyring::{Lifecycle, Version};
use crate::quorum::governance::tests::stage::{DAY, SECOND, kek, new_version};
use crate::quorum::{Mandate, Officer, OfficerRole, Operation, OperationKind, Target, Usage};
use crate::types::Sha256;

impl Life {
    pub(super) fn operation(&self, dice: &mut Dice) -> Option<Operation> {
        let stage = &self.stage;
        let name = kek(KEKS[dice.below(3)]);
        let new = new_version(name.as_str());
        let versions: Vec<_> = stage.keyring.versions().map(|v| v.keypair_id).collect();
        let keypair_id = *dice.pick(&versions)?;
        let identity = crate::access::Identity::Uid(1000 + u32::try_from(dice.below(2)).unwrap());
        let reason = "lost".to_owned();
        let key = "queue".to_owned();
        let kind = *dice.pick(&OperationKind::ALL)?;
        let destructions: Vec<_> = stage
            .governance
            .proposals()
            .filter(|standing| standing.proposal.operation.kind() == OperationKind::DestroyVersion)
            .map(|standing| standing.proposal.id)
            .collect();
        Some(match kind {
            OperationKind::CreateKek => Operation::CreateKek(new),
            OperationKind::RotateKek => {
                let retires = stage.keyring.current(&name).map(|active| active.keypair_id);
                let retires = if dice.once_in(10) { None } else { retires };
                Operation::RotateKek {
                    version: new,
                    retires,
                }
            }
            OperationKind::SetRotationMandate => Operation::SetRotationMandate(Mandate {
                version: new,
                period_days: 8,
                interval_days_min: 1 + u32::try_from(dice.below(8)).unwrap(),
                until: UnixMs((stage.now.0 + [0, DAY, 60 * DAY][dice.below(3)]) / SECOND * SECOND),
                warn_days: vec![],
            }),
            OperationKind::WithdrawRotationMandate => {
                Operation::WithdrawRotationMandate { kek: name }
            }
            OperationKind::Reinstate => {
                let stops: Vec<_> = stage
                    .governance
                    .stops()
                    .map(|(kek, _)| kek.cloned())
                    .collect();
                let target = dice
                    .pick(&stops)
                    .cloned()
                    .unwrap_or_else(|| self.stopped(dice));
                Operation::Reinstate(target.map_or(Target::All, Target::Kek))
            }
            OperationKind::RevokeVersion => Operation::RevokeVersion { keypair_id, reason },
            OperationKind::DestroyVersion => {
                let ended = |v: &&std::sync::Arc<Version>| v.lifecycle != Lifecycle::Active;
                let old = stage.keyring.versions().find(ended).map(|v| v.keypair_id);
                let keypair_id = old.filter(|_| !dice.once_in(5)).unwrap_or(keypair_id);
                let usage = Usage {
                    unwraps: 0,
                    first: None,
                    last: None,
                };
                Operation::DestroyVersion {
                    keypair_id,
                    unused_days: 0,
                    usage,
                }
            }
            OperationKind::CancelDestruction => {
                let all: Vec<_> = stage.governance.proposals().collect();
                let any = dice.pick(&all)?.proposal.id;
                let proposal = *dice.pick(&destructions).unwrap_or(&any);
                Operation::CancelDestruction { proposal }
            }
            OperationKind::ImportKek => {
                let spki_sha256 = Sha256::of(&[u8::try_from(dice.below(2)).unwrap()]);
                Operation::ImportKek {
                    version: new,
                    spki_sha256,
                }
            }
            OperationKind::AllowPkcs1V15 => Operation::AllowPkcs1V15 { kek: name },
            OperationKind::ForbidPkcs1V15 => Operation::ForbidPkcs1V15 { kek: name },
            OperationKind::GrantUnwrap => Operation::GrantUnwrap {
                identity,
                kek: name,
            },
            OperationKind::WithdrawUnwrap => Operation::WithdrawUnwrap {
                identity,
                kek: name,
            },
            OperationKind::AssignRole => {
                let role = [Role::Auditor, Role::Operator, Role::UnwrapClient][dice.below(3)];
                Operation::AssignRole { identity, role }
            }
            OperationKind::RemoveClient => Operation::RemoveClient { identity },
            OperationKind::BindRecordingPolicy => Operation::BindRecordingPolicy {
                key,
                kek: name,
                fallback: None,
            },
            OperationKind::UnbindRecordingPolicy => Operation::UnbindRecordingPolicy { key },
            OperationKind::ChangeOfficers => Operation::ChangeOfficers {
                officers: self.officers(dice),
            },
            OperationKind::Recover => Operation::Recover {
                officers: self.officers(dice),
            },
            OperationKind::ChangePolicy => {
                let mut policy = stage.governance.policy().clone();
                policy.proposer_may_approve = dice.once_in(2);
                policy.open_max_per_officer = 1 + dice.below(4);
                let kind = *dice.pick(&OperationKind::ALL)?;
                let mut rule = policy.rule(kind);
                match dice.below(3) {
                    0 => rule.threshold = 2 + dice.below(5),
                    1 => rule.allowed = !rule.allowed,
                    _ => rule.time_lock += std::time::Duration::from_secs(3600),
                }
                policy.set(kind, rule);
                Operation::ChangePolicy(policy)
            }
        })
    }

    fn officers(&self, dice: &mut Dice) -> Vec<Officer> {
        let mut officers = self.stage.governance.officers().to_vec();
        let role = [OfficerRole::KeyCustodian, OfficerRole::PolicyOfficer][dice.below(2)];
        if dice.once_in(2) {
            officers.remove(dice.below(officers.len()));
        }
        let by = *dice.pick(&people()).unwrap();
        officers.retain(|officer| officer.name != by.name);
        let (name, key) = (by.name.to_owned(), by.public.clone());
        officers.push(Officer { name, role, key });
        officers
    }
}
