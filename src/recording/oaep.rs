//! The key-transport algorithms and their parameters: RSAES-OAEP (RFC 4055 section 4.1, RFC 3560)
//! written and read, RSAES-PKCS1-v1_5 (RFC 3370 section 4.2.1) read only. No key is seen here.

use der::asn1::{Any, AnyRef, Null, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Encode as _, Sequence};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::KeyTransportFault;
use super::cipher::name_of;
use crate::types::Padding;

/// rsaEncryption: in a recipient, RSAES-PKCS1-v1_5.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSAES_OAEP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.7");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
const P_SPECIFIED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.9");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// RSAES-OAEP-params. What is left out means SHA-1, MGF1 with SHA-1 and the empty label.
#[derive(Default, Sequence)]
struct OaepParameters {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    hash: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    mask: Option<AlgorithmIdentifierOwned>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    label: Option<AlgorithmIdentifierOwned>,
}

/// The padding that a recipient's keyEncryptionAlgorithm names.
pub(super) fn padding_of(
    algorithm: &AlgorithmIdentifierOwned,
) -> Result<Padding, KeyTransportFault> {
    if algorithm.oid == RSA_ENCRYPTION {
        return Ok(Padding::Pkcs1V15);
    }
    if algorithm.oid != RSAES_OAEP {
        return Err(KeyTransportFault::Algorithm {
            found: name_of(&algorithm.oid),
        });
    }
    // RFC 4055 section 4.1: the parameters must be present. Left out they could only mean the
    // defaults, but then the writer broke the rule and may have meant anything.
    let parameters = algorithm
        .parameters
        .as_ref()
        .ok_or(KeyTransportFault::Parameters)?;
    let OaepParameters { hash, mask, label } = parameters
        .decode_as()
        .map_err(|_| KeyTransportFault::Parameters)?;
    let hash = hash.map_or(SHA1, |hash| hash.oid);
    let mask = match mask {
        None => SHA1,
        Some(mask) if mask.oid == MGF1 => hash_inside(&mask)?,
        Some(mask) => {
            return Err(KeyTransportFault::Mask {
                hash: name_of(&hash),
                mask: name_of(&mask.oid),
            });
        }
    };
    if hash != mask {
        return Err(KeyTransportFault::Mask {
            hash: name_of(&hash),
            mask: name_of(&mask),
        });
    }
    if !label.is_none_or(|label| is_empty_label(&label)) {
        return Err(KeyTransportFault::Label);
    }
    if hash == SHA1 {
        Ok(Padding::OaepSha1)
    } else if hash == SHA256 {
        Ok(Padding::OaepSha256)
    } else {
        Err(KeyTransportFault::Hash {
            found: name_of(&hash),
        })
    }
}

fn hash_inside(mask: &AlgorithmIdentifierOwned) -> Result<ObjectIdentifier, KeyTransportFault> {
    let inner = mask.parameters.as_ref().and_then(|any| any.to_der().ok());
    inner
        .and_then(|der| AlgorithmIdentifierOwned::from_der(&der).ok())
        .map(|hash| hash.oid)
        .ok_or(KeyTransportFault::Parameters)
}

fn is_empty_label(source: &AlgorithmIdentifierOwned) -> bool {
    let label = source.parameters.as_ref();
    let label = label.and_then(|any| any.decode_as::<&OctetStringRef>().ok());
    source.oid == P_SPECIFIED && label.is_some_and(|label| label.as_bytes().is_empty())
}

/// The AlgorithmIdentifier to seal with, or nothing for PKCS#1 v1.5, which is not sealed with.
/// SHA-1 is written as DER asks for defaults: left out, an empty SEQUENCE remaining.
pub(super) fn algorithm_for(
    padding: Padding,
) -> Result<Option<AlgorithmIdentifierOwned>, der::Error> {
    let parameters = match padding {
        Padding::Pkcs1V15 => return Ok(None),
        Padding::OaepSha1 => OaepParameters::default(),
        Padding::OaepSha256 => {
            let sha256 = AlgorithmIdentifierOwned {
                oid: SHA256,
                parameters: Some(Any::from(AnyRef::from(Null))),
            };
            OaepParameters {
                mask: Some(AlgorithmIdentifierOwned {
                    oid: MGF1,
                    parameters: Some(Any::encode_from(&sha256)?),
                }),
                hash: Some(sha256),
                label: None,
            }
        }
    };
    Ok(Some(AlgorithmIdentifierOwned {
        oid: RSAES_OAEP,
        parameters: Some(Any::encode_from(&parameters)?),
    }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn plain(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned {
            oid,
            parameters: None,
        }
    }

    fn with(oid: ObjectIdentifier, inside: &AlgorithmIdentifierOwned) -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned {
            oid,
            parameters: Some(Any::encode_from(inside).unwrap()),
        }
    }

    fn label(bytes: &[u8]) -> AlgorithmIdentifierOwned {
        let octets = der::asn1::OctetString::new(bytes).unwrap();
        AlgorithmIdentifierOwned {
            oid: P_SPECIFIED,
            parameters: Some(Any::encode_from(&octets).unwrap()),
        }
    }

    #[test]
    fn parameters_are_read_as_rfc_4055_has_them() {
        use KeyTransportFault as F;
        let sha512 = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
        let mgf = |hash| Some(with(MGF1, &plain(hash)));
        let differ = |hash: &str, mask: &str| {
            Err(F::Mask {
                hash: hash.to_owned(),
                mask: mask.to_owned(),
            })
        };
        let cases = [
            (None, None, None, Ok(Padding::OaepSha1)),
            (
                Some(SHA1),
                mgf(SHA1),
                Some(label(b"")),
                Ok(Padding::OaepSha1),
            ),
            (Some(SHA256), mgf(SHA256), None, Ok(Padding::OaepSha256)),
            (Some(SHA256), None, None, differ("sha256", "sha1")),
            (None, mgf(SHA256), None, differ("sha1", "sha256")),
            (None, Some(plain(SHA1)), None, differ("sha1", "sha1")),
            (None, Some(plain(MGF1)), None, Err(F::Parameters)),
            (
                Some(sha512),
                mgf(sha512),
                None,
                Err(F::Hash {
                    found: "sha512".to_owned(),
                }),
            ),
            (None, None, Some(label(b"x")), Err(F::Label)),
        ];
        for (hash, mask, label, verdict) in cases {
            let parameters = OaepParameters {
                hash: hash.map(plain),
                mask,
                label,
            };
            let algorithm = AlgorithmIdentifierOwned {
                oid: RSAES_OAEP,
                parameters: Some(Any::encode_from(&parameters).unwrap()),
            };
            assert_eq!(padding_of(&algorithm), verdict);
        }
        assert_eq!(padding_of(&plain(RSAES_OAEP)), Err(F::Parameters));
        assert_eq!(padding_of(&plain(RSA_ENCRYPTION)), Ok(Padding::Pkcs1V15));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for padding in [Padding::OaepSha1, Padding::OaepSha256] {
            let algorithm = algorithm_for(padding).unwrap().unwrap();
            assert_eq!(padding_of(&algorithm), Ok(padding));
        }
        assert!(algorithm_for(Padding::Pkcs1V15).unwrap().is_none());
    }
}
