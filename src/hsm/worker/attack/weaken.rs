//! Attempts to get the key out, or a weaker one in its place.

use cryptoki::error::Error;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;

use super::Siege;
use crate::hsm::profile::{AttributeName, KeyKind};
use crate::hsm::worker::attribute;
use crate::hsm::worker::error::JobError;
use crate::hsm::worker::mechanism;
use crate::hsm::worker::temporary::Temporary;
use crate::types::Padding;

/// Values that would make the key weaker than any profile allows, and those that would give it an
/// ability; the latter count only where the profile withholds it.
const WEAKER: [(AttributeName, bool); 4] = [
    (AttributeName::Extractable, true),
    (AttributeName::Sensitive, false),
    (AttributeName::Private, false),
    (AttributeName::Modifiable, true),
];
const ABILITIES: [AttributeName; 9] = [
    AttributeName::Sign,
    AttributeName::SignRecover,
    AttributeName::Decrypt,
    AttributeName::Unwrap,
    AttributeName::Derive,
    AttributeName::Copyable,
    AttributeName::Wrap,
    AttributeName::Encrypt,
    AttributeName::Verify,
];

/// Wraps the key out under keys made for the purpose.
pub(super) fn wrap_out(siege: &mut Siege<'_>) -> Result<(), JobError> {
    let iv = [0; 16];
    for (mechanism, name) in [
        (Mechanism::AesKeyWrap, "CKM_AES_KEY_WRAP"),
        (Mechanism::AesKeyWrapPad, "CKM_AES_KEY_WRAP_PAD"),
        (Mechanism::AesCbcPad(iv), "CKM_AES_CBC_PAD"),
        (Mechanism::AesCbc(iv), "CKM_AES_CBC"),
        (Mechanism::AesEcb, "CKM_AES_ECB"),
    ] {
        let sentence = format!("the key was wrapped out under an AES key with {name}");
        siege.attempt(AttributeName::Extractable, &sentence, |session, target| {
            let wrapping = Temporary::new(session, aes_key(session)?);
            session.wrap_key(&mechanism, wrapping.handle(), target)?;
            Ok(true)
        })?;
    }
    if siege.profile.kind() != KeyKind::GenericSecret {
        // No RSA key is long enough to wrap another.
        return Ok(());
    }
    for padding in [Padding::OaepSha1, Padding::Pkcs1V15] {
        let sentence = format!("the key was wrapped out under an RSA key with {padding}");
        siege.attempt(AttributeName::Extractable, &sentence, |session, target| {
            let (public, private) = rsa_key(session)?;
            let _private = Temporary::new(session, private);
            let wrapping = Temporary::new(session, public);
            session.wrap_key(&mechanism::of(padding), wrapping.handle(), target)?;
            Ok(true)
        })?;
    }
    Ok(())
}

/// Copies the key, as it is and weaker. The copies are token objects for a moment: some tokens
/// refuse any change in a copy, that of `CKA_TOKEN` too, and would look safer than they are.
pub(super) fn copy(siege: &mut Siege<'_>) -> Result<(), JobError> {
    if !siege.allows(AttributeName::Copyable) {
        for (template, kind) in [
            (vec![], "token"),
            (vec![Attribute::Token(false)], "session"),
        ] {
            let sentence = format!("the key was copied to a {kind} object");
            siege.attempt(AttributeName::Copyable, &sentence, |session, target| {
                let copy = session.copy_object(target, &template)?;
                drop(Temporary::new(session, copy));
                Ok(true)
            })?;
        }
    }
    for (name, value) in weaknesses(siege) {
        let sentence = format!("a copy of the key was made with {name} {value}");
        siege.attempt(name, &sentence, |session, target| {
            let Some(weak) = attribute::flag(name, value) else {
                return Ok(false);
            };
            let copy = session.copy_object(target, &[weak])?;
            let copy = Temporary::new(session, copy);
            // Some tokens answer CKR_OK and leave the attribute as it was.
            has(session, copy.handle(), name, value)
        })?;
    }
    let sentence = "a copy of the key was made that allows raw RSA";
    let broken = AttributeName::AllowedMechanisms;
    siege.attempt(broken, sentence, |session, target| {
        let all = Attribute::AllowedMechanisms(vec![MechanismType::RSA_X_509]);
        let copy = session.copy_object(target, std::slice::from_ref(&all))?;
        let copy = Temporary::new(session, copy);
        let found = session.get_attributes(copy.handle(), &[all.attribute_type()])?;
        Ok(found.first() == Some(&all))
    })
}

/// Changes the key where it is.
pub(super) fn change(siege: &mut Siege<'_>) -> Result<(), JobError> {
    for (name, value) in weaknesses(siege) {
        let sentence = format!("{name} of the key was set to {value}");
        siege.attempt(name, &sentence, |session, target| {
            let Some(weak) = attribute::flag(name, value) else {
                return Ok(false);
            };
            let as_it_was = session.get_attributes(target, &[attribute::type_of(name)])?;
            session.update_attributes(target, &[weak])?;
            let changed = has(session, target, name, value)?;
            drop(session.update_attributes(target, &as_it_was));
            Ok(changed)
        })?;
    }
    Ok(())
}

fn weaknesses(siege: &Siege<'_>) -> Vec<(AttributeName, bool)> {
    let withheld = ABILITIES.iter().filter(|name| !siege.allows(**name));
    WEAKER
        .into_iter()
        .chain(withheld.map(|name| (*name, true)))
        .collect()
}

fn has(
    session: &Session,
    object: ObjectHandle,
    name: AttributeName,
    value: bool,
) -> Result<bool, Error> {
    let found = session.get_attributes(object, &[attribute::type_of(name)])?;
    Ok(found.first() == attribute::flag(name, value).as_ref())
}

fn aes_key(session: &Session) -> Result<ObjectHandle, Error> {
    session.generate_key(
        &Mechanism::AesKeyGen,
        &[
            Attribute::Token(false),
            Attribute::ValueLen(Ulong::new(32)),
            Attribute::Wrap(true),
        ],
    )
}

fn rsa_key(session: &Session) -> Result<(ObjectHandle, ObjectHandle), Error> {
    session.generate_key_pair(
        &Mechanism::RsaPkcsKeyPairGen,
        &[
            Attribute::Token(false),
            Attribute::ModulusBits(Ulong::new(2048)),
            Attribute::PublicExponent(vec![1, 0, 1]),
            Attribute::Wrap(true),
        ],
        &[Attribute::Token(false)],
    )
}
