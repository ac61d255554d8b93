//! `CKA_LABEL`s of the objects kekd makes. They are for people who look into the token; kekd finds
//! keys by `CKA_ID` and public key, and treats a second object with the same label as an alarm.

use crate::keyring::Version;
use crate::types::KekName;

/// What all of them begin with.
pub(super) const PREFIX: &str = "kekd ";
/// The P-256 key that signs checkpoints.
pub(super) const LOG_SIGNING: &str = "kekd log signing";
/// The P-256 key that issues certificates.
pub(super) const ISSUING: &str = "kekd certificate issuing";
/// The secret key behind PKCS#1 v1.5 implicit rejection.
pub(super) const IMPLICIT_REJECTION: &str = "kekd implicit rejection";

/// Those of the instance's own keys, in the order of `State::instance_keys`.
pub(super) const OF_INSTANCE: [&str; 3] = [LOG_SIGNING, ISSUING, IMPLICIT_REJECTION];

/// A version of a KEK that the ledger names.
pub(super) fn of(version: &Version) -> String {
    kek(&version.kek, version.number)
}

/// One version of a KEK.
pub(super) fn kek(name: &KekName, number: u32) -> String {
    format!("kekd kek {name}/{number}")
}
