//! Handing a DEK to a recipient without anybody seeing it: unwrapped to a sensitive session object,
//! wrapped inside the token under the recipient's RSA key, destroyed. No plaintext DEK is in this
//! process. The invariant: what is wrapped again is 32 bytes long and no session object outlives
//! the request.

use std::time::{Duration, Instant};

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use zeroize::Zeroizing;

use super::error::JobError;
use super::key;
use super::return_value::Class;
use super::seat::Seat;
use super::temporary::Temporary;
use super::unwrap::{check_len, microseconds};
use super::{known_answer, mechanism, settle};
use crate::proto::worker::{Rewrap, Rewrapped};
use crate::public_key::RsaPublicKey;
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
    let recipient = RsaPublicKey::from_spki(&request.recipient_spki)
        .map_err(|error| JobError::bad_request(format!("the recipient's public key: {error}")))?;
    known_answer::require(seat, request.key.as_ref(), request.padding)?;
    let (rewrapped_dek, taken) =
        settle::settle(seat, request.key.as_ref(), request.padding, |seat| {
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
    recipient: &RsaPublicKey,
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
            // Some tokens tell the length of a key only by using it; see `check_by_use`.
            Attribute::Encrypt(true),
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
            Attribute::Modulus(recipient.modulus().to_vec()),
            Attribute::PublicExponent(recipient.public_exponent().to_vec()),
        ])?,
    );
    let wrapped = session.wrap_key(
        &mechanism::of(recipient_padding),
        wrapping.handle(),
        dek.handle(),
    )?;
    Ok((wrapped, start.elapsed()))
}

/// Refuses what is not 32 bytes long: SoftHSM imports an "AES key" of any length.
fn check_is_dek(session: &Session, dek: &Temporary<'_>) -> Result<(), JobError> {
    let len = match key::attribute(session, dek.handle(), AttributeType::ValueLen)? {
        Some(Attribute::ValueLen(len)) => usize::try_from(*len).unwrap_or(usize::MAX),
        Some(_) | None => 0,
    };
    match len {
        DEK_LEN => Ok(()),
        // SoftHSM 2.6.1 says 0 of every unwrapped key.
        0 => check_by_use(session, dek),
        _ => Err(JobError::BadCiphertext { return_value: None }),
    }
}

/// Learns the length in two steps, beside an AES key of the token's own that is 32 bytes long.
/// RFC 3394 adds 8 bytes to a key, but SoftHSM fills it up to a multiple of 8 first: 40 bytes mean
/// 25 to 32. And AES works with 16, 24 and 32 bytes only, so a key that encrypts has 32.
fn check_by_use(session: &Session, dek: &Temporary<'_>) -> Result<(), JobError> {
    let template = [
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::ValueLen(Ulong::new(32)),
        Attribute::Encrypt(true),
        Attribute::Wrap(true),
    ];
    let ruler = session.generate_key(&Mechanism::AesKeyGen, &template)?;
    let ruler = Temporary::new(session, ruler);
    let bad = Err(JobError::BadCiphertext { return_value: None });
    match session.wrap_key(&Mechanism::AesKeyWrap, ruler.handle(), dek.handle()) {
        Ok(wrapped) if wrapped.len() == DEK_LEN + 8 => {}
        Ok(_) | Err(Error::Pkcs11(RvError::KeySizeRange | RvError::KeyNotWrappable, _)) => {
            return bad;
        }
        Err(error) => return Err(error.into()),
    }
    // What the ruler does and the key does not is the key's fault.
    session.encrypt(&Mechanism::AesEcb, ruler.handle(), &[0; 16])?;
    match session
        .encrypt(&Mechanism::AesEcb, dek.handle(), &[0; 16])
        .map_err(JobError::from)
    {
        Ok(block) => {
            drop(Zeroizing::new(block));
            Ok(())
        }
        Err(error) if matches!(error.class(), Some(Class::LinkLost | Class::SessionLost)) => {
            Err(error)
        }
        Err(_) => bad,
    }
}
