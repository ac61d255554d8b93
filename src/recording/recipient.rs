//! Who a recording is for: KeyTransRecipientInfo (RFC 5652 section 6.2.1) as the caller of an
//! unwrap needs it. Nothing is decrypted here.

use std::fmt;

use cms::enveloped_data::{KeyTransRecipientInfo, RecipientIdentifier as Rid};
use der::Encode as _;

use super::oaep::padding_of;
use super::{KeyTransportFault, RecipientCertificate};
use crate::types::Padding;

/// One RSA key that opens a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Whose key.
    pub identifier: RecipientIdentifier,
    /// The wrapped DEK: as many bytes as the key's modulus, if the writer did well.
    pub encrypted_key: Vec<u8>,
    /// How the DEK is wrapped, or why kekd cannot unwrap it.
    pub padding: Result<Padding, KeyTransportFault>,
}

/// How a recording names a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientIdentifier {
    /// Issuer and serial number of the certificate.
    IssuerAndSerial {
        /// The issuer's name in DER.
        issuer: Vec<u8>,
        /// The issuer's name for people (RFC 4514).
        issuer_text: String,
        /// The serial number: big-endian two's complement, as in DER.
        serial: Vec<u8>,
    },
    /// The subject key identifier of the certificate (RFC 5280 section 4.2.1.2).
    SubjectKeyId(Vec<u8>),
}

impl fmt::Display for RecipientIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        };
        match self {
            Self::IssuerAndSerial {
                issuer_text,
                serial,
                ..
            } => {
                f.write_str("serial ")?;
                hex(f, serial)?;
                write!(f, " of {issuer_text}")
            }
            Self::SubjectKeyId(id) => {
                f.write_str("subject key id ")?;
                hex(f, id)
            }
        }
    }
}

impl Recipient {
    pub(super) fn new(ktri: KeyTransRecipientInfo) -> Result<Self, der::Error> {
        let identifier = match ktri.rid {
            Rid::IssuerAndSerialNumber(id) => RecipientIdentifier::IssuerAndSerial {
                issuer: id.issuer.to_der()?,
                issuer_text: id.issuer.to_string(),
                serial: id.serial_number.as_bytes().to_vec(),
            },
            Rid::SubjectKeyIdentifier(id) => {
                RecipientIdentifier::SubjectKeyId(id.0.as_bytes().to_vec())
            }
        };
        Ok(Self {
            identifier,
            padding: padding_of(&ktri.key_enc_alg),
            encrypted_key: ktri.enc_key.into_bytes().into_vec(),
        })
    }

    /// Whether this certificate is the one named.
    pub fn is(&self, certificate: &RecipientCertificate) -> bool {
        match &self.identifier {
            RecipientIdentifier::IssuerAndSerial { issuer, serial, .. } => {
                issuer == certificate.issuer() && serial == certificate.serial()
            }
            RecipientIdentifier::SubjectKeyId(id) => {
                certificate.subject_key_id() == Some(id.as_slice())
            }
        }
    }
}
