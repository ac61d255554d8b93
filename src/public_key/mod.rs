//! Public keys outside the HSM: RSA keys that DEKs are wrapped under, and P-256 keys that verify
//! what the HSM signed. The one place that reads and writes a `SubjectPublicKeyInfo`. Private keys
//! never come here. The arithmetic is AWS-LC's. The invariant: a key of these types is of an
//! accepted size, sound, and in its one DER form.

mod p256;
mod rsa;

use der::asn1::ObjectIdentifier;

pub use p256::{P256_SIGNATURE_LEN, P256PublicKey};
pub use rsa::{RsaPublicKey, rsa_spki};

use crate::types::SPKI_LEN_MAX;

/// What is wrong with a public key, a value or a signature. The same comes back on every try: it is
/// the fault of whoever made the key or the signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Longer than any key kekd accepts.
    #[error("a public key may have {SPKI_LEN_MAX} bytes, this one has {found_len}")]
    TooLong {
        /// Bytes found.
        found_len: usize,
    },
    /// Not a DER `SubjectPublicKeyInfo`, or not one around an `RSAPublicKey`.
    #[error("expected a DER SubjectPublicKeyInfo with an RSA key; found something else")]
    NotSpki,
    /// A key of another kind.
    #[error("expected an RSA key; found a key of the algorithm {found}")]
    NotRsa {
        /// The algorithm.
        found: ObjectIdentifier,
    },
    /// An RSA key that is too small or too large.
    #[error("expected an RSA key of 2048 to 4096 bits; found {found_bits} bits")]
    RsaSize {
        /// Length of the modulus found, in bits.
        found_bits: u32,
    },
    /// An even modulus, an absurd exponent, or parameters that are not NULL.
    #[error("the RSA key is unsound: nothing can be wrapped under it")]
    Unsound,
    /// Not a P-256 key in its one DER form.
    #[error(
        "expected a P-256 public key as DER SubjectPublicKeyInfo of 91 bytes with an uncompressed \
         point on the curve; found {found_len} bytes that are something else"
    )]
    NotP256 {
        /// Bytes found.
        found_len: usize,
    },
    /// The value is too long for the key.
    #[error("a value of {0} bytes cannot be wrapped under this key")]
    ValueTooLong(usize),
    /// A label where the padding has none.
    #[error("pkcs1-v1_5 has no label; only OAEP has")]
    NoLabel,
    /// A raw signature that is not r and s.
    #[error("a raw P-256 signature has {P256_SIGNATURE_LEN} bytes, this one has {found_len}")]
    SignatureLength {
        /// Bytes found.
        found_len: usize,
    },
    /// A signature that does not verify.
    #[error("the signature does not verify under the public key")]
    SignatureWrong,
    /// The key cannot be written.
    #[error("the public key cannot be written in DER or PEM")]
    NotWritten(#[from] der::Error),
}
