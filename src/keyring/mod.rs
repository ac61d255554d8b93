//! KEKs, their versions and states, and the one question an unwrap asks: which object serves this
//! request, and may it? Pure: no async, files, clock, randomness or logging. A keyring is a fold
//! over the ledger; nothing else builds or changes one.

mod version;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use version::{Version, VersionState};

use crate::types::{KekName, KeypairId, Padding, ReleaseForm};

/// Why the keyring does not serve a request. All of these are the caller's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No version has this keypair id.
    #[error("no KEK version has the keypair id {0}")]
    KeypairUnknown(KeypairId),
    /// No KEK has this name.
    #[error("no KEK has the name {0}")]
    KekUnknown(KekName),
    /// The version's state does not allow unwrapping.
    #[error("the version is {state}, which does not unwrap")]
    NotUsable {
        /// The state it is in.
        state: VersionState,
    },
    /// The padding is not one this version unwraps.
    #[error("the version does not unwrap {asked}")]
    PaddingNotAllowed {
        /// The padding asked for.
        asked: Padding,
    },
    /// The DEK may not leave in this form.
    #[error("the version does not release a DEK in the form {asked:?}")]
    ReleaseFormNotAllowed {
        /// The form asked for.
        asked: ReleaseForm,
    },
    /// The wrapped DEK is not as long as the modulus.
    #[error("the wrapped DEK has {found} bytes where the key needs {expected}")]
    WrongLength {
        /// The length of the modulus in bytes.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// Two versions with one keypair id, or a number out of turn: the ledger contradicts itself.
    #[error("version {number} of {kek} ({keypair_id}) does not follow what the keyring holds")]
    OutOfTurn {
        /// The KEK.
        kek: KekName,
        /// The number of the version that does not fit.
        number: u32,
        /// Its key pair.
        keypair_id: KeypairId,
    },
}

/// All KEKs of an instance. Cloning is cheap in the versions, which are shared.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keks: BTreeMap<KekName, Vec<Arc<Version>>>,
    by_id: HashMap<KeypairId, Arc<Version>>,
}

impl Keyring {
    /// Takes in a version that the ledger says exists. Its number must be the next under its KEK
    /// and its keypair id new.
    pub fn add(&mut self, version: Version) -> Result<(), KeyringError> {
        let versions = self.keks.entry(version.kek.clone()).or_default();
        let next = versions
            .last()
            .map_or(1, |newest| newest.number.saturating_add(1));
        if version.number != next || self.by_id.contains_key(&version.keypair_id) {
            return Err(KeyringError::OutOfTurn {
                kek: version.kek,
                number: version.number,
                keypair_id: version.keypair_id,
            });
        }
        let version = Arc::new(version);
        self.by_id.insert(version.keypair_id, Arc::clone(&version));
        versions.push(version);
        Ok(())
    }

    /// The one version with this keypair id, whatever its state.
    pub fn version(&self, id: KeypairId) -> Result<&Arc<Version>, KeyringError> {
        self.by_id.get(&id).ok_or(KeyringError::KeypairUnknown(id))
    }

    /// The versions of one KEK, oldest first.
    pub fn kek(&self, name: &KekName) -> Result<&[Arc<Version>], KeyringError> {
        self.keks
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(|| KeyringError::KekUnknown(name.clone()))
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::version::tests::version;
    use super::*;

    #[test]
    fn a_version_is_found_by_its_keypair_id_and_no_other_way() {
        let mut ring = Keyring::default();
        ring.add(version("a", 1, 1)).unwrap();
        ring.add(version("a", 2, 2)).unwrap();
        ring.add(version("b", 1, 3)).unwrap();
        let id = KeypairId::from_random([2; 16]);
        assert_eq!(ring.version(id).unwrap().number, 2);
        let unknown = KeypairId::from_random([9; 16]);
        assert_eq!(
            ring.version(unknown).unwrap_err(),
            KeyringError::KeypairUnknown(unknown)
        );
        assert_eq!(ring.kek(&"a".parse().unwrap()).unwrap().len(), 2);
        assert_eq!(ring.versions().count(), 3);
    }

    #[test]
    fn a_ledger_that_contradicts_itself_is_refused() {
        let mut ring = Keyring::default();
        assert!(
            ring.add(version("a", 2, 1)).is_err(),
            "a first version numbered 2"
        );
        ring.add(version("a", 1, 1)).unwrap();
        assert!(ring.add(version("a", 1, 2)).is_err(), "a number used twice");
        assert!(ring.add(version("a", 3, 3)).is_err(), "a number left out");
        assert!(
            ring.add(version("b", 1, 1)).is_err(),
            "a keypair id used twice"
        );
    }
}
