//! Whether an operation fits the instance as it stands: when it is put forward, and again when it is
//! executed. What passes here takes effect without a further question.

use super::super::operation::{Approvers, NewVersion, Operation, OperationKind, Target};
use super::super::policy::Policy;
use super::super::proposal::ProposalId;
use super::{Governance, Phase, Refusal, World};
use crate::keyring::Lifecycle;
use crate::quorum::Officer;
use crate::types::{KekName, KeypairId, Sha256};

use super::execute::Begun;

impl Governance {
    /// Whether `operation`, put forward as `id`, fits.
    pub(super) fn fits(
        &self,
        operation: &Operation,
        id: ProposalId,
        world: &World<'_>,
    ) -> Result<(), Refusal> {
        let keyring = world.keyring;
        match operation {
            Operation::CreateKek(version) => self.is_new_kek(version, world),
            Operation::ImportKek {
                version,
                spki_sha256,
            } => {
                self.is_new_kek(version, world)?;
                let mut versions = keyring.versions();
                match versions.find(|known| known.spki_sha256 == *spki_sha256) {
                    Some(known) => Err(Refusal::IdInUse(known.keypair_id)),
                    None => self.is_not_brought_in(*spki_sha256),
                }
            }
            Operation::RotateKek { version, retires } => {
                keyring.kek(&version.kek)?;
                let active = keyring
                    .current(&version.kek)
                    .map(|active| active.keypair_id);
                if active != *retires {
                    return Err(Refusal::ActiveDiffers {
                        kek: version.kek.clone(),
                        expected: active,
                        found: *retires,
                    });
                }
                self.nothing_is_made_under(&version.kek)
            }
            Operation::SetRotationMandate(mandate) => {
                keyring.kek(&mandate.version.kek)?;
                if mandate.until > world.at {
                    return Ok(());
                }
                Err(Refusal::Time {
                    what: "the end of the mandate",
                    expected: format!("later than {}", world.at.rfc3339()),
                    found: mandate.until.rfc3339(),
                })
            }
            Operation::WithdrawRotationMandate { kek } => {
                let known = self.mandates.contains_key(kek);
                known.then_some(()).ok_or_else(|| Refusal::Nothing {
                    what: format!("a rotation mandate for {kek}"),
                })
            }
            Operation::Reinstate(target) => self.is_stopped(target),
            Operation::RevokeVersion { keypair_id, .. } => {
                Ok(keyring.clone().compromise(*keypair_id)?)
            }
            Operation::DestroyVersion { keypair_id, .. } => {
                self.may_be_destroyed(*keypair_id, id, world)
            }
            Operation::CancelDestruction { proposal } => self.is_open_destruction(*proposal, world),
            Operation::AllowPkcs1V15 { kek } | Operation::ForbidPkcs1V15 { kek } => {
                let forbid = matches!(operation, Operation::ForbidPkcs1V15 { .. });
                Ok(keyring.clone().forbid_pkcs1v15(kek, forbid)?)
            }
            Operation::GrantUnwrap { identity, kek } => {
                keyring.kek(kek)?;
                let mut clients = world.clients.clone();
                Ok(clients.grant(identity, kek.clone())?)
            }
            Operation::WithdrawUnwrap { identity, kek } => {
                Ok(world.clients.clone().withdraw(identity, kek)?)
            }
            Operation::AssignRole { identity, role } => {
                Ok(world.clients.clone().assign(identity, *role)?)
            }
            Operation::RemoveClient { identity } => Ok(world.clients.clone().remove(identity)?),
            Operation::BindRecordingPolicy { kek, fallback, .. } => {
                keyring.kek(kek)?;
                match fallback {
                    Some(fallback) => Ok(keyring.kek(fallback).map(|_| ())?),
                    None => Ok(()),
                }
            }
            Operation::UnbindRecordingPolicy { key } => {
                let known = self.recording_policies.contains_key(key);
                known.then_some(()).ok_or_else(|| Refusal::Nothing {
                    what: format!("a recording policy for {key:?}"),
                })
            }
            Operation::ChangeOfficers { officers } | Operation::Recover { officers } => {
                self.officers_can_govern(officers)
            }
            Operation::ChangePolicy(policy) => {
                policy.check_recovery(self.recovery.as_ref())?;
                policy.check(&self.officers, false)?;
                self.stays_within_reach(policy, &self.officers)
            }
        }
    }

    /// Nothing new is being made under this KEK.
    pub(super) fn nothing_is_made_under(&self, kek: &KekName) -> Result<(), Refusal> {
        let mut under_way = self.under_way();
        let is_of = |begun: &Begun| match begun {
            Begun::Make(make) => make.version.kek == *kek,
            Begun::Import(import) => import.version.kek == *kek,
            Begun::Destroy(_) => false,
        };
        if under_way.any(is_of) {
            return Err(Refusal::UnderWay {
                what: "another version",
                kek: kek.to_string(),
            });
        }
        Ok(())
    }

    /// One key under two names would unwrap for whoever may use either.
    fn is_not_brought_in(&self, key: Sha256) -> Result<(), Refusal> {
        let is_same = |begun: &&Begun| match begun {
            Begun::Import(import) => import.spki_sha256 == key,
            Begun::Make(_) | Begun::Destroy(_) => false,
        };
        match self.under_way().find(is_same) {
            Some(begun) => Err(Refusal::IdInUse(begun.keypair_id())),
            None => Ok(()),
        }
    }

    fn is_new_kek(&self, version: &NewVersion, world: &World<'_>) -> Result<(), Refusal> {
        if world.keyring.kek(&version.kek).is_ok() {
            return Err(Refusal::KekExists(version.kek.clone()));
        }
        self.nothing_is_made_under(&version.kek)
    }

    fn is_stopped(&self, target: &Target) -> Result<(), Refusal> {
        let kek = match target {
            Target::All => None,
            Target::Kek(kek) => Some(kek.clone()),
        };
        if self.stops.contains_key(&kek) {
            return Ok(());
        }
        Err(Refusal::Nothing {
            what: match target {
                Target::All => "a stop of everything".to_owned(),
                Target::Kek(kek) => format!("a stop of {kek}"),
            },
        })
    }

    /// Only what no longer wraps can be destroyed, and one proposal at a time asks for it.
    fn may_be_destroyed(
        &self,
        keypair_id: KeypairId,
        id: ProposalId,
        world: &World<'_>,
    ) -> Result<(), Refusal> {
        let version = world.keyring.version(keypair_id)?;
        match version.lifecycle {
            Lifecycle::Deactivated | Lifecycle::Compromised => {}
            found @ (Lifecycle::Active | Lifecycle::Destroyed) => {
                return Err(Refusal::NotAsApproved {
                    what: "the version to destroy",
                    expected: "one that is deactivated or compromised".to_owned(),
                    found: format!("{found:?}").to_lowercase(),
                });
            }
        }
        let mut others = self.proposals.iter().filter(|(other, standing)| {
            **other != id && (standing.phase(world.at).is_open() || standing.closed.is_none())
        });
        let asks = |operation: &Operation| matches!(operation, Operation::DestroyVersion { keypair_id: found, .. } if *found == keypair_id);
        if others.any(|(_, standing)| asks(&standing.proposal.operation)) {
            return Err(Refusal::UnderWay {
                what: "another proposal to destroy it",
                kek: keypair_id.to_string(),
            });
        }
        Ok(())
    }

    fn is_open_destruction(&self, id: ProposalId, world: &World<'_>) -> Result<(), Refusal> {
        let standing = self.known(id)?;
        let kind = standing.proposal.operation.kind();
        let found = standing.phase(world.at);
        if kind != OperationKind::DestroyVersion {
            return Err(Refusal::NotAsApproved {
                what: "the proposal to cancel",
                expected: OperationKind::DestroyVersion.name().to_owned(),
                found: kind.name().to_owned(),
            });
        }
        if !found.is_open() {
            return Err(Refusal::PhaseWrong {
                act: "a cancellation",
                expected: Phase::Open.name(),
                found,
            });
        }
        Ok(())
    }

    /// The officers to come can reach every threshold that those of now can.
    fn officers_can_govern(&self, officers: &[Officer]) -> Result<(), Refusal> {
        let is_in_office = |officer: &Officer| self.officers.contains(officer);
        if officers.len() == self.officers.len() && officers.iter().all(is_in_office) {
            return Err(Refusal::SoAlready {
                what: "the set of officers".to_owned(),
            });
        }
        if let Some(recovery) = &self.recovery {
            let is_recovery = |officer: &&Officer| {
                let mut set = recovery.officers.iter();
                set.any(|known| known.key.is_same_key(&officer.key) || known.name == officer.name)
            };
            // Who can recover alone must not also govern: one person would count in both.
            if let Some(officer) = officers.iter().find(is_recovery) {
                return Err(Refusal::SoAlready {
                    what: format!("{} is of the recovery set, which", officer.name),
                });
            }
        }
        self.policy.check(officers, true)?;
        self.stays_within_reach(&self.policy, officers)
    }

    /// Officers to come can decide on whatever those of now can, and always on who the officers are
    /// and what the policy is. Where a proposer's own approval does not count it takes one more.
    fn stays_within_reach(&self, policy: &Policy, officers: &[Officer]) -> Result<(), Refusal> {
        for kind in OperationKind::ALL {
            let approvers = kind.approvers();
            let count = |officers: &[Officer]| match approvers {
                Approvers::Role(role) => officers.iter().filter(|o| o.role == role).count(),
                Approvers::AnyOfficer => officers.len(),
                Approvers::Recovery => usize::MAX,
            };
            let needed = |policy: &Policy| {
                let proposer = usize::from(!policy.proposer_may_approve);
                policy.rule(kind).threshold.saturating_add(proposer)
            };
            let was_within = count(&self.officers) >= needed(&self.policy);
            let must_be = was_within || approvers == Approvers::AnyOfficer;
            let (needed, found) = (needed(policy), count(officers));
            if policy.rule(kind).allowed && must_be && found < needed {
                return Err(Refusal::LocksOut {
                    operation: kind.name(),
                    approvers,
                    needed,
                    found,
                });
            }
        }
        Ok(())
    }
}
