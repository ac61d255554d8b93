//! Signatures: raw ECDSA over a digest made outside, and the one RSA signature of a KEK that signs
//! its own certificate. Whoever asked verifies them outside, against the pinned public key: a
//! token can answer `CKR_OK` with a wrong signature.

use cryptoki::mechanism::Mechanism;

use super::error::JobError;
use super::return_value::Class;
use super::seat::Seat;
use super::settle;
use crate::proto::worker::{SelfSign, SignDigest, Signature};
use crate::public_key::P256_SIGNATURE_LEN;
use crate::types::Sha256;

/// Bytes of the longest certificate body; real ones have about 600.
const TBS_LEN_MAX: usize = 64 * 1024;
/// DER of `DigestInfo` with SHA-256 up to the digest (RFC 8017 section 9.2, note 1).
const DIGEST_INFO_SHA256: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// `CKM_ECDSA` over a SHA-256 digest (PKCS#11 v3.0 section 6.3.12).
pub(super) fn digest(seat: &mut Seat, request: &SignDigest) -> Result<Signature, JobError> {
    if request.digest.len() != 32 {
        let why = format!(
            "a SHA-256 digest has 32 bytes, not {}",
            request.digest.len()
        );
        return Err(JobError::bad_request(why));
    }
    let signature = settle::retry_lost(seat, |seat| {
        let (key, _) = seat.private_key(request.key.as_ref())?;
        Ok(seat
            .session()?
            .sign(&Mechanism::Ecdsa, key, &request.digest)?)
    })?;
    if signature.len() != P256_SIGNATURE_LEN {
        let why = format!("a P-256 signature of {} bytes", signature.len());
        return Err(JobError::link_lost(why));
    }
    Ok(Signature { signature })
}

/// RSASSA-PKCS1-v1_5 with SHA-256 over a certificate body, hashed by the token or, where it has no
/// such mechanism, here.
pub(super) fn certificate(seat: &mut Seat, request: &SelfSign) -> Result<Signature, JobError> {
    let body = request.tbs_certificate.as_slice();
    if body.is_empty() || body.len() > TBS_LEN_MAX {
        let why = format!(
            "a certificate body has 1 to {TBS_LEN_MAX} bytes, not {}",
            body.len()
        );
        return Err(JobError::bad_request(why));
    }
    let mut digest_info = DIGEST_INFO_SHA256.to_vec();
    digest_info.extend_from_slice(Sha256::of(body).as_bytes());
    let signature = settle::retry_lost(seat, |seat| {
        let (key, _) = seat.private_key(request.key.as_ref())?;
        let hashing = seat.session()?.sign(&Mechanism::Sha256RsaPkcs, key, body);
        match hashing.map_err(JobError::from) {
            Err(error) if error.class() == Some(Class::Unsupported) => {
                seat.retire_session();
                Ok(seat
                    .session()?
                    .sign(&Mechanism::RsaPkcs, key, &digest_info)?)
            }
            outcome => outcome,
        }
    })?;
    Ok(Signature { signature })
}
