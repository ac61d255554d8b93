//! Unwrapping PKCS#1 v1.5 without an oracle: a ciphertext that does not decrypt to 32 bytes yields
//! a pseudo-random DEK instead of an error, always the same for the same ciphertext, as
//! draft-irtf-cfrg-rsa-guidance describes. Its key is in the token, so the daemon's host cannot
//! tell the two apart beforehand. Two invariants: no error and no answer tells whether the padding
//! was right, and the token is asked for the same operations in the same order either way.

use std::time::{Duration, Instant};

use cryptoki::context::Function;
use cryptoki::mechanism::Mechanism;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use super::error::JobError;
use super::known_answer;
use super::return_value::Class;
use super::seat::Seat;
use super::settle;
use crate::proto::worker::Unwrap;
use crate::types::DEK_LEN;

/// Separates this use of the secret from any other.
const DOMAIN: &[u8] = b"kekd implicit rejection v1";

/// The DEK, or what stands in for it.
pub(super) fn unwrap(
    seat: &mut Seat,
    request: &Unwrap,
) -> Result<(Zeroizing<[u8; DEK_LEN]>, Duration), JobError> {
    settle::retry_lost(seat, |seat| attempt(seat, request))
}

fn attempt(
    seat: &mut Seat,
    request: &Unwrap,
) -> Result<(Zeroizing<[u8; DEK_LEN]>, Duration), JobError> {
    let (key, object_id) = seat.private_key(request.key.as_ref())?;
    let rejection_key = seat.secret_key(request.implicit_rejection_key.as_ref())?;
    let start = Instant::now();
    let (plaintext, is_good) = decrypt(seat, request, key)?;

    // A failed decryption may leave its session in another state than a good one, so what follows
    // runs on a fresh session in both cases. The old one is closed when the reply is out.
    seat.retire_session();
    // A token in trouble gives the same codes as bad padding, so its health is tested in both
    // cases: a DEK must not turn into another one because a token is unwell.
    known_answer::check(seat)?;

    let mut message =
        Vec::with_capacity(DOMAIN.len() + object_id.len() + request.wrapped_dek.len());
    message.extend_from_slice(DOMAIN);
    message.extend_from_slice(&object_id);
    message.extend_from_slice(&request.wrapped_dek);
    let session = seat.session()?;
    let tag = Zeroizing::new(session.sign(&Mechanism::Sha256Hmac, rejection_key, &message)?);
    let taken = start.elapsed();
    let mut candidate = Zeroizing::new([0; DEK_LEN]);
    if tag.len() != DEK_LEN {
        return Err(JobError::link_lost(
            "an HMAC-SHA256 of the token has not 32 bytes",
        ));
    }
    candidate.copy_from_slice(&tag);

    let mut dek = Zeroizing::new([0; DEK_LEN]);
    for ((dek, good), stand_in) in dek.iter_mut().zip(*plaintext).zip(*candidate) {
        *dek = u8::conditional_select(&stand_in, &good, is_good);
    }
    Ok((dek, taken))
}

/// The plaintext, cut or filled to 32 bytes, and whether it is one. The binding tells good from
/// bad by a branch, and makes one `C_Decrypt` more where the first, for the size, succeeds; what
/// that leaves in the timing is far below the known-answer test that follows.
fn decrypt(
    seat: &mut Seat,
    request: &Unwrap,
    key: cryptoki::object::ObjectHandle,
) -> Result<(Zeroizing<[u8; DEK_LEN]>, Choice), JobError> {
    let session = seat.session()?;
    let outcome = session
        .decrypt(&Mechanism::RsaPkcs, key, &request.wrapped_dek)
        .map(Zeroizing::new)
        .map_err(JobError::from);
    let (found, is_ok) = match outcome {
        Ok(plaintext) => (plaintext, Choice::from(1)),
        Err(error) if is_about_padding(&error) => {
            (Zeroizing::new(vec![0; DEK_LEN]), Choice::from(0))
        }
        Err(error) => return Err(error),
    };
    let len = u64::try_from(found.len()).unwrap_or(u64::MAX);
    let is_dek_len = len.ct_eq(&u64::try_from(DEK_LEN).unwrap_or_default());
    let mut plaintext = Zeroizing::new([0; DEK_LEN]);
    for (to, from) in plaintext.iter_mut().zip(found.iter()) {
        *to = *from;
    }
    Ok((plaintext, is_ok & is_dek_len))
}

/// Whether this can be a token's word for bad padding: it saw the ciphertext, and what it says is
/// of the ciphertext or of nothing in particular.
fn is_about_padding(error: &JobError) -> bool {
    matches!(
        error,
        JobError::Token {
            call: Function::Decrypt,
            ..
        }
    ) && matches!(error.class(), Some(Class::BadCiphertext | Class::Ambiguous))
}
