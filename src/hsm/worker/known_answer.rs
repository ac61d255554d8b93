//! The known-answer tests: a value that the daemon wrapped outside the HSM is unwrapped inside, and
//! must come back. Liveness of a token means this, not that its sessions exist. Each key has its own,
//! for another key's says nothing of one that is damaged.

use zeroize::Zeroizing;

use super::error::JobError;
use super::mechanism;
use super::return_value::Class;
use super::seat::Seat;
use super::settle;
use super::temporary::Temporary;
use crate::proto::worker::{KeyRef, KnownAnswer, KnownAnswered};
use crate::types::{Padding, Sha256};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};

/// Runs a new test and, where it passes, keeps it for the life of the worker.
pub(super) fn set(seat: &mut Seat, test: KnownAnswer) -> Result<KnownAnswered, JobError> {
    let passed = settle::retry_lost(seat, |seat| run(seat, &test))?;
    if passed {
        seat.token().set_known_answer(test);
    }
    Ok(KnownAnswered { passed })
}

/// Runs the test that is kept for this key. Any other end than "passed" means that the token, or
/// this key in it, does not do its work.
pub(super) fn check(seat: &mut Seat, key: Option<&KeyRef>, padding: i32) -> Result<(), JobError> {
    let test = key.and_then(|key| seat.token().known_answer(key, padding));
    let Some(test) = test else {
        return Err(JobError::link_lost("none is set for this key"));
    };
    match run(seat, &test) {
        Ok(true) => Ok(()),
        Ok(false) => Err(JobError::link_lost("another value came back")),
        Err(error) => Err(JobError::link_lost(error.to_string())),
    }
}

fn run(seat: &mut Seat, test: &KnownAnswer) -> Result<bool, JobError> {
    let expected = Sha256::try_from(test.sha256.as_slice())
        .map_err(|_| JobError::bad_request("the SHA-256 of a known answer has 32 bytes"))?;
    let padding = mechanism::padding(test.padding)?;
    let unwrapped = match test.by_unwrap {
        true => by_unwrap(seat, test, padding),
        false => by_decrypt(seat, test, padding),
    };
    match unwrapped {
        Ok(value) => Ok(Sha256::of(&value) == expected),
        // Said of a ciphertext that is known to be good.
        Err(error) if matches!(error.class(), Some(Class::BadCiphertext | Class::Ambiguous)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn by_decrypt(
    seat: &mut Seat,
    test: &KnownAnswer,
    padding: Padding,
) -> Result<Zeroizing<Vec<u8>>, JobError> {
    let (key, _) = seat.private_key(test.key.as_ref())?;
    let value = seat
        .session()?
        .decrypt(&mechanism::of(padding), key, &test.wrapped)?;
    Ok(Zeroizing::new(value))
}

/// For a key that may unwrap but not decrypt. The value is not a DEK, so its object may be read.
fn by_unwrap(
    seat: &mut Seat,
    test: &KnownAnswer,
    padding: Padding,
) -> Result<Zeroizing<Vec<u8>>, JobError> {
    let (key, _) = seat.private_key(test.key.as_ref())?;
    let session = seat.session()?;
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    let object = session.unwrap_key(&mechanism::of(padding), key, &test.wrapped, &template)?;
    let object = Temporary::new(session, object);
    match super::key::attribute(session, object.handle(), AttributeType::Value)? {
        Some(Attribute::Value(value)) => Ok(Zeroizing::new(value)),
        Some(_) | None => Ok(Zeroizing::new(Vec::new())),
    }
}
