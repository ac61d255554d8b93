//! What a proposal stands on: what kekd says of instance, epoch, head, rules and profiles. Officers
//! see all of it in the statement; kekd refuses a statement that does not fit.

use std::time::Duration;

use kekd::client::Client;
use kekd::clock::UnixMs;
use kekd::merkle::Head;
use kekd::proto::v1;
use kekd::quorum::{Operation, OperationKind, Proposal, ProposalDraft, Rule, Usage};
use kekd::types::{KekName, KeypairId, Sha256};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::officer::{nonce, now};

/// A connection, and what kekd says of how it is governed.
pub struct Ground {
    pub client: Client,
    pub governance: v1::GetGovernanceResponse,
}

impl Ground {
    /// Asks kekd.
    pub async fn of(client: Client) -> anyhow::Result<Self> {
        let governance = client.governance().await?;
        Ok(Self { client, governance })
    }

    /// Puts a proposal together.
    pub fn draft(&self, operation: Operation, proposer: String) -> anyhow::Result<Proposal> {
        let governance = &self.governance;
        let rule = self.rule(operation.kind())?;
        let draft = ProposalDraft {
            instance_id: Sha256::try_from(governance.instance_id.as_slice())?,
            rule,
            operation,
            proposer,
            nonce: nonce()?,
            opened_at: now(),
            epoch: governance.epoch,
            head: Head {
                size: governance.ledger_size,
                root: Sha256::try_from(governance.ledger_root.as_slice())?,
            },
        };
        Proposal::draft(draft).map_err(|error| {
            let text = format!("such a proposal cannot be made: {error}");
            Failure::new(Exit::Usage, "USAGE", text).into()
        })
    }

    /// The rule in force for a kind.
    fn rule(&self, kind: OperationKind) -> Result<Rule, Failure> {
        let name = kind.name();
        let rule = self.governance.rules.iter().find(|of| of.operation == name);
        match rule {
            Some(rule) if rule.allowed => Ok(Rule {
                threshold: usize::try_from(rule.threshold).unwrap_or(usize::MAX),
                time_lock: Duration::from_secs(rule.time_lock_seconds),
                lifetime: Duration::from_secs(rule.lifetime_seconds),
                allowed: true,
            }),
            Some(_) | None => {
                let text = format!("the policy does not allow {name} (kekctl policy show)");
                Err(Failure::new(Exit::NotPermitted, "NOT_ALLOWED", text))
            }
        }
    }

    /// The digest of a profile as kekd has it.
    pub fn profile_sha256(&self, name: &str) -> anyhow::Result<Sha256> {
        let profiles = &self.governance.profiles;
        match profiles.iter().find(|profile| profile.name == name) {
            Some(profile) => Ok(Sha256::try_from(profile.sha256.as_slice())?),
            None => {
                let names: Vec<&str> = profiles.iter().map(|of| of.name.as_str()).collect();
                let text = format!(
                    "kekd has no profile {name:?}; it has: {}; or name its digest with \
                     --profile-sha256 or --profile-file",
                    names.join(", ")
                );
                Err(Failure::new(Exit::Usage, "PROFILE_UNKNOWN", text).into())
            }
        }
    }

    /// What the audit log says of the use of a version.
    pub async fn usage(&self, keypair_id: KeypairId) -> anyhow::Result<Usage> {
        let keks = self.client.list_keks().await?;
        let mut versions = keks.into_iter().flat_map(|kek| kek.versions);
        let id = keypair_id.to_string();
        let found = versions.find(|version| version.keypair_id == id);
        let Some(usage) = found.and_then(|version| version.usage) else {
            let text = format!(
                "kekd says nothing of the use of {id} to this caller; is it a version (kekctl kek \
                 list)? Or name its use with --unwraps"
            );
            return Err(Failure::new(Exit::Usage, "KEYPAIR_UNKNOWN", text).into());
        };
        let time = |ms: u64| (ms > 0).then_some(UnixMs(ms));
        Ok(Usage {
            unwraps: usage.unwraps,
            first: time(usage.first_use_ms),
            last: time(usage.last_use_ms),
        })
    }

    /// The versions of a KEK that a new one follows.
    pub async fn before(&self, kek: &KekName) -> anyhow::Result<Before> {
        let versions = self.client.get_kek(kek).await?.versions;
        Before::of(versions).ok_or_else(|| {
            let text = format!("{kek} has no version to take defaults from (kekctl kek show)");
            Failure::new(Exit::Failed, "VERSION_NOT_USABLE", text).into()
        })
    }
}

/// What is there of a KEK before it gets a new version.
#[derive(Debug)]
pub struct Before {
    /// The version that the new one is made like where nothing else is said.
    pub like: v1::Version,
    /// The key pair of the active version; none where the last one was stopped for good.
    pub active: Option<String>,
}

impl Before {
    fn of(mut versions: Vec<v1::Version>) -> Option<Self> {
        // A stop covers what is under it: the newest suspended version may well be the active one,
        // and kekd judges whether it is.
        let in_state = |wanted: v1::VersionState| {
            let wanted = i32::from(wanted);
            versions.iter().rfind(|of| of.state == wanted).cloned()
        };
        let active = in_state(v1::VersionState::Active);
        match active.or_else(|| in_state(v1::VersionState::Suspended)) {
            Some(version) => Some(Self {
                active: Some(version.keypair_id.clone()),
                like: version,
            }),
            None => Some(Self {
                like: versions.pop()?,
                active: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::VersionState::{Active, Compromised, Deactivated, Destroyed, Suspended};

    #[test]
    fn a_new_version_follows_the_active_one_where_there_is_one() {
        let before = |states: &[v1::VersionState]| {
            let version = |(number, state): (u32, &v1::VersionState)| v1::Version {
                number,
                keypair_id: number.to_string(),
                state: i32::from(*state),
                ..v1::Version::default()
            };
            let before = Before::of((1..).zip(states).map(version).collect());
            before.map(|of| (of.like.number, of.active))
        };
        let of = |number: u32| Some((number, Some(number.to_string())));
        assert_eq!(before(&[Deactivated, Active]), of(2));
        assert_eq!(before(&[Suspended, Suspended]), of(2));
        assert_eq!(before(&[Deactivated, Compromised]), Some((2, None)));
        assert_eq!(before(&[Destroyed]), Some((1, None)));
        assert!(before(&[]).is_none());
    }
}
