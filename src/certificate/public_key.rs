//! A public key in the forms its users ask for: PEM, PKCS#1 DER and JWK, all from the DER
//! `SubjectPublicKeyInfo` that the ledger holds. Nothing private passes through here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use der::asn1::{ObjectIdentifier, UintRef};
use der::pem::LineEnding;
use der::{Decode as _, Sequence};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::CertificateError;

/// rsaEncryption, RFC 8017 appendix A.1.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-ecPublicKey, RFC 5480 section 2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp256r1, that is P-256, RFC 5480 section 2.1.1.1.
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// `RSAPublicKey`, RFC 8017 appendix A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

/// PEM text with the label `PUBLIC KEY` (RFC 7468 section 13), 64 columns, a line feed at the end.
pub fn spki_pem(spki: &[u8]) -> Result<String, CertificateError> {
    // Parsed, so that nothing but a public key gets this label.
    SubjectPublicKeyInfoRef::from_der(spki)?;
    let pem = der::pem::encode_string("PUBLIC KEY", LineEnding::LF, spki);
    pem.map_err(|source| CertificateError::Asn1(source.into()))
}

/// DER `RSAPublicKey` (RFC 8017 appendix A.1.1). For RSA-3072 and the exponent 65537 these are 398
/// bytes that begin `30 82 01 8a 02 82 01 81`.
pub fn pkcs1_der(spki: &[u8]) -> Result<Vec<u8>, CertificateError> {
    Ok(rsa_bytes(spki)?.to_vec())
}

/// A JSON Web Key (RFC 7517; RFC 7518 section 6.3.1) for encryption, with this key id.
pub fn jwk(spki: &[u8], kid: &str) -> Result<serde_json::Value, CertificateError> {
    let key = RsaPublicKey::from_der(rsa_bytes(spki)?)?;
    Ok(serde_json::json!({
        "kty": "RSA",
        "use": "enc",
        "kid": kid,
        "n": URL_SAFE_NO_PAD.encode(key.modulus.as_bytes()),
        "e": URL_SAFE_NO_PAD.encode(key.public_exponent.as_bytes()),
    }))
}

/// Refuses what is not an RSA key.
pub(super) fn require_rsa(spki: &[u8]) -> Result<(), CertificateError> {
    rsa_bytes(spki).map(|_| ())
}

/// Refuses what is not a P-256 key. `what` says whose key it is.
pub(super) fn require_p256(what: &'static str, spki: &[u8]) -> Result<(), CertificateError> {
    let parsed = SubjectPublicKeyInfoRef::from_der(spki)?;
    let curve = parsed.algorithm.parameters_oid();
    if parsed.algorithm.oid == EC && curve == Ok(P256) {
        return Ok(());
    }
    Err(CertificateError::PublicKey {
        what,
        expected: "an EC key on P-256",
    })
}

fn rsa_bytes(spki: &[u8]) -> Result<&[u8], CertificateError> {
    let not_rsa = CertificateError::PublicKey {
        what: "the KEK's key",
        expected: "an RSA key",
    };
    let parsed = SubjectPublicKeyInfoRef::from_der(spki)?;
    if parsed.algorithm.oid != RSA {
        return Err(not_rsa);
    }
    let bytes = parsed.subject_public_key.as_bytes().ok_or(not_rsa)?;
    RsaPublicKey::from_der(bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn spki() -> Vec<u8> {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap();
        let spki: aws_lc_rs::encoding::PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        spki.as_ref().to_vec()
    }

    #[test]
    fn pkcs1_is_as_lkm_expects_it() {
        let der = pkcs1_der(&spki()).unwrap();
        assert_eq!(der.len(), 398);
        assert!(der.starts_with(&[0x30, 0x82, 0x01, 0x8a, 0x02, 0x82, 0x01, 0x81]));
        assert!(STANDARD.encode(&der).starts_with("MIIBigKCAYEA"));
    }

    #[test]
    fn a_jwk_has_the_numbers_of_the_key() {
        let spki = spki();
        let jwk = jwk(&spki, "6f9619ff-8b86-4011-b42d-00cf4fc964ff").unwrap();
        assert_eq!(jwk["kty"], "RSA");
        assert_eq!(jwk["use"], "enc");
        assert_eq!(jwk["kid"], "6f9619ff-8b86-4011-b42d-00cf4fc964ff");
        assert_eq!(jwk["e"], "AQAB");
        let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
        assert_eq!(n.len(), 384, "no leading zero (RFC 7518 section 6.3.1.1)");
        assert_eq!(n, pkcs1_der(&spki).unwrap()[9..393]);
    }

    #[test]
    fn what_is_no_rsa_key_is_refused() {
        for bytes in [&[][..], &[0x30, 0x00], b"-----BEGIN PUBLIC KEY-----"] {
            assert!(spki_pem(bytes).is_err());
            assert!(pkcs1_der(bytes).is_err());
            assert!(jwk(bytes, "k").is_err());
        }
        let mut long = spki();
        long.push(0);
        assert!(spki_pem(&long).is_err(), "trailing bytes");
        assert!(require_p256("a key", &spki()).is_err());
    }
}
