//! The end of a key pair. The private key goes first, so that whatever interrupts this, no key that
//! still unwraps is without its public half. Nothing is destroyed but what has the public key that
//! was named; and the answer is given only when a search on another session finds neither half, for
//! a token's CKR_OK is a claim.

use cryptoki::error::Error;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};

use super::error::{JobError, hex};
use super::seat::Seat;
use super::{key, settle};
use crate::proto::worker::{Destroy, Destroyed, KeyRef};
use crate::types::Sha256;

/// Destroys both halves. What is gone already is no failure: a repeated request ends as the first.
pub(super) fn destroy(seat: &mut Seat, request: &Destroy) -> Result<Destroyed, JobError> {
    let pair = Pair::new(request.key.as_ref())?;
    let token = seat.shared_token();
    let _only_one = token.changes();
    // Found anew at each attempt, so that a second one destroys what the first has left.
    settle::retry_lost(seat, |seat| {
        let [private, public] = pair.find(seat)?;
        pair.check(seat, private, public)?;
        for (half, object) in [("private", private), ("public", public)] {
            if let Some(object) = object {
                let destroyed = seat.session()?.destroy_object(object);
                destroyed.map_err(|error| refused(half, error))?;
                token.forget_handles();
                token.answers().forget(&pair.object_id);
            }
        }
        Ok(())
    })?;
    token.answers().forget(&pair.object_id);
    seat.retire_session();
    match settle::retry_lost(seat, |seat| pair.find(seat))? {
        [None, None] => Ok(Destroyed {}),
        [private, _] => Err(JobError::Refused {
            why: format!(
                "the token says that it destroyed the key with CKA_ID {}, and still shows its {} \
                 half",
                hex(&pair.object_id),
                if private.is_some() {
                    "private"
                } else {
                    "public"
                }
            ),
            return_value: None,
        }),
    }
}

/// The key pair that is to end.
struct Pair {
    object_id: [u8; 16],
    spki_sha256: Sha256,
}

impl Pair {
    fn new(key: Option<&KeyRef>) -> Result<Self, JobError> {
        let key = key.ok_or_else(|| JobError::bad_request("the request names no key"))?;
        let spki_sha256 = Sha256::try_from(key.spki_sha256.as_slice()).map_err(|_| {
            JobError::bad_request(
                "only a key pair is destroyed: its public key's SHA-256 is needed",
            )
        })?;
        Ok(Self {
            object_id: key::object_id(&key.object_id)?,
            spki_sha256,
        })
    }

    /// The private and the public half, as far as they are there.
    fn find(&self, seat: &mut Seat) -> Result<[Option<ObjectHandle>; 2], JobError> {
        Ok([
            self.find_half(seat, ObjectClass::PRIVATE_KEY)?,
            self.find_half(seat, ObjectClass::PUBLIC_KEY)?,
        ])
    }

    fn find_half(
        &self,
        seat: &mut Seat,
        class: ObjectClass,
    ) -> Result<Option<ObjectHandle>, JobError> {
        let template = [
            Attribute::Class(class),
            Attribute::Id(self.object_id.to_vec()),
        ];
        // Nothing found may mean nobody logged in: then a key that is there would seem destroyed.
        let found = seat.list(|session| key::find_all(session, &template))?;
        match found.as_slice() {
            [] => Ok(None),
            [object] => Ok(Some(*object)),
            several => Err(JobError::KeyAmbiguous {
                what: format!("{class} with CKA_ID {}", hex(&self.object_id)),
                expected: 1,
                found: several.len(),
            }),
        }
    }

    /// Both halves, before either is touched.
    fn check(
        &self,
        seat: &mut Seat,
        private: Option<ObjectHandle>,
        public: Option<ObjectHandle>,
    ) -> Result<(), JobError> {
        for object in [private, public].into_iter().flatten() {
            let spki = key::spki(seat.session()?, object, &self.object_id)?;
            let found = Sha256::of(&spki);
            if found != self.spki_sha256 {
                let expected = self.spki_sha256;
                return Err(JobError::KeyMismatch { expected, found });
            }
        }
        Ok(())
    }
}

/// The token's refusal in words; what a new session or a new worker cures stays what it is.
fn refused(half: &str, error: Error) -> JobError {
    let error = JobError::from(error);
    match error.return_value() {
        Some(code) if error.is_refusal() => JobError::Refused {
            why: format!("the token does not destroy the {half} half of the key: {error}"),
            return_value: Some(code),
        },
        _ => error,
    }
}
