//! Unwrapping a DEK to the daemon: RSA-OAEP by `C_Decrypt`. PKCS#1 v1.5 has its own file. The
//! invariant: what comes out is 32 bytes, and everything else is one answer.

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::error::JobError;
use super::seat::Seat;
use super::{implicit_rejection, known_answer, mechanism, settle};
use crate::proto::worker::{Unwrap, Unwrapped};
use crate::types::{Dek, Padding, WRAPPED_DEK_LEN_MAX};

/// Decrypts a DEK.
pub(super) fn unwrap(seat: &mut Seat, request: &Unwrap) -> Result<Unwrapped, JobError> {
    let padding = mechanism::padding(request.padding)?;
    check_len(&request.wrapped_dek)?;
    mechanism::check_probed(seat.token(), padding)?;
    known_answer::require(seat, request.key.as_ref(), request.padding)?;
    let (dek, taken) = match padding {
        Padding::OaepSha1 | Padding::OaepSha256 => {
            settle::settle(seat, request.key.as_ref(), request.padding, |seat| {
                decrypt(seat, request, padding)
            })?
        }
        Padding::Pkcs1V15 => implicit_rejection::unwrap(seat, request)?,
    };
    Ok(Unwrapped {
        dek: dek.as_bytes().to_vec(),
        hsm_us: microseconds(taken),
    })
}

/// Refuses what cannot be a wrapped DEK before the token sees it.
pub(super) fn check_len(wrapped_dek: &[u8]) -> Result<(), JobError> {
    if wrapped_dek.is_empty() || wrapped_dek.len() > WRAPPED_DEK_LEN_MAX {
        let why = format!(
            "a wrapped DEK has 1 to {WRAPPED_DEK_LEN_MAX} bytes, this one {}",
            wrapped_dek.len()
        );
        return Err(JobError::bad_request(why));
    }
    Ok(())
}

/// A duration as the protocol carries it.
pub(super) fn microseconds(taken: Duration) -> u64 {
    u64::try_from(taken.as_micros()).unwrap_or(u64::MAX)
}

fn decrypt(
    seat: &mut Seat,
    request: &Unwrap,
    padding: Padding,
) -> Result<(Dek, Duration), JobError> {
    let (key, _) = seat.private_key(request.key.as_ref())?;
    let session = seat.session()?;
    let mechanism = mechanism::of(padding);
    let start = Instant::now();
    let plaintext = Zeroizing::new(session.decrypt(&mechanism, key, &request.wrapped_dek)?);
    let taken = start.elapsed();
    match Dek::try_from(plaintext.as_slice()) {
        Ok(dek) => Ok((dek, taken)),
        Err(_) => Err(JobError::BadCiphertext { return_value: None }),
    }
}
