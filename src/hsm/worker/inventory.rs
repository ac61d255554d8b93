//! What is in the token: every key, and kekd's own data objects. The daemon compares the list with
//! its ledger; no judgement is made here.

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::error::JobError;
use super::key;
use super::seat::Seat;
use super::settle;
use crate::proto::worker::{Object, Objects};
use crate::types::Sha256;

/// How the labels of kekd's data objects begin.
const DATA_LABEL_PREFIX: &str = "kekd ";

/// Lists them all.
pub(super) fn inventory(seat: &mut Seat) -> Result<Objects, JobError> {
    let objects = settle::retry_lost(seat, |seat| seat.list(list))?;
    Ok(Objects { objects })
}

fn list(session: &Session) -> Result<Vec<Object>, JobError> {
    let mut objects = Vec::new();
    for (class, name) in [
        (ObjectClass::PRIVATE_KEY, "private-key"),
        (ObjectClass::PUBLIC_KEY, "public-key"),
        (ObjectClass::SECRET_KEY, "secret-key"),
        (ObjectClass::DATA, "data"),
    ] {
        for handle in key::find_all(session, &[Attribute::Class(class)])? {
            let label = match key::attribute(session, handle, AttributeType::Label)? {
                Some(Attribute::Label(label)) => String::from_utf8_lossy(&label).into_owned(),
                Some(_) | None => String::new(),
            };
            let is_data = class == ObjectClass::DATA;
            if is_data && !label.starts_with(DATA_LABEL_PREFIX) {
                continue;
            }
            let object_id = match is_data {
                true => Vec::new(),
                false => object_id(session, handle)?,
            };
            let spki_sha256 = match class {
                ObjectClass::PRIVATE_KEY | ObjectClass::PUBLIC_KEY => {
                    spki_sha256(session, handle, &object_id)
                }
                _ => Vec::new(),
            };
            objects.push(Object {
                class: name.to_owned(),
                object_id,
                label,
                spki_sha256,
            });
        }
    }
    Ok(objects)
}

fn object_id(session: &Session, handle: ObjectHandle) -> Result<Vec<u8>, JobError> {
    match key::attribute(session, handle, AttributeType::Id)? {
        Some(Attribute::Id(id)) => Ok(id),
        Some(_) | None => Ok(Vec::new()),
    }
}

/// Empty for what is neither RSA nor P-256, or half made: one broken object must not hide the
/// others.
fn spki_sha256(session: &Session, handle: ObjectHandle, object_id: &[u8]) -> Vec<u8> {
    key::object_id(object_id)
        .and_then(|object_id| key::spki(session, handle, &object_id))
        .map(|spki| Sha256::of(&spki).as_bytes().to_vec())
        .unwrap_or_default()
}
