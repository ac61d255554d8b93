//! What a decision of the officers changes in the keyring. Whether they may decide it is judged
//! elsewhere. The invariants: a change is taken whole or refused with the keyring as it was; only
//! the newest version of a KEK is ever Active; nothing leaves Compromised but for Destroyed, and
//! nothing leaves Destroyed.

use std::sync::Arc;

use super::{ChangeRefused, Keyring, KeyringError, Lifecycle, Stops, Version};
use crate::types::{KekName, KeypairId};

impl Keyring {
    /// Takes in a version that the ledger says exists. Its number must be the next under its KEK
    /// and its keypair id new. It becomes the Active one, and the one before it Deactivated, unless
    /// that is past it already. Stops of all and of its KEK hold for it too.
    pub fn add(&mut self, version: Version) -> Result<(), KeyringError> {
        let newest = self.keks.get(&version.kek).and_then(|all| all.last());
        let next = newest.map_or(1, |newest| newest.number.saturating_add(1));
        if version.number != next || self.by_id.contains_key(&version.keypair_id) {
            return Err(KeyringError::OutOfTurn {
                kek: version.kek,
                number: version.number,
                keypair_id: version.keypair_id,
            });
        }
        let retired = newest.filter(|newest| newest.lifecycle == Lifecycle::Active);
        if let Some(retired) = retired.map(|newest| newest.keypair_id) {
            self.change(retired, |version| {
                version.lifecycle = Lifecycle::Deactivated;
            })?;
        }
        let version = Arc::new(Version {
            lifecycle: Lifecycle::Active,
            stops: Stops {
                of_all: self.is_all_stopped,
                of_kek: self.stopped.contains(&version.kek),
                for_destruction: false,
            },
            pkcs1v15_forbidden: self.without_pkcs1v15.contains(&version.kek),
            ..version
        });
        self.by_id.insert(version.keypair_id, Arc::clone(&version));
        self.public_keys.insert(version.spki_sha256);
        let versions = self.keks.entry(version.kek.clone()).or_default();
        versions.push(version);
        Ok(())
    }

    /// Stops one KEK, or all of them for `None`: its versions and those it will have unwrap nothing
    /// until the stop is lifted. To stop what is stopped is well.
    pub fn suspend(&mut self, kek: Option<&KekName>) -> Result<(), KeyringError> {
        match kek {
            Some(kek) => {
                self.change_kek(kek, |version| version.stops.of_kek = true)?;
                self.stopped.insert(kek.clone());
            }
            None => {
                self.change_all(|version| version.stops.of_all = true);
                self.is_all_stopped = true;
            }
        }
        Ok(())
    }

    /// Lifts the stop of one KEK, or for `None` the stop of all; other stops stay.
    ///
    /// # Errors
    /// Where there is no such stop.
    pub fn lift(&mut self, kek: Option<&KekName>) -> Result<(), KeyringError> {
        match kek {
            Some(kek) => {
                self.kek(kek)?;
                if !self.stopped.remove(kek) {
                    return Err(ChangeRefused::KekNotStopped(kek.clone()).into());
                }
                self.change_kek(kek, |version| version.stops.of_kek = false)
            }
            None if self.is_all_stopped => {
                self.is_all_stopped = false;
                self.change_all(|version| version.stops.of_all = false);
                Ok(())
            }
            None => Err(ChangeRefused::AllNotStopped.into()),
        }
    }

    /// Stops a version for good. Its KEK has no active version then until the next one is made.
    ///
    /// # Errors
    /// Where it is Compromised or Destroyed already.
    pub fn compromise(&mut self, id: KeypairId) -> Result<(), KeyringError> {
        match self.version(id)?.lifecycle {
            Lifecycle::Active | Lifecycle::Deactivated => self.change(id, |version| {
                version.lifecycle = Lifecycle::Compromised;
            }),
            found @ (Lifecycle::Compromised | Lifecycle::Destroyed) => {
                Err(ChangeRefused::NotInState {
                    keypair_id: id,
                    change: "revoked",
                    expected: "an active or deactivated version",
                    found,
                }
                .into())
            }
        }
    }

    /// Stops a version because its destruction is pending.
    ///
    /// # Errors
    /// Where it may not be destroyed (see [`Keyring::destroy`]), or is held already.
    pub fn hold(&mut self, id: KeypairId) -> Result<(), KeyringError> {
        self.require_destructible(id)?;
        if self.version(id)?.stops.for_destruction {
            return Err(ChangeRefused::HeldAlready(id).into());
        }
        self.change(id, |version| version.stops.for_destruction = true)
    }

    /// Ends that without destroying it.
    ///
    /// # Errors
    /// Where it is not held.
    pub fn release(&mut self, id: KeypairId) -> Result<(), KeyringError> {
        if !self.version(id)?.stops.for_destruction {
            return Err(ChangeRefused::NotHeld(id).into());
        }
        self.change(id, |version| version.stops.for_destruction = false)
    }

    /// Notes that the private key of a version no longer exists. A hold ends with it.
    ///
    /// # Errors
    /// Where it is neither Deactivated nor Compromised: a KEK would lose the key it wraps with.
    pub fn destroy(&mut self, id: KeypairId) -> Result<(), KeyringError> {
        self.require_destructible(id)?;
        self.change(id, |version| {
            version.lifecycle = Lifecycle::Destroyed;
            version.stops.for_destruction = false;
        })
    }

    /// Forbids PKCS#1 v1.5 under a KEK, later versions included, or allows it again as far as the
    /// profiles do. To set what is set is well.
    pub fn forbid_pkcs1v15(&mut self, kek: &KekName, forbidden: bool) -> Result<(), KeyringError> {
        self.change_kek(kek, |version| version.pkcs1v15_forbidden = forbidden)?;
        if forbidden {
            self.without_pkcs1v15.insert(kek.clone());
        } else {
            self.without_pkcs1v15.remove(kek);
        }
        Ok(())
    }

    fn require_destructible(&self, id: KeypairId) -> Result<(), KeyringError> {
        match self.version(id)?.lifecycle {
            Lifecycle::Deactivated | Lifecycle::Compromised => Ok(()),
            found @ (Lifecycle::Active | Lifecycle::Destroyed) => Err(ChangeRefused::NotInState {
                keypair_id: id,
                change: "destroyed",
                expected: "a deactivated or compromised version",
                found,
            }
            .into()),
        }
    }

    fn change_all(&mut self, change: impl Fn(&mut Version)) {
        for version in self.keks.values_mut().flatten() {
            change(Arc::make_mut(version));
            self.by_id.insert(version.keypair_id, Arc::clone(version));
        }
    }

    fn change_kek(
        &mut self,
        kek: &KekName,
        change: impl Fn(&mut Version),
    ) -> Result<(), KeyringError> {
        let Some(versions) = self.keks.get_mut(kek) else {
            return Err(KeyringError::KekUnknown(kek.clone()));
        };
        for version in versions {
            change(Arc::make_mut(version));
            self.by_id.insert(version.keypair_id, Arc::clone(version));
        }
        Ok(())
    }

    fn change(
        &mut self,
        id: KeypairId,
        change: impl FnOnce(&mut Version),
    ) -> Result<(), KeyringError> {
        let kek = &self.version(id)?.kek;
        let version = self
            .keks
            .get_mut(&kek.clone())
            .and_then(|versions| versions.iter_mut().find(|version| version.keypair_id == id))
            .ok_or(KeyringError::KeypairUnknown(id))?;
        change(Arc::make_mut(version));
        self.by_id.insert(id, Arc::clone(version));
        Ok(())
    }
}
