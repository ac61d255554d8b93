//! `kekctl propose create-kek`, `rotate-kek` and `import-kek`: a KEK gets a version. What is not
//! named is as it is in the active version.

use std::path::PathBuf;

use clap::Args;
use der::{Decode as _, Encode as _};
use kekd::proto::v1;
use kekd::quorum::{NewVersion, Operation};
use kekd::types::{KekName, KeypairId, Sha256};
use x509_cert::Certificate;

use super::ground::Ground;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file;

/// Validity of a certificate where nothing says another, in days: ten years.
const VALID_DAYS_DEFAULT: u32 = 3650;
/// Longest profile read.
const PROFILE_LEN_MAX: u64 = 64 * 1024;
/// Longest public key or certificate read.
const SPKI_LEN_MAX: u64 = 64 * 1024;

/// Make a KEK with its first version
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl propose create-kek --kek archive --profile kek-rsa-3072
  kekctl propose create-kek --kek archive --profile kek-rsa-3072 \\
      --certificate-subject CN=archive,O=Example --certificate-valid-days 1825")]
pub struct CreateKek {
    /// The new KEK's name
    #[arg(long, value_name = "NAME")]
    kek: KekName,
    /// The name of its key profile
    #[arg(long, value_name = "NAME")]
    profile: String,
    #[command(flatten)]
    details: Details,
}

/// Make a new version of a KEK; the active one unwraps old DEKs only from then on
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl propose rotate-kek --kek recordings
  kekctl propose rotate-kek --kek recordings --profile kek-rsa-3072-recipient")]
pub struct RotateKek {
    /// The KEK
    #[arg(long, value_name = "NAME")]
    kek: KekName,
    #[command(flatten)]
    like: LikeActive,
    /// The active version it follows [default: the one that is active, if any]
    #[arg(long, value_name = "KEYPAIR_ID")]
    retires: Option<KeypairId>,
}

/// Bring in an RSA private key from outside as a new KEK
///
/// It shows as imported for ever. The key itself is sent after the execution, wrapped under a key
/// that is made in the token.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openssl pkey -in legacy.pem -pubout -out legacy.pub
  kekctl propose import-kek --kek legacy-2019 --profile kek-rsa-2048-imported \\
      --public-key legacy.pub")]
pub struct ImportKek {
    /// The new KEK's name
    #[arg(long, value_name = "NAME")]
    kek: KekName,
    /// The name of its key profile: one for imported keys
    #[arg(long, value_name = "NAME")]
    profile: String,
    /// The public key, PEM or DER: its SubjectPublicKeyInfo
    #[arg(long, value_name = "FILE", required_unless_present = "spki_sha256")]
    public_key: Option<PathBuf>,
    /// SHA-256 over the DER SubjectPublicKeyInfo, in place of the key
    #[arg(long, value_name = "HEX", conflicts_with = "public_key")]
    spki_sha256: Option<Sha256>,
    #[command(flatten)]
    details: Details,
}

/// What a new version is made to, beside its profile's name.
#[derive(Debug, Args)]
pub struct Details {
    /// SHA-256 over the profile's bytes [default: of the profile of that name that kekd has]
    #[arg(long, value_name = "HEX", conflicts_with = "profile_file")]
    profile_sha256: Option<Sha256>,
    /// The profile itself, to take the digest from
    #[arg(long, value_name = "FILE")]
    profile_file: Option<PathBuf>,
    /// Subject of its certificate (RFC 4514) [default: as it was, or CN= and the
    /// name of the KEK]
    #[arg(long, value_name = "NAME")]
    certificate_subject: Option<String>,
    /// Validity of its certificate in days [default: as it was, or 3650]
    #[arg(long, value_name = "DAYS")]
    certificate_valid_days: Option<u32>,
}

/// The same where an active version gives the defaults.
#[derive(Debug, Args)]
pub struct LikeActive {
    /// The name of its key profile [default: the active version's]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    #[command(flatten)]
    details: Details,
}

impl CreateKek {
    pub fn operation(self, ground: &Ground) -> anyhow::Result<Operation> {
        let version = self.details.version(self.kek, self.profile, ground)?;
        Ok(Operation::CreateKek(version))
    }
}

impl RotateKek {
    pub async fn operation(self, ground: &Ground) -> anyhow::Result<Operation> {
        let before = ground.before(&self.kek).await?;
        let retires = match (self.retires, before.active) {
            (Some(id), _) => Some(id),
            (None, Some(id)) => Some(id.parse()?),
            (None, None) => None,
        };
        let version = self.like.version(self.kek, &before.like, ground).await?;
        Ok(Operation::RotateKek { version, retires })
    }
}

impl ImportKek {
    pub fn operation(self, ground: &Ground) -> anyhow::Result<Operation> {
        let spki_sha256 = match (&self.public_key, self.spki_sha256) {
            (_, Some(digest)) => digest,
            (Some(path), None) => spki_sha256(path)?,
            (None, None) => anyhow::bail!("neither the public key nor its digest is named"),
        };
        let version = self.details.version(self.kek, self.profile, ground)?;
        Ok(Operation::ImportKek {
            version,
            spki_sha256,
        })
    }
}

impl Details {
    fn version(self, kek: KekName, profile: String, ground: &Ground) -> anyhow::Result<NewVersion> {
        let profile_sha256 = match (self.profile_sha256, &self.profile_file) {
            (Some(digest), _) => digest,
            (None, Some(path)) => Sha256::of(&file::read(path, PROFILE_LEN_MAX)?),
            (None, None) => ground.profile_sha256(&profile)?,
        };
        Ok(NewVersion {
            certificate_subject: self
                .certificate_subject
                .unwrap_or_else(|| format!("CN={kek}")),
            certificate_valid_days: self.certificate_valid_days.unwrap_or(VALID_DAYS_DEFAULT),
            kek,
            profile,
            profile_sha256,
        })
    }
}

impl LikeActive {
    /// What is not named is taken from the active version and its certificate.
    pub async fn version(
        self,
        kek: KekName,
        active: &v1::Version,
        ground: &Ground,
    ) -> anyhow::Result<NewVersion> {
        let mut details = self.details;
        if details.certificate_subject.is_none() || details.certificate_valid_days.is_none() {
            let id: KeypairId = active.keypair_id.parse()?;
            let chain = ground.client.get_certificate(id).await?;
            let (subject, days) = subject_and_days(&chain.certificate)?;
            details.certificate_subject.get_or_insert(subject);
            details.certificate_valid_days.get_or_insert(days);
        }
        let profile = self.profile.unwrap_or_else(|| active.profile.clone());
        details.version(kek, profile, ground)
    }
}

/// Subject (RFC 4514) and validity in whole days, at least one, of a DER certificate.
fn subject_and_days(der: &[u8]) -> anyhow::Result<(String, u32)> {
    let certificate = Certificate::from_der(der)?;
    let certificate = certificate.tbs_certificate();
    let validity = certificate.validity();
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
    let lasts = seconds(validity.not_after).saturating_sub(seconds(validity.not_before));
    // Both ends belong to it (RFC 5280 section 4.1.2.5), so the last second may be missing.
    let days = lasts.saturating_add(86_399) / 86_400;
    Ok((
        certificate.subject().to_string(),
        u32::try_from(days)?.max(1),
    ))
}

/// SHA-256 over the DER `SubjectPublicKeyInfo` in a PEM or DER file.
fn spki_sha256(path: &std::path::Path) -> anyhow::Result<Sha256> {
    let bytes = file::read(path, SPKI_LEN_MAX)?;
    let der = match der::pem::decode_vec(&bytes) {
        Ok(("PUBLIC KEY", der)) => Some(der),
        Ok(_) => None,
        Err(_) => Some(bytes),
    };
    let spki = der.and_then(|der| {
        let spki = x509_cert::spki::SubjectPublicKeyInfoRef::from_der(&der).ok()?;
        spki.to_der().ok()
    });
    match spki {
        Some(der) => Ok(Sha256::of(&der)),
        None => {
            let path = path.display();
            let text = format!("{path} holds no public key: PEM \"PUBLIC KEY\" or the same in DER");
            Err(Failure::new(Exit::Malformed, "NOT_ACCEPTABLE", text).into())
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_read_from_a_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let mut name = rcgen::DistinguishedName::new();
        name.push(rcgen::DnType::OrganizationName, "Example, Inc");
        name.push(rcgen::DnType::CommonName, "recordings");
        params.distinguished_name = name;
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 31);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let (subject, days) = subject_and_days(&der).unwrap();
        assert_eq!(subject, r"CN=recordings,O=Example\, Inc");
        assert_eq!(days, 30);
    }

    #[test]
    fn a_public_key_has_one_digest_in_either_form() {
        let key = rcgen::KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, key.public_key_pem()).unwrap();
        let of_pem = spki_sha256(&path).unwrap();
        let der = der::pem::decode_vec(key.public_key_pem().as_bytes())
            .unwrap()
            .1;
        std::fs::write(&path, &der).unwrap();
        assert_eq!(spki_sha256(&path).unwrap(), of_pem);
        std::fs::write(&path, key.serialize_pem()).unwrap();
        let failure = Failure::from(spki_sha256(&path).unwrap_err());
        assert_eq!(failure.exit, Exit::Malformed);
    }
}
