//! What is in the token: every key, and kekd's own data objects. The daemon compares the list with
//! its ledger; no judgement is made here.

use std::collections::HashMap;

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::error::JobError;
use super::handles::Known;
use super::key;
use super::seat::Seat;
use super::settle;
use super::token::Token;
use crate::proto::worker::{Object, Objects};
use crate::types::Sha256;

/// How the labels of kekd's data objects begin.
const DATA_LABEL_PREFIX: &str = "kekd ";
/// What a private key is called in an answer.
const PRIVATE_KEY: &str = "private-key";

/// Lists them all.
pub(super) fn inventory(seat: &mut Seat) -> Result<Objects, JobError> {
    let generation = seat.token().generation();
    let found = settle::retry_lost(seat, |seat| seat.list(list))?;
    learn(seat.token(), generation, &found);
    let objects = found.into_iter().map(|(_, object)| object).collect();
    Ok(Objects { objects })
}

/// Keeps the handles of the private keys that are the only ones with their id: a search for each
/// would look at every object of the token again.
fn learn(token: &Token, generation: u64, found: &[(ObjectHandle, Object)]) {
    let mut by_id: HashMap<[u8; 16], Option<Known>> = HashMap::new();
    for (handle, object) in found {
        let (Ok(id), true) = (
            key::object_id(&object.object_id),
            object.class == PRIVATE_KEY,
        ) else {
            continue;
        };
        let spki = Sha256::try_from(object.spki_sha256.as_slice()).ok();
        let known = spki.map(|spki| Known {
            handle: *handle,
            spki_sha256: Some(spki),
        });
        by_id
            .entry(id)
            .and_modify(|known| *known = None)
            .or_insert(known);
    }
    for (id, known) in by_id {
        if let Some(known) = known {
            token.handles().keep(generation, id, known);
        }
    }
}

fn list(session: &Session) -> Result<Vec<(ObjectHandle, Object)>, JobError> {
    let mut objects = Vec::new();
    for (class, name) in [
        (ObjectClass::PRIVATE_KEY, PRIVATE_KEY),
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
            let object = Object {
                class: name.to_owned(),
                object_id,
                label,
                spki_sha256,
            };
            objects.push((handle, object));
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
