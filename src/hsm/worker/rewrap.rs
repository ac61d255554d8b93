//! Handing a DEK to a recipient without anybody seeing it: unwrapped to a sensitive session object,
//! wrapped inside the token under the recipient's RSA key, destroyed. No plaintext DEK is in this
//! process. The invariant: what is wrapped again is 32 bytes long and no session object outlives
//! the request.

use std::time::{Duration, Instant};

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use cryptoki::session::Session;

use super::error::JobError;
use super::key;
use super::public_key::{self, RecipientKey};
use super::seat::Seat;
use super::temporary::Temporary;
use super::unwrap::{check_len, microseconds};
use super::{mechanism, settle};
use crate::proto::worker::{Rewrap, Rewrapped};
use crate::types::{DEK_LEN, Padding};

/// Unwraps a DEK and wraps it for the recipient.
pub(super) fn rewrap(seat: &mut Seat, request: &Rewrap) -> Result<Rewrapped, JobError> {
    let padding = mechanism::padding(request.padding)?;
    let recipient_padding = mechanism::padding(request.recipient_padding)?;
    // An object either appears or does not: there is no rejecting implicitly here.
    if padding == Padding::Pkcs1V15 || recipient_padding == Padding::Pkcs1V15 {
        let why = "a DEK is rewrapped from OAEP to OAEP only";
        return Err(JobError::bad_request(why));
    }
    check_len(&request.wrapped_dek)?;
    mechanism::check_probed(seat.token(), padding)?;
    mechanism::check_probed(seat.token(), recipient_padding)?;
    let recipient = public_key::recipient(&request.recipient_spki)?;
    let (rewrapped_dek, taken) = settle::settle(seat, |seat| {
        attempt(seat, request, padding, &recipient, recipient_padding)
    })?;
    Ok(Rewrapped {
        rewrapped_dek,
        hsm_us: microseconds(taken),
    })
}

fn attempt(
    seat: &mut Seat,
    request: &Rewrap,
    padding: Padding,
    recipient: &RecipientKey,
    recipient_padding: Padding,
) -> Result<(Vec<u8>, Duration), JobError> {
    let (key, _) = seat.private_key(request.key.as_ref())?;
    let session = seat.session()?;
    let start = Instant::now();
    // No CKA_VALUE_LEN: it may not be given with this mechanism, and some tokens ignore it.
    let dek = session.unwrap_key(
        &mechanism::of(padding),
        key,
        &request.wrapped_dek,
        &[
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            // Else it could not be wrapped for the recipient.
            Attribute::Extractable(true),
            Attribute::Encrypt(false),
            Attribute::Decrypt(false),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::Sign(false),
            Attribute::Verify(false),
            Attribute::Derive(false),
        ],
    )?;
    let dek = Temporary::new(session, dek);
    check_is_dek(session, &dek)?;
    let wrapping = Temporary::new(
        session,
        session.create_object(&[
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Token(false),
            Attribute::Private(false),
            Attribute::Wrap(true),
            Attribute::Encrypt(false),
            Attribute::Verify(false),
            Attribute::Modulus(recipient.modulus.clone()),
            Attribute::PublicExponent(recipient.public_exponent.clone()),
        ])?,
    );
    let wrapped = session.wrap_key(
        &mechanism::of(recipient_padding),
        wrapping.handle(),
        dek.handle(),
    )?;
    Ok((wrapped, start.elapsed()))
}

/// SoftHSM imports an "AES key" of any length, so the length is read back.
fn check_is_dek(session: &Session, dek: &Temporary<'_>) -> Result<(), JobError> {
    match key::attribute(session, dek.handle(), AttributeType::ValueLen)? {
        Some(Attribute::ValueLen(len)) if usize::try_from(*len) == Ok(DEK_LEN) => Ok(()),
        Some(Attribute::ValueLen(_)) => Err(JobError::BadCiphertext { return_value: None }),
        Some(_) | None => Err(JobError::Unsupported {
            what: "the token does not tell how long the unwrapped key is".to_owned(),
            return_value: None,
        }),
    }
}
