//! What is in the token: every key, and kekd's own data objects. The daemon compares the list with
//! its ledger; no judgement is made here.

use std::collections::{HashMap, HashSet};

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
/// What the others are.
const PUBLIC_KEY: &str = "public-key";
const SECRET_KEY: &str = "secret-key";
const DATA: &str = "data";

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
    let private = found
        .iter()
        .filter(|(_, object)| object.class == PRIVATE_KEY);
    let private: HashSet<_> = private.map(|(_, object)| &object.object_id[..]).collect();
    for (id, (handle, _)) in only_ones(found, SECRET_KEY) {
        // One name for two keys of different classes: whoever wants one searches for it.
        if !private.contains(&id[..]) {
            let known = Known {
                handle: *handle,
                spki_sha256: None,
            };
            token.handles().keep(generation, id, known);
        }
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

/// One search, for each goes through all objects of the token.
fn list(session: &Session) -> Result<Vec<(ObjectHandle, Object)>, JobError> {
    let mut seen = Vec::new();
    let mut public = HashMap::new();
    for handle in key::find_all(session, &[])? {
        let one = Seen::of(session, handle)?;
        if one.class == Some(ObjectClass::PUBLIC_KEY) {
            let only = public.entry(one.object_id.clone());
            only.and_modify(|only| *only = None).or_insert(Some(handle));
        }
        seen.push((handle, one));
    }
    let mut objects = Vec::new();
    for (handle, one) in seen {
        let class = match one.class {
            Some(ObjectClass::PRIVATE_KEY) => PRIVATE_KEY,
            Some(ObjectClass::PUBLIC_KEY) => PUBLIC_KEY,
            Some(ObjectClass::SECRET_KEY) => SECRET_KEY,
            Some(ObjectClass::DATA) if one.label.starts_with(DATA_LABEL_PREFIX) => DATA,
            Some(_) | None => continue,
        };
        let spki_sha256 = match class == PRIVATE_KEY {
            // Some private keys are told by their public halves.
            true => one.spki_sha256(session, handle, &public),
            false => Vec::new(),
        };
        let object = Object {
            class: class.to_owned(),
            object_id: one.object_id,
            label: one.label,
            spki_sha256,
        };
        objects.push((handle, object));
    }
    // Private keys come first in the list.
    objects.sort_by_key(|(_, object)| object.class != PRIVATE_KEY);
    Ok(objects)
}

/// What one object shows, read with one question: a token may hold very many.
#[derive(Default)]
struct Seen {
    class: Option<ObjectClass>,
    object_id: Vec<u8>,
    label: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl Seen {
    fn of(session: &Session, object: ObjectHandle) -> Result<Self, JobError> {
        use AttributeType::{Class, Id, Label, Modulus, PublicExponent};
        let wanted = [Class, Id, Label, Modulus, PublicExponent];
        let found = match key::attributes(session, object, &wanted)? {
            Some(found) => found,
            // Something in it cannot be read with the rest.
            None => Self::one_by_one(session, object, &wanted)?,
        };
        let mut seen = Self::default();
        for attribute in found {
            if let Attribute::Class(class) = attribute {
                seen.class = Some(class);
            } else if let Attribute::Id(id) = attribute {
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
    /// others. `public` has the public keys by `CKA_ID`, where there is one.
    fn spki_sha256(
        &self,
        session: &Session,
        handle: ObjectHandle,
        public: &HashMap<Vec<u8>, Option<ObjectHandle>>,
    ) -> Vec<u8> {
        let of_rsa = match self.modulus.is_empty() || self.exponent.is_empty() {
            true => None,
            false => rsa_spki(&self.modulus, &self.exponent).ok(),
        };
        let spki = of_rsa.map(Ok).unwrap_or_else(|| {
            let object_id = key::object_id(&self.object_id)?;
            key::spki_beside(session, handle, &object_id, || {
                let known = public.get(&self.object_id).copied().flatten();
                known.ok_or_else(|| JobError::KeyMissing {
                    class: "public key",
                    object_id: self.object_id.clone(),
                })
            })
        });
        spki.map(|spki| Sha256::of(&spki).as_bytes().to_vec())
            .unwrap_or_default()
    }
}
