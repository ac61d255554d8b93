//! One RSA key pair under a KEK's name, and the checks a request must pass before the HSM is asked.

use super::{KeyringError, Lifecycle, Origin, Stops, VersionState};
use crate::clock::UnixMs;
use crate::types::{KekName, KeypairId, Padding, ReleaseForm, Sha256};

/// One RSA key pair under a KEK's name, as the ledger tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The KEK it belongs to.
    pub kek: KekName,
    /// Its number under the KEK, from 1.
    pub number: u32,
    /// Its id; also the `CKA_ID` of its objects.
    pub keypair_id: KeypairId,
    /// Where it is in its life. The keyring's to set.
    pub lifecycle: Lifecycle,
    /// What stops it. The keyring's to set.
    pub stops: Stops,
    /// Where its private key came from.
    pub origin: Origin,
    /// SHA-256 over the statement of the proposal that made it, or that set the mandate which did;
    /// none for the first KEKs of an instance.
    pub proposal: Option<Sha256>,
    /// DER `SubjectPublicKeyInfo` of the public key.
    pub spki: Vec<u8>,
    /// SHA-256 over `spki`.
    pub spki_sha256: Sha256,
    /// Length of the modulus in bits.
    pub modulus_bits: u32,
    /// The paddings its profile allows and the token was shown to do. [`Version::paddings`] are
    /// those it unwraps.
    pub paddings_shown: Vec<Padding>,
    /// Whether PKCS#1 v1.5 is forbidden under its KEK. The keyring's to set.
    pub pkcs1v15_forbidden: bool,
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
    /// Its state: Destroyed before Compromised before any stop, which shows as Suspended.
    pub const fn state(&self) -> VersionState {
        let free = self.lifecycle.state();
        if free.unwraps() && self.stops.any() {
            return VersionState::Suspended;
        }
        free
    }

    /// Whether the token must hold its key.
    pub const fn is_in_token(&self) -> bool {
        !matches!(self.lifecycle, Lifecycle::Destroyed)
    }

    /// The paddings it unwraps: those shown, without PKCS#1 v1.5 where that is forbidden.
    pub fn paddings(&self) -> impl Iterator<Item = Padding> {
        let is_forbidden =
            |padding: &Padding| self.pkcs1v15_forbidden && *padding == Padding::Pkcs1V15;
        let shown = self.paddings_shown.iter().copied();
        shown.filter(move |padding| !is_forbidden(padding))
    }

    /// Whether a DEK wrapped so may be unwrapped and leave in this form: state, padding, form and
    /// length, in this order. What passes is the HSM's to judge.
    pub fn admit(
        &self,
        padding: Padding,
        form: ReleaseForm,
        wrapped_len: usize,
    ) -> Result<(), KeyringError> {
        let state = self.state();
        if !state.unwraps() {
            return Err(KeyringError::NotUsable { state });
        }
        if !self.paddings().any(|allowed| allowed == padding) {
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
            lifecycle: Lifecycle::Active,
            stops: Stops::default(),
            origin: Origin::Generated,
            proposal: None,
            spki: vec![],
            spki_sha256: Sha256::of(b""),
            modulus_bits: 3072,
            paddings_shown: vec![Padding::OaepSha1],
            pkcs1v15_forbidden: false,
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
        let form = E::ReleaseFormNotAllowed { asked: Recipient };
        let padding = E::PaddingNotAllowed { asked: Pkcs1V15 };
        let length = |found| E::WrongLength {
            expected: 384,
            found,
        };
        let cases = [
            (OaepSha1, Clear, 384, None),
            (Pkcs1V15, Clear, 384, Some(padding)),
            (OaepSha1, Recipient, 384, Some(form)),
            (OaepSha1, Clear, 383, Some(length(383))),
            (OaepSha1, Clear, 385, Some(length(385))),
        ];
        let version = version("a", 1, 1);
        for (padding, form, len, verdict) in cases {
            let found = version.admit(padding, form, len).err();
            assert_eq!(found, verdict, "{padding} {len}");
        }
    }

    #[test]
    fn the_state_is_the_life_of_a_version_under_its_stops() {
        use Lifecycle as L;
        use VersionState as S;
        let stops = [
            (true, false, false),
            (false, true, false),
            (false, false, true),
        ];
        for (lifecycle, free, stopped) in [
            (L::Active, S::Active, S::Suspended),
            (L::Deactivated, S::Deactivated, S::Suspended),
            (L::Compromised, S::Compromised, S::Compromised),
            (L::Destroyed, S::Destroyed, S::Destroyed),
        ] {
            let mut version = Version {
                lifecycle,
                ..version("a", 1, 1)
            };
            assert_eq!(version.state(), free);
            let admitted = version.admit(Padding::OaepSha1, ReleaseForm::Clear, 384);
            assert_eq!(admitted.is_ok(), free.unwraps(), "{lifecycle}");
            for (of_all, of_kek, for_destruction) in stops {
                version.stops = Stops {
                    of_all,
                    of_kek,
                    for_destruction,
                };
                assert_eq!(version.state(), stopped);
                let refused = version.admit(Padding::OaepSha1, ReleaseForm::Clear, 384);
                assert_eq!(refused, Err(KeyringError::NotUsable { state: stopped }));
            }
        }
    }

    #[test]
    fn pkcs1_is_unwrapped_where_it_is_shown_and_not_forbidden() {
        let mut version = version("a", 1, 1);
        version.paddings_shown.push(Padding::Pkcs1V15);
        let pkcs1 = |version: &Version| version.admit(Padding::Pkcs1V15, ReleaseForm::Clear, 384);
        assert_eq!(pkcs1(&version), Ok(()));
        version.pkcs1v15_forbidden = true;
        let asked = Padding::Pkcs1V15;
        assert_eq!(
            pkcs1(&version),
            Err(KeyringError::PaddingNotAllowed { asked })
        );
        assert_eq!(version.paddings().collect::<Vec<_>>(), [Padding::OaepSha1]);
    }
}
