//! Finding the one key object a request names, and what its public key is. Nothing is done with a
//! key here. The invariant: a key is found by `CKA_ID` and must be the only one of its class;
//! labels and ids can be planted, so the public key decides.

use cryptoki::error::Error;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::error::{JobError, hex};
use super::public_key;

/// The 16 bytes of a `CKA_ID`.
pub(super) fn object_id(bytes: &[u8]) -> Result<[u8; 16], JobError> {
    bytes.try_into().map_err(|_| {
        JobError::bad_request(format!("a CKA_ID has 16 bytes, this one {}", bytes.len()))
    })
}

/// The one private key with this `CKA_ID`.
pub(super) fn find_private(
    session: &Session,
    object_id: &[u8; 16],
) -> Result<ObjectHandle, JobError> {
    find_one(session, ObjectClass::PRIVATE_KEY, "private key", object_id)
}

/// The one secret key with this `CKA_ID`.
pub(super) fn find_secret(
    session: &Session,
    object_id: &[u8; 16],
) -> Result<ObjectHandle, JobError> {
    find_one(session, ObjectClass::SECRET_KEY, "secret key", object_id)
}

/// The one public key with this `CKA_ID`.
pub(super) fn find_public(
    session: &Session,
    object_id: &[u8; 16],
) -> Result<ObjectHandle, JobError> {
    find_one(session, ObjectClass::PUBLIC_KEY, "public key", object_id)
}

/// All objects of the token that match.
pub(super) fn find_all(
    session: &Session,
    matching: &[Attribute],
) -> Result<Vec<ObjectHandle>, JobError> {
    let mut template = vec![Attribute::Token(true)];
    template.extend_from_slice(matching);
    Ok(session.find_objects(&template)?)
}

/// One attribute; `None` where the object has none of that type, or will not show it.
pub(super) fn attribute(
    session: &Session,
    object: ObjectHandle,
    attribute: AttributeType,
) -> Result<Option<Attribute>, JobError> {
    match session.get_attributes(object, &[attribute]) {
        Ok(mut found) => Ok(found.pop()),
        // A value the binding cannot express, for example an unavailable mechanism.
        Err(Error::InvalidValue | Error::TryFromSlice(_) | Error::NotSupported) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Several attributes with one question, without those the object has not or will not show; `None`
/// where one of them makes no sense to the binding, which then says nothing of the others.
pub(super) fn attributes(
    session: &Session,
    object: ObjectHandle,
    wanted: &[AttributeType],
) -> Result<Option<Vec<Attribute>>, JobError> {
    match session.get_attributes(object, wanted) {
        Ok(found) => Ok(Some(found)),
        Err(Error::InvalidValue | Error::TryFromSlice(_) | Error::NotSupported) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The DER `SubjectPublicKeyInfo` of a private or public key object. What the object itself does
/// not show (the point of an EC key; on some tokens an RSA exponent) is taken from the public key
/// object with the same `CKA_ID`.
pub(super) fn spki(
    session: &Session,
    object: ObjectHandle,
    object_id: &[u8; 16],
) -> Result<Vec<u8>, JobError> {
    let public = || find_public(session, object_id);
    spki_beside(session, object, object_id, public)
}

/// The same, where somebody knows the public key object: to search for it is to look at every object
/// of the token.
pub(super) fn spki_beside(
    session: &Session,
    object: ObjectHandle,
    object_id: &[u8; 16],
    public: impl FnOnce() -> Result<ObjectHandle, JobError>,
) -> Result<Vec<u8>, JobError> {
    match attribute(session, object, AttributeType::KeyType)? {
        Some(Attribute::KeyType(KeyType::RSA)) => {
            if let Some(spki) = public_key::rsa(session, object)? {
                return Ok(spki);
            }
            public_key::rsa(session, public()?)?.ok_or_else(|| unreadable(object_id))
        }
        Some(Attribute::KeyType(KeyType::EC)) => {
            let key = public_key::ec_p256(session, public()?)?;
            key.map(|key| key.spki().to_vec())
                .ok_or_else(|| unreadable(object_id))
        }
        Some(_) | None => Err(unreadable(object_id)),
    }
}

fn unreadable(object_id: &[u8; 16]) -> JobError {
    JobError::Unsupported {
        what: format!(
            "the key with CKA_ID {} is neither RSA nor P-256, or its public key cannot be read",
            hex(object_id)
        ),
        return_value: None,
    }
}

fn find_one(
    session: &Session,
    class: ObjectClass,
    class_name: &'static str,
    object_id: &[u8; 16],
) -> Result<ObjectHandle, JobError> {
    let template = [Attribute::Class(class), Attribute::Id(object_id.to_vec())];
    match find_all(session, &template)?.as_slice() {
        [object] => Ok(*object),
        [] => Err(JobError::KeyMissing {
            class: class_name,
            object_id: object_id.to_vec(),
        }),
        several => Err(JobError::KeyAmbiguous {
            what: format!("{class_name} with CKA_ID {}", hex(object_id)),
            expected: 1,
            found: several.len(),
        }),
    }
}
