//! X.509 version 3 certificates (RFC 5280) for KEK versions and for the issuing key that signs
//! them. A certificate is made in two steps because the private key is in the HSM: the bytes to be
//! signed go out, the signature comes back. No HSM, files or clock here. The invariant: no
//! certificate leaves whose signature was not verified against its signer's public key. A token
//! with a damaged key answered OK with a wrong signature in 6 of 154 trials.

mod error;
mod public_key;
mod template;

use std::time::Duration;

use aws_lc_rs::signature;
use der::asn1::{AnyRef, BitStringRef, Ia5StringRef, PrintableStringRef, UintRef};
use der::{Decode as _, Encode as _, Sequence, Tag, Tagged as _};
use x509_cert::Certificate;
use x509_cert::builder::{Builder as _, CertificateBuilder};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

pub use error::CertificateError;
pub use public_key::{jwk, pkcs1_der, spki_pem};

use crate::clock::UnixMs;
use crate::types::Sha256;
use template::{Kind, Signer, Template};

const SECONDS_PER_DAY: u64 = 86_400;
/// Bytes of a raw ECDSA P-256 signature, r || s as PKCS#11 v3.0 section 2.3.1 has it.
const ECDSA_P256_LEN: usize = 64;

/// How a certificate is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignatureAlgorithm {
    /// ecdsa-with-SHA256 (RFC 5758 section 3.2) by a P-256 key.
    EcdsaSha256,
    /// sha256WithRSAEncryption (RFC 4055 section 5).
    RsaSha256,
}

/// A certificate that lacks its signature.
pub struct Unsigned {
    tbs: Vec<u8>,
    signer: Signer,
}

/// Key, times and number of a certificate that is to be made.
struct Body<'a> {
    spki: &'a [u8],
    not_before: UnixMs,
    valid_days: u32,
    serial: [u8; 16],
}

impl Unsigned {
    /// The certificate of the issuing key, signed by itself: CA, no further CA below it, keyCertSign
    /// and cRLSign. `subject` is a name as in RFC 4514 (`CN=kekd issuing,O=Example`), `spki` the DER
    /// `SubjectPublicKeyInfo` of a P-256 key, `serial` random bytes that are not all zero.
    /// Times are cut to seconds; the end is `valid_days` times 24 hours after `not_before`.
    pub fn issuing(
        subject: &str,
        spki: &[u8],
        not_before: UnixMs,
        valid_days: u32,
        serial: [u8; 16],
    ) -> Result<Self, CertificateError> {
        public_key::require_p256("the issuing key", spki)?;
        let body = Body {
            spki,
            not_before,
            valid_days,
            serial,
        };
        let template = Template::self_signed(name(subject)?, Kind::Issuing);
        let signer = Signer {
            spki: spki.to_vec(),
            algorithm: SignatureAlgorithm::EcdsaSha256,
        };
        Self::new(&body, template, signer, None)
    }

    /// The certificate of a KEK version, issued by the key of `issuer` (DER certificate, CA, P-256):
    /// not a CA, keyEncipherment alone. `spki` is that of an RSA key. It ends with the issuer's
    /// certificate at the latest, because it would not verify after that.
    pub fn kek(
        subject: &str,
        spki: &[u8],
        issuer: &[u8],
        not_before: UnixMs,
        valid_days: u32,
        serial: [u8; 16],
    ) -> Result<Self, CertificateError> {
        public_key::require_rsa(spki)?;
        let issuer = parse(issuer)?;
        let template = Template::issued(name(subject)?, &issuer)?;
        let issuer = issuer.tbs_certificate();
        let signer = Signer {
            spki: issuer.subject_public_key_info().to_der()?,
            algorithm: SignatureAlgorithm::EcdsaSha256,
        };
        public_key::require_p256("the issuer's key", &signer.spki)?;
        let body = Body {
            spki,
            not_before,
            valid_days,
            serial,
        };
        let end_max = issuer.validity().not_after.to_unix_duration();
        Self::new(&body, template, signer, Some(end_max))
    }

    /// The certificate of a KEK version signed by the KEK itself, for systems that take no other:
    /// not a CA, keyEncipherment alone. `spki` is that of an RSA key.
    pub fn kek_self_signed(
        subject: &str,
        spki: &[u8],
        not_before: UnixMs,
        valid_days: u32,
        serial: [u8; 16],
    ) -> Result<Self, CertificateError> {
        public_key::require_rsa(spki)?;
        let body = Body {
            spki,
            not_before,
            valid_days,
            serial,
        };
        let template = Template::self_signed(name(subject)?, Kind::Kek);
        let signer = Signer {
            spki: spki.to_vec(),
            algorithm: SignatureAlgorithm::RsaSha256,
        };
        Self::new(&body, template, signer, None)
    }

    fn new(
        body: &Body<'_>,
        template: Template,
        signer: Signer,
        end_max: Option<Duration>,
    ) -> Result<Self, CertificateError> {
        if body.serial == [0; 16] {
            return Err(CertificateError::SerialZero);
        }
        let mut builder = CertificateBuilder::new(
            template,
            SerialNumber::new(&body.serial)?,
            validity(body, end_max)?,
            SubjectPublicKeyInfoOwned::from_der(body.spki)?,
        )?;
        let tbs = builder.finalize(&signer)?;
        Ok(Self { tbs, signer })
    }

    /// The bytes to be signed: DER `TBSCertificate` (RFC 5280 section 4.1.2).
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// SHA-256 over [`Self::tbs`], for tokens that sign a digest (`CKM_ECDSA`).
    pub fn digest(&self) -> Sha256 {
        Sha256::of(&self.tbs)
    }

    /// The DER certificate, once the signature proves to be the signer's. For ECDSA `signature` is
    /// r || s, 64 bytes; for RSA (PKCS#1 v1.5) as many bytes as the modulus.
    ///
    /// Errors: [`CertificateError::SignatureWrong`] is the token's fault; whether one more try is
    /// wise is the operator's question, and this certificate must not be recorded.
    pub fn assemble(&self, signature: &[u8]) -> Result<Vec<u8>, CertificateError> {
        let signature = match self.signer.algorithm {
            SignatureAlgorithm::EcdsaSha256 => ecdsa_der(signature)?,
            SignatureAlgorithm::RsaSha256 => signature.to_vec(),
        };
        self.verify(&signature)?;
        // The very bytes that were signed, not a second encoding of the same fields.
        let whole = Signed {
            tbs: AnyRef::from_der(&self.tbs)?,
            algorithm: self.signer.algorithm.identifier(),
            signature: BitStringRef::from_bytes(&signature)?,
        };
        Ok(whole.to_der()?)
    }

    fn verify(&self, signature: &[u8]) -> Result<(), CertificateError> {
        let algorithm: &dyn signature::VerificationAlgorithm = match self.signer.algorithm {
            SignatureAlgorithm::EcdsaSha256 => &signature::ECDSA_P256_SHA256_ASN1,
            SignatureAlgorithm::RsaSha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        let spki = SubjectPublicKeyInfoOwned::from_der(&self.signer.spki)?;
        let key = spki.subject_public_key.raw_bytes();
        signature::UnparsedPublicKey::new(algorithm, key)
            .verify(&self.tbs, signature)
            .map_err(|_| CertificateError::SignatureWrong)
    }
}

/// `Certificate` (RFC 5280 section 4.1) around bytes that are encoded already.
#[derive(Sequence)]
struct Signed<'a> {
    tbs: AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitStringRef<'a>,
}

/// `Ecdsa-Sig-Value` (RFC 3279 section 2.2.3).
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

fn ecdsa_der(raw: &[u8]) -> Result<Vec<u8>, CertificateError> {
    let wrong_length = CertificateError::SignatureLength {
        expected: ECDSA_P256_LEN,
        found: raw.len(),
    };
    let (r, s) = raw
        .split_at_checked(ECDSA_P256_LEN / 2)
        .ok_or(wrong_length.clone())?;
    if raw.len() != ECDSA_P256_LEN {
        return Err(wrong_length);
    }
    let (r, s) = (UintRef::new(r)?, UintRef::new(s)?);
    Ok(EcdsaSignature { r, s }.to_der()?)
}

fn name(text: &str) -> Result<Name, CertificateError> {
    let refused = |source| CertificateError::Subject {
        subject: text.to_owned(),
        source,
    };
    let name: Name = text.parse().map_err(|source| refused(Some(source)))?;
    // The parser takes any bytes for the types that ASCII alone may fill.
    let is_well_formed = name.iter().all(|attribute| {
        let (value, tag) = (&attribute.value, attribute.value.tag());
        (tag != Tag::PrintableString || PrintableStringRef::try_from(value).is_ok())
            && (tag != Tag::Ia5String || Ia5StringRef::try_from(value).is_ok())
    });
    if name.is_empty() || !is_well_formed {
        return Err(refused(None));
    }
    Ok(name)
}

/// UTCTime to the end of 2049, GeneralizedTime after that (RFC 5280 section 4.1.2.5).
fn validity(body: &Body<'_>, end_max: Option<Duration>) -> Result<Validity, CertificateError> {
    let out_of_range = || CertificateError::ValidityOutOfRange {
        not_before: body.not_before,
        valid_days: body.valid_days,
    };
    let begin = body.not_before.0 / 1000;
    let end = u64::from(body.valid_days)
        .checked_mul(SECONDS_PER_DAY)
        .and_then(|seconds| begin.checked_add(seconds))
        .map(Duration::from_secs)
        .ok_or_else(out_of_range)?;
    let end = end_max.map_or(end, |end_max| end.min(end_max));
    let begin = Duration::from_secs(begin);
    if end <= begin {
        return Err(out_of_range());
    }
    let time = |at| der::DateTime::from_unix_duration(at).map(Time::from);
    match (time(begin), time(end)) {
        (Ok(begin), Ok(end)) => Ok(Validity::new(begin, end)),
        (Err(_), _) | (_, Err(_)) => Err(out_of_range()),
    }
}

/// The end of a DER certificate's validity.
pub fn not_after(certificate: &[u8]) -> Result<UnixMs, CertificateError> {
    let end = parse(certificate)?
        .tbs_certificate()
        .validity()
        .not_after
        .to_unix_duration();
    Ok(UnixMs(u64::try_from(end.as_millis()).unwrap_or(u64::MAX)))
}

/// The DER `SubjectPublicKeyInfo` in a DER certificate.
pub fn certificate_spki(certificate: &[u8]) -> Result<Vec<u8>, CertificateError> {
    let certificate = parse(certificate)?;
    let spki = certificate.tbs_certificate().subject_public_key_info();
    Ok(spki.to_der()?)
}

fn parse(certificate: &[u8]) -> Result<Certificate, CertificateError> {
    Certificate::from_der(certificate).map_err(CertificateError::NotACertificate)
}
