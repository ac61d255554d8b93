//! X.509 version 3 certificates (RFC 5280) for KEK versions and for the issuing key that signs
//! them. A certificate is made in two steps because the private key is in the HSM: the bytes to be
//! signed go out, the signature comes back. No HSM, files or clock here. The invariant: no
//! certificate leaves whose signature was not verified against its signer's public key. A token
//! with a damaged key answered OK with a wrong signature in 6 of 154 trials.

mod error;
mod signer;
mod template;

use std::time::Duration;

use der::asn1::{AnyRef, BitStringRef, Ia5StringRef, PrintableStringRef};
use der::{Decode as _, Encode as _, Sequence, Tag, Tagged as _};
use x509_cert::Certificate;
use x509_cert::builder::{Builder as _, CertificateBuilder};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

pub use error::CertificateError;

use crate::clock::UnixMs;
use crate::public_key::{P256PublicKey, PublicKeyError, RsaPublicKey};
use crate::types::Sha256;
use signer::Signer;
use template::{Kind, Template};

const SECONDS_PER_DAY: u64 = 86_400;

/// A certificate that lacks its signature.
pub struct Unsigned {
    tbs: Vec<u8>,
    signer: Signer,
}

/// What a certificate says of the key it is about.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    /// A name as in RFC 4514, for example `CN=kekd issuing,O=Example`.
    pub subject: &'a str,
    /// DER `SubjectPublicKeyInfo`.
    pub spki: &'a [u8],
    /// The beginning, cut to seconds.
    pub not_before: UnixMs,
    /// The end, in days of 24 hours after the beginning.
    pub valid_days: u32,
    /// Random bytes that are not all zero.
    pub serial: [u8; 16],
}

impl Unsigned {
    /// The certificate of the issuing key (P-256), signed by itself: CA, no further CA below it,
    /// keyCertSign and cRLSign.
    pub fn issuing(body: &Body<'_>) -> Result<Self, CertificateError> {
        let signer = P256PublicKey::from_spki(body.spki).map_err(of("the issuing key"))?;
        let template = Template::self_signed(name(body.subject)?, Kind::Issuing);
        Self::new(body, template, Signer::Issuing(signer), None)
    }

    /// The certificate of a KEK version (RSA), issued by the key of `issuer` (DER certificate, CA,
    /// P-256): not a CA, keyEncipherment alone. It ends with the issuer's certificate at the latest,
    /// because it would not verify after that.
    pub fn kek(body: &Body<'_>, issuer: &[u8]) -> Result<Self, CertificateError> {
        RsaPublicKey::from_spki(body.spki).map_err(of("the KEK's key"))?;
        let issuer = Certificate::from_der(issuer).map_err(CertificateError::NotACertificate)?;
        let template = Template::issued(name(body.subject)?, &issuer)?;
        let issuer = issuer.tbs_certificate();
        let issuer_spki = issuer.subject_public_key_info().to_der()?;
        let signer = P256PublicKey::from_spki(&issuer_spki).map_err(of("the issuer's key"))?;
        let end_max = issuer.validity().not_after.to_unix_duration();
        Self::new(body, template, Signer::Issuing(signer), Some(end_max))
    }

    /// The certificate of a KEK version signed by the KEK itself, for systems that take no other:
    /// not a CA, keyEncipherment alone.
    pub fn kek_self_signed(body: &Body<'_>) -> Result<Self, CertificateError> {
        let signer = RsaPublicKey::from_spki(body.spki).map_err(of("the KEK's key"))?;
        let template = Template::self_signed(name(body.subject)?, Kind::Kek);
        Self::new(body, template, Signer::Kek(signer), None)
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
        let signature = self.signer.verified(&self.tbs, signature)?;
        // The very bytes that were signed, not a second encoding of the same fields.
        let whole = Signed {
            tbs: AnyRef::from_der(&self.tbs)?,
            algorithm: self.signer.algorithm(),
            signature: BitStringRef::from_bytes(&signature)?,
        };
        Ok(whole.to_der()?)
    }
}

/// Whether a DER certificate is about the RSA key of `spki`, and signed by that key (PKCS#1 v1.5 with
/// SHA-256).
pub fn verify_self_signed(certificate: &[u8], spki: &[u8]) -> Result<(), CertificateError> {
    let key = RsaPublicKey::from_spki(spki).map_err(of("the KEK's key"))?;
    let certificate =
        Certificate::from_der(certificate).map_err(CertificateError::NotACertificate)?;
    let tbs = certificate.tbs_certificate();
    if tbs.subject_public_key_info().to_der()? != spki {
        return Err(CertificateError::SignatureWrong);
    }
    let signature = certificate.signature().raw_bytes();
    Signer::Kek(key)
        .verified(&tbs.to_der()?, signature)
        .map(drop)
}

/// `Certificate` (RFC 5280 section 4.1) around bytes that are encoded already.
#[derive(Sequence)]
struct Signed<'a> {
    tbs: AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitStringRef<'a>,
}

/// For `map_err`: whose key it is.
fn of(what: &'static str) -> impl FnOnce(PublicKeyError) -> CertificateError {
    move |source| CertificateError::PublicKey { what, source }
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
