//! Attempts to read the key, and to use it for what it is not for.

use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use cryptoki::types::Ulong;

use super::Siege;
use crate::hsm::profile::{AttributeName, KeyKind, MechanismName};
use crate::hsm::worker::error::JobError;
use crate::hsm::worker::mechanism;
use crate::hsm::worker::temporary::Temporary;
use crate::public_key::{P256PublicKey, PublicKeyError, RsaPublicKey};
use crate::types::{DEK_LEN, Padding};

/// Reads the secret values.
pub(super) fn read(siege: &mut Siege<'_>) -> Result<(), JobError> {
    let values: &[(AttributeType, &str)] = match siege.profile.kind() {
        KeyKind::Rsa { .. } => &[
            (AttributeType::PrivateExponent, "CKA_PRIVATE_EXPONENT"),
            (AttributeType::Prime1, "CKA_PRIME_1"),
            (AttributeType::Prime2, "CKA_PRIME_2"),
            (AttributeType::Exponent1, "CKA_EXPONENT_1"),
        ],
        KeyKind::EcP256 | KeyKind::GenericSecret => &[(AttributeType::Value, "CKA_VALUE")],
    };
    for (value, name) in values {
        let sentence = format!("{name} of the key was read");
        siege.attempt(AttributeName::Sensitive, &sentence, |session, target| {
            // An attribute that may not be read comes back as an empty list.
            Ok(!session.get_attributes(target, &[*value])?.is_empty())
        })?;
    }
    Ok(())
}

/// Signs: with anything where the key may not sign, with what is not allowed where it may.
pub(super) fn sign(siege: &mut Siege<'_>) -> Result<(), JobError> {
    let pss = Mechanism::RsaPkcsPss(PkcsPssParams {
        hash_alg: MechanismType::SHA256,
        mgf: PkcsMgfType::MGF1_SHA256,
        s_len: Ulong::new(32),
    });
    let mechanisms = match siege.profile.kind() {
        KeyKind::Rsa { .. } => vec![
            (Mechanism::RsaPkcs, "CKM_RSA_PKCS"),
            (Mechanism::Sha256RsaPkcs, "CKM_SHA256_RSA_PKCS"),
            (pss, "CKM_RSA_PKCS_PSS"),
            (Mechanism::RsaX509, "CKM_RSA_X_509"),
        ],
        KeyKind::EcP256 => vec![
            (Mechanism::EcdsaSha1, "CKM_ECDSA_SHA1"),
            (Mechanism::EcdsaSha256, "CKM_ECDSA_SHA256"),
        ],
        KeyKind::GenericSecret => vec![
            (Mechanism::Sha1Hmac, "CKM_SHA_1_HMAC"),
            (Mechanism::Sha512Hmac, "CKM_SHA512_HMAC"),
        ],
    };
    let Some(broken) = siege.guard(AttributeName::Sign, None) else {
        return Ok(());
    };
    for (mechanism, name) in mechanisms {
        let sentence = format!("a signature with {name} was begun");
        siege.attempt(broken, &sentence, |session, target| {
            session.sign_init(&mechanism, target)?;
            Ok(true)
        })?;
    }
    Ok(())
}

/// Decrypts where the profile does not allow the act, or not the mechanism.
pub(super) fn decrypt(siege: &mut Siege<'_>) -> Result<(), JobError> {
    if !matches!(siege.profile.kind(), KeyKind::Rsa { .. }) {
        return Ok(());
    }
    let oaep = mechanism::of(Padding::OaepSha1);
    let (raw, pkcs1) = (Mechanism::RsaX509, Mechanism::RsaPkcs);
    for (mechanism, used, name) in [
        (raw, None, "CKM_RSA_X_509"),
        (pkcs1, Some(MechanismName::RsaPkcs), "CKM_RSA_PKCS"),
        (oaep, Some(MechanismName::RsaPkcsOaep), "CKM_RSA_PKCS_OAEP"),
    ] {
        let Some(broken) = siege.guard(AttributeName::Decrypt, used) else {
            continue;
        };
        let sentence = format!("a decryption with {name} was begun");
        siege.attempt(broken, &sentence, |session, target| {
            session.decrypt_init(&mechanism, target)?;
            Ok(true)
        })?;
    }
    Ok(())
}

/// Unwraps where the profile does not allow the act, or not the mechanism.
pub(super) fn unwrap(siege: &mut Siege<'_>) -> Result<(), JobError> {
    if !matches!(siege.profile.kind(), KeyKind::Rsa { .. }) {
        return Ok(());
    }
    let key = RsaPublicKey::from_spki(&siege.spki).map_err(unsound)?;
    for (padding, used) in [
        (Padding::Pkcs1V15, MechanismName::RsaPkcs),
        (Padding::OaepSha1, MechanismName::RsaPkcsOaep),
    ] {
        let Some(broken) = siege.guard(AttributeName::Unwrap, Some(used)) else {
            continue;
        };
        // A worthless key, wrapped under the key's public half.
        let wrapped = key.wrap(padding, &[0x5a; DEK_LEN]).map_err(unsound)?;
        let sentence = format!("a key was unwrapped with {used}");
        siege.attempt(broken, &sentence, |session, target| {
            let template = [
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::AES),
                Attribute::Token(false),
            ];
            let mechanism = mechanism::of(padding);
            let object = session.unwrap_key(&mechanism, target, wrapped.as_bytes(), &template)?;
            drop(Temporary::new(session, object));
            Ok(true)
        })?;
    }
    Ok(())
}

/// Agrees on a secret with a signing key.
pub(super) fn derive(siege: &mut Siege<'_>) -> Result<(), JobError> {
    if siege.profile.kind() != KeyKind::EcP256 {
        return Ok(());
    }
    let key = P256PublicKey::from_spki(&siege.spki).map_err(unsound)?;
    let sentence = "a secret was derived with CKM_ECDH1_DERIVE";
    siege.attempt(AttributeName::Derive, sentence, |session, target| {
        let params = Ecdh1DeriveParams::new(EcKdf::null(), key.point());
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::ValueLen(Ulong::new(32)),
        ];
        let secret = session.derive_key(&Mechanism::Ecdh1Derive(params), target, &template)?;
        drop(Temporary::new(session, secret));
        Ok(true)
    })
}

fn unsound(error: PublicKeyError) -> JobError {
    JobError::link_lost(format!("the key's public half cannot be used: {error}"))
}
