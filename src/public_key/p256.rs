//! P-256 public keys and the two forms of their signatures: raw r || s as PKCS#11 gives them, and
//! DER as certificates and checkpoints carry them.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use der::asn1::UintRef;
use der::{Encode as _, Sequence};

use super::PublicKeyError;

/// Bytes of a raw ECDSA P-256 signature: r and s, 32 bytes each, big-endian (PKCS#11 v3.0 section
/// 2.3.1).
pub const P256_SIGNATURE_LEN: usize = 64;
/// Bytes of an uncompressed point (SEC 1 section 2.3.3).
const POINT_LEN: usize = 65;
/// DER of every P-256 `SubjectPublicKeyInfo` up to the point (RFC 5480 section 2.1.1): id-ecPublicKey,
/// secp256r1, BIT STRING of 66 bytes without unused bits.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// First byte of an uncompressed point.
const UNCOMPRESSED: u8 = 0x04;

/// A P-256 public key, its point on the curve.
#[derive(Debug, Clone)]
pub struct P256PublicKey {
    spki: Vec<u8>,
    key: ParsedPublicKey,
}

impl P256PublicKey {
    /// From a DER `SubjectPublicKeyInfo`, 91 bytes: an uncompressed point that is on the curve. There
    /// is one such encoding of each key.
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        let refused = PublicKeyError::NotP256 {
            found_len: spki.len(),
        };
        let is_uncompressed = match spki.strip_prefix(&SPKI_PREFIX) {
            Some(point) => point.len() == POINT_LEN && point.first() == Some(&UNCOMPRESSED),
            None => false,
        };
        match ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki) {
            Ok(key) if is_uncompressed => Ok(Self {
                spki: spki.to_vec(),
                key,
            }),
            Ok(_) | Err(_) => Err(refused),
        }
    }

    /// From an uncompressed point, 65 bytes (SEC 1 section 2.3.3).
    pub fn from_point(point: &[u8]) -> Result<Self, PublicKeyError> {
        Self::from_spki(&[&SPKI_PREFIX, point].concat())
    }

    /// The DER `SubjectPublicKeyInfo`, 91 bytes.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The uncompressed point, 65 bytes (SEC 1 section 2.3.3).
    pub fn point(&self) -> &[u8] {
        self.spki.strip_prefix(&SPKI_PREFIX).unwrap_or_default()
    }

    /// Verifies an `ECDSA-Sig-Value` (RFC 3279 section 2.2.3) over a message, hashed with SHA-256.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), PublicKeyError> {
        self.key
            .verify_sig(message, signature)
            .map_err(|_| PublicKeyError::SignatureWrong)
    }

    /// Verifies a raw signature, 64 bytes, and gives it as `ECDSA-Sig-Value`.
    pub fn verify_raw(&self, message: &[u8], raw: &[u8]) -> Result<Vec<u8>, PublicKeyError> {
        let signature = signature_der(raw)?;
        self.verify(message, &signature)?;
        Ok(signature)
    }
}

#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// r and s, 64 bytes, as `ECDSA-Sig-Value` (RFC 3279 section 2.2.3). Nothing is verified.
fn signature_der(raw: &[u8]) -> Result<Vec<u8>, PublicKeyError> {
    if raw.len() != P256_SIGNATURE_LEN {
        return Err(PublicKeyError::SignatureLength {
            found_len: raw.len(),
        });
    }
    let (r, s) = raw.split_at(P256_SIGNATURE_LEN / 2);
    let (r, s) = (UintRef::new(r)?, UintRef::new(s)?);
    Ok(EcdsaSignature { r, s }.to_der()?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    };

    use super::*;

    fn pair() -> (EcdsaKeyPair, P256PublicKey) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let key = P256PublicKey::from_point(pair.public_key().as_ref()).unwrap();
        (pair, key)
    }

    #[test]
    fn a_key_has_one_form() {
        let (pair, key) = pair();
        let der = pair.public_key().as_der().unwrap();
        assert_eq!(key.spki(), der.as_ref());
        assert_eq!(key.point(), pair.public_key().as_ref());
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        let mut off_curve = key.spki().to_vec();
        *off_curve.last_mut().unwrap() ^= 1;
        for bad in [
            vec![],
            key.point().to_vec(),
            p384.public_key().as_der().unwrap().as_ref().to_vec(),
            off_curve,
            [key.spki(), &[0]].concat(),
        ] {
            let found_len = bad.len();
            let refused = P256PublicKey::from_spki(&bad).unwrap_err();
            assert_eq!(refused, PublicKeyError::NotP256 { found_len });
        }
    }

    #[test]
    fn signatures_verify_raw_and_in_der() {
        // Many, so that integers of every length pass through the DER form.
        let (pair, key) = pair();
        for _ in 0..600 {
            let raw = pair.sign(&SystemRandom::new(), b"message").unwrap();
            let signature = key.verify_raw(b"message", raw.as_ref()).unwrap();
            assert_eq!(key.verify(b"message", &signature), Ok(()));
            let wrong = Err(PublicKeyError::SignatureWrong);
            assert_eq!(key.verify(b"massage", &signature), wrong);
        }
        assert!(key.verify_raw(b"message", &[0; 64]).is_err());
        for found_len in [0, 63, 65, 128] {
            let refused = key.verify_raw(b"message", &vec![1; found_len]);
            assert_eq!(refused, Err(PublicKeyError::SignatureLength { found_len }));
        }
    }
}
