//! What the token must hold, compared with the ledger: the pin and the anchor that tie it to this
//! instance, and exactly one key for each that the ledger names. Looking only: at the start
//! (`open`) and from then on (`vigil`). Attributes and behaviour of keys are `inspect`'s concern.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::label;
use super::open::OpenError;
use crate::audit;
use crate::hsm::{Hsm, HsmError, KeyRef, Object, ObjectClass, transport_object_id};
use crate::keyring::Keyring;
use crate::keyring::Version;
use crate::ledger::{self, Ledger, State};
use crate::merkle::Head;
use crate::quorum::Begun;
use crate::types::KeypairId;

/// Labels of unknown keys that are shown; of more, the number.
const STRANGERS_SHOWN_MAX: usize = 8;
/// Characters of a label that are shown: labels in the token need not be ours.
const LABEL_SHOWN_MAX: usize = 64;

/// What ties the token to an instance, as it was read.
pub(super) struct Ties {
    pins: Vec<Vec<u8>>,
    anchors: Vec<Vec<u8>>,
    pub(super) audit_anchors: Vec<Vec<u8>>,
}

impl Ties {
    pub(super) async fn read(hsm: &Hsm) -> Result<Self, HsmError> {
        let labels = [ledger::PIN_LABEL, ledger::ANCHOR_LABEL, audit::ANCHOR_LABEL];
        let [pins, anchors, audit_anchors] = hsm.read_data(labels).await?;
        Ok(Self {
            pins,
            anchors,
            audit_anchors,
        })
    }

    /// Whether pin and anchor are those of this ledger, and which head the anchor names; `None` where
    /// a crash left several.
    pub(super) fn judge(&self, ledger: &Mutex<Ledger>) -> Result<Option<Head>, OpenError> {
        let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(ledger::judge(&self.pins, &self.anchors, &ledger)?)
    }
}

/// Whether pin and anchor in the token are those of this ledger now.
pub(super) async fn check_ties(hsm: &Hsm, ledger: &Mutex<Ledger>) -> Result<(), OpenError> {
    Ties::read(hsm).await?.judge(ledger).map(drop)
}

/// Every key that the token must hold, with its label: first the instance's own, then those of KEKs.
pub(super) fn keys(state: &State) -> impl Iterator<Item = (KeyRef, String)> {
    let of_instance = state.instance_keys().into_iter().map(KeyRef::from);
    let of_keks = in_token(state);
    of_instance
        .zip(label::OF_INSTANCE.map(str::to_owned))
        .chain(of_keks.map(|version| (KeyRef::from(&**version), label::of(version))))
}

/// The versions whose keys must be there: not those that are gone, nor those that are about to be.
pub(super) fn in_token(state: &State) -> impl Iterator<Item = &Arc<Version>> {
    let governance = state.governance();
    state.keyring().versions().filter(move |version| {
        let begun = governance.begun(version.keypair_id);
        version.is_in_token() && !matches!(begun, Some(Begun::Destroy(_)))
    })
}

/// Whether the token must hold the key of this version now.
pub(super) fn is_in_token(state: &State, id: KeypairId) -> bool {
    let begun = state.governance().begun(id);
    let version = state.keyring().version(id);
    version.is_ok_and(|version| version.is_in_token()) && !matches!(begun, Some(Begun::Destroy(_)))
}

/// The private and secret keys of an inventory, to be looked up: a token may hold very many.
pub(super) struct Holdings<'a> {
    by_id: HashMap<&'a [u8], Vec<&'a Object>>,
    by_label: HashMap<&'a str, Vec<&'a Object>>,
}

impl<'a> Holdings<'a> {
    pub(super) fn new(objects: &'a [Object]) -> Self {
        let (mut by_id, mut by_label) = (HashMap::new(), HashMap::new());
        for object in objects.iter().filter(|object| is_secret(object)) {
            let alike: &mut Vec<_> = by_id.entry(object.object_id.as_slice()).or_default();
            alike.push(object);
            let alike: &mut Vec<_> = by_label.entry(object.label.as_str()).or_default();
            alike.push(object);
        }
        Self { by_id, by_label }
    }

    /// Exactly one private or secret key has this `CKA_ID` or this label, and its public key is the
    /// ledger's.
    pub(super) fn check(&self, key: &KeyRef, label: &str) -> Result<(), OpenError> {
        let by_id = self.by_id.get(key.object_id.as_slice());
        let by_label = self.by_label.get(label);
        let others = by_label.into_iter().flatten();
        let others = others.filter(|object| object.object_id != key.object_id);
        let alike: Vec<&&Object> = by_id.into_iter().flatten().chain(others).collect();
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
}

/// Keys in the token that the ledger does not know, in one sentence: an alarm, never adopted, used
/// or deleted.
pub(super) fn strangers(objects: &[Object], state: &State) -> Option<String> {
    let known = known(state);
    let labels: Vec<String> = objects
        .iter()
        .filter(|object| is_secret(object))
        .filter(|object| !is_of(object, &known) && !is_orphan(object, state))
        .map(|object| shown(&object.label))
        .collect();
    listed(labels).map(|labels| {
        format!(
            "the token holds keys that the ledger does not know, label {labels}: they are not used; \
             find out who made them"
        )
    })
}

/// What executions that ended without effect left in the token, in one sentence: in quarantine, for
/// nothing refers to it, and nothing of its id is made again.
pub(super) fn orphans(objects: &[Object], state: &State) -> Option<String> {
    let known = known(state);
    // A private and a public object have one label.
    let labels: BTreeSet<String> = objects
        .iter()
        .filter(|object| !is_of(object, &known) && is_orphan(object, state))
        .map(|object| shown(&object.label))
        .collect();
    listed(labels.into_iter().collect()).map(|labels| {
        format!(
            "the token holds keys that were made for executions which ended without effect, label \
             {labels}: they are not used. Remove them with the HSM's own tools"
        )
    })
}

/// Ids of what is in the ledger, or is being made for it.
fn known(state: &State) -> HashSet<[u8; 16]> {
    let of_keks = state.keyring().versions().map(|version| version.keypair_id);
    let of_instance = state.instance_keys().map(|key| key.object_id);
    let begun = state.governance().pending_ids();
    // A transport key has an id of its own, and is known for as long as its import waits.
    let transports = state.governance().pending_ids().filter_map(|id| {
        let begun = state.governance().begun(id);
        matches!(begun, Some(Begun::Import(_))).then(|| transport_object_id(id))
    });
    let all = of_keks.chain(of_instance).chain(begun);
    all.map(|id| *id.as_bytes()).chain(transports).collect()
}

fn is_orphan(object: &Object, state: &State) -> bool {
    let id = KeypairId::try_from(object.object_id.as_slice());
    id.is_ok_and(|id| state.governance().was_promised(id))
}

/// Objects of versions that were destroyed, in one sentence: each should be gone.
pub(super) fn remains(objects: &[Object], keyring: &Keyring) -> Option<String> {
    let destroyed: HashSet<[u8; 16]> = keyring
        .versions()
        .filter(|version| !version.is_in_token())
        .map(|version| *version.keypair_id.as_bytes())
        .collect();
    // A private and a public object have one label.
    let labels: BTreeSet<String> = objects
        .iter()
        .filter(|object| is_of(object, &destroyed))
        .map(|object| shown(&object.label))
        .collect();
    listed(labels.into_iter().collect()).map(|labels| {
        format!(
            "the token holds keys of versions that were destroyed, label {labels}: they are not \
             used and should be gone. Find out who brought them back, and remove them with the \
             HSM's own tools"
        )
    })
}

/// Labels for a sentence: sorted, the first of many, and how many more; none for none.
fn listed(mut labels: Vec<String>) -> Option<String> {
    labels.sort();
    let count = labels.len();
    labels.truncate(STRANGERS_SHOWN_MAX);
    let more = match count.saturating_sub(labels.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (count > 0).then(|| format!("{}{more}", labels.join(", ")))
}

fn is_of(object: &Object, ids: &HashSet<[u8; 16]>) -> bool {
    <[u8; 16]>::try_from(object.object_id.as_slice()).is_ok_and(|id| ids.contains(&id))
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use crate::clock::UnixMs;
    use crate::keyring::{Lifecycle, Origin, Stops, Version};
    use crate::types::{KeypairId, Sha256};

    fn version(number: u32, id: u8) -> Version {
        Version {
            kek: "a".parse().unwrap(),
            number,
            keypair_id: KeypairId::from_random([id; 16]),
            lifecycle: Lifecycle::Active,
            stops: Stops::default(),
            origin: Origin::Generated,
            proposal: None,
            spki: vec![],
            spki_sha256: Sha256::of(b""),
            modulus_bits: 3072,
            paddings_shown: vec![],
            pkcs1v15_forbidden: false,
            release_forms: vec![],
            profile: vec![],
            profile_name: String::new(),
            certificate: vec![],
            is_self_signed: false,
            certificate_expires_at: UnixMs(0),
            created_at: UnixMs(0),
        }
    }

    fn object(class: ObjectClass, version: &Version) -> Object {
        Object {
            class,
            object_id: version.keypair_id.as_bytes().to_vec(),
            label: label::of(version),
            spki_sha256: None,
        }
    }

    #[test]
    fn what_is_left_of_a_destroyed_version_is_told_of() {
        let (old, new) = (version(1, 1), version(2, 2));
        let mut keyring = Keyring::default();
        keyring.add(old.clone()).unwrap();
        keyring.add(new.clone()).unwrap();
        let private = |version| object(ObjectClass::PrivateKey, version);
        let public = object(ObjectClass::PublicKey, &old);
        let objects = [private(&old), public.clone(), private(&new)];
        assert_eq!(remains(&objects, &keyring), None);
        keyring.destroy(old.keypair_id).unwrap();
        let told = remains(&objects, &keyring).unwrap();
        assert!(told.contains("label 'kekd kek a/1': "), "{told}");
        assert!(remains(&[public], &keyring).is_some());
        assert_eq!(remains(&[private(&new)], &keyring), None);
    }
}
