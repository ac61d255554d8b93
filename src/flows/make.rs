//! Making one key in the token and proving it before anything refers to it: generate, read back,
//! certify, attack, test. Whatever is made here is unknown to everyone until a ledger entry names
//! it; a failure leaves an object that the next start lists and never uses.

use aws_lc_rs::rand;
use tracing::info;

use super::holdings::Holdings;
use super::inspect::{InspectError, Seen, inspect, self_test};
use super::label;
use super::open::OpenError;
use super::profiles::{ProfilesError, builtin};
use crate::certificate::{Body, CertificateError, Unsigned};
use crate::clock::UnixMs;
use crate::hsm::profile::{CertificateKind, Profile};
use crate::hsm::{Capabilities, Hsm, HsmError, KeyRef};
use crate::proto::v1;
use crate::quorum::{Authorized, Initialise, MakesKeys, NewVersion, ProposalId};
use crate::types::{KekName, KeypairId, Padding, Sha256};

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
    /// The profile cannot be had.
    #[error(transparent)]
    Profile(#[from] ProfilesError),
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
    /// It is not the only one of its name: a start would refuse both.
    #[error("the key '{label}' was made, and is not alone")]
    NotAlone {
        /// The key's label.
        label: String,
        /// What the token shows.
        #[source]
        source: Box<OpenError>,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    Randomness,
}

/// The forge: the token, the right to make keys in it, and when that happens.
pub(super) struct Forge<'a, Op> {
    pub(super) hsm: &'a Hsm,
    pub(super) authority: &'a Authorized<Op>,
    pub(super) capabilities: &'a Capabilities,
    pub(super) now: UnixMs,
}

/// One version to be made or brought in: what was approved, and the names it gets.
pub(super) struct Plan<'a> {
    pub(super) kek: &'a KekName,
    pub(super) number: u32,
    pub(super) keypair_id: KeypairId,
    pub(super) certificate_subject: &'a str,
    pub(super) certificate_valid_days: u32,
    /// The proposal that asked for it; none for the first KEKs.
    pub(super) proposal: Option<ProposalId>,
}

impl<'a> Plan<'a> {
    /// A version that officers approved.
    pub(super) fn of(
        version: &'a NewVersion,
        number: u32,
        keypair_id: KeypairId,
        proposal: ProposalId,
    ) -> Self {
        Self {
            kek: &version.kek,
            number,
            keypair_id,
            certificate_subject: &version.certificate_subject,
            certificate_valid_days: version.certificate_valid_days,
            proposal: Some(proposal),
        }
    }

    /// `CKA_LABEL` of its key.
    pub(super) fn label(&self) -> String {
        let id = self.proposal.map(|_| self.keypair_id);
        label::kek(self.kek, self.number, id)
    }
}

/// The key that issues certificates, and its own.
pub(super) struct Issuing<'a> {
    pub(super) key: KeyRef,
    pub(super) certificate: &'a [u8],
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

impl Forge<'_, Initialise> {
    /// Makes a key of the instance to a built-in profile.
    pub(super) async fn instance_key(
        &self,
        label: &str,
        profile: &str,
    ) -> Result<InstanceKey, MakeError> {
        let profile = builtin(profile)?;
        let (key, spki) = self.generate(random_id()?, label, &profile).await?;
        inspect(self.hsm, &key, label, &profile, Seen::Made).await?;
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
}

impl<Op: MakesKeys> Forge<'_, Op> {
    /// Makes one version of a KEK: what the ledger records when all of it has been proved.
    pub(super) async fn kek(
        &self,
        plan: &Plan<'_>,
        profile: &Profile,
        issuing: &Issuing<'_>,
    ) -> Result<v1::KekVersionActivated, MakeError> {
        self.paddings(profile)?;
        let label = plan.label();
        let (key, spki) = self.generate(plan.keypair_id, &label, profile).await?;
        let certificate = match profile.certificate() {
            CertificateKind::SelfSigned => {
                let certificate = self.self_signed(plan, &key, &spki).await?;
                self.hsm
                    .cage(self.authority, &key, profile)
                    .await
                    .map_err(|source| MakeError::Hsm { label, source })?;
                certificate
            }
            CertificateKind::Issued | CertificateKind::None => {
                self.issued(plan, &spki, issuing).await?
            }
        };
        self.prove(plan, profile, &key, spki, certificate).await
    }

    /// Proves a version whose key is in the token: reads it back, attacks it, walks the public path.
    pub(super) async fn prove(
        &self,
        plan: &Plan<'_>,
        profile: &Profile,
        key: &KeyRef,
        spki: Vec<u8>,
        certificate: Vec<u8>,
    ) -> Result<v1::KekVersionActivated, MakeError> {
        let (paddings, label) = (self.paddings(profile)?, plan.label());
        inspect(self.hsm, key, &label, profile, Seen::Made).await?;
        let forms = profile.release_forms();
        for padding in &paddings {
            self_test(self.hsm, key, &label, &spki, *padding, forms).await?;
        }
        self.is_alone(key, &label).await?;
        info!(
            kek = %plan.kek, number = plan.number, keypair_id = %plan.keypair_id,
            profile = profile.name(), "certified, read back, attacked and tested"
        );
        let proposal = plan.proposal.map(|id| id.0.as_bytes().to_vec());
        Ok(v1::KekVersionActivated {
            kek: plan.kek.to_string(),
            number: plan.number,
            keypair_id: plan.keypair_id.as_bytes().to_vec(),
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
            proposal_id: proposal.unwrap_or_default(),
        })
    }

    /// An HSM that did not answer in time may yet make the key that was made again since.
    async fn is_alone(&self, key: &KeyRef, label: &str) -> Result<(), MakeError> {
        let objects = self.hsm.inventory().await;
        let objects = objects.map_err(|source| MakeError::Hsm {
            label: label.to_owned(),
            source,
        })?;
        let alone = Holdings::new(&objects).check(key, label);
        alone.map_err(|source| MakeError::NotAlone {
            label: label.to_owned(),
            source: Box::new(source),
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

    /// The certificate of a version by the issuing key.
    pub(super) async fn issued(
        &self,
        plan: &Plan<'_>,
        spki: &[u8],
        issuing: &Issuing<'_>,
    ) -> Result<Vec<u8>, MakeError> {
        let (subject, valid_days) = (plan.certificate_subject, plan.certificate_valid_days);
        self.certify(subject, valid_days, spki, &plan.label(), issuing)
            .await
    }

    /// The certificate of an RSA key that others encrypt to, by the issuing key.
    pub(super) async fn certify(
        &self,
        subject: &str,
        valid_days: u32,
        spki: &[u8],
        label: &str,
        issuing: &Issuing<'_>,
    ) -> Result<Vec<u8>, MakeError> {
        let failed = |source| MakeError::Certificate {
            label: label.to_owned(),
            source,
        };
        let body = self.body(subject, valid_days, spki)?;
        let unsigned = Unsigned::kek(&body, issuing.certificate).map_err(failed)?;
        let signature = self.sign(&issuing.key, &unsigned.digest(), label).await?;
        unsigned.assemble(&signature).map_err(failed)
    }

    async fn self_signed(
        &self,
        plan: &Plan<'_>,
        key: &KeyRef,
        spki: &[u8],
    ) -> Result<Vec<u8>, MakeError> {
        let label = plan.label();
        let failed = |source| MakeError::Certificate {
            label: label.clone(),
            source,
        };
        let (subject, valid_days) = (plan.certificate_subject, plan.certificate_valid_days);
        let body = self.body(subject, valid_days, spki)?;
        let unsigned = Unsigned::kek_self_signed(&body).map_err(failed)?;
        let signature = self
            .hsm
            .self_sign(self.authority, key, unsigned.tbs())
            .await
            .map_err(|source| MakeError::Hsm {
                label: label.clone(),
                source,
            })?;
        unsigned.assemble(&signature).map_err(failed)
    }

    fn body<'a>(
        &self,
        subject: &'a str,
        valid_days: u32,
        spki: &'a [u8],
    ) -> Result<Body<'a>, MakeError> {
        Ok(Body {
            subject,
            spki,
            not_before: self.now,
            valid_days,
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

/// A fresh version 4 UUID.
pub(super) fn random_id() -> Result<KeypairId, MakeError> {
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
