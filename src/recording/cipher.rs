//! The ciphers a content may be encrypted with, by object identifier and parameters: AES-256-GCM
//! (RFC 5084) written and read, AES-256-CBC (RFC 3565) read only. No key is seen here.

use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Encode as _, Sequence};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::Fault;

/// id-data (RFC 5652 section 4).
pub(super) const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
/// id-envelopedData (RFC 5652 section 6).
pub(super) const ID_ENVELOPED_DATA: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.3");
/// id-ct-authEnvelopedData (RFC 5083 section 2).
pub(super) const ID_AUTH_ENVELOPED_DATA: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.23");
const AES_256_GCM: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.46");
const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");

/// Bytes of a GCM nonce.
pub(super) const NONCE_LEN: usize = 12;
/// Bytes of a GCM tag.
pub(super) const TAG_LEN: usize = 16;
/// Bytes of a CBC initialisation vector.
pub(super) const IV_LEN: usize = 16;

/// Names for error messages; what is not here is named by its numbers.
const NAMES: [(&str, &str); 26] = [
    ("1.2.840.113549.1.7.1", "data"),
    ("1.2.840.113549.1.7.2", "signed-data"),
    ("1.2.840.113549.1.7.3", "enveloped-data"),
    ("1.2.840.113549.1.7.5", "digested-data"),
    ("1.2.840.113549.1.7.6", "encrypted-data"),
    ("1.2.840.113549.1.9.16.1.2", "authenticated-data"),
    ("1.2.840.113549.1.9.16.1.9", "compressed-data"),
    ("1.2.840.113549.1.9.16.1.23", "auth-enveloped-data"),
    ("1.2.840.113549.3.2", "rc2-cbc"),
    ("1.2.840.113549.3.4", "rc4"),
    ("1.2.840.113549.3.7", "des-ede3-cbc"),
    ("1.3.14.3.2.7", "des-cbc"),
    ("1.2.840.113549.1.9.16.3.18", "chacha20-poly1305"),
    ("2.16.840.1.101.3.4.1.2", "aes-128-cbc"),
    ("2.16.840.1.101.3.4.1.22", "aes-192-cbc"),
    ("2.16.840.1.101.3.4.1.42", "aes-256-cbc"),
    ("2.16.840.1.101.3.4.1.6", "aes-128-gcm"),
    ("2.16.840.1.101.3.4.1.26", "aes-192-gcm"),
    ("2.16.840.1.101.3.4.1.46", "aes-256-gcm"),
    ("2.16.840.1.101.3.4.1.47", "aes-256-ccm"),
    ("1.3.14.3.2.26", "sha1"),
    ("2.16.840.1.101.3.4.2.1", "sha256"),
    ("2.16.840.1.101.3.4.2.2", "sha384"),
    ("2.16.840.1.101.3.4.2.3", "sha512"),
    ("2.16.840.1.101.3.4.2.4", "sha224"),
    ("1.2.840.10045.2.1", "EC"),
];

/// The name of an object identifier, or its numbers.
pub(super) fn name_of(oid: &ObjectIdentifier) -> String {
    let numbers = oid.to_string();
    match NAMES.iter().find(|(known, _)| *known == numbers) {
        Some((_, name)) => (*name).to_owned(),
        None => numbers,
    }
}

/// GCMParameters (RFC 5084 section 3.2).
#[derive(Sequence)]
struct GcmParameters {
    nonce: OctetString,
    /// Bytes of the tag. Left out it means 12, which is not read here.
    icv_len: Option<u8>,
}

/// A cipher with everything but the key.
pub(super) enum Cipher {
    /// AES-256-GCM of an AuthEnvelopedData.
    Gcm {
        /// The nonce.
        nonce: [u8; NONCE_LEN],
        /// The additional authenticated data: the authenticated attributes in DER, or nothing.
        aad: Vec<u8>,
        /// The tag.
        tag: [u8; TAG_LEN],
    },
    /// AES-256-CBC of an EnvelopedData.
    Cbc {
        /// The initialisation vector.
        iv: [u8; IV_LEN],
    },
}

impl Cipher {
    /// The cipher of an AuthEnvelopedData.
    pub(super) fn authenticated(
        algorithm: &AlgorithmIdentifierOwned,
        aad: Vec<u8>,
        mac: &[u8],
    ) -> Result<Self, Fault> {
        if algorithm.oid != AES_256_GCM {
            return Err(Fault::ContentCipher {
                found: name_of(&algorithm.oid),
            });
        }
        let parameters: GcmParameters = parameters(algorithm)?;
        let announced = usize::from(parameters.icv_len.unwrap_or(12));
        if announced != TAG_LEN {
            return Err(Fault::ParameterLength {
                part: "the authentication tag",
                expected: TAG_LEN,
                found: announced,
            });
        }
        Ok(Self::Gcm {
            nonce: of_len("the nonce", parameters.nonce.as_bytes())?,
            aad,
            tag: of_len("the authentication tag", mac)?,
        })
    }

    /// The cipher of an EnvelopedData.
    pub(super) fn unauthenticated(algorithm: &AlgorithmIdentifierOwned) -> Result<Self, Fault> {
        if algorithm.oid == AES_256_GCM {
            return Err(Fault::ContentCipher {
                found: "aes-256-gcm without a tag (in enveloped-data)".to_owned(),
            });
        }
        if algorithm.oid != AES_256_CBC {
            return Err(Fault::ContentCipher {
                found: name_of(&algorithm.oid),
            });
        }
        let iv: OctetString = parameters(algorithm)?;
        Ok(Self::Cbc {
            iv: of_len("the initialisation vector", iv.as_bytes())?,
        })
    }
}

/// The AlgorithmIdentifier of AES-256-GCM with this nonce and a tag of 16 bytes, in DER.
pub(super) fn gcm_algorithm(nonce: [u8; NONCE_LEN]) -> Result<Vec<u8>, der::Error> {
    let parameters = GcmParameters {
        nonce: OctetString::new(nonce)?,
        icv_len: Some(16),
    };
    AlgorithmIdentifierOwned {
        oid: AES_256_GCM,
        parameters: Some(Any::encode_from(&parameters)?),
    }
    .to_der()
}

fn parameters<T>(algorithm: &AlgorithmIdentifierOwned) -> Result<T, Fault>
where
    T: for<'a> der::DecodeValue<'a, Error = der::Error> + der::FixedTag,
{
    let part = "the content cipher's parameter";
    match &algorithm.parameters {
        Some(any) => any.decode_as().map_err(Fault::structure(part)),
        None => Err(Fault::Structure {
            part,
            source: der::ErrorKind::Failed.into(),
        }),
    }
}

fn of_len<const N: usize>(part: &'static str, bytes: &[u8]) -> Result<[u8; N], Fault> {
    bytes.try_into().map_err(|_| Fault::ParameterLength {
        part,
        expected: N,
        found: bytes.len(),
    })
}
