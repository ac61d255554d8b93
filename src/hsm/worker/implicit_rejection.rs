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
use crate::proto::worker::{SecretProof, SecretProved, Unwrap};
use crate::types::{DEK_LEN, Dek, Sha256};

/// Separates this use of the secret from any other.
const DOMAIN: &[u8] = b"kekd implicit rejection v1";

/// What is signed to show which secret it is; no ciphertext is signed in this domain.
const PROOF: &[u8] = b"kekd implicit rejection key proof v1";

/// Shows which secret this is, and nothing of it: two tokens with the same answer stand in for a DEK
/// in the same way.
pub(super) fn secret_proof(
    seat: &mut Seat,
    request: &SecretProof,
) -> Result<SecretProved, JobError> {
    settle::retry_lost(seat, |seat| {
        let key = seat.secret_key(request.key.as_ref())?;
        let tag = seat.session()?.sign(&Mechanism::Sha256Hmac, key, PROOF)?;
        let tag = Zeroizing::new(tag);
        Ok(SecretProved {
            sha256: Sha256::of(&tag).as_bytes().to_vec(),
        })
    })
}

/// The DEK, or what stands in for it.
pub(super) fn unwrap(seat: &mut Seat, request: &Unwrap) -> Result<(Dek, Duration), JobError> {
    settle::retry_lost(seat, |seat| attempt(seat, request))
}

fn attempt(seat: &mut Seat, request: &Unwrap) -> Result<(Dek, Duration), JobError> {
    let (key, object_id) = seat.private_key(request.key.as_ref())?;
    let rejection_key = seat.secret_key(request.implicit_rejection_key.as_ref())?;
    let start = Instant::now();
    let first = decrypt(seat, request, key)?;

    // A failed decryption may leave its session in another state than a good one, so what follows
    // runs on a fresh session in both cases. The old one is closed when the reply is out.
    seat.retire_session();
    // A token in trouble gives the same codes as bad padding, and a DEK must not turn into another
    // one because a token is unwell. So its health is tested, and it decrypts once more: in all
    // cases, and what went right once counts.
    known_answer::check(seat, request.key.as_ref(), request.padding)?;
    let second = decrypt(seat, request, key)?;
    seat.retire_session();
    let (plaintext, is_good) = agreed(&first, &second)?;

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

    let dek = select(&candidate, &plaintext, is_good);
    match Dek::try_from(dek.as_slice()) {
        Ok(dek) => Ok((dek, taken)),
        // 32 bytes are a DEK.
        Err(error) => Err(JobError::bad_request(error.to_string())),
    }
}

/// What two decryptions of one ciphertext say together: a good one counts, whichever it was.
fn agreed(first: &Decrypted, second: &Decrypted) -> Result<Decrypted, JobError> {
    let (one, is_first) = first;
    let (other, is_second) = second;
    let differ = *is_first & *is_second & !one.as_slice().ct_eq(other.as_slice());
    if bool::from(differ) {
        return Err(JobError::link_lost(
            "two decryptions of one ciphertext gave two values",
        ));
    }
    Ok((select(other, one, *is_first), *is_first | *is_second))
}

/// `yes` or `no`, without a branch.
fn select(no: &[u8; DEK_LEN], yes: &[u8; DEK_LEN], choice: Choice) -> Zeroizing<[u8; DEK_LEN]> {
    let mut selected = Zeroizing::new([0; DEK_LEN]);
    for ((to, no), yes) in selected.iter_mut().zip(no).zip(yes) {
        *to = u8::conditional_select(no, yes, choice);
    }
    selected
}

/// A plaintext, cut or filled to 32 bytes, and whether it is one.
type Decrypted = (Zeroizing<[u8; DEK_LEN]>, Choice);

/// Decrypts once. The binding tells good from bad by a branch, and makes one `C_Decrypt` more where
/// the first, for the size, succeeds; what that leaves in the timing is far below the two private
/// operations that follow.
fn decrypt(
    seat: &mut Seat,
    request: &Unwrap,
    key: cryptoki::object::ObjectHandle,
) -> Result<Decrypted, JobError> {
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
