//! Public keys outside the HSM: RSA keys that wrap DEKs and P-256 keys that verify what the HSM
//! signed. Private keys never come here. All arithmetic is AWS-LC's.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey,
    Pkcs1PublicEncryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{self, UnparsedPublicKey};

use crate::types::{Padding, SPKI_LEN_MAX, WrappedDek};

/// Why a public key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not a DER `SubjectPublicKeyInfo` with an RSA key.
    #[error("this is not a DER SubjectPublicKeyInfo with an RSA key of 2048 to 8192 bits")]
    NotRsa,
    /// Longer than any key kekd accepts.
    #[error("a public key may have {SPKI_LEN_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// The value is too long for the key.
    #[error("a value of {0} bytes cannot be wrapped under this key")]
    ValueTooLong(usize),
    /// A signature that does not verify.
    #[error("the signature does not verify under the pinned public key")]
    BadSignature,
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    Randomness,
}

/// An RSA public key that wraps DEKs.
#[derive(Clone)]
pub struct RsaPublicKey(PublicEncryptingKey);

impl RsaPublicKey {
    /// From a DER `SubjectPublicKeyInfo` (RFC 5280 section 4.1), 2048 to 8192 bits.
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        if spki.len() > SPKI_LEN_MAX {
            return Err(PublicKeyError::TooLong(spki.len()));
        }
        PublicEncryptingKey::from_der(spki)
            .map(Self)
            .map_err(|_| PublicKeyError::NotRsa)
    }

    /// Length of the modulus in bits.
    pub fn modulus_bits(&self) -> u32 {
        u32::try_from(self.0.key_size_bits()).unwrap_or(u32::MAX)
    }

    /// Wraps a value of at most 214 bytes: RFC 8017, section 7.1.1 or 7.2.1. The answer is as long as
    /// the modulus.
    pub fn wrap(&self, padding: Padding, value: &[u8]) -> Result<WrappedDek, PublicKeyError> {
        let too_long = |_| PublicKeyError::ValueTooLong(value.len());
        let mut wrapped = vec![0; self.0.key_size_bytes()];
        let length = match padding {
            Padding::OaepSha1 => self.oaep(&OAEP_SHA1_MGF1SHA1, value, &mut wrapped)?,
            Padding::OaepSha256 => self.oaep(&OAEP_SHA256_MGF1SHA256, value, &mut wrapped)?,
            Padding::Pkcs1V15 => Pkcs1PublicEncryptingKey::new(self.0.clone())
                .and_then(|key| key.encrypt(value, &mut wrapped).map(|bytes| bytes.len()))
                .map_err(too_long)?,
        };
        wrapped.truncate(length);
        WrappedDek::try_from(wrapped).map_err(|_| PublicKeyError::NotRsa)
    }

    fn oaep(
        &self,
        algorithm: &'static OaepAlgorithm,
        value: &[u8],
        wrapped: &mut [u8],
    ) -> Result<usize, PublicKeyError> {
        OaepPublicEncryptingKey::new(self.0.clone())
            .and_then(|key| {
                key.encrypt(algorithm, value, wrapped, None)
                    .map(|bytes| bytes.len())
            })
            .map_err(|_| PublicKeyError::ValueTooLong(value.len()))
    }

    /// The key as DER `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> Result<Vec<u8>, PublicKeyError> {
        let der: PublicKeyX509Der<'_> = self.0.as_der().map_err(|_| PublicKeyError::NotRsa)?;
        Ok(der.as_ref().to_vec())
    }
}

/// Verifies a raw ECDSA signature (r || s, 64 bytes) over a message whose SHA-256 was signed. `point` is
/// the uncompressed point of the P-256 key, 65 bytes (SEC 1 section 2.3.3).
pub fn verify_p256(point: &[u8], message: &[u8], raw: &[u8]) -> Result<(), PublicKeyError> {
    UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
        .verify(message, raw)
        .map_err(|_| PublicKeyError::BadSignature)
}
