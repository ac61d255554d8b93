//! From the names of a profile to the attributes of the binding, and back to words for a report.
//! No object is read or made here.

use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, AttributeType};

use crate::hsm::profile::{AttributeName, AttributeRule, MechanismName, Profile, Value};

/// The attribute by its type.
pub(super) const fn type_of(name: AttributeName) -> AttributeType {
    match name {
        AttributeName::Token => AttributeType::Token,
        AttributeName::Private => AttributeType::Private,
        AttributeName::Sensitive => AttributeType::Sensitive,
        AttributeName::Extractable => AttributeType::Extractable,
        AttributeName::Modifiable => AttributeType::Modifiable,
        AttributeName::Copyable => AttributeType::Copyable,
        AttributeName::Destroyable => AttributeType::Destroyable,
        AttributeName::Decrypt => AttributeType::Decrypt,
        AttributeName::Unwrap => AttributeType::Unwrap,
        AttributeName::Sign => AttributeType::Sign,
        AttributeName::SignRecover => AttributeType::SignRecover,
        AttributeName::Derive => AttributeType::Derive,
        AttributeName::Encrypt => AttributeType::Encrypt,
        AttributeName::Wrap => AttributeType::Wrap,
        AttributeName::Verify => AttributeType::Verify,
        AttributeName::VerifyRecover => AttributeType::VerifyRecover,
        AttributeName::WrapWithTrusted => AttributeType::WrapWithTrusted,
        AttributeName::AlwaysSensitive => AttributeType::AlwaysSensitive,
        AttributeName::NeverExtractable => AttributeType::NeverExtractable,
        AttributeName::Local => AttributeType::Local,
        AttributeName::KeyGenMechanism => AttributeType::KeyGenMechanism,
        AttributeName::AllowedMechanisms => AttributeType::AllowedMechanisms,
    }
}

/// An attribute that is true or false; `None` for the two that are not.
pub(super) const fn flag(name: AttributeName, value: bool) -> Option<Attribute> {
    match name {
        AttributeName::Token => Some(Attribute::Token(value)),
        AttributeName::Private => Some(Attribute::Private(value)),
        AttributeName::Sensitive => Some(Attribute::Sensitive(value)),
        AttributeName::Extractable => Some(Attribute::Extractable(value)),
        AttributeName::Modifiable => Some(Attribute::Modifiable(value)),
        AttributeName::Copyable => Some(Attribute::Copyable(value)),
        AttributeName::Destroyable => Some(Attribute::Destroyable(value)),
        AttributeName::Decrypt => Some(Attribute::Decrypt(value)),
        AttributeName::Unwrap => Some(Attribute::Unwrap(value)),
        AttributeName::Sign => Some(Attribute::Sign(value)),
        AttributeName::SignRecover => Some(Attribute::SignRecover(value)),
        AttributeName::Derive => Some(Attribute::Derive(value)),
        AttributeName::Encrypt => Some(Attribute::Encrypt(value)),
        AttributeName::Wrap => Some(Attribute::Wrap(value)),
        AttributeName::Verify => Some(Attribute::Verify(value)),
        AttributeName::VerifyRecover => Some(Attribute::VerifyRecover(value)),
        AttributeName::WrapWithTrusted => Some(Attribute::WrapWithTrusted(value)),
        AttributeName::AlwaysSensitive => Some(Attribute::AlwaysSensitive(value)),
        AttributeName::NeverExtractable => Some(Attribute::NeverExtractable(value)),
        AttributeName::Local => Some(Attribute::Local(value)),
        AttributeName::KeyGenMechanism | AttributeName::AllowedMechanisms => None,
    }
}

/// A mechanism by its type.
pub(super) const fn mechanism(name: MechanismName) -> MechanismType {
    match name {
        MechanismName::RsaPkcsKeyPairGen => MechanismType::RSA_PKCS_KEY_PAIR_GEN,
        MechanismName::RsaPkcsOaep => MechanismType::RSA_PKCS_OAEP,
        MechanismName::RsaPkcs => MechanismType::RSA_PKCS,
        MechanismName::Sha256RsaPkcs => MechanismType::SHA256_RSA_PKCS,
        MechanismName::EcKeyPairGen => MechanismType::ECC_KEY_PAIR_GEN,
        MechanismName::Ecdsa => MechanismType::ECDSA,
        MechanismName::GenericSecretKeyGen => MechanismType::GENERIC_SECRET_KEY_GEN,
        MechanismName::Sha256Hmac => MechanismType::SHA256_HMAC,
    }
}

/// `CKA_ALLOWED_MECHANISMS` of a profile.
pub(super) fn allowed_mechanisms(profile: &Profile) -> Vec<MechanismType> {
    let names = profile.allowed_mechanisms().iter();
    names.map(|name| mechanism(*name)).collect()
}

/// The attributes to generate a private, secret or public key with.
pub(super) fn at_birth(profile: &Profile, rules: &[AttributeRule]) -> Vec<Attribute> {
    rules
        .iter()
        .filter(|rule| !rule.read_only && !profile.waives(rule.attribute))
        .filter_map(|rule| {
            let value = rule.at_birth.or_else(|| rule.value.flag())?;
            flag(rule.attribute, value)
        })
        .collect()
}

/// What a rule wants to read back.
pub(super) fn expected(rule: &AttributeRule) -> Option<Attribute> {
    match rule.value {
        Value::Flag(value) => flag(rule.attribute, value),
        Value::Mechanism(name) => Some(Attribute::KeyGenMechanism(mechanism(name))),
    }
}

/// An attribute's value in words.
pub(super) fn shown(name: AttributeName, found: Option<&Attribute>) -> String {
    let Some(found) = found else {
        return "not shown by the token".to_owned();
    };
    if let Attribute::KeyGenMechanism(mechanism) = found {
        return mechanism.to_string();
    }
    for value in [true, false] {
        if flag(name, value).as_ref() == Some(found) {
            return value.to_string();
        }
    }
    format!("{found:?}")
}

/// A set of mechanisms in words, in a settled order.
pub(super) fn shown_mechanisms(mechanisms: &[MechanismType]) -> String {
    let mut names: Vec<String> = mechanisms.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}
