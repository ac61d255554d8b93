//! Who signs a certificate, as far as the builder asks, and whether the signature is the signer's.
//! Nothing is signed here.

use der::asn1::{Any, ObjectIdentifier};
use x509_cert::spki::{
    self, AlgorithmIdentifierOwned, Document, DynSignatureAlgorithmIdentifier, EncodePublicKey,
};

use super::CertificateError;
use crate::public_key::{P256_SIGNATURE_LEN, P256PublicKey, PublicKeyError, RsaPublicKey};

/// ecdsa-with-SHA256, RFC 5758 section 3.2; its parameters are absent.
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// sha256WithRSAEncryption, RFC 4055 section 5; its parameters are NULL.
const RSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");

/// Who signs.
pub(super) enum Signer {
    /// The issuing key, with ecdsa-with-SHA256.
    Issuing(P256PublicKey),
    /// The KEK itself, with sha256WithRSAEncryption.
    Kek(RsaPublicKey),
}

impl Signer {
    /// `AlgorithmIdentifier` as it stands in the certificate.
    pub(super) fn algorithm(&self) -> AlgorithmIdentifierOwned {
        match self {
            Self::Issuing(_) => AlgorithmIdentifierOwned {
                oid: ECDSA_WITH_SHA256,
                parameters: None,
            },
            Self::Kek(_) => AlgorithmIdentifierOwned {
                oid: RSA_WITH_SHA256,
                parameters: Some(Any::null()),
            },
        }
    }

    /// The signature as it stands in the certificate, once it verifies.
    pub(super) fn verified(&self, tbs: &[u8], raw: &[u8]) -> Result<Vec<u8>, CertificateError> {
        let verified = match self {
            Self::Issuing(key) => key.verify_raw(tbs, raw),
            Self::Kek(key) => key.verify(tbs, raw).map(|()| raw.to_vec()),
        };
        verified.map_err(|error| {
            if let PublicKeyError::SignatureLength { found_len } = error {
                return CertificateError::SignatureLength {
                    expected: P256_SIGNATURE_LEN,
                    found: found_len,
                };
            }
            CertificateError::SignatureWrong
        })
    }
}

/// The public half of a [`Signer`], DER `SubjectPublicKeyInfo`.
#[derive(Clone)]
pub(super) struct SignerKey(Vec<u8>);

impl signature::Keypair for Signer {
    type VerifyingKey = SignerKey;

    fn verifying_key(&self) -> SignerKey {
        let spki = match self {
            Self::Issuing(key) => key.spki(),
            Self::Kek(key) => key.spki(),
        };
        SignerKey(spki.to_vec())
    }
}

impl EncodePublicKey for SignerKey {
    fn to_public_key_der(&self) -> spki::Result<Document> {
        Ok(Document::try_from(self.0.as_slice())?)
    }
}

impl DynSignatureAlgorithmIdentifier for Signer {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        Ok(self.algorithm())
    }
}
