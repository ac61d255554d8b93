//! Reading about KEKs. Nothing here is secret and nothing changes; what a caller may not see it is
//! not told of.

use std::sync::Arc;

use super::Node;
use crate::access::{AccessError, Action, Caller, Identity};
use crate::keyring::{KeyringError, Version};
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
}

impl Node {
    /// The KEKs the caller may see, sorted by name, each with its versions, oldest first.
    pub fn list_keks(
        &self,
        identity: &Identity,
    ) -> Result<Vec<(KekName, Vec<Arc<Version>>)>, KeysError> {
        let caller = self.reader(identity)?;
        let snapshot = self.snapshot();
        let seen = snapshot
            .keyring()
            .keks()
            .filter(|(name, _)| caller.sees(name));
        Ok(seen
            .map(|(name, versions)| (name.clone(), versions.to_vec()))
            .collect())
    }

    /// The versions of one KEK, oldest first.
    pub fn kek(&self, identity: &Identity, name: &KekName) -> Result<Vec<Arc<Version>>, KeysError> {
        let caller = self.reader(identity)?;
        caller.sight(name)?;
        Ok(self.snapshot().keyring().kek(name)?.to_vec())
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

    fn reader(&self, identity: &Identity) -> Result<Caller, AccessError> {
        let caller = self.caller(identity)?;
        caller.require(Action::ReadKeys)?;
        Ok(caller)
    }
}
