//! The certificate of a recipient, read once: whom to seal for, and whom to look for. No signature
//! and no validity is checked here; the caller got the certificate from kekd or was told to use it.

use std::path::Path;

use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};
use cms::cert::IssuerAndSerialNumber;
use der::{Decode as _, DecodePem as _, Encode as _};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{KeyUsage, SubjectKeyIdentifier};

use super::oaep::RSA_ENCRYPTION;
use super::{Fault, RecordingError};

/// A certificate over an RSA key of 2048 to 4096 bits that may wrap DEKs.
pub struct RecipientCertificate {
    identifier: IssuerAndSerialNumber,
    issuer: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    key: OaepPublicEncryptingKey,
}

impl RecipientCertificate {
    /// Reads an X.509 certificate, PEM or DER; of a PEM chain the first. `name` is for errors: the
    /// file it came from, or whose it is.
    pub fn parse(name: &Path, bytes: &[u8]) -> Result<Self, RecordingError> {
        Self::from_bytes(bytes).map_err(|fault| fault.of(name))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        let parsed = if bytes.first() == Some(&0x30) {
            Certificate::from_der(bytes)
        } else {
            Certificate::from_pem(first_pem(bytes))
        };
        let certificate = parsed.map_err(|source| Fault::NotACertificate { source })?;
        let tbs = certificate.tbs_certificate();
        let invalid = Fault::structure("the certificate");
        let usage = tbs.get_extension::<KeyUsage>().map_err(invalid)?;
        if usage.is_some_and(|(_, usage)| !usage.key_encipherment()) {
            return Err(Fault::CertificateUsage);
        }
        let invalid = Fault::structure("the certificate");
        let key_id = tbs
            .get_extension::<SubjectKeyIdentifier>()
            .map_err(invalid)?;
        let invalid = Fault::structure("the certificate");
        Ok(Self {
            issuer: tbs.issuer().to_der().map_err(invalid)?,
            identifier: IssuerAndSerialNumber {
                issuer: tbs.issuer().clone(),
                serial_number: tbs.serial_number().clone(),
            },
            subject_key_id: key_id.map(|(_, id)| id.0.as_bytes().to_vec()),
            key: rsa_key(&certificate)?,
        })
    }

    pub(super) const fn identifier(&self) -> &IssuerAndSerialNumber {
        &self.identifier
    }

    pub(super) const fn key(&self) -> &OaepPublicEncryptingKey {
        &self.key
    }

    pub(super) fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    pub(super) fn serial(&self) -> &[u8] {
        self.identifier.serial_number.as_bytes()
    }

    pub(super) fn subject_key_id(&self) -> Option<&[u8]> {
        self.subject_key_id.as_deref()
    }
}

/// The first certificate of a PEM file, from its label on; `openssl x509 -text` and chains put
/// other text around it. Without a label the bytes as they are, for the parser to refuse.
fn first_pem(bytes: &[u8]) -> &[u8] {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let find =
        |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|found| found == what);
    let rest = find(bytes, BEGIN)
        .and_then(|at| bytes.get(at..))
        .unwrap_or(bytes);
    let end = find(rest, END).map_or(rest.len(), |at| at + END.len());
    rest.get(..end).unwrap_or(rest)
}

fn rsa_key(certificate: &Certificate) -> Result<OaepPublicEncryptingKey, Fault> {
    let spki = certificate.tbs_certificate().subject_public_key_info();
    let refused = |found: String| Fault::CertificateKey { found };
    if spki.algorithm.oid != RSA_ENCRYPTION {
        return Err(refused(super::cipher::name_of(&spki.algorithm.oid)));
    }
    let der = spki
        .to_der()
        .map_err(Fault::structure("the certificate's public key"))?;
    let key = PublicEncryptingKey::from_der(&der)
        .map_err(|_| refused("RSA that AWS-LC does not take".to_owned()))?;
    let bits = key.key_size_bits();
    if !(2048..=4096).contains(&bits) {
        return Err(refused(format!("RSA of {bits} bits")));
    }
    OaepPublicEncryptingKey::new(key).map_err(|_| Fault::Cryptography {
        doing: "taking a key",
    })
}
