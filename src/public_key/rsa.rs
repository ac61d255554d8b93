//! RSA public keys: read, wrapped under, verified with, and written in the forms their users ask
//! for. Nothing private passes through here.

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey,
    PublicEncryptingKey,
};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::pem::LineEnding;
use der::{Decode as _, Encode as _, Sequence};
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::PublicKeyError;
use crate::types::{Padding, SPKI_LEN_MAX, WrappedDek};

/// rsaEncryption, RFC 8017 appendix A.1.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// Sizes of moduli accepted anywhere, in bits.
const MODULUS_BITS: std::ops::RangeInclusive<u32> = 2048..=4096;

/// `RSAPublicKey`, RFC 8017 appendix A.1.1.
#[derive(Sequence)]
struct Numbers<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

/// An RSA public key of 2048 to 4096 bits.
#[derive(Clone)]
pub struct RsaPublicKey {
    spki: Vec<u8>,
    pkcs1: Vec<u8>,
    modulus: Vec<u8>,
    public_exponent: Vec<u8>,
    modulus_bits: u32,
    key: PublicEncryptingKey,
}

impl RsaPublicKey {
    /// From a DER `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7) of at most 1024 bytes.
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        if spki.len() > SPKI_LEN_MAX {
            return Err(PublicKeyError::TooLong {
                found_len: spki.len(),
            });
        }
        let not_spki = |_| PublicKeyError::NotSpki;
        let parsed = SubjectPublicKeyInfoRef::from_der(spki).map_err(not_spki)?;
        if parsed.algorithm.oid != RSA_ENCRYPTION {
            return Err(PublicKeyError::NotRsa {
                found: parsed.algorithm.oid,
            });
        }
        let bits = parsed.subject_public_key.as_bytes();
        let pkcs1 = bits.ok_or(PublicKeyError::NotSpki)?;
        let numbers = Numbers::from_der(pkcs1).map_err(not_spki)?;
        let modulus = numbers.modulus.as_bytes();
        let modulus_bits = bit_len(modulus);
        if !MODULUS_BITS.contains(&modulus_bits) {
            return Err(PublicKeyError::RsaSize {
                found_bits: modulus_bits,
            });
        }
        // AWS-LC refuses even moduli and absurd exponents, which a token may not.
        let key = PublicEncryptingKey::from_der(spki).map_err(|_| PublicKeyError::Unsound)?;
        Ok(Self {
            spki: spki.to_vec(),
            pkcs1: pkcs1.to_vec(),
            modulus: modulus.to_vec(),
            public_exponent: numbers.public_exponent.as_bytes().to_vec(),
            modulus_bits,
            key,
        })
    }

    /// The DER `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// PEM text with the label `PUBLIC KEY` (RFC 7468 section 13), 64 columns, a line feed at the end.
    pub fn spki_pem(&self) -> Result<String, PublicKeyError> {
        der::pem::encode_string("PUBLIC KEY", LineEnding::LF, &self.spki)
            .map_err(|source| PublicKeyError::NotWritten(source.into()))
    }

    /// DER `RSAPublicKey` (RFC 8017 appendix A.1.1). For RSA-3072 and the exponent 65537 these are
    /// 398 bytes that begin `30 82 01 8a 02 82 01 81`.
    pub fn pkcs1_der(&self) -> &[u8] {
        &self.pkcs1
    }

    /// A JSON Web Key (RFC 7517; RFC 7518 section 6.3.1) for encryption, with this key id.
    pub fn jwk(&self, kid: &str) -> serde_json::Value {
        serde_json::json!({
            "kty": "RSA",
            "use": "enc",
            "kid": kid,
            "n": URL_SAFE_NO_PAD.encode(&self.modulus),
            "e": URL_SAFE_NO_PAD.encode(&self.public_exponent),
        })
    }

    /// The modulus, big-endian without zeros in front.
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// Length of the modulus in bits: 2048 to 4096.
    pub const fn modulus_bits(&self) -> u32 {
        self.modulus_bits
    }

    /// The public exponent, big-endian without zeros in front.
    pub fn public_exponent(&self) -> &[u8] {
        &self.public_exponent
    }

    /// Wraps a value as RFC 8017 section 7.1.1 or 7.2.1 has it, OAEP with the empty label. The answer
    /// is as long as the modulus.
    pub fn wrap(&self, padding: Padding, value: &[u8]) -> Result<WrappedDek, PublicKeyError> {
        self.encrypt(padding, value, None)
    }

    /// As [`Self::wrap`], with OAEP under a label.
    pub fn wrap_labelled(
        &self,
        padding: Padding,
        value: &[u8],
        label: &[u8],
    ) -> Result<WrappedDek, PublicKeyError> {
        self.encrypt(padding, value, Some(label))
    }

    fn encrypt(
        &self,
        padding: Padding,
        value: &[u8],
        label: Option<&[u8]>,
    ) -> Result<WrappedDek, PublicKeyError> {
        let mut wrapped = vec![0; self.key.key_size_bytes()];
        let oaep = match padding {
            Padding::OaepSha1 => Some(&OAEP_SHA1_MGF1SHA1),
            Padding::OaepSha256 => Some(&OAEP_SHA256_MGF1SHA256),
            Padding::Pkcs1V15 if label.is_some() => return Err(PublicKeyError::NoLabel),
            Padding::Pkcs1V15 => None,
        };
        let encrypted = match oaep {
            Some(oaep) => OaepPublicEncryptingKey::new(self.key.clone())
                .and_then(|key| key.encrypt(oaep, value, &mut wrapped, label).map(|_| ())),
            None => Pkcs1PublicEncryptingKey::new(self.key.clone())
                .and_then(|key| key.encrypt(value, &mut wrapped).map(|_| ())),
        };
        encrypted.map_err(|_| PublicKeyError::ValueTooLong(value.len()))?;
        WrappedDek::try_from(wrapped).map_err(|_| PublicKeyError::Unsound)
    }

    /// Verifies RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2.2).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), PublicKeyError> {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.pkcs1)
            .verify(message, signature)
            .map_err(|_| PublicKeyError::SignatureWrong)
    }
}

/// The DER `SubjectPublicKeyInfo` of these numbers, big-endian: what a token shows. Whether they make
/// an RSA key is not looked at, because keys are compared by this form before anything else.
pub fn rsa_spki(modulus: &[u8], public_exponent: &[u8]) -> Result<Vec<u8>, PublicKeyError> {
    let numbers = Numbers {
        modulus: UintRef::new(modulus)?,
        public_exponent: UintRef::new(public_exponent)?,
    };
    let pkcs1 = numbers.to_der()?;
    let spki = SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef {
            oid: RSA_ENCRYPTION,
            parameters: Some(AnyRef::NULL),
        },
        subject_public_key: BitStringRef::from_bytes(&pkcs1)?,
    };
    Ok(spki.to_der()?)
}

fn bit_len(big_endian: &[u8]) -> u32 {
    let unused = big_endian.first().map_or(0, |byte| byte.leading_zeros());
    let bytes = u32::try_from(big_endian.len()).unwrap_or(u32::MAX);
    bytes.saturating_mul(8).saturating_sub(unused)
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
mod tests {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
    use base64::engine::general_purpose::STANDARD;
    use rcgen::PublicKeyData as _;

    use super::*;

    fn key() -> RsaPublicKey {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap();
        let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        RsaPublicKey::from_spki(spki.as_ref()).unwrap()
    }

    #[test]
    fn a_key_is_written_as_it_was_read() {
        let key = key();
        assert_eq!(key.modulus_bits(), 3072);
        assert_eq!(key.public_exponent(), [1, 0, 1]);
        let written = rsa_spki(key.modulus(), key.public_exponent());
        assert_eq!(written.unwrap(), key.spki());
        // Tokens pad numbers with zeros, or do not.
        let padded = [&[0], key.modulus()].concat();
        assert_eq!(rsa_spki(&padded, &[0, 1, 0, 1]).unwrap(), key.spki());
    }

    #[test]
    fn pkcs1_is_as_lkm_expects_it() {
        let key = key();
        let der = key.pkcs1_der();
        assert_eq!(der.len(), 398);
        assert!(der.starts_with(&[0x30, 0x82, 0x01, 0x8a, 0x02, 0x82, 0x01, 0x81]));
        assert!(STANDARD.encode(der).starts_with("MIIBigKCAYEA"));
    }

    #[test]
    fn a_jwk_has_the_numbers_of_the_key() {
        let key = key();
        let jwk = key.jwk("6f9619ff-8b86-4011-b42d-00cf4fc964ff");
        assert_eq!(jwk["kty"], "RSA");
        assert_eq!(jwk["use"], "enc");
        assert_eq!(jwk["kid"], "6f9619ff-8b86-4011-b42d-00cf4fc964ff");
        assert_eq!(jwk["e"], "AQAB");
        let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
        assert_eq!(n.len(), 384, "no leading zero (RFC 7518 section 6.3.1.1)");
        assert_eq!(n, key.pkcs1_der()[9..393]);
    }

    #[test]
    fn what_is_no_rsa_key_of_an_accepted_size_is_refused() {
        use PublicKeyError as E;
        let refused = |spki: &[u8]| RsaPublicKey::from_spki(spki).err().unwrap();
        for bytes in [&[][..], &[0x30, 0x00], b"-----BEGIN PUBLIC KEY-----"] {
            assert_eq!(refused(bytes), E::NotSpki);
        }
        let good = key();
        assert_eq!(refused(&[good.spki(), &[0]].concat()), E::NotSpki);
        assert_eq!(refused(&[0x30; 1025]), E::TooLong { found_len: 1025 });
        let bits = |len| rsa_spki(&vec![0xff; len], &[1, 0, 1]).unwrap();
        assert_eq!(refused(&bits(255)), E::RsaSize { found_bits: 2040 });
        assert_eq!(refused(&bits(513)), E::RsaSize { found_bits: 4104 });
        let mut even = good.modulus().to_vec();
        *even.last_mut().unwrap() &= 0xfe;
        let even = rsa_spki(&even, good.public_exponent()).unwrap();
        assert_eq!(refused(&even), E::Unsound);
        let one = rsa_spki(good.modulus(), &[1]).unwrap();
        assert_eq!(refused(&one), E::Unsound);
        let p256 = rcgen::KeyPair::generate()
            .unwrap()
            .subject_public_key_info();
        let found = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
        assert_eq!(refused(&p256), E::NotRsa { found });
    }

    #[test]
    fn values_that_do_not_fit_are_not_wrapped() {
        let key = key();
        let wrapped = key.wrap(Padding::OaepSha1, &[1; 342]).unwrap();
        assert_eq!(wrapped.as_bytes().len(), 384);
        let too_long = PublicKeyError::ValueTooLong(343);
        assert_eq!(key.wrap(Padding::OaepSha1, &[1; 343]), Err(too_long));
        let labelled = key.wrap_labelled(Padding::Pkcs1V15, &[1; 32], b"label");
        assert_eq!(labelled, Err(PublicKeyError::NoLabel));
    }
}
