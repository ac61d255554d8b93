//! What one thread of the worker has: a session of its own, and the way to the handles of keys, which
//! all threads share (`handles.rs`).
//! No operation on keys is here. The invariant: a session on which something failed is never used
//! for another request, because an error may leave an operation active in it.

use std::sync::Arc;

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::error::JobError;
use super::handles::Known;
use super::key;
use super::token::Token;
use crate::proto::worker::KeyRef;
use crate::types::Sha256;

/// A thread's session and key handles.
pub(super) struct Seat {
    token: Arc<Token>,
    session: Option<Session>,
    /// Sessions to be closed once the reply is out.
    retired: Vec<Session>,
}

impl Seat {
    /// A seat with an open session.
    pub(super) fn new(token: Arc<Token>) -> Result<Self, JobError> {
        let session = token.session()?;
        Ok(Self {
            token,
            session: Some(session),
            retired: Vec::new(),
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
        let generation = self.token.generation();
        self.token.ensure_login()?;
        if self.token.generation() == generation {
            // The login was there: it was the session or a handle that was not good any more.
            self.token.forget_handles();
        }
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
        let known = match self.token.handles().known(&object_id) {
            Some(known) => known,
            None => {
                // Before the search: what is found before a change must not be kept after it.
                let generation = self.token.generation();
                let handle = self.search(|session| key::find_private(session, &object_id))?;
                let spki = key::spki(self.session()?, handle, &object_id)?;
                self.keep(generation, object_id, handle, Some(Sha256::of(&spki)))
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

    /// The public key object with this `CKA_ID`, once it is known to be the only one.
    pub(super) fn public_key(&mut self, object_id: &[u8; 16]) -> Result<ObjectHandle, JobError> {
        if let Some(known) = self.token.handles().known_public(object_id) {
            return Ok(known);
        }
        let generation = self.token.generation();
        let handle = self.search(|session| key::find_public(session, object_id))?;
        let handles = self.token.handles();
        handles.keep_public(generation, *object_id, handle);
        Ok(handle)
    }

    /// The secret key with this `CKA_ID`, once it is known to be the only one.
    pub(super) fn secret_key(&mut self, key: Option<&KeyRef>) -> Result<ObjectHandle, JobError> {
        let key = key.ok_or_else(|| JobError::bad_request("the request names no secret key"))?;
        let object_id = key::object_id(&key.object_id)?;
        if !key.spki_sha256.is_empty() {
            return Err(JobError::bad_request("a secret key has no public key"));
        }
        let known = match self.token.handles().known(&object_id) {
            Some(known) => known,
            None => {
                let generation = self.token.generation();
                let handle = self.search(|session| key::find_secret(session, &object_id))?;
                self.keep(generation, object_id, handle, None)
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
    pub(super) fn search(
        &mut self,
        find: impl Fn(&Session) -> Result<ObjectHandle, JobError>,
    ) -> Result<ObjectHandle, JobError> {
        let generation = self.token.generation();
        match find(self.session()?) {
            Err(JobError::KeyMissing { class, object_id }) => match self.was_blind(generation)? {
                true => find(self.session()?),
                false => Err(JobError::KeyMissing { class, object_id }),
            },
            found => found,
        }
    }

    /// Lists what must not be empty, and once more where an empty list turns out to mean that the
    /// login was gone.
    pub(super) fn list<T>(
        &mut self,
        find: impl Fn(&Session) -> Result<Vec<T>, JobError>,
    ) -> Result<Vec<T>, JobError> {
        let generation = self.token.generation();
        let found = find(self.session()?)?;
        match found.is_empty() && self.was_blind(generation)? {
            true => find(self.session()?),
            false => Ok(found),
        }
    }

    /// Whether nothing was found for want of a login, which is made good. A token that went away
    /// shows no objects either; that is an error.
    fn was_blind(&self, generation: u64) -> Result<bool, JobError> {
        self.token.ensure_login()?;
        let was_blind = self.token.generation() != generation;
        if !was_blind {
            self.token.check_present()?;
        }
        Ok(was_blind)
    }

    fn keep(
        &self,
        generation: u64,
        object_id: [u8; 16],
        handle: ObjectHandle,
        spki_sha256: Option<Sha256>,
    ) -> Known {
        let known = Known {
            handle,
            spki_sha256,
        };
        self.token.handles().keep(generation, object_id, known);
        known
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::hsm::profile::Profile;
    use crate::hsm::worker::{generate, sign};
    use crate::proto::worker::{Generate, Open, SignDigest};

    /// A module is initialised once per process and finds its configuration in the environment, so
    /// the test itself, below, runs in a process of its own.
    #[test]
    fn a_login_that_is_gone_is_made_good_once_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("tokens")).unwrap();
        let conf = format!("directories.tokendir = {}\n", path("tokens").display());
        fs::write(path("softhsm2.conf"), conf).unwrap();
        fs::write(path("pin"), "73924186").unwrap();
        fs::set_permissions(path("pin"), fs::Permissions::from_mode(0o400)).unwrap();
        let run = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program)
                .args(arguments)
                .env("SOFTHSM2_CONF", path("softhsm2.conf"))
                .current_dir(folder.path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}");
            said
        };
        let util = Path::new("softhsm2-util");
        let pins = ["--pin", "73924186", "--so-pin", "55554444"];
        run(
            util,
            &[&["--init-token", "--free", "--label", "relogin"], &pins[..]].concat(),
        );
        let slots = run(util, &["--show-slots"]);
        let (_, rest) = slots.split_once("Serial number:").unwrap();
        fs::write(path("serial"), rest.lines().next().unwrap().trim()).unwrap();
        let test = concat!(module_path!(), "::in_a_process_of_its_own");
        let (_, test) = test.split_once("::").unwrap();
        let said = run(
            &std::env::current_exe().unwrap(),
            &["--exact", test, "--ignored"],
        );
        assert!(said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "run by the test above, in the folder of a token"]
    fn in_a_process_of_its_own() {
        let open = Open {
            module: "/usr/lib/softhsm/libsofthsm2.so".to_owned(),
            token_label: "relogin".to_owned(),
            token_serial: fs::read_to_string("serial").unwrap(),
            pin_file: "pin".to_owned(),
            pin_mark_file: "pin-refused".to_owned(),
            sessions: 2,
        };
        let token = Arc::new(Token::open(&open).unwrap().0);
        let mut seats = [0, 1, 2].map(|_| Seat::new(Arc::clone(&token)).unwrap());
        let [first, ..] = &mut seats;
        let [request, never_used] = [1, 2].map(|id| {
            let request = Generate {
                object_id: vec![id; 16],
                label: format!("key {id}"),
                profile: Profile::builtin("log-signing").unwrap().into(),
            };
            let spki = generate::generate(first, &request).unwrap().spki;
            SignDigest {
                key: Some(KeyRef {
                    object_id: vec![id; 16],
                    spki_sha256: Sha256::of(&spki).as_bytes().to_vec(),
                }),
                digest: vec![7; 32],
            }
        });
        let [first, second, third] = &mut seats;
        for seat in [&mut *first, &mut *second] {
            sign::digest(seat, &request).unwrap();
        }
        assert_eq!(token.generation(), 0);
        first.session().unwrap().logout().unwrap();
        // Nobody ever saw this key: without a login a search finds nothing and says no more.
        sign::digest(third, &never_used).unwrap();
        for seat in [third, first, second] {
            sign::digest(seat, &request).unwrap();
        }
        // One login for all: handles are forgotten before it and once more after it.
        assert_eq!(token.generation(), 2);
        // With the PIN file gone a login cannot be made good, and nothing pretends otherwise.
        let [first, ..] = &mut seats;
        first.session().unwrap().logout().unwrap();
        fs::remove_file("pin").unwrap();
        let error = sign::digest(first, &request).unwrap_err();
        assert!(matches!(error, JobError::Login(_)), "{error}");
    }
}
