//! Making one key in the token and proving it before anything refers to it: generate, read back,
//! certify, attack, test. Whatever is made here is unknown to everyone until a ledger entry names
//! it; a failure leaves an object that the next start lists and never uses.

use aws_lc_rs::rand;
use tracing::info;

use super::inspect::{InspectError, inspect, self_test};
use super::label;
use crate::certificate::{Body, CertificateError, Unsigned};
use crate::clock::UnixMs;
use crate::hsm::profile::{CertificateKind, Profile, ProfileError};
use crate::hsm::{Capabilities, Hsm, HsmError, KeyRef};
use crate::proto::v1;
use crate::quorum::{Authorized, GenesisKek, Initialise};
use crate::types::{KeypairId, Padding, Sha256};

/// Why a key was not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The HSM did not do its part.
    #[error("the key '{label}' could not be made")]
    Hsm {
        /// The key's label.
        label: String,
        /// Why.
        #[source]
        source: HsmError,
    },
    /// The key is not what its profile says.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// Its certificate could not be made.
    #[error("the certificate of '{label}' could not be made")]
    Certificate {
        /// The key's label.
        label: String,
        /// Why.
        #[source]
        source: CertificateError,
    },
    /// There is no such profile.
    #[error(
        "there is no key profile '{name}': kekd has {builtin} built in, and hsm.profiles_dir may name a \
         folder with more"
    )]
    ProfileUnknown {
        /// The name.
        name: String,
        /// The names of the built-in ones.
        builtin: String,
    },
    /// The profile cannot be used.
    #[error("the key profile '{name}' cannot be used")]
    Profile {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: ProfileError,
    },
    /// The officers signed for another profile.
    #[error(
        "the profile '{name}' has the SHA-256 {found}, and the officers signed for {expected}: it was \
         changed after they signed, or kekd was"
    )]
    ProfileChanged {
        /// Its name.
        name: String,
        /// What the genesis says.
        expected: Sha256,
        /// What it is.
        found: Sha256,
    },
    /// The token can do none of the paddings of the profile.
    #[error(
        "the token can do none of the paddings of profile '{profile}' ({wanted}); it was shown to do: \
         {found}"
    )]
    NoPadding {
        /// The profile's name.
        profile: String,
        /// Its paddings.
        wanted: String,
        /// What the token does.
        found: String,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    Randomness,
}

/// The forge: the token, the right to make keys in it, and when that happens.
pub(super) struct Forge<'a> {
    pub(super) hsm: &'a Hsm,
    pub(super) authority: &'a Authorized<Initialise>,
    pub(super) capabilities: &'a Capabilities,
    pub(super) now: UnixMs,
}

/// A P-256 key of the instance, or its secret key.
pub(super) struct InstanceKey {
    pub(super) key: KeyRef,
    pub(super) spki: Vec<u8>,
    pub(super) profile: Profile,
}

impl InstanceKey {
    /// As the ledger records it.
    pub(super) fn to_proto(&self) -> v1::InstanceKey {
        v1::InstanceKey {
            object_id: self.key.object_id.to_vec(),
            spki: self.spki.clone(),
            profile: self.profile.bytes().to_vec(),
        }
    }
}

impl Forge<'_> {
    /// Makes a key of the instance to a built-in profile.
    pub(super) async fn instance_key(
        &self,
        label: &str,
        profile: &str,
    ) -> Result<InstanceKey, MakeError> {
        let profile = builtin(profile)?;
        let (key, spki) = self.generate(random_id()?, label, &profile).await?;
        inspect(self.hsm, &key, label, &profile).await?;
        info!(
            key = label,
            profile = profile.name(),
            "made, read back and attacked"
        );
        Ok(InstanceKey { key, spki, profile })
    }

    /// The self-signed certificate of the issuing key, DER.
    pub(super) async fn issuing_certificate(
        &self,
        issuing: &InstanceKey,
    ) -> Result<Vec<u8>, MakeError> {
        let failed = |source| MakeError::Certificate {
            label: label::ISSUING.to_owned(),
            source,
        };
        let issuer = self.authority.operation().genesis.issuer();
        let serial = *random_id()?.as_bytes();
        let unsigned = Unsigned::issuing(&Body {
            subject: &issuer.subject,
            spki: &issuing.spki,
            not_before: self.now,
            valid_days: issuer.valid_days,
            serial,
        })
        .map_err(failed)?;
        let signature = self
            .sign(&issuing.key, &unsigned.digest(), label::ISSUING)
            .await?;
        unsigned.assemble(&signature).map_err(failed)
    }

    /// Makes the first version of a KEK: what the ledger records when all of it has been proved.
    pub(super) async fn kek(
        &self,
        kek: &GenesisKek,
        profile: &Profile,
        issuing: &InstanceKey,
        issuing_certificate: &[u8],
    ) -> Result<v1::KekVersionActivated, MakeError> {
        let paddings = self.paddings(profile)?;
        let keypair_id = random_id()?;
        let label = label::kek(&kek.name, 1);
        let (key, spki) = self.generate(keypair_id, &label, profile).await?;

        let certificate = match profile.certificate() {
            CertificateKind::SelfSigned => {
                let certificate = self.self_signed(kek, &key, &label, &spki).await?;
                self.hsm
                    .cage(self.authority, &key, profile)
                    .await
                    .map_err(|source| MakeError::Hsm {
                        label: label.clone(),
                        source,
                    })?;
                certificate
            }
            CertificateKind::Issued | CertificateKind::None => {
                self.issued(kek, &label, &spki, issuing, issuing_certificate)
                    .await?
            }
        };

        inspect(self.hsm, &key, &label, profile).await?;
        let forms = profile.release_forms();
        for padding in &paddings {
            self_test(self.hsm, &key, &label, &spki, *padding, forms).await?;
        }
        info!(
            kek = %kek.name, %keypair_id, profile = profile.name(),
            "made, certified, read back, attacked and tested"
        );
        Ok(v1::KekVersionActivated {
            kek: kek.name.to_string(),
            number: 1,
            keypair_id: keypair_id.as_bytes().to_vec(),
            spki,
            certificate,
            profile: profile.bytes().to_vec(),
            paddings: paddings
                .iter()
                .map(|padding| v1::Padding::from(*padding).into())
                .collect(),
            release_forms: forms
                .iter()
                .map(|form| v1::ReleaseForm::from(*form).into())
                .collect(),
        })
    }

    /// The paddings of the profile that the token was shown to do; at least one.
    fn paddings(&self, profile: &Profile) -> Result<Vec<Padding>, MakeError> {
        let able = self.capabilities.paddings();
        let paddings: Vec<Padding> = profile
            .paddings()
            .iter()
            .copied()
            .filter(|padding| able.contains(padding))
            .collect();
        if paddings.is_empty() {
            return Err(MakeError::NoPadding {
                profile: profile.name().to_owned(),
                wanted: names(profile.paddings()),
                found: names(&able),
            });
        }
        Ok(paddings)
    }

    async fn generate(
        &self,
        id: KeypairId,
        label: &str,
        profile: &Profile,
    ) -> Result<(KeyRef, Vec<u8>), MakeError> {
        let spki = self
            .hsm
            .generate(self.authority, *id.as_bytes(), label, profile)
            .await
            .map_err(|source| MakeError::Hsm {
                label: label.to_owned(),
                source,
            })?;
        let spki_sha256 = (!spki.is_empty()).then(|| Sha256::of(&spki));
        Ok((
            KeyRef {
                object_id: *id.as_bytes(),
                spki_sha256,
            },
            spki,
        ))
    }

    async fn issued(
        &self,
        kek: &GenesisKek,
        label: &str,
        spki: &[u8],
        issuing: &InstanceKey,
        issuing_certificate: &[u8],
    ) -> Result<Vec<u8>, MakeError> {
        let failed = |source| MakeError::Certificate {
            label: label.to_owned(),
            source,
        };
        let body = self.body(kek, spki)?;
        let unsigned = Unsigned::kek(&body, issuing_certificate).map_err(failed)?;
        let signature = self.sign(&issuing.key, &unsigned.digest(), label).await?;
        unsigned.assemble(&signature).map_err(failed)
    }

    async fn self_signed(
        &self,
        kek: &GenesisKek,
        key: &KeyRef,
        label: &str,
        spki: &[u8],
    ) -> Result<Vec<u8>, MakeError> {
        let failed = |source| MakeError::Certificate {
            label: label.to_owned(),
            source,
        };
        let unsigned = Unsigned::kek_self_signed(&self.body(kek, spki)?).map_err(failed)?;
        let signature = self
            .hsm
            .self_sign(self.authority, key, unsigned.tbs())
            .await
            .map_err(|source| MakeError::Hsm {
                label: label.to_owned(),
                source,
            })?;
        unsigned.assemble(&signature).map_err(failed)
    }

    fn body<'a>(&self, kek: &'a GenesisKek, spki: &'a [u8]) -> Result<Body<'a>, MakeError> {
        Ok(Body {
            subject: &kek.certificate_subject,
            spki,
            not_before: self.now,
            valid_days: kek.certificate_valid_days,
            serial: *random_id()?.as_bytes(),
        })
    }

    async fn sign(
        &self,
        key: &KeyRef,
        digest: &Sha256,
        label: &str,
    ) -> Result<[u8; 64], MakeError> {
        self.hsm
            .sign_digest(key, digest)
            .await
            .map_err(|source| MakeError::Hsm {
                label: label.to_owned(),
                source,
            })
    }
}

/// A profile that is compiled in.
pub(super) fn builtin(name: &str) -> Result<Profile, MakeError> {
    let text = Profile::builtin(name).ok_or_else(|| MakeError::ProfileUnknown {
        name: name.to_owned(),
        builtin: Profile::builtin_names().collect::<Vec<_>>().join(", "),
    })?;
    Profile::parse(text.as_bytes()).map_err(|source| MakeError::Profile {
        name: name.to_owned(),
        source,
    })
}

/// A fresh version 4 UUID.
fn random_id() -> Result<KeypairId, MakeError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| MakeError::Randomness)?;
    Ok(KeypairId::from_random(bytes))
}

fn names(paddings: &[Padding]) -> String {
    paddings
        .iter()
        .map(|padding| padding.name())
        .collect::<Vec<_>>()
        .join(", ")
}
