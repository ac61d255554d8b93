//! The certificate of a recipient, read once: whom to seal for, and whom to look for. No signature
//! and no validity is checked here; the caller got the certificate from kekd or was told to use it.

use std::path::Path;

use cms::cert::IssuerAndSerialNumber;
use der::{Decode as _, DecodePem as _, Encode as _};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{KeyUsage, SubjectKeyIdentifier};

use super::cipher::name_of;
use super::{Fault, RecordingError};
use crate::public_key::{PublicKeyError, RsaPublicKey};

/// A certificate over an RSA key of 2048 to 4096 bits that may wrap DEKs.
pub struct RecipientCertificate {
    identifier: IssuerAndSerialNumber,
    issuer: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    key: RsaPublicKey,
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
        let spki = tbs.subject_public_key_info().to_der();
        let spki = spki.map_err(Fault::structure("the certificate's public key"))?;
        let invalid = Fault::structure("the certificate");
        Ok(Self {
            issuer: tbs.issuer().to_der().map_err(invalid)?,
            identifier: IssuerAndSerialNumber {
                issuer: tbs.issuer().clone(),
                serial_number: tbs.serial_number().clone(),
            },
            subject_key_id: key_id.map(|(_, id)| id.0.as_bytes().to_vec()),
            key: RsaPublicKey::from_spki(&spki).map_err(|error| not_taken(&error))?,
        })
    }

    pub(super) const fn identifier(&self) -> &IssuerAndSerialNumber {
        &self.identifier
    }

    pub(super) const fn key(&self) -> &RsaPublicKey {
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

fn not_taken(error: &PublicKeyError) -> Fault {
    let found = if let PublicKeyError::NotRsa { found } = error {
        name_of(found)
    } else if let PublicKeyError::RsaSize { found_bits } = error {
        format!("RSA of {found_bits} bits")
    } else {
        "RSA that is not sound".to_owned()
    };
    Fault::CertificateKey { found }
}
