//! What one thread of the worker has: a session of its own and the handles of the keys it used.
//! No operation on keys is here. The invariant: a session on which something failed is never used
//! for another request, because an error may leave an operation active in it.

use std::collections::HashMap;
use std::sync::Arc;

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::error::JobError;
use super::key;
use super::token::Token;
use crate::proto::worker::KeyRef;
use crate::types::Sha256;

/// Handles kept per thread. A daemon has a few keys; whoever has more pays a search.
const HANDLES_LEN_MAX: usize = 1024;

/// A thread's session and key handles.
pub(super) struct Seat {
    token: Arc<Token>,
    session: Option<Session>,
    /// Sessions to be closed once the reply is out.
    retired: Vec<Session>,
    handles: HashMap<[u8; 16], Known>,
    generation: u64,
}

/// A key that was looked up, with the public key it was found to have; `None` for a secret key.
#[derive(Clone, Copy)]
struct Known {
    handle: ObjectHandle,
    spki_sha256: Option<Sha256>,
}

impl Seat {
    /// A seat with an open session.
    pub(super) fn new(token: Arc<Token>) -> Result<Self, JobError> {
        let session = token.session()?;
        Ok(Self {
            generation: token.generation(),
            token,
            session: Some(session),
            retired: Vec::new(),
            handles: HashMap::new(),
        })
    }

    /// The token.
    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    /// The token, to hold on to while the seat is used.
    pub(super) fn shared_token(&self) -> Arc<Token> {
        Arc::clone(&self.token)
    }

    /// The session; opened now where there is none.
    pub(super) fn session(&mut self) -> Result<&Session, JobError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.token.session()?,
        };
        Ok(self.session.insert(session))
    }

    /// Puts the session away. The next use opens a fresh one, which knows the same handles.
    pub(super) fn retire_session(&mut self) {
        self.retired.extend(self.session.take());
    }

    /// Begins anew after a session was lost: logged in, no handles, a fresh session.
    pub(super) fn renew(&mut self) -> Result<(), JobError> {
        self.retire_session();
        self.handles.clear();
        self.token.ensure_login()?;
        self.session().map(|_| ())
    }

    /// Closes what was put away and opens what is missing. Called when the reply is out, so that
    /// nobody waits for it. A session that cannot be opened now is opened by the next request,
    /// which then reports why not.
    pub(super) fn tidy(&mut self) {
        self.retired.clear();
        drop(self.session());
    }

    /// The private key with this `CKA_ID`, once it is known to be the only one and to have the
    /// public key expected.
    pub(super) fn private_key(
        &mut self,
        key: Option<&KeyRef>,
    ) -> Result<(ObjectHandle, [u8; 16]), JobError> {
        let key = key.ok_or_else(|| JobError::bad_request("the request names no key"))?;
        let object_id = key::object_id(&key.object_id)?;
        let expected = Sha256::try_from(key.spki_sha256.as_slice()).map_err(|_| {
            JobError::bad_request("the SHA-256 of the expected public key must have 32 bytes")
        })?;
        let known = match self.known(&object_id) {
            Some(known) => known,
            None => {
                let handle = self.search(|session| key::find_private(session, &object_id))?;
                let spki = key::spki(self.session()?, handle, &object_id)?;
                self.keep(object_id, handle, Some(Sha256::of(&spki)))
            }
        };
        match known.spki_sha256 {
            Some(found) if found == expected => Ok((known.handle, object_id)),
            Some(found) => Err(JobError::KeyMismatch { expected, found }),
            None => Err(JobError::KeyMissing {
                class: "private key",
                object_id: object_id.to_vec(),
            }),
        }
    }

    /// The secret key with this `CKA_ID`, once it is known to be the only one.
    pub(super) fn secret_key(&mut self, key: Option<&KeyRef>) -> Result<ObjectHandle, JobError> {
        let key = key.ok_or_else(|| JobError::bad_request("the request names no secret key"))?;
        let object_id = key::object_id(&key.object_id)?;
        if !key.spki_sha256.is_empty() {
            return Err(JobError::bad_request("a secret key has no public key"));
        }
        let known = match self.known(&object_id) {
            Some(known) => known,
            None => {
                let handle = self.search(|session| key::find_secret(session, &object_id))?;
                self.keep(object_id, handle, None)
            }
        };
        match known.spki_sha256 {
            None => Ok(known.handle),
            Some(_) => Err(JobError::KeyMissing {
                class: "secret key",
                object_id: object_id.to_vec(),
            }),
        }
    }

    /// Searches, and once more where the login turns out to be gone: without it private objects
    /// are simply not seen, and no call says why.
    fn search(
        &mut self,
        find: impl Fn(&Session) -> Result<ObjectHandle, JobError>,
    ) -> Result<ObjectHandle, JobError> {
        let generation = self.token.generation();
        match find(self.session()?) {
            Err(JobError::KeyMissing { class, object_id }) => {
                self.token.ensure_login()?;
                if self.token.generation() == generation {
                    return Err(JobError::KeyMissing { class, object_id });
                }
                find(self.session()?)
            }
            found => found,
        }
    }

    fn known(&mut self, object_id: &[u8; 16]) -> Option<Known> {
        let generation = self.token.generation();
        if generation != self.generation {
            self.handles.clear();
            self.generation = generation;
        }
        self.handles.get(object_id).copied()
    }

    fn keep(
        &mut self,
        object_id: [u8; 16],
        handle: ObjectHandle,
        spki_sha256: Option<Sha256>,
    ) -> Known {
        if self.handles.len() >= HANDLES_LEN_MAX {
            self.handles.clear();
        }
        let known = Known {
            handle,
            spki_sha256,
        };
        self.handles.insert(object_id, known);
        known
    }
}
