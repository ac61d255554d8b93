//! One RSA key pair under a KEK's name, and the checks a request must pass before the HSM is asked.

use std::fmt;

use super::KeyringError;
use crate::clock::UnixMs;
use crate::types::{KekName, KeypairId, Padding, ReleaseForm, Sha256};

/// The state of a version, in the words of NIST SP 800-57 part 1 revision 5, section 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VersionState {
    /// Generated and not yet in use.
    PreActive,
    /// Wraps new DEKs and unwraps.
    Active,
    /// Unwraps old DEKs only.
    Deactivated,
    /// Stopped by an officer; a quorum can bring it back.
    Suspended,
    /// Stopped for good.
    Compromised,
    /// The private key no longer exists.
    Destroyed,
}

impl VersionState {
    /// Whether a DEK may be unwrapped in this state.
    pub const fn unwraps(self) -> bool {
        match self {
            Self::Active | Self::Deactivated => true,
            Self::PreActive | Self::Suspended | Self::Compromised | Self::Destroyed => false,
        }
    }

    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Suspended => "suspended",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
        }
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One RSA key pair under a KEK's name, as the ledger tells it.
#[derive(Debug, Clone)]
pub struct Version {
    /// The KEK it belongs to.
    pub kek: KekName,
    /// Its number under the KEK, from 1.
    pub number: u32,
    /// Its id; also the `CKA_ID` of its objects.
    pub keypair_id: KeypairId,
    /// Its state.
    pub state: VersionState,
    /// DER `SubjectPublicKeyInfo` of the public key.
    pub spki: Vec<u8>,
    /// SHA-256 over `spki`.
    pub spki_sha256: Sha256,
    /// Length of the modulus in bits.
    pub modulus_bits: u32,
    /// The paddings it unwraps.
    pub paddings: Vec<Padding>,
    /// The forms in which a DEK may leave.
    pub release_forms: Vec<ReleaseForm>,
    /// The key profile, byte for byte (TOML).
    pub profile: Vec<u8>,
    /// The name of the profile.
    pub profile_name: String,
    /// DER certificate.
    pub certificate: Vec<u8>,
    /// Whether the certificate is signed by the key itself; the issuing key signs the others.
    pub is_self_signed: bool,
    /// The end of the certificate's validity.
    pub certificate_expires_at: UnixMs,
    /// When the ledger recorded it.
    pub created_at: UnixMs,
}

impl Version {
    /// Whether a DEK wrapped so may be unwrapped and leave in this form: state, padding, form and
    /// length, in this order. What passes is the HSM's to judge.
    pub fn admit(
        &self,
        padding: Padding,
        form: ReleaseForm,
        wrapped_len: usize,
    ) -> Result<(), KeyringError> {
        if !self.state.unwraps() {
            return Err(KeyringError::NotUsable { state: self.state });
        }
        if !self.paddings.contains(&padding) {
            return Err(KeyringError::PaddingNotAllowed { asked: padding });
        }
        if !self.release_forms.contains(&form) {
            return Err(KeyringError::ReleaseFormNotAllowed { asked: form });
        }
        if wrapped_len != self.modulus_len() {
            return Err(KeyringError::WrongLength {
                expected: self.modulus_len(),
                found: wrapped_len,
            });
        }
        Ok(())
    }

    /// Length of the modulus, and so of a wrapped DEK, in bytes.
    pub const fn modulus_len(&self) -> usize {
        self.modulus_bits.div_ceil(8) as usize
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
pub(super) mod tests {
    use super::*;

    pub(in crate::keyring) fn version(kek: &str, number: u32, id: u8) -> Version {
        Version {
            kek: kek.parse().unwrap(),
            number,
            keypair_id: KeypairId::from_random([id; 16]),
            state: VersionState::Active,
            spki: vec![],
            spki_sha256: Sha256::of(b""),
            modulus_bits: 3072,
            paddings: vec![Padding::OaepSha1],
            release_forms: vec![ReleaseForm::Clear],
            profile: vec![],
            profile_name: "kek-rsa-3072".to_owned(),
            certificate: vec![],
            is_self_signed: false,
            certificate_expires_at: UnixMs(0),
            created_at: UnixMs(0),
        }
    }

    #[test]
    fn what_is_wrong_is_refused_before_the_hsm() {
        use KeyringError as E;
        use Padding::{OaepSha1, Pkcs1V15};
        use ReleaseForm::{Clear, Recipient};
        use VersionState as S;
        let cases = [
            (S::Active, OaepSha1, Clear, 384, None),
            (S::Deactivated, OaepSha1, Clear, 384, None),
            (
                S::PreActive,
                OaepSha1,
                Clear,
                384,
                Some(E::NotUsable {
                    state: S::PreActive,
                }),
            ),
            (
                S::Suspended,
                OaepSha1,
                Clear,
                384,
                Some(E::NotUsable {
                    state: S::Suspended,
                }),
            ),
            (
                S::Compromised,
                OaepSha1,
                Clear,
                384,
                Some(E::NotUsable {
                    state: S::Compromised,
                }),
            ),
            (
                S::Destroyed,
                OaepSha1,
                Clear,
                384,
                Some(E::NotUsable {
                    state: S::Destroyed,
                }),
            ),
            (
                S::Active,
                Pkcs1V15,
                Clear,
                384,
                Some(E::PaddingNotAllowed { asked: Pkcs1V15 }),
            ),
            (
                S::Active,
                OaepSha1,
                Recipient,
                384,
                Some(E::ReleaseFormNotAllowed { asked: Recipient }),
            ),
            (
                S::Active,
                OaepSha1,
                Clear,
                383,
                Some(E::WrongLength {
                    expected: 384,
                    found: 383,
                }),
            ),
            (
                S::Active,
                OaepSha1,
                Clear,
                385,
                Some(E::WrongLength {
                    expected: 384,
                    found: 385,
                }),
            ),
        ];
        for (state, padding, form, len, verdict) in cases {
            let version = Version {
                state,
                ..version("a", 1, 1)
            };
            assert_eq!(
                version.admit(padding, form, len).err(),
                verdict,
                "{state} {padding} {len}"
            );
        }
    }
}
