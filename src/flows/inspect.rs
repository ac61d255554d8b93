//! Whether a key in the token is what the ledger says: every attribute read back, every forbidden
//! act tried, and the public path walked. Used before a key is first recorded and at each start.

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::hsm::profile::Profile;
use crate::hsm::{Hsm, HsmError, KeyRef, KnownAnswer};
use crate::public_key::{PublicKeyError, RsaPublicKey};
use crate::types::{DEK_LEN, Padding, ReleaseForm, Sha256};

/// What is wrong with a key in the token.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The HSM did not do its part.
    #[error("the key '{label}' could not be inspected")]
    Hsm {
        /// The key's label.
        label: String,
        /// Why.
        #[source]
        source: HsmError,
    },
    /// An attribute is not what the profile says.
    #[error(
        "the key '{label}' is not as profile '{profile}' says: {attribute} should be {expected} and \
         is {found}. Somebody changed the token, or it cannot promise this attribute; do not use it"
    )]
    Attribute {
        /// The key's label.
        label: String,
        /// The profile's name.
        profile: String,
        /// The attribute.
        attribute: String,
        /// Its value in the profile.
        expected: String,
        /// Its value in the token.
        found: String,
    },
    /// The token let something through that the profile forbids.
    #[error(
        "the token does not protect the key '{label}' as profile '{profile}' demands: {}. Its attributes \
         are claims that the token does not keep: do not use this key; choose another profile, which \
         this token can keep, or another token",
        attacks.join("; ")
    )]
    Attack {
        /// The key's label.
        label: String,
        /// The profile's name.
        profile: String,
        /// What succeeded.
        attacks: Vec<String>,
    },
    /// A value wrapped outside did not unwrap inside.
    #[error(
        "the key '{label}' does not unwrap what was wrapped under its public key: the token's private \
         key is damaged or another one"
    )]
    SelfTest {
        /// The key's label.
        label: String,
    },
    /// The public key cannot be used outside the token.
    #[error("the public key of '{label}' cannot be used")]
    PublicKey {
        /// The key's label.
        label: String,
        /// Why.
        #[source]
        source: PublicKeyError,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    Randomness,
}

/// How a key came before us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It was made just now.
    Made,
    /// An inventory has shown it, alone with its label.
    InInventory,
}

/// Reads every attribute back and compares it with the profile, then tries what it forbids.
pub(super) async fn inspect(
    hsm: &Hsm,
    key: &KeyRef,
    label: &str,
    profile: &Profile,
    seen: Seen,
) -> Result<(), InspectError> {
    let failed = |source| InspectError::Hsm {
        label: label.to_owned(),
        source,
    };

    let read = hsm.read_back(key, label, profile, seen == Seen::InInventory);
    let mismatches = read.await.map_err(failed)?;
    if let Some(first) = mismatches.into_iter().next() {
        return Err(InspectError::Attribute {
            label: label.to_owned(),
            profile: profile.name().to_owned(),
            attribute: first.attribute,
            expected: first.expected,
            // May be a label, which others can write.
            found: first.found.escape_debug().to_string(),
        });
    }

    let report = hsm.attack(key, profile).await.map_err(failed)?;
    match report.succeeded.is_empty() {
        false => Err(InspectError::Attack {
            label: label.to_owned(),
            profile: profile.name().to_owned(),
            attacks: report.succeeded,
        }),
        true => Ok(()),
    }
}

/// Wraps a random value under the public key outside the HSM and has it unwrapped inside. The test
/// stays with the HSM, which settles ambiguous return codes about this key with it from then on.
pub(super) async fn self_test(
    hsm: &Hsm,
    key: &KeyRef,
    label: &str,
    spki: &[u8],
    padding: Padding,
    forms: &[ReleaseForm],
) -> Result<(), InspectError> {
    let unusable = |source| InspectError::PublicKey {
        label: label.to_owned(),
        source,
    };

    let mut value = Zeroizing::new([0; DEK_LEN]);
    rand::fill(value.as_mut()).map_err(|_| InspectError::Randomness)?;
    let public_key = RsaPublicKey::from_spki(spki).map_err(unusable)?;
    let test = KnownAnswer {
        key: key.clone(),
        padding,
        wrapped: public_key.wrap(padding, value.as_ref()).map_err(unusable)?,
        sha256: Sha256::of(value.as_ref()),
        by_unwrap: !forms.contains(&ReleaseForm::Clear),
    };
    match hsm.set_known_answer(test).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(InspectError::SelfTest {
            label: label.to_owned(),
        }),
        Err(source) => Err(InspectError::Hsm {
            label: label.to_owned(),
            source,
        }),
    }
}
