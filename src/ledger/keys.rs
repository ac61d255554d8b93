//! What an entry says about keys, read strictly: ids, public keys and certificates must agree with
//! each other before anything is built from them. Whether the token holds them is not seen here.

use std::time::Duration;

use der::{Decode as _, Encode as _};
use x509_cert::Certificate;
use x509_cert::name::Name;
use x509_cert::time::Validity;

use super::error::EntryError;
use super::state::InstanceKey;
use crate::clock::UnixMs;
use crate::keyring::{Lifecycle, Origin, Stops, Version};
use crate::proto::{self, v1};
use crate::public_key::{P256PublicKey, RsaPublicKey};
use crate::quorum::{NewVersion, Refusal};
use crate::types::{KeypairId, Sha256};

/// Longest key profile, in bytes.
const PROFILE_LEN_MAX: usize = 64 * 1024;
const SECONDS_PER_DAY: u64 = 86_400;
/// Longest certificate, in bytes.
const CERTIFICATE_LEN_MAX: usize = 16 * 1024;

/// A P-256 key of the instance.
pub(super) fn p256_key(
    field: &'static str,
    key: Option<&v1::InstanceKey>,
) -> Result<InstanceKey, EntryError> {
    let key = instance_key(field, key)?;
    match P256PublicKey::from_spki(&key.spki) {
        Ok(_) => Ok(key),
        Err(_) => refused(field, "the SubjectPublicKeyInfo of a P-256 key"),
    }
}

/// A secret key of the instance.
pub(super) fn secret_key(
    field: &'static str,
    key: Option<&v1::InstanceKey>,
) -> Result<InstanceKey, EntryError> {
    let key = instance_key(field, key)?;
    if !key.spki.is_empty() {
        return refused(field, "no public key: it is a secret key");
    }
    Ok(key)
}

/// The certificate's end, once it is a certificate over this very key.
pub(super) fn certificate_of(
    field: &'static str,
    certificate: &[u8],
    spki: &[u8],
) -> Result<Checked, EntryError> {
    let rule = "a DER certificate of at most 16384 bytes";
    if certificate.len() > CERTIFICATE_LEN_MAX {
        return refused(field, rule);
    }
    let Ok(certificate) = Certificate::from_der(certificate) else {
        return refused(field, rule);
    };
    let tbs = certificate.tbs_certificate();
    if !matches!(tbs.subject_public_key_info().to_der(), Ok(found) if found == spki) {
        return Err(EntryError::CertificateOfAnotherKey { field });
    }
    let end = tbs.validity().not_after.to_unix_duration().as_millis();
    Ok(Checked {
        expires_at: UnixMs(u64::try_from(end).unwrap_or(u64::MAX)),
        is_self_signed: tbs.issuer() == tbs.subject(),
    })
}

/// Whether a version's certificate has the subject and the validity that were approved. It ends with
/// the issuing key's at the latest, because it would not verify after that.
pub(super) fn is_certified_as(
    version: &Version,
    asked: &NewVersion,
    issuing_certificate: &[u8],
) -> Result<(), EntryError> {
    let certificates = Certificate::from_der(&version.certificate)
        .and_then(|own| Ok((own, Certificate::from_der(issuing_certificate)?)));
    let Ok((own, issuer)) = certificates else {
        return refused("certificate", "a DER certificate");
    };
    let (own, issuer) = (own.tbs_certificate(), issuer.tbs_certificate());
    let as_approved = |what, expected: String, found: String| match expected == found {
        true => Ok(()),
        false => Err(EntryError::from(Refusal::NotAsApproved {
            what,
            expected,
            found,
        })),
    };
    // In one spelling: officers approve a text, and a certificate has a structure.
    let subject = asked.certificate_subject.parse::<Name>();
    let subject = subject.map_or_else(|_| String::new(), |name| name.to_string());
    as_approved("certificate's subject", subject, own.subject().to_string())?;
    let end = |validity: &Validity| validity.not_after.to_unix_duration();
    let valid = u64::from(asked.certificate_valid_days).saturating_mul(SECONDS_PER_DAY);
    let begin = own.validity().not_before.to_unix_duration();
    let expected = begin.saturating_add(Duration::from_secs(valid));
    let expected = match version.is_self_signed {
        true => expected,
        false => expected.min(end(issuer.validity())),
    };
    let shown = |at: Duration| UnixMs(u64::try_from(at.as_millis()).unwrap_or(u64::MAX)).rfc3339();
    let found = shown(end(own.validity()));
    as_approved("end of the certificate", shown(expected), found)
}

/// What the keyring keeps of a certificate.
pub(super) struct Checked {
    expires_at: UnixMs,
    is_self_signed: bool,
}

/// The version that a [`v1::KekVersionActivated`] makes real.
pub(super) fn version(
    event: &v1::KekVersionActivated,
    created_at: UnixMs,
) -> Result<Version, EntryError> {
    let Ok(key) = RsaPublicKey::from_spki(&event.spki) else {
        let rule = "the SubjectPublicKeyInfo of a 2048 to 4096 bit RSA key";
        return refused("spki", rule);
    };
    let certificate = certificate_of("certificate", &event.certificate, &event.spki)?;
    Ok(Version {
        kek: event
            .kek
            .parse()
            .map_err(|source| EntryError::NameRefused {
                field: "kek",
                source,
            })?,
        number: event.number,
        keypair_id: id("keypair_id", &event.keypair_id)?,
        lifecycle: Lifecycle::Active,
        stops: Stops::default(),
        origin: Origin::Generated,
        proposal: proposal(&event.proposal_id)?,
        spki_sha256: Sha256::of(&event.spki),
        modulus_bits: key.modulus_bits(),
        spki: event.spki.clone(),
        paddings_shown: listed("paddings", &event.paddings, proto::padding)?,
        pkcs1v15_forbidden: false,
        release_forms: listed("release_forms", &event.release_forms, proto::release_form)?,
        profile_name: profile_name("profile", &event.profile)?,
        profile: event.profile.clone(),
        certificate_expires_at: certificate.expires_at,
        is_self_signed: certificate.is_self_signed,
        certificate: event.certificate.clone(),
        created_at,
    })
}

fn proposal(bytes: &[u8]) -> Result<Option<Sha256>, EntryError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    match <[u8; 32]>::try_from(bytes) {
        Ok(digest) => Ok(Some(digest.into())),
        Err(_) => refused("proposal_id", "32 bytes, or none"),
    }
}

fn instance_key(
    field: &'static str,
    key: Option<&v1::InstanceKey>,
) -> Result<InstanceKey, EntryError> {
    let Some(key) = key else {
        return refused(field, "a key");
    };
    profile_name(field, &key.profile)?;
    Ok(InstanceKey {
        object_id: id(field, &key.object_id)?,
        spki: key.spki.clone(),
        profile: key.profile.clone(),
    })
}

fn id(field: &'static str, bytes: &[u8]) -> Result<KeypairId, EntryError> {
    KeypairId::try_from(bytes).map_err(|source| EntryError::NameRefused { field, source })
}

/// The `name` of a key profile. The rest of it is the HSM's to read.
fn profile_name(field: &'static str, profile: &[u8]) -> Result<String, EntryError> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    let named = str::from_utf8(profile)
        .ok()
        .filter(|text| text.len() <= PROFILE_LEN_MAX)
        .and_then(|text| toml::from_str::<Named>(text).ok());
    match named {
        Some(Named { name }) if !name.is_empty() => Ok(name),
        Some(_) | None => refused(
            field,
            "a key profile: TOML with a name, at most 65536 bytes",
        ),
    }
}

/// Numbers of an enum: at least one, each known and each once.
fn listed<T: PartialEq>(
    field: &'static str,
    numbers: &[i32],
    known: fn(i32) -> Option<T>,
) -> Result<Vec<T>, EntryError> {
    let mut listed = Vec::new();
    for number in numbers {
        let Some(value) = known(*number) else {
            return refused(field, "values this kekd knows");
        };
        if listed.contains(&value) {
            return refused(field, "each value once");
        }
        listed.push(value);
    }
    if listed.is_empty() {
        return refused(field, "at least one value");
    }
    Ok(listed)
}

const fn refused<T>(field: &'static str, rule: &'static str) -> Result<T, EntryError> {
    Err(EntryError::FieldRefused { field, rule })
}
