//! The fold over what officers do: who they are, what they put forward, approved, vetoed, executed
//! and stopped. Each method judges one ledger entry whole and, where it stands, takes it in; the
//! same code decides when an entry is written and when it is read again. What an entry does to keys
//! and clients comes back as [`Effect`]s. Nothing here reads a clock: `at` is the entry's own time.

mod decide;
mod effect;
mod execute;
mod fits;
mod refusal;
mod rotation;
mod standing;
mod stop;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use execute::{Begun, Pending};
pub use refusal::Refusal;
pub use rotation::MandateInForce;
pub use standing::{Closure, Phase, Standing};
pub use stop::StopRecord;

use super::genesis::{Genesis, Recovery};
use super::officer::Officer;
use super::operation::{Approvers, OperationKind};
use super::policy::{Policy, Rule};
use super::proposal::ProposalId;
use super::sshsig;
use crate::access::{Clients, Identity, Role};
use crate::clock::UnixMs;
use crate::keyring::Keyring;
use crate::types::{KekName, KeypairId, Sha256};

/// What an entry is judged against beside the governance itself.
pub struct World<'a> {
    /// The keys as of the entry before.
    pub keyring: &'a Keyring,
    /// The clients as of the entry before.
    pub clients: &'a Clients,
    /// The roots of the ledger: the one at `n` is over its first `n + 1` entries.
    pub roots: &'a [Sha256],
    /// The time of the entry.
    pub at: UnixMs,
}

/// What an entry does to keys and clients. Whoever folds applies it; it was seen to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A KEK, or with `None` everything, stops.
    Stop(Option<KekName>),
    /// That stop is lifted.
    Lift(Option<KekName>),
    /// A version is stopped for good.
    Compromise(KeypairId),
    /// A version waits for its destruction.
    Hold(KeypairId),
    /// It waits no more.
    Release(KeypairId),
    /// Its private key is gone.
    Destroy(KeypairId),
    /// PKCS#1 v1.5 is forbidden under a KEK, or no longer.
    ForbidPkcs1V15(KekName, bool),
    /// A client may unwrap under a KEK.
    Grant(Identity, KekName),
    /// It may no more.
    Withdraw(Identity, KekName),
    /// A client is named for a role.
    Assign(Identity, Role),
    /// A client is named no more.
    Remove(Identity),
}

/// Which KEK the recordings of a queue or tag are wrapped under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingPolicy {
    /// The KEK.
    pub kek: KekName,
    /// The KEK to use while the first has no active version.
    pub fallback: Option<KekName>,
}

/// How an instance is governed, as of the newest entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Governance {
    instance_id: Sha256,
    officers: Vec<Officer>,
    policy: Policy,
    recovery: Option<Recovery>,
    /// The rule for `recover`. It is for when officers failed, so no policy of theirs changes it.
    recover: Rule,
    epoch: u64,
    proposals: BTreeMap<ProposalId, Arc<Standing>>,
    /// Ids in the order in which they were opened.
    order: Vec<ProposalId>,
    mandates: BTreeMap<KekName, MandateInForce>,
    /// What was begun in the HSM and has not ended, by the key pair concerned.
    begun: BTreeMap<KeypairId, Begun>,
    /// Ids that new key pairs were to have, whatever became of them: a key that was made under one
    /// and left in quarantine is never taken for another.
    promised: BTreeSet<KeypairId>,
    stops: BTreeMap<Option<KekName>, StopRecord>,
    /// SHA-256 of every suspension statement ever taken in: a lifted stop cannot be replayed.
    suspensions: BTreeSet<Sha256>,
    recording_policies: BTreeMap<String, RecordingPolicy>,
}

impl Governance {
    /// How an instance is governed when it is born.
    pub fn begin(instance_id: Sha256, genesis: &Genesis) -> Self {
        Self {
            instance_id,
            officers: genesis.officers().to_vec(),
            policy: genesis.policy().clone(),
            recovery: genesis.recovery().cloned(),
            recover: genesis.policy().rule(OperationKind::Recover),
            epoch: 1,
            proposals: BTreeMap::new(),
            order: Vec::new(),
            mandates: BTreeMap::new(),
            begun: BTreeMap::new(),
            promised: BTreeSet::new(),
            stops: BTreeMap::new(),
            suspensions: BTreeSet::new(),
            recording_policies: BTreeMap::new(),
        }
    }

    /// The instance: SHA-256 over entry 0.
    pub const fn instance_id(&self) -> Sha256 {
        self.instance_id
    }

    /// The officers, as of the current epoch.
    pub fn officers(&self) -> &[Officer] {
        &self.officers
    }

    /// The recovery set of the genesis.
    pub const fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// The policy, as of the current epoch.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Counts changes of officers and policy, from 1.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// One proposal.
    pub fn proposal(&self, id: ProposalId) -> Option<&Arc<Standing>> {
        self.proposals.get(&id)
    }

    /// All proposals, newest first.
    pub fn proposals(&self) -> impl Iterator<Item = &Arc<Standing>> {
        self.order
            .iter()
            .rev()
            .filter_map(|id| self.proposals.get(id))
    }

    /// The mandates in force, by KEK.
    pub fn mandates(&self) -> impl Iterator<Item = (&KekName, &MandateInForce)> {
        self.mandates.iter()
    }

    /// The stops in force; `None` is the stop of everything.
    pub fn stops(&self) -> impl Iterator<Item = (Option<&KekName>, &StopRecord)> {
        self.stops.iter().map(|(kek, stop)| (kek.as_ref(), stop))
    }

    /// Which KEK the recordings of a queue or tag are wrapped under.
    pub fn recording_policy(&self, key: &str) -> Option<&RecordingPolicy> {
        self.recording_policies.get(key)
    }

    /// All of these, by queue or tag.
    pub fn recording_policies(&self) -> impl Iterator<Item = (&str, &RecordingPolicy)> {
        let all = self.recording_policies.iter();
        all.map(|(key, policy)| (key.as_str(), policy))
    }

    /// The rule for one kind of operation. For `recover` it is the genesis' and no policy's.
    pub fn rule(&self, kind: OperationKind) -> Rule {
        match kind == OperationKind::Recover {
            true => self.recover,
            false => self.policy.rule(kind),
        }
    }

    /// Whether a proposer's own approval counts. For `recover` it does: a genesis may ask for all of
    /// the recovery set, and no policy of the officers must be able to put that out of reach.
    pub fn proposer_may_approve(&self, kind: OperationKind) -> bool {
        kind == OperationKind::Recover || self.policy.proposer_may_approve
    }

    /// Those who propose, approve and execute an operation.
    pub fn electorate(&self, approvers: Approvers) -> Vec<Officer> {
        match approvers {
            Approvers::Role(role) => {
                let of_role = self.officers.iter().filter(|officer| officer.role == role);
                of_role.cloned().collect()
            }
            Approvers::AnyOfficer => self.officers.clone(),
            Approvers::Recovery => {
                let recovery = self.recovery.as_ref();
                recovery.map_or_else(Vec::new, |set| set.officers.clone())
            }
        }
    }

    /// Kinds of operations for which there are no more officers than must approve, or too few: one
    /// sentence for each group of officers.
    pub fn out_of_reach(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let groups = OperationKind::ALL.into_iter().map(OperationKind::approvers);
        for group in groups.collect::<BTreeSet<_>>() {
            let kinds = OperationKind::ALL.into_iter();
            let of_group = kinds.filter(|kind| kind.approvers() == group);
            // One more proposes, where a proposer's own approval does not count.
            let takes = |kind| {
                let proposer = usize::from(!self.proposer_may_approve(kind));
                let rule = self.rule(kind);
                rule.allowed
                    .then_some(rule.threshold.saturating_add(proposer))
            };
            let Some(needed) = of_group.filter_map(takes).max() else {
                continue;
            };
            let found = self.electorate(group).len();
            if found < needed {
                sentences.push(format!(
                    "{needed} of {group} must propose and approve, and there are {found}: what they \
                     decide on cannot be done; change-officers or the recovery set can mend it"
                ));
            } else if found == needed {
                sentences.push(format!(
                    "{needed} of {group} must propose and approve, and there are no more: the loss \
                     of one key leaves them too few"
                ));
            }
        }
        sentences
    }

    /// Those who may close a proposal: who approves it, and for a recovery every officer too.
    fn vetoers(&self, approvers: Approvers) -> Vec<Officer> {
        let mut vetoers = self.electorate(approvers);
        if approvers == Approvers::Recovery {
            vetoers.extend(self.officers.iter().cloned());
        }
        vetoers
    }

    /// The name of the one of `officers` who signed.
    fn signer(
        officers: &[Officer],
        namespace: &'static str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<String, Refusal> {
        let signer = sshsig::signer(officers, namespace, message, signature)?;
        Ok(signer.name.clone())
    }
}
