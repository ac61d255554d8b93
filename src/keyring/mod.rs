//! KEKs, their versions and states, and the one question an unwrap asks: which object serves this
//! request, and may it? Pure: no async, files, clock, randomness or logging. A keyring is a fold
//! over the ledger; nothing else builds or changes one.

mod changes;
mod error;
mod state;
#[cfg(test)]
mod tests;
mod version;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

pub use error::{ChangeRefused, KeyringError};
pub use state::{Lifecycle, Origin, Stops, VersionState};
pub use version::Version;

use crate::types::{KekName, KeypairId, Sha256};

/// All KEKs of an instance. Cloning is cheap in the versions, which are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    keks: BTreeMap<KekName, Vec<Arc<Version>>>,
    by_id: HashMap<KeypairId, Arc<Version>>,
    /// SHA-256 over the SPKI of every version there ever was.
    public_keys: HashSet<Sha256>,
    is_all_stopped: bool,
    /// KEKs with a stop of their own.
    stopped: BTreeSet<KekName>,
    /// KEKs under which PKCS#1 v1.5 is forbidden.
    without_pkcs1v15: BTreeSet<KekName>,
}

impl Keyring {
    /// The one version with this keypair id, whatever its state.
    pub fn version(&self, id: KeypairId) -> Result<&Arc<Version>, KeyringError> {
        self.by_id.get(&id).ok_or(KeyringError::KeypairUnknown(id))
    }

    /// Whether a version has, or had, this public key; its SPKI's SHA-256.
    pub fn knows(&self, spki_sha256: &Sha256) -> bool {
        self.public_keys.contains(spki_sha256)
    }

    /// The versions of one KEK, oldest first.
    pub fn kek(&self, name: &KekName) -> Result<&[Arc<Version>], KeyringError> {
        self.keks
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(|| KeyringError::KekUnknown(name.clone()))
    }

    /// The version of a KEK that wraps new DEKs: the newest, where its state is Active. None where
    /// that is stopped in any way, and for a KEK that is not known.
    pub fn active(&self, name: &KekName) -> Option<&Arc<Version>> {
        let newest = self.keks.get(name)?.last()?;
        (newest.state() == VersionState::Active).then_some(newest)
    }

    /// The version of a KEK that its next one retires: the one that wraps, stopped or not.
    pub fn current(&self, name: &KekName) -> Option<&Arc<Version>> {
        let newest = self.keks.get(name)?.last()?;
        (newest.lifecycle == Lifecycle::Active).then_some(newest)
    }

    /// All KEKs sorted by name, each with its versions, oldest first.
    pub fn keks(&self) -> impl Iterator<Item = (&KekName, &[Arc<Version>])> {
        self.keks
            .iter()
            .map(|(name, versions)| (name, versions.as_slice()))
    }

    /// All versions of all KEKs, in the order of KEK name and number.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.keks.values().flatten()
    }
}
