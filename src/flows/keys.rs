//! Reading about KEKs. Nothing here is secret and nothing changes; what a caller may not see it is
//! not told of.

use std::sync::Arc;

use super::Node;
use crate::access::{AccessError, Action, Caller, Identity};
use crate::audit::Usage;
use crate::keyring::{KeyringError, Version, VersionState};
use crate::types::{KekName, KeypairId};

/// Why nothing is told.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The caller may not ask this.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// There is no such key.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// No recording policy for this queue or tag.
    #[error("there is no recording policy for this queue or tag")]
    PolicyUnknown,
    /// Neither the KEK of a recording policy nor its fallback can wrap now.
    #[error(
        "neither the KEK of the recording policy nor its fallback has a version that is active"
    )]
    NoneActive,
}

/// What new recordings of a queue or tag are to be wrapped under.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The active version.
    pub version: Arc<Version>,
    /// Whether it is of the fallback.
    pub is_fallback: bool,
}

/// A version, and what it was used for by this node's audit log, where the caller may know.
#[derive(Debug, Clone)]
pub struct Used {
    /// The version.
    pub version: Arc<Version>,
    /// Its use.
    pub usage: Option<Usage>,
    /// Its use by each caller, where one KEK is asked for.
    pub by_caller: Vec<(String, Usage)>,
}

impl Node {
    /// The KEKs the caller may see, sorted by name, each with its versions, oldest first.
    pub fn list_keks(&self, identity: &Identity) -> Result<Vec<(KekName, Vec<Used>)>, KeysError> {
        let caller = self.reader(identity)?;
        let snapshot = self.snapshot();
        let seen = snapshot
            .keyring()
            .keks()
            .filter(|(name, _)| caller.sees(name));
        Ok(seen
            .map(|(name, versions)| (name.clone(), self.used(&caller, versions, false)))
            .collect())
    }

    /// The versions of one KEK, oldest first.
    pub fn kek(&self, identity: &Identity, name: &KekName) -> Result<Vec<Used>, KeysError> {
        let caller = self.reader(identity)?;
        caller.sight(name)?;
        let snapshot = self.snapshot();
        Ok(self.used(&caller, snapshot.keyring().kek(name)?, true))
    }

    /// One version, and the DER certificates of its issuers; none for a self-signed one.
    pub fn version(
        &self,
        identity: &Identity,
        id: KeypairId,
    ) -> Result<(Arc<Version>, Vec<Vec<u8>>), KeysError> {
        let caller = self.reader(identity)?;
        let snapshot = self.snapshot();
        let version = snapshot.keyring().version(id)?;
        caller.sight(&version.kek)?;
        let issuers = if version.is_self_signed {
            Vec::new()
        } else {
            vec![snapshot.issuing_certificate().to_vec()]
        };
        Ok((Arc::clone(version), issuers))
    }

    /// What new recordings of a queue or tag are to be wrapped under: the KEK of its policy, or the
    /// fallback while that KEK has no version in use.
    pub fn recording_policy(&self, identity: &Identity, key: &str) -> Result<Bound, KeysError> {
        let caller = self.reader(identity)?;
        let state = self.snapshot();
        let policy = state.governance().recording_policy(key);
        let policy = policy.ok_or(KeysError::PolicyUnknown)?;
        caller.sight(&policy.kek)?;
        let usable = |kek: &KekName| {
            let active = state.keyring().active(kek).cloned();
            active.filter(|version| {
                version.state() == VersionState::Active && !self.switch.is_stopped(kek)
            })
        };
        if let Some(version) = usable(&policy.kek) {
            let is_fallback = false;
            return Ok(Bound {
                version,
                is_fallback,
            });
        }
        let version = policy.fallback.as_ref().and_then(usable);
        Ok(Bound {
            version: version.ok_or(KeysError::NoneActive)?,
            is_fallback: true,
        })
    }

    fn used(&self, caller: &Caller, versions: &[Arc<Version>], by_caller: bool) -> Vec<Used> {
        let may_know = caller.require(Action::ReadGovernance).is_ok();
        let used = |version: &Arc<Version>| Used {
            version: Arc::clone(version),
            usage: may_know.then(|| self.journal.usage(&version.keypair_id)),
            by_caller: match may_know && by_caller {
                true => self.journal.usage_by_caller(&version.keypair_id),
                false => Vec::new(),
            },
        };
        versions.iter().map(used).collect()
    }

    pub(super) fn reader(&self, identity: &Identity) -> Result<Caller, AccessError> {
        let caller = self.caller(identity)?;
        caller.require(Action::ReadKeys)?;
        Ok(caller)
    }
}
