//! What the token must hold, compared with the ledger: the pin and the anchor that tie it to this
//! instance, and exactly one key for each that the ledger names. Looking only: at the start
//! (`open`) and from then on (`vigil`). Attributes and behaviour of keys are `inspect`'s concern.

use std::sync::{Mutex, PoisonError};

use super::label;
use super::open::OpenError;
use crate::hsm::{Hsm, KeyRef, Object, ObjectClass};
use crate::ledger::{self, Ledger, State};

/// Labels of unknown keys that are shown; of more, the number.
const STRANGERS_SHOWN_MAX: usize = 8;
/// Characters of a label that are shown: labels in the token need not be ours.
const LABEL_SHOWN_MAX: usize = 64;

/// Whether pin and anchor in the token are those of this ledger.
pub(super) async fn check_ties(hsm: &Hsm, ledger: &Mutex<Ledger>) -> Result<(), OpenError> {
    let pins = hsm.read_data(ledger::PIN_LABEL).await?;
    let anchors = hsm.read_data(ledger::ANCHOR_LABEL).await?;
    let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(ledger::judge(&pins, &anchors, &ledger)?)
}

/// Every key the ledger names, with its label: first the instance's own, then those of KEKs.
pub(super) fn keys(state: &State) -> impl Iterator<Item = (KeyRef, String)> {
    let of_instance = state.instance_keys().into_iter().map(KeyRef::from);
    let of_keks = state.keyring().versions();
    of_instance
        .zip(label::OF_INSTANCE.map(str::to_owned))
        .chain(of_keks.map(|version| (KeyRef::from(&**version), label::of(version))))
}

/// Exactly one private or secret key has this `CKA_ID` or this label, and its public key is the
/// ledger's.
pub(super) fn check_key(objects: &[Object], key: &KeyRef, label: &str) -> Result<(), OpenError> {
    let alike: Vec<&Object> = objects
        .iter()
        .filter(|object| is_secret(object))
        .filter(|object| object.object_id == key.object_id || object.label == label)
        .collect();
    match alike.as_slice() {
        [] => Err(OpenError::KeyMissing {
            label: label.to_owned(),
            object_id: key.to_string(),
        }),
        [found] if found.object_id != key.object_id => Err(OpenError::KeyMissing {
            label: label.to_owned(),
            object_id: key.to_string(),
        }),
        [found] => match (key.spki_sha256, found.spki_sha256) {
            (Some(expected), Some(found)) if expected != found => Err(OpenError::OtherKey {
                label: label.to_owned(),
                expected,
                found,
            }),
            _ => Ok(()),
        },
        many => Err(OpenError::Lookalike {
            label: label.to_owned(),
            count: many.len(),
        }),
    }
}

/// Keys in the token that the ledger does not know, in one sentence: an alarm, never adopted, used
/// or deleted.
pub(super) fn strangers(objects: &[Object], state: &State) -> Option<String> {
    let known: Vec<[u8; 16]> = keys(state).map(|(key, _)| key.object_id).collect();
    let mut labels: Vec<String> = objects
        .iter()
        .filter(|object| is_secret(object))
        .filter(|object| !known.iter().any(|id| object.object_id == *id))
        .map(|object| shown(&object.label))
        .collect();
    labels.sort();
    let count = labels.len();
    labels.truncate(STRANGERS_SHOWN_MAX);
    let more = match count.saturating_sub(labels.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (count > 0).then(|| {
        format!(
            "the token holds keys that the ledger does not know, label {}{more}: they are not used; \
             find out who made them",
            labels.join(", ")
        )
    })
}

/// A label of the token's between quotes, for people: nothing in it can pass for another line.
pub(super) fn shown(label: &str) -> String {
    let cut: String = label.chars().take(LABEL_SHOWN_MAX).collect();
    format!("'{}'", cut.escape_debug())
}

fn is_secret(object: &Object) -> bool {
    matches!(
        object.class,
        ObjectClass::PrivateKey | ObjectClass::SecretKey
    )
}
