//! `CKA_LABEL`s of the objects kekd makes. They are for people who look into the token; kekd finds
//! keys by `CKA_ID` and public key, and treats a second object with the same label as an alarm.

use crate::keyring::Version;
use crate::types::{KekName, KeypairId};

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
    let approved = version.proposal.is_some();
    kek(
        &version.kek,
        version.number,
        approved.then_some(version.keypair_id),
    )
}

/// One version of a KEK. Where it was not made with the instance, the beginning of its id is in the
/// label: a version that failed may have left an object behind, and the next one has its number.
pub(super) fn kek(name: &KekName, number: u32, id: Option<KeypairId>) -> String {
    let id = id.map(|id| id.to_string());
    match id.as_deref().and_then(|id| id.get(..8)) {
        Some(id) => format!("kekd kek {name}/{number} {id}"),
        None => format!("kekd kek {name}/{number}"),
    }
}
