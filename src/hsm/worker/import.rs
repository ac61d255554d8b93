//! Bringing in a private key that was made elsewhere. It comes wrapped under an AES key, and that
//! wrapped under a transport key of this token; both are unwrapped by the token to objects of the
//! token, so neither is ever in this process. The invariants: nothing stays in the token but a key
//! that has the public key that was approved and keeps its profile; and to ask twice is to ask once.

mod refusal;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::error::JobError;
use super::seat::Seat;
use super::temporary::Temporary;
use super::{attribute, generate, key, mechanism, public_key, read_back, settle};
use crate::hsm::profile::Profile;
use crate::proto::worker::{Generate, Generated, Import, Imported, MakeTransport};
use crate::public_key::RsaPublicKey;
use crate::types::{Padding, Sha256};

/// Bytes of the longest wrapped AES key: the modulus of a 4096-bit transport key.
const WRAPPED_AES_KEY_LEN_MAX: usize = 512;
/// Bytes of the longest wrapped private key: PKCS#8 of 4096 bits has some 2,400.
const WRAPPED_PRIVATE_KEY_LEN_MAX: usize = 4096;

/// Makes the transport key, or finds it as an earlier request made it.
pub(super) fn transport(seat: &mut Seat, request: &MakeTransport) -> Result<Generated, JobError> {
    let object_id = key::object_id(&request.object_id)?;
    let profile = generate::parse(&request.profile)?;
    let found = settle::retry_lost(seat, |seat| find(seat, &object_id))?;
    let Some(handle) = found else {
        let request = Generate {
            object_id: request.object_id.clone(),
            label: request.label.clone(),
            profile: request.profile.clone(),
        };
        return generate::generate(seat, &request);
    };
    let session = seat.session()?;
    keeps_profile(session, &profile, handle, &object_id, &request.label)?;
    let spki = key::spki(session, handle, &object_id)?;
    Ok(Generated { spki })
}

/// Brings the key in and answers with its public half.
pub(super) fn import(seat: &mut Seat, request: &Import) -> Result<Imported, JobError> {
    let wanted = Wanted::new(request)?;
    let token = seat.shared_token();
    let _only_one = token.changes();
    let was_there = settle::retry_lost(seat, |seat| wanted.is_there(seat))?;
    settle::retry_lost(seat, |seat| {
        if find(seat, &wanted.object_id)?.is_none() {
            generate::check_free(seat.session()?, &wanted.object_id, &request.label)?;
            wanted.bring_in(seat)?;
        }
        wanted.complete(seat, was_there)
    })
}

/// What the officers approved, and what it is wrapped in.
struct Wanted<'a> {
    request: &'a Import,
    profile: Profile,
    object_id: [u8; 16],
    transport_id: [u8; 16],
    spki_sha256: Sha256,
}

impl<'a> Wanted<'a> {
    fn new(request: &'a Import) -> Result<Self, JobError> {
        let profile = generate::parse(&request.profile)?;
        generate::check_label(&request.label)?;
        if !profile.is_imported() {
            let why = format!("profile {} is not of an imported key", profile.name());
            return Err(JobError::bad_request(why));
        }
        for (what, wrapped, len_max) in [
            ("AES", &request.wrapped_aes_key, WRAPPED_AES_KEY_LEN_MAX),
            (
                "private",
                &request.wrapped_private_key,
                WRAPPED_PRIVATE_KEY_LEN_MAX,
            ),
        ] {
            let len = wrapped.len();
            if len == 0 || len > len_max {
                let why = format!("a wrapped {what} key has 1 to {len_max} bytes, this one {len}");
                return Err(JobError::bad_request(why));
            }
        }
        let key = request.key.as_ref();
        let key = key.ok_or_else(|| JobError::bad_request("the request names no key"))?;
        let spki_sha256 = Sha256::try_from(key.spki_sha256.as_slice()).map_err(|_| {
            JobError::bad_request("the SHA-256 of the expected public key must have 32 bytes")
        })?;
        Ok(Self {
            request,
            profile,
            object_id: key::object_id(&key.object_id)?,
            transport_id: key::object_id(&request.transport_object_id)?,
            spki_sha256,
        })
    }

    /// Whether an earlier request brought the private key in. An object without a modulus is what an
    /// unwrapping leaves that ends with its process: no key, and in the way of one, so it is destroyed. A
    /// token that has the modulus and does not show it has refused the rehearsal.
    fn is_there(&self, seat: &mut Seat) -> Result<bool, JobError> {
        let Some(found) = find(seat, &self.object_id)? else {
            return Ok(false);
        };
        let session = seat.session()?;
        let is_key = public_key::rsa(session, found)?.is_some();
        if !is_key {
            session.destroy_object(found)?;
        }
        Ok(is_key)
    }

    /// Unwraps the private key twice: as an object of this session, to see what it is, and then for
    /// good. So a wrong key is never an object of the token, not even if this is cut short.
    fn bring_in(&self, seat: &mut Seat) -> Result<(), JobError> {
        let id = &self.transport_id;
        let transport = seat.search(|session| key::find_private(session, id))?;
        let session = seat.session()?;
        let aes_key = session
            .unwrap_key(
                &mechanism::of(Padding::OaepSha1),
                transport,
                &self.request.wrapped_aes_key,
                &aes_key_template(),
            )
            .map_err(|error| refusal::of_aes_key(error.into()))?;
        let aes_key = Temporary::new(session, aes_key);
        let rehearsal = self.unwrap(session, &aes_key, false)?;
        let rehearsal = Temporary::new(session, rehearsal);
        self.check_public_key(session, rehearsal.handle())?;
        drop(rehearsal);
        match self.unwrap(session, &aes_key, true) {
            Ok(_) => Ok(()),
            // Done and denied is not done: a search finds it.
            Err(error) => Err(self.undo(session, error)),
        }
    }

    fn unwrap(
        &self,
        session: &Session,
        aes_key: &Temporary<'_>,
        for_good: bool,
    ) -> Result<ObjectHandle, JobError> {
        let mut template = vec![
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Token(for_good),
        ];
        let attributes = generate::private_attributes(&self.profile);
        let kept = attributes.into_iter();
        template.extend(kept.filter(|kept| !matches!(kept, Attribute::Token(_))));
        if for_good {
            template.extend(self.names());
        }
        // Last: SoftHSM lets no attribute be set after this one, not even in the same template.
        template.sort_by_key(|attribute| matches!(attribute, Attribute::Modifiable(_)));
        // SoftHSM does RFC 5649 under the number of CKM_AES_KEY_WRAP_PAD. The number it has in
        // PKCS#11 v3.0, CKM_AES_KEY_WRAP_KWP, cannot be expressed with the binding.
        session
            .unwrap_key(
                &Mechanism::AesKeyWrapPad,
                aes_key.handle(),
                &self.request.wrapped_private_key,
                &template,
            )
            .map_err(|error| refusal::of_private_key(error.into(), &self.profile))
    }

    fn names(&self) -> [Attribute; 2] {
        [
            Attribute::Id(self.object_id.to_vec()),
            Attribute::Label(self.request.label.as_bytes().to_vec()),
        ]
    }

    /// Makes what is missing beside the private key, and keeps what this request brought in only if
    /// it is as approved. What was there before it is left to people.
    fn complete(&self, seat: &mut Seat, was_there: bool) -> Result<Imported, JobError> {
        let id = &self.object_id;
        let private = seat.search(|session| key::find_private(session, id))?;
        let session = seat.session()?;
        let spki = self.check_public_key(session, private)?;
        let Err(error) = self.add_public_key(session, private, &spki) else {
            return Ok(Imported { spki });
        };
        Err(match was_there {
            true => error,
            false => self.undo(session, error),
        })
    }

    /// Destroys what was brought in, unless a repeated request is to go on from there.
    fn undo(&self, session: &Session, error: JobError) -> JobError {
        if refusal::is_of_loss(&error) {
            return error;
        }
        let destroy = |class| -> Result<(), JobError> {
            for object in self.find_all(session, class)? {
                session.destroy_object(object)?;
            }
            Ok(())
        };
        let undone = destroy(ObjectClass::PRIVATE_KEY);
        match undone.and_then(|()| destroy(ObjectClass::PUBLIC_KEY)) {
            Ok(()) => error,
            Err(left) => JobError::Refused {
                return_value: left.return_value(),
                why: format!("{error}; and the key that was brought in is left: {left}"),
            },
        }
    }

    /// Makes the public key object where there is none, and compares both with the profile.
    fn add_public_key(
        &self,
        session: &Session,
        private: ObjectHandle,
        spki: &[u8],
    ) -> Result<(), JobError> {
        if self.find_all(session, ObjectClass::PUBLIC_KEY)?.is_empty() {
            self.make_public_key(session, spki)?;
        }
        let label = &self.request.label;
        keeps_profile(session, &self.profile, private, &self.object_id, label)
    }

    fn find_all(
        &self,
        session: &Session,
        class: ObjectClass,
    ) -> Result<Vec<ObjectHandle>, JobError> {
        let id = Attribute::Id(self.object_id.to_vec());
        key::find_all(session, &[Attribute::Class(class), id])
    }

    /// The public key of the private one, read from itself: there may be no other object yet.
    fn check_public_key(
        &self,
        session: &Session,
        private: ObjectHandle,
    ) -> Result<Vec<u8>, JobError> {
        let spki = public_key::rsa(session, private)?.ok_or_else(|| JobError::Unsupported {
            what: "the token does not show the modulus and the public exponent of a private key"
                .to_owned(),
            return_value: None,
        })?;
        let (expected, found) = (self.spki_sha256, Sha256::of(&spki));
        match expected == found {
            true => Ok(spki),
            false => Err(JobError::KeyMismatch { expected, found }),
        }
    }

    fn make_public_key(&self, session: &Session, spki: &[u8]) -> Result<(), JobError> {
        let public = RsaPublicKey::from_spki(spki).map_err(|error| {
            JobError::bad_request(format!("the key that was brought in is of no use: {error}"))
        })?;
        let mut template = vec![
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Modulus(public.modulus().to_vec()),
            Attribute::PublicExponent(public.public_exponent().to_vec()),
        ];
        template.extend(attribute::at_birth(&self.profile, self.profile.public()));
        template.extend(self.names());
        session.create_object(&template)?;
        Ok(())
    }
}

/// The object with this `CKA_ID` that is a private key, where there is one.
fn find(seat: &mut Seat, object_id: &[u8; 16]) -> Result<Option<ObjectHandle>, JobError> {
    match seat.search(|session| key::find_private(session, object_id)) {
        Ok(handle) => Ok(Some(handle)),
        Err(JobError::KeyMissing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sensitive, not extractable, and good for unwrapping one key in this session.
fn aes_key_template() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Unwrap(true),
        Attribute::Wrap(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Derive(false),
    ]
}

fn keeps_profile(
    session: &Session,
    profile: &Profile,
    handle: ObjectHandle,
    object_id: &[u8; 16],
    label: &str,
) -> Result<(), JobError> {
    let mismatches = read_back::compare(session, profile, (handle, None), object_id, label)?;
    let Some(first) = mismatches.first() else {
        return Ok(());
    };
    Err(JobError::Refused {
        why: format!(
            "the key in the token is not what profile {} says: {} is {} where {} is expected",
            profile.name(),
            first.attribute,
            first.found,
            first.expected
        ),
        return_value: None,
    })
}
