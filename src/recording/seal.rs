//! A recording made: AuthEnvelopedData with AES-256-GCM under a fresh DEK, the DEK wrapped with
//! RSAES-OAEP for each certificate, outside any HSM. The DEK exists only inside [`seal`].

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use aws_lc_rs::rand;
use cms::content_info::CmsVersion;
use cms::enveloped_data::{KeyTransRecipientInfo, RecipientIdentifier};
use der::Encode as _;
use der::asn1::OctetString;
use zeroize::Zeroizing;

use super::ber::{OCTET_STRING, SET, write_header};
use super::cipher::{ID_AUTH_ENVELOPED_DATA, ID_DATA, NONCE_LEN, TAG_LEN, gcm_algorithm};
use super::oaep::algorithm_for;
use super::{Fault, RECIPIENTS_MAX, RecipientCertificate, RecordingError, Source};
use crate::types::{DEK_LEN, Padding};

const SEQUENCE: u8 = 0x30;
/// CMSVersion 0 as an INTEGER (RFC 5083 section 2.1).
const VERSION_0: [u8; 3] = [0x02, 1, 0];

/// A sealed recording: the DER of a ContentInfo, ready to be written.
pub struct SealedRecording {
    before: Vec<u8>,
    ciphertext: Zeroizing<Vec<u8>>,
    after: Vec<u8>,
}

impl SealedRecording {
    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.parts().iter().map(|part| part.len() as u64).sum()
    }

    /// The bytes of the file, in three parts, for [`write_new`](super::write_new).
    pub fn parts(&self) -> [&[u8]; 3] {
        [&self.before, &self.ciphertext, &self.after]
    }
}

/// Reads a plaintext of at most `size_max` bytes and seals it for 1 to 64 certificates, each of
/// whose keys alone will open it. `padding` is OAEP with SHA-1 or SHA-256. `progress` gets the
/// bytes read and the length, which is 0 where it is unknown. Memory: the plaintext once.
pub fn seal(
    plaintext: Source,
    certificates: &[RecipientCertificate],
    padding: Padding,
    size_max: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<SealedRecording, RecordingError> {
    // Wrapped first: what is wrong with a certificate is said before a long read.
    let wrapped = wrapped_dek(certificates, padding).map_err(|fault| fault.of(plaintext.name()))?;
    let (name, bytes) = plaintext.read_all(size_max, progress)?;
    encrypt(bytes, &wrapped).map_err(|fault| fault.of(&name))
}

/// A fresh DEK, and RecipientInfos (RFC 5652 section 6.1) without its header.
struct WrappedDek {
    dek: Zeroizing<[u8; DEK_LEN]>,
    recipients: Vec<u8>,
}

fn wrapped_dek(
    certificates: &[RecipientCertificate],
    padding: Padding,
) -> Result<WrappedDek, Fault> {
    match certificates.len() {
        0 => return Err(Fault::NoCertificate),
        1..=RECIPIENTS_MAX => (),
        _ => return Err(Fault::TooManyRecipients),
    }
    let mut dek = Zeroizing::new([0; DEK_LEN]);
    fill_random(dek.as_mut_slice())?;
    let mut recipients = certificates
        .iter()
        .map(|certificate| recipient_info(certificate, padding, &dek))
        .collect::<Result<Vec<_>, _>>()?;
    recipients.sort(); // DER of a SET OF (X.690 section 11.6)
    Ok(WrappedDek {
        dek,
        recipients: recipients.concat(),
    })
}

fn encrypt(mut bytes: Zeroizing<Vec<u8>>, wrapped: &WrappedDek) -> Result<SealedRecording, Fault> {
    // One nonce for one DEK, so that no pair is ever used twice.
    let mut nonce = [0; NONCE_LEN];
    fill_random(&mut nonce)?;
    let tag = Aes256Gcm::new((&*wrapped.dek).into())
        .encrypt_inout_detached((&nonce).into(), &[], bytes.as_mut_slice().into())
        .map_err(|_| Fault::Cryptography {
            doing: "encrypting the content",
        })?;
    let (before, after) = around(&wrapped.recipients, nonce, bytes.len(), tag.into())?;
    Ok(SealedRecording {
        before,
        ciphertext: bytes,
        after,
    })
}

fn fill_random(bytes: &mut [u8]) -> Result<(), Fault> {
    rand::fill(bytes).map_err(|_| Fault::Cryptography {
        doing: "drawing random bytes",
    })
}

/// KeyTransRecipientInfo (RFC 5652 section 6.2.1), version 0: named by issuer and serial number.
fn recipient_info(
    certificate: &RecipientCertificate,
    padding: Padding,
    dek: &[u8; DEK_LEN],
) -> Result<Vec<u8>, Fault> {
    let invalid = || Fault::structure("the recipient to be written");
    let key_enc_alg = algorithm_for(padding)
        .map_err(invalid())?
        .ok_or(Fault::PaddingNotSealed)?;
    let wrapped = certificate.key().wrap(padding, dek);
    let wrapped = wrapped.map_err(|_| Fault::Cryptography {
        doing: "wrapping the DEK",
    })?;
    KeyTransRecipientInfo {
        version: CmsVersion::V0,
        rid: RecipientIdentifier::IssuerAndSerialNumber(certificate.identifier().clone()),
        key_enc_alg,
        enc_key: OctetString::new(wrapped.as_bytes()).map_err(invalid())?,
    }
    .to_der()
    .map_err(invalid())
}

/// What stands before and after the content in the file. Written by hand, because `der` would copy
/// the content, twice, to put these around it.
fn around(
    recipients: &[u8],
    nonce: [u8; NONCE_LEN],
    content_len: usize,
    tag: [u8; TAG_LEN],
) -> Result<(Vec<u8>, Vec<u8>), Fault> {
    let invalid = || Fault::structure("the message to be written");
    let after = element(OCTET_STRING, &tag); // mac

    let mut content_header = Vec::new();
    write_header(0x80, content_len, &mut content_header); // encryptedContent [0] IMPLICIT
    let mut before = ID_DATA.to_der().map_err(invalid())?;
    before.extend(gcm_algorithm(nonce).map_err(invalid())?);
    before.extend(content_header);
    // From here outwards: each header counts what is before the content, the content, and, once
    // outside EncryptedContentInfo, what is after it.
    let before = headed(SEQUENCE, &before, content_len);
    let before = [&VERSION_0[..], &element(SET, recipients), &before].concat();
    let following = content_len.saturating_add(after.len());
    let before = headed(SEQUENCE, &before, following);
    let before = headed(0xa0, &before, following); // content [0] EXPLICIT
    let before = [ID_AUTH_ENVELOPED_DATA.to_der().map_err(invalid())?, before].concat();
    Ok((headed(SEQUENCE, &before, following), after))
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    headed(tag, content, 0)
}

/// A header for `start` and `following` more bytes, and `start`.
fn headed(tag: u8, start: &[u8], following: usize) -> Vec<u8> {
    let mut out = Vec::new();
    write_header(tag, start.len().saturating_add(following), &mut out);
    out.extend_from_slice(start);
    out
}
