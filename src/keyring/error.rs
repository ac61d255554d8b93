//! Why the keyring does not serve a request, and why it does not take a change. Facts only; who
//! hears what of them is for the caller of the keyring to decide. None of these is tried again.

use super::{Lifecycle, VersionState};
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
    /// A change that does not fit what the keyring holds.
    #[error(transparent)]
    ChangeRefused(#[from] ChangeRefused),
}

/// Why a change is not taken. The keyring is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// The version is at a point of its life that this change does not start from.
    #[error("{keypair_id} is {found}; only {expected} can be {change}")]
    NotInState {
        /// The version.
        keypair_id: KeypairId,
        /// What was asked, to be read after "can be".
        change: &'static str,
        /// Where it starts from.
        expected: &'static str,
        /// Where the version is.
        found: Lifecycle,
    },
    /// There is no stop of this KEK to lift; a stop of all is lifted as such.
    #[error("{0} is not stopped by a stop of its own")]
    KekNotStopped(KekName),
    /// There is no stop of all to lift; a KEK's own stop is lifted under its name.
    #[error("there is no stop of all KEKs")]
    AllNotStopped,
    /// The version waits for its destruction already.
    #[error("{0} waits for its destruction already")]
    HeldAlready(KeypairId),
    /// The version does not wait for its destruction.
    #[error("{0} does not wait for its destruction")]
    NotHeld(KeypairId),
}
