//! Public keys between PKCS#11 attributes and DER `SubjectPublicKeyInfo`. No private key is
//! touched.

use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;
use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode};

use super::error::JobError;
use super::key;
use crate::public_key::{P256PublicKey, rsa_spki};

/// `prime256v1`, RFC 5480 section 2.1.1.1.
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

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
    let spki = rsa_spki(&modulus, &exponent);
    spki.map(Some).map_err(senseless)
}

/// The public key of a P-256 public key object; `None` where it is of another curve or form.
pub(super) fn ec_p256(
    session: &Session,
    public: ObjectHandle,
) -> Result<Option<P256PublicKey>, JobError> {
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
    Ok(P256PublicKey::from_point(point).ok())
}

/// `CKA_EC_PARAMS` of P-256: the curve's OID in DER.
pub(super) fn p256_params() -> Result<Vec<u8>, JobError> {
    PRIME256V1.to_der().map_err(senseless)
}

fn senseless(error: impl std::fmt::Display) -> JobError {
    JobError::link_lost(format!("the token's public key makes no sense: {error}"))
}
