//! Signatures of officers: SSHSIG as `ssh-keygen -Y sign` writes it (OpenSSH PROTOCOL.sshsig),
//! including security keys (PROTOCOL.u2f). ssh-key takes the envelope apart, aws-lc-rs verifies.
//! What comes back is always one of the officers asked about; the key in the envelope is never
//! trusted, only looked up.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey, SshSig};

use super::officer::{Material, Officer, OfficerKey};
use crate::types::Sha256;

/// Longest armored signature accepted, in bytes; RSA-8192 takes about 3,100.
pub const SIGNATURE_LEN_MAX: usize = 16 * 1024;
/// The armor of PROTOCOL.sshsig.
const ARMOR_BEGIN: &[u8] = b"-----BEGIN SSH SIGNATURE-----";
const ARMOR_END: &[u8] = b"-----END SSH SIGNATURE-----";
/// Characters of base64 in a line of the armor.
const ARMOR_WIDTH: usize = 70;
/// Bytes of one half of a P-256 signature.
const SCALAR_LEN: usize = 32;
/// Bytes that a security key adds behind its signature: flags, then a 32-bit counter.
const SECURITY_KEY_TRAILER_LEN: usize = 5;
/// The flag of a security key that says somebody touched it (PROTOCOL.u2f, `SSH_SK_USER_PRESENCE_REQD`).
const USER_PRESENT: u8 = 0x01;

/// Why a signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not an armored SSHSIG of version 1 without reserved fields.
    #[error(
        "expected the armored output of ssh-keygen -Y sign, at most 16384 bytes; found {found_len} \
         bytes that are something else"
    )]
    Malformed {
        /// The length of what was found.
        found_len: usize,
    },
    /// Signed for another purpose.
    #[error("expected the namespace {expected}; found {found:?}: sign again with -n {expected}")]
    NamespaceWrong {
        /// The namespace expected.
        expected: &'static str,
        /// The namespace found, at most 64 characters of it.
        found: String,
    },
    /// Signed by somebody who is no officer.
    #[error("no officer has the key {fingerprint}")]
    SignerUnknown {
        /// The fingerprint of the key in the signature.
        fingerprint: String,
    },
    /// The signature does not verify over these bytes.
    #[error(
        "the signature by {officer} does not verify: it is over other bytes, or was altered; sign \
         the file as it is"
    )]
    Wrong {
        /// The officer whose key it names.
        officer: String,
    },
    /// A security key signed without being touched.
    #[error("the security key of {officer} signed without a touch: sign again without no-touch")]
    NotPresent {
        /// The officer whose key it names.
        officer: String,
    },
}

/// The officer who signed these bytes for this purpose.
pub(super) fn signer<'a>(
    officers: &'a [Officer],
    namespace: &'static str,
    message: &[u8],
    armored: &[u8],
) -> Result<&'a Officer, SignatureError> {
    let malformed = SignatureError::Malformed {
        found_len: armored.len(),
    };
    if armored.len() > SIGNATURE_LEN_MAX {
        return Err(malformed);
    }
    let envelope = match SshSig::from_pem(armored) {
        Ok(envelope) if is_canonical(&envelope, armored) => envelope,
        Ok(_) | Err(_) => return Err(malformed),
    };
    if envelope.namespace() != namespace {
        return Err(SignatureError::NamespaceWrong {
            expected: namespace,
            found: envelope.namespace().chars().take(64).collect(),
        });
    }
    let officer = OfficerKey::from_data(envelope.public_key())
        .ok()
        .and_then(|key| officers.iter().find(|officer| officer.key == key))
        .ok_or_else(|| SignatureError::SignerUnknown {
            fingerprint: envelope
                .public_key()
                .fingerprint(HashAlg::Sha256)
                .to_string(),
        })?;
    let signed = SshSig::signed_data(namespace, envelope.hash_alg(), message);
    let signed = signed.map_err(|_| malformed)?;
    verify(officer, &envelope, &signed)?;
    Ok(officer)
}

/// Whether the armor holds what was read from it and nothing else: version 1, no reserved fields,
/// every length as it must be (the parser passes over wrong ones). Line ends may be CR LF.
fn is_canonical(envelope: &SshSig, armored: &[u8]) -> bool {
    let Ok(key) = PublicKey::from(envelope.public_key().clone()).to_bytes() else {
        return false;
    };
    let algorithm = envelope.algorithm();
    let in_security_key = matches!(
        algorithm,
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256
    );
    let trailer_len = if in_security_key {
        SECURITY_KEY_TRAILER_LEN
    } else {
        0
    };
    let bytes = envelope.signature_bytes();
    let Some((signature, trailer)) = bytes
        .len()
        .checked_sub(trailer_len)
        .and_then(|at| bytes.split_at_checked(at))
    else {
        return false;
    };
    let signature = [
        string(algorithm.as_str()),
        string(signature),
        trailer.to_vec(),
    ]
    .concat();
    let expected = [
        b"SSHSIG".to_vec(),
        SshSig::VERSION.to_be_bytes().to_vec(),
        string(key),
        string(envelope.namespace()),
        string(""),
        string(envelope.hash_alg().as_str()),
        string(signature),
    ]
    .concat();
    let body = BASE64.encode(expected);
    let body = body.as_bytes().chunks(ARMOR_WIDTH);
    let lines = [ARMOR_BEGIN].into_iter().chain(body).chain([ARMOR_END]);
    let found = armored.strip_suffix(b"\n").unwrap_or(armored);
    let found = found.split(|byte| *byte == b'\n');
    found
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .eq(lines)
}

/// A string of the SSH wire format (RFC 4251 section 5): its length in 4 bytes, then its bytes.
pub(super) fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&len.to_be_bytes(), bytes].concat()
}

fn verify(officer: &Officer, envelope: &SshSig, signed: &[u8]) -> Result<(), SignatureError> {
    let wrong = || SignatureError::Wrong {
        officer: officer.name.clone(),
    };
    let Some(application) = &officer.key.application else {
        return verify_plain(officer, envelope, signed, envelope.signature_bytes())
            .ok_or_else(wrong);
    };
    let at = envelope
        .signature_bytes()
        .len()
        .checked_sub(SECURITY_KEY_TRAILER_LEN)
        .ok_or_else(wrong)?;
    let (signature, trailer) = envelope.signature_bytes().split_at(at);
    // PROTOCOL.u2f: SHA-256(application), flags, counter, SHA-256(what a plain key would sign).
    let signed = [
        Sha256::of(application.as_bytes()).as_bytes(),
        trailer,
        Sha256::of(signed).as_bytes(),
    ]
    .concat();
    verify_plain(officer, envelope, &signed, signature).ok_or_else(wrong)?;
    match trailer.first() {
        Some(flags) if flags & USER_PRESENT != 0 => Ok(()),
        Some(_) | None => Err(SignatureError::NotPresent {
            officer: officer.name.clone(),
        }),
    }
}

/// Something, where the signature is right.
fn verify_plain(
    officer: &Officer,
    envelope: &SshSig,
    signed: &[u8],
    signature: &[u8],
) -> Option<()> {
    let in_security_key = officer.key.application.is_some();
    let algorithm = envelope.algorithm();
    match &officer.key.material {
        Material::Ed25519(key) => {
            let expected = match in_security_key {
                true => Algorithm::SkEd25519,
                false => Algorithm::Ed25519,
            };
            (algorithm == expected).then_some(())?;
            UnparsedPublicKey::new(&ED25519, key).verify(signed, signature)
        }
        Material::P256(point) => {
            let curve = EcdsaCurve::NistP256;
            let expected = match in_security_key {
                true => Algorithm::SkEcdsaSha2NistP256,
                false => Algorithm::Ecdsa { curve },
            };
            (algorithm == expected).then_some(())?;
            let fixed = fixed_p256(signature)?;
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, &fixed)
        }
        Material::Rsa { n, e } => {
            // ssh-rsa alone would be SHA-1 (RFC 8332).
            let parameters = if algorithm == rsa(HashAlg::Sha256) {
                &RSA_PKCS1_2048_8192_SHA256
            } else if algorithm == rsa(HashAlg::Sha512) {
                &RSA_PKCS1_2048_8192_SHA512
            } else {
                return None;
            };
            RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature)
        }
    }
    .ok()
}

const fn rsa(hash: HashAlg) -> Algorithm {
    Algorithm::Rsa { hash: Some(hash) }
}

/// r and s of 32 bytes each, from two SSH mpints (RFC 5656 section 3.1.2).
fn fixed_p256(signature: &[u8]) -> Option<Vec<u8>> {
    let (r, rest) = scalar(signature)?;
    let (s, rest) = scalar(rest)?;
    rest.is_empty().then(|| [r, s].concat())
}

/// The first mpint (RFC 4251 section 5) as 32 bytes, and what follows it.
fn scalar(bytes: &[u8]) -> Option<([u8; SCALAR_LEN], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    let digits = number.strip_prefix(&[0]).unwrap_or(number);
    let zeros = SCALAR_LEN.checked_sub(digits.len())?;
    let mut scalar = [0; SCALAR_LEN];
    scalar.get_mut(zeros..)?.copy_from_slice(digits);
    Some((scalar, rest))
}

#[cfg(test)]
mod tests;
