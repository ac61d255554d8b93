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
use crate::public_key::rsa_spki;
use crate::types::Sha256;

/// How the labels of kekd's data objects begin.
const DATA_LABEL_PREFIX: &str = "kekd ";
/// What a private key is called in an answer.
const PRIVATE_KEY: &str = "private-key";
/// What a public key is.
const PUBLIC_KEY: &str = "public-key";

/// Lists them all.
pub(super) fn inventory(seat: &mut Seat) -> Result<Objects, JobError> {
    let generation = seat.token().generation();
    let found = settle::retry_lost(seat, |seat| seat.list(list))?;
    learn(seat.token(), generation, &found);
    let objects = found.into_iter().map(|(_, object)| object).collect();
    Ok(Objects { objects })
}

/// Keeps the handles of the keys that are the only ones of their class with their id: a search for
/// each would look at every object of the token again.
fn learn(token: &Token, generation: u64, found: &[(ObjectHandle, Object)]) {
    for (id, object) in only_ones(found, PRIVATE_KEY) {
        let (handle, object) = object;
        if let Ok(spki) = Sha256::try_from(object.spki_sha256.as_slice()) {
            let known = Known {
                handle: *handle,
                spki_sha256: Some(spki),
            };
            token.handles().keep(generation, id, known);
        }
    }
    for (id, (handle, _)) in only_ones(found, PUBLIC_KEY) {
        token.handles().keep_public(generation, id, *handle);
    }
}

fn only_ones<'a>(
    found: &'a [(ObjectHandle, Object)],
    class: &str,
) -> impl Iterator<Item = ([u8; 16], &'a (ObjectHandle, Object))> {
    let mut by_id: HashMap<[u8; 16], Option<_>> = HashMap::new();
    for each in found.iter().filter(|(_, object)| object.class == class) {
        if let Ok(id) = key::object_id(&each.1.object_id) {
            let only = by_id.entry(id);
            only.and_modify(|only| *only = None).or_insert(Some(each));
        }
    }
    by_id
        .into_iter()
        .filter_map(|(id, only)| only.map(|only| (id, only)))
}

fn list(session: &Session) -> Result<Vec<(ObjectHandle, Object)>, JobError> {
    let mut objects = Vec::new();
    for (class, name) in [
        (ObjectClass::PRIVATE_KEY, PRIVATE_KEY),
        (ObjectClass::PUBLIC_KEY, PUBLIC_KEY),
        (ObjectClass::SECRET_KEY, "secret-key"),
        (ObjectClass::DATA, "data"),
    ] {
        for handle in key::find_all(session, &[Attribute::Class(class)])? {
            let seen = Seen::of(session, class, handle)?;
            let is_data = class == ObjectClass::DATA;
            if is_data && !seen.label.starts_with(DATA_LABEL_PREFIX) {
                continue;
            }
            let spki_sha256 = match class == ObjectClass::PRIVATE_KEY {
                true => seen.spki_sha256(session, handle),
                false => Vec::new(),
            };
            let object = Object {
                class: name.to_owned(),
                object_id: seen.object_id,
                label: seen.label,
                spki_sha256,
            };
            objects.push((handle, object));
        }
    }
    Ok(objects)
}

/// What one object shows, read with one question: a token may hold very many.
#[derive(Default)]
struct Seen {
    object_id: Vec<u8>,
    label: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl Seen {
    fn of(session: &Session, class: ObjectClass, object: ObjectHandle) -> Result<Self, JobError> {
        use AttributeType::{Id, Label, Modulus, PublicExponent};
        let wanted: &[AttributeType] = match class {
            ObjectClass::DATA => &[Label],
            ObjectClass::PRIVATE_KEY => &[Id, Label, Modulus, PublicExponent],
            _ => &[Id, Label],
        };
        let found = match key::attributes(session, object, wanted)? {
            Some(found) => found,
            // Something in it cannot be read with the rest.
            None => Self::one_by_one(session, object, wanted)?,
        };
        let mut seen = Self::default();
        for attribute in found {
            if let Attribute::Id(id) = attribute {
                seen.object_id = id;
            } else if let Attribute::Label(label) = attribute {
                seen.label = String::from_utf8_lossy(&label).into_owned();
            } else if let Attribute::Modulus(modulus) = attribute {
                seen.modulus = modulus;
            } else if let Attribute::PublicExponent(exponent) = attribute {
                seen.exponent = exponent;
            }
        }
        Ok(seen)
    }

    fn one_by_one(
        session: &Session,
        object: ObjectHandle,
        wanted: &[AttributeType],
    ) -> Result<Vec<Attribute>, JobError> {
        let mut found = Vec::new();
        for attribute in wanted {
            found.extend(key::attribute(session, object, *attribute)?);
        }
        Ok(found)
    }

    /// Empty for what is neither RSA nor P-256, or half made: one broken object must not hide the
    /// others.
    fn spki_sha256(&self, session: &Session, handle: ObjectHandle) -> Vec<u8> {
        let of_rsa = match self.modulus.is_empty() || self.exponent.is_empty() {
            true => None,
            false => rsa_spki(&self.modulus, &self.exponent).ok(),
        };
        let spki = of_rsa.map(Ok).unwrap_or_else(|| {
            let object_id = key::object_id(&self.object_id)?;
            key::spki(session, handle, &object_id)
        });
        spki.map(|spki| Sha256::of(&spki).as_bytes().to_vec())
            .unwrap_or_default()
    }
}
