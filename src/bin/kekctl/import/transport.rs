//! Whether a transport key is the instance's own: its certificate, verified with the certificate of
//! the instance's issuing key. Nothing is wrapped here.

use std::path::Path;

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use kekd::clock::{Clock, UnixMs};
use kekd::public_key::{P256PublicKey, RsaPublicKey};
use kekd::types::Sha256;
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};

use super::malformed;
use crate::file;

/// Longest certificate read, in bytes.
const CERTIFICATE_LEN_MAX: u64 = 64 * 1024;
/// ecdsa-with-SHA256.
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// How the subject of a transport key's certificate begins; the key pair's id follows.
const SUBJECT: &str = "CN=kekd transport ";

/// A transport key that the issuing key vouches for.
pub struct Transport {
    pub key: RsaPublicKey,
    /// `CN=kekd transport <keypair id>`.
    pub subject: String,
    /// SHA-256 over the DER certificate of the issuing key, for people to compare.
    pub issuing_sha256: Sha256,
}

impl Transport {
    /// Reads both certificates, PEM or DER, and verifies the first with the second.
    pub fn read(certificate: &Path, issuing: &Path) -> anyhow::Result<Self> {
        let (certificate, issuing) = (bytes_of(certificate)?, bytes_of(issuing)?);
        Self::verified(&certificate, &issuing, Clock::System.now())
    }

    /// Verifies a DER certificate with that of the issuing key, at this time.
    pub fn verified(certificate: &[u8], issuing: &[u8], now: UnixMs) -> anyhow::Result<Self> {
        let issuing_sha256 = Sha256::of(issuing);
        let issuing = parsed(issuing, "issuing")?;
        let certificate = parsed(certificate, "transport")?;
        let issuer = issuing.tbs_certificate();
        let is_ca = issuer
            .get_extension::<BasicConstraints>()?
            .is_some_and(|(_, constraints)| constraints.ca);
        if !is_ca || !has_usage(&issuing, KeyUsages::KeyCertSign)? {
            return Err(malformed(
                "the issuing certificate is not that of an issuing key",
            ));
        }
        // One who made both could make them agree; so the digest of this one is shown.
        signed_by(&issuing, &issuing, "issuing")?;
        signed_by(&certificate, &issuing, "transport")?;
        let body = certificate.tbs_certificate();
        if body.issuer() != issuer.subject() {
            return Err(malformed(format!(
                "the transport certificate names the issuer {}; the issuing certificate is of {}",
                body.issuer(),
                issuer.subject()
            )));
        }
        for (certificate, what) in [(&certificate, "transport"), (&issuing, "issuing")] {
            is_valid(certificate, what, now)?;
        }
        let subject = body.subject().to_string();
        let is_for_wrapping = has_usage(&certificate, KeyUsages::KeyEncipherment)?;
        if !subject.starts_with(SUBJECT) || !is_for_wrapping {
            return Err(malformed(format!(
                "the certificate of {subject} is not that of a transport key: expected the subject \
                 {SUBJECT}<keypair id>, for keyEncipherment"
            )));
        }
        let spki = body.subject_public_key_info().to_der()?;
        Ok(Self {
            key: RsaPublicKey::from_spki(&spki)?,
            subject,
            issuing_sha256,
        })
    }
}

fn bytes_of(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = file::read(path, CERTIFICATE_LEN_MAX)?;
    match der::pem::decode_vec(&bytes) {
        Ok(("CERTIFICATE", der)) => Ok(der),
        Ok((label, _)) => Err(malformed(format!(
            "{} holds a {label}; expected one CERTIFICATE",
            path.display()
        ))),
        Err(_) => Ok(bytes),
    }
}

fn parsed(der: &[u8], what: &str) -> anyhow::Result<Certificate> {
    Certificate::from_der(der)
        .map_err(|error| malformed(format!("the {what} certificate is none: {error}")))
}

fn has_usage(certificate: &Certificate, usage: KeyUsages) -> anyhow::Result<bool> {
    let found = certificate.tbs_certificate().get_extension::<KeyUsage>()?;
    Ok(found.is_some_and(|(_, found)| found.0.contains(usage)))
}

fn signed_by(certificate: &Certificate, issuing: &Certificate, what: &str) -> anyhow::Result<()> {
    let refused = || {
        malformed(format!(
            "the {what} certificate is not signed by the issuing key"
        ))
    };
    let key = issuing.tbs_certificate().subject_public_key_info();
    let key = P256PublicKey::from_spki(&key.to_der()?).map_err(|_| refused())?;
    let is_ecdsa = certificate.signature_algorithm().oid == ECDSA_WITH_SHA256;
    let signature = certificate.signature().as_bytes().filter(|_| is_ecdsa);
    let tbs = certificate.tbs_certificate().to_der()?;
    let verified = key.verify(&tbs, signature.ok_or_else(refused)?);
    verified.map_err(|_| refused())
}

fn is_valid(certificate: &Certificate, what: &str, now: UnixMs) -> anyhow::Result<()> {
    let validity = certificate.tbs_certificate().validity();
    let now_s = now.0 / 1000;
    let from = validity.not_before.to_unix_duration().as_secs();
    let to = validity.not_after.to_unix_duration().as_secs();
    if (from..=to).contains(&now_s) {
        return Ok(());
    }
    Err(malformed(format!(
        "the {what} certificate is valid from {} to {}, and this machine's clock says {}; fetch it \
         again with kekctl import transport-key, or set the clock right",
        UnixMs(from.saturating_mul(1000)).rfc3339(),
        UnixMs(to.saturating_mul(1000)).rfc3339(),
        now.rfc3339()
    )))
}
