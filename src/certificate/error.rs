//! Why a certificate is not made. All but one variant are the fault of
//! what was handed in and come back the same on every try; `SignatureWrong` is the token's.

use crate::clock::UnixMs;
use crate::public_key::PublicKeyError;

/// What is wrong with a certificate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CertificateError {
    /// The subject is not a name.
    #[error(
        "the subject {subject:?} is not a name as in RFC 4514, for example CN=kek,O=Example; no \
         spaces around commas"
    )]
    Subject {
        /// The text.
        subject: String,
        /// What the parser said; nothing where the name is empty or a value has
        /// characters its type does not allow.
        #[source]
        source: Option<der::Error>,
    },
    /// The validity is empty or ends after the year 9999.
    #[error(
        "{valid_days} days from {} are not a validity: it is empty, begins when the issuer's is \
         over, or ends after 9999", not_before.rfc3339()
    )]
    ValidityOutOfRange {
        /// The beginning asked for.
        not_before: UnixMs,
        /// The days asked for.
        valid_days: u32,
    },
    /// A serial number must be positive (RFC 5280 section 4.1.2.2).
    #[error("the serial number is zero; it must be 16 random bytes")]
    SerialZero,
    /// A public key is not of the kind that is needed.
    #[error("{what} cannot stand in a certificate of this kind")]
    PublicKey {
        /// Whose key.
        what: &'static str,
        /// What is wrong with it.
        source: PublicKeyError,
    },
    /// The bytes are not a DER certificate.
    #[error("the bytes are not a DER certificate")]
    NotACertificate(#[source] der::Error),
    /// The issuer's certificate does not let it sign certificates.
    #[error(
        "the issuer's certificate is not that of a CA with keyCertSign (RFC 5280 section 4.2.1)"
    )]
    NotAnIssuer,
    /// The raw signature is not as long as it must be.
    #[error("the token returned a signature of {found} bytes where {expected} are due")]
    SignatureLength {
        /// Bytes due.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The signature does not verify against the signer's public key.
    #[error(
        "the token returned a signature that does not verify with the signer's public key; the \
         key in the token may be damaged: check the token before anything is signed with it"
    )]
    SignatureWrong,
    /// An ASN.1 structure could not be read or written.
    #[error("an ASN.1 structure cannot be read or written")]
    Asn1(#[from] der::Error),
    /// The certificate builder refused.
    #[error("the certificate cannot be built: {0}")]
    NotBuilt(String),
}

impl From<x509_cert::builder::Error> for CertificateError {
    /// Kept as text: the builder's error can be neither cloned nor compared.
    fn from(source: x509_cert::builder::Error) -> Self {
        Self::NotBuilt(source.to_string())
    }
}
