//! Public keys between PKCS#11 attributes and DER `SubjectPublicKeyInfo` (RFC 5280 section
//! 4.1.2.7, RFC 3279 section 2.3.1, RFC 5480 section 2.1). No private key is touched.

use aws_lc_rs::rsa::PublicEncryptingKey;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode, Encode, Sequence};
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::error::JobError;
use super::key;
use crate::types::SPKI_LEN_MAX;

/// `rsaEncryption`, RFC 8017 appendix C.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-ecPublicKey`, RFC 5480 section 2.1.1.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `prime256v1`, RFC 5480 section 2.1.1.1.
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// Bytes of an uncompressed P-256 point (SEC 1 section 2.3.3).
const P256_POINT_LEN: usize = 65;

/// RFC 8017 appendix A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

/// A recipient's RSA public key, as PKCS#11 wants it: big endian, without leading zeros.
pub(super) struct RecipientKey {
    pub(super) modulus: Vec<u8>,
    pub(super) public_exponent: Vec<u8>,
}

/// Takes a recipient's DER `SubjectPublicKeyInfo`: RSA, 2048 to 4096 bits.
pub(super) fn recipient(spki: &[u8]) -> Result<RecipientKey, JobError> {
    let refused = |why: &str| JobError::bad_request(format!("the recipient's public key {why}"));
    if spki.len() > SPKI_LEN_MAX {
        return Err(refused("is longer than that of RSA-4096"));
    }
    let info = SubjectPublicKeyInfoRef::from_der(spki)
        .map_err(|_| refused("is not a DER SubjectPublicKeyInfo"))?;
    if info.algorithm.oid != RSA_ENCRYPTION {
        return Err(refused("is not an RSA key"));
    }
    let key = info
        .subject_public_key
        .as_bytes()
        .and_then(|bits| RsaPublicKey::from_der(bits).ok())
        .ok_or_else(|| refused("is not an RSAPublicKey (RFC 8017 appendix A.1.1)"))?;
    // The library refuses even moduli and absurd exponents, which a token may not.
    let bits = PublicEncryptingKey::from_der(spki)
        .map_err(|_| refused("is not a sound RSA key"))?
        .key_size_bits();
    if !(2048..=4096).contains(&bits) {
        return Err(refused("must have 2048 to 4096 bits"));
    }
    Ok(RecipientKey {
        modulus: key.modulus.as_bytes().to_vec(),
        public_exponent: key.public_exponent.as_bytes().to_vec(),
    })
}

/// The public key of an RSA object; `None` where the object does not show it.
pub(super) fn rsa(session: &Session, object: ObjectHandle) -> Result<Option<Vec<u8>>, JobError> {
    let modulus = match key::attribute(session, object, AttributeType::Modulus)? {
        Some(Attribute::Modulus(modulus)) if !modulus.is_empty() => modulus,
        Some(_) | None => return Ok(None),
    };
    let exponent = match key::attribute(session, object, AttributeType::PublicExponent)? {
        Some(Attribute::PublicExponent(exponent)) if !exponent.is_empty() => exponent,
        Some(_) | None => return Ok(None),
    };
    rsa_spki(&modulus, &exponent).map(Some).map_err(unencodable)
}

/// The public key of a P-256 public key object; `None` where it is of another curve or form.
pub(super) fn ec_p256(
    session: &Session,
    public: ObjectHandle,
) -> Result<Option<Vec<u8>>, JobError> {
    let params = match key::attribute(session, public, AttributeType::EcParams)? {
        Some(Attribute::EcParams(params)) => params,
        Some(_) | None => return Ok(None),
    };
    if ObjectIdentifier::from_der(&params) != Ok(PRIME256V1) {
        return Ok(None);
    }
    let point = match key::attribute(session, public, AttributeType::EcPoint)? {
        Some(Attribute::EcPoint(point)) => point,
        Some(_) | None => return Ok(None),
    };
    // PKCS#11 v2.40 wants the point as a DER OCTET STRING; some tokens give it bare.
    let point = match <&OctetStringRef>::from_der(&point) {
        Ok(inner) => inner.as_bytes(),
        Err(_) => point.as_slice(),
    };
    if point.len() != P256_POINT_LEN || point.first() != Some(&4) {
        return Ok(None);
    }
    p256_spki(point).map(Some).map_err(unencodable)
}

/// `CKA_EC_PARAMS` of P-256: the curve's OID in DER.
pub(super) fn p256_params() -> Result<Vec<u8>, JobError> {
    PRIME256V1.to_der().map_err(unencodable)
}

fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> der::Result<Vec<u8>> {
    let key = RsaPublicKey {
        modulus: UintRef::new(modulus)?,
        public_exponent: UintRef::new(exponent)?,
    };
    let key = key.to_der()?;
    SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef {
            oid: RSA_ENCRYPTION,
            parameters: Some(AnyRef::NULL),
        },
        subject_public_key: BitStringRef::from_bytes(&key)?,
    }
    .to_der()
}

fn p256_spki(point: &[u8]) -> der::Result<Vec<u8>> {
    SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef {
            oid: EC_PUBLIC_KEY,
            parameters: Some(AnyRef::from(&PRIME256V1)),
        },
        subject_public_key: BitStringRef::from_bytes(point)?,
    }
    .to_der()
}

fn unencodable(error: der::Error) -> JobError {
    JobError::link_lost(format!("the token's public key makes no sense: {error}"))
}
