//! The known-answer tests: a value that the daemon wrapped outside the HSM is unwrapped inside, and
//! must come back. Liveness of a token means this, not that its sessions exist. Each key has its own,
//! for another key's says nothing of one that is damaged.
//!
//! The invariant: no key is used by this worker for a caller before its own test with that padding has
//! passed on it.

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
        seat.token().answers().keep(test);
    } else if matches!(blame(seat, &test), Blame::Token) {
        return Err(JobError::link_lost("a known-answer test did not pass"));
    }
    Ok(KnownAnswered { passed })
}

/// Refuses a key whose test with this padding has not passed on this worker yet. Nothing is done with
/// the key.
pub(super) fn require(seat: &mut Seat, key: Option<&KeyRef>, padding: i32) -> Result<(), JobError> {
    let named = key.ok_or_else(|| JobError::bad_request("the request names no key"))?;
    if seat.token().answers().of(named, padding).is_some() {
        return Ok(());
    }
    // A key that is missing, or another, is that and not untested.
    settle::retry_lost(seat, |seat| seat.private_key(key))?;
    Err(JobError::Untested)
}

/// Runs the test that is kept for this key. Any other end than "passed" means that the token, or
/// this key in it, does not do its work; or that another call has just found so of this key, and its
/// test is to pass again first.
pub(super) fn check(seat: &mut Seat, key: Option<&KeyRef>, padding: i32) -> Result<(), JobError> {
    let test = key.and_then(|key| seat.token().answers().of(key, padding));
    let Some(test) = test else {
        return Err(JobError::Untested);
    };
    let why = match run(seat, &test) {
        Ok(true) => return Ok(()),
        Ok(false) => "another value came back".to_owned(),
        Err(error) => error.to_string(),
    };
    match blame(seat, &test) {
        Blame::Key => {
            // Before its next use the test must pass again.
            seat.token().answers().forget_test(&test);
            Err(JobError::KeyUnwell { why })
        }
        Blame::Token | Blame::Unknown => Err(JobError::link_lost(why)),
    }
}

/// Whose fault it is that a test did not pass.
enum Blame {
    /// The test of another key passes, and this one does not a second time.
    Key,
    /// No other key's test passes; or this one passes and fails by turns, so that nothing the token
    /// says can be relied on.
    Token,
    /// No other key was tested on this worker.
    Unknown,
}

/// One damaged key must not take the token away from the callers of all others.
fn blame(seat: &mut Seat, test: &KnownAnswer) -> Blame {
    let others = seat.token().answers().others(test);
    let passes = |seat: &mut Seat, test: &KnownAnswer| {
        // What failed may have left an operation active.
        seat.retire_session();
        matches!(run(seat, test), Ok(true))
    };
    if others.is_empty() {
        Blame::Unknown
    } else if !others.iter().any(|other| passes(seat, other)) || passes(seat, test) {
        Blame::Token
    } else {
        Blame::Key
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
