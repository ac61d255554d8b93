//! Making a key to a profile. The only place that makes a token key. The invariant: nothing is made
//! where an object with this `CKA_ID` or label is, and what cannot be read back is not left behind.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::Session;
use cryptoki::types::Ulong;

use super::error::{JobError, hex};
use super::return_value;
use super::seat::Seat;
use super::{attribute, key, public_key, settle};
use crate::hsm::profile::{AttributeName, KeyKind, Profile};
use crate::proto::worker::{Generate, Generated};

/// Bytes of the longest label.
pub(super) const LABEL_LEN_MAX: usize = 128;
/// Bytes of a generic secret.
const SECRET_LEN: Ulong = Ulong::new(32);

/// Generates the key and answers with its public half.
pub(super) fn generate(seat: &mut Seat, request: &Generate) -> Result<Generated, JobError> {
    let object_id = key::object_id(&request.object_id)?;
    let profile = parse(&request.profile)?;
    if profile.is_imported() {
        let why = format!("profile {} is of an imported key", profile.name());
        return Err(JobError::bad_request(why));
    }
    check_label(&request.label)?;
    let token = seat.shared_token();
    let _only_one = token.changes();
    settle::retry_lost(seat, |seat| {
        check_free(seat.session()?, &object_id, &request.label)
    })?;
    // From here on nothing is tried again: a second attempt could make a second key.
    let (mechanism, size) = kind(&profile)?;
    let names = [
        Attribute::Id(object_id.to_vec()),
        Attribute::Label(request.label.as_bytes().to_vec()),
    ];
    let private = [&names[..], &private_attributes(&profile)].concat();
    let session = seat.session()?;
    if profile.kind() == KeyKind::GenericSecret {
        session
            .generate_key(&mechanism, &[&private[..], &size].concat())
            .map_err(|error| refused(&profile, error.into()))?;
        return Ok(Generated { spki: Vec::new() });
    }
    let public = attribute::at_birth(&profile, profile.public());
    let public = [&names[..], &public, &size].concat();
    let (public, private) = session
        .generate_key_pair(&mechanism, &public, &private)
        .map_err(|error| refused(&profile, error.into()))?;
    match key::spki(session, private, &object_id) {
        Ok(spki) => Ok(Generated { spki }),
        Err(error) => {
            // A pair nobody can name is of no use to anybody.
            drop(session.destroy_object(private));
            drop(session.destroy_object(public));
            Err(error)
        }
    }
}

/// Reads a profile that came in a request.
pub(super) fn parse(profile: &[u8]) -> Result<Profile, JobError> {
    Profile::parse(profile).map_err(|error| JobError::bad_request(error.to_string()))
}

/// Refuses a label that a person could not read.
pub(super) fn check_label(label: &str) -> Result<(), JobError> {
    if label.is_empty() || label.len() > LABEL_LEN_MAX || label.chars().any(char::is_control) {
        let why = format!("a label has 1 to {LABEL_LEN_MAX} bytes and no control characters");
        return Err(JobError::bad_request(why));
    }
    Ok(())
}

/// Refuses to make anything where an object has this `CKA_ID` or label.
pub(super) fn check_free(
    session: &Session,
    object_id: &[u8; 16],
    label: &str,
) -> Result<(), JobError> {
    let taken = [
        (
            Attribute::Id(object_id.to_vec()),
            format!("with CKA_ID {}", hex(object_id)),
        ),
        (
            Attribute::Label(label.as_bytes().to_vec()),
            format!("with CKA_LABEL {label:?}"),
        ),
    ];
    for (attribute, what) in taken {
        let found = key::find_all(session, &[attribute])?.len();
        if found > 0 {
            return Err(JobError::KeyAmbiguous {
                what,
                expected: 0,
                found,
            });
        }
    }
    Ok(())
}

/// The mechanism that makes a key of the profile's kind, and the attributes that say how large:
/// of the public half, or of the secret.
fn kind(profile: &Profile) -> Result<(Mechanism<'static>, Vec<Attribute>), JobError> {
    match profile.kind() {
        KeyKind::Rsa {
            modulus_bits,
            public_exponent,
        } => {
            let exponent = public_exponent.to_be_bytes();
            let leading = exponent.iter().take_while(|byte| **byte == 0).count();
            let exponent = exponent.iter().skip(leading).copied().collect();
            let size = vec![
                Attribute::ModulusBits(Ulong::from(u64::from(modulus_bits))),
                Attribute::PublicExponent(exponent),
            ];
            Ok((Mechanism::RsaPkcsKeyPairGen, size))
        }
        KeyKind::EcP256 => {
            let curve = Attribute::EcParams(public_key::p256_params()?);
            Ok((Mechanism::EccKeyPairGen, vec![curve]))
        }
        KeyKind::GenericSecret => {
            let len = Attribute::ValueLen(SECRET_LEN);
            Ok((Mechanism::GenericSecretKeyGen, vec![len]))
        }
    }
}

/// What a private or secret key is made or brought in with, without its names.
pub(super) fn private_attributes(profile: &Profile) -> Vec<Attribute> {
    let mut attributes = attribute::at_birth(profile, profile.private());
    if !profile.waives(AttributeName::AllowedMechanisms) {
        let allowed = attribute::allowed_mechanisms(profile);
        attributes.push(Attribute::AllowedMechanisms(allowed));
    }
    attributes
}

/// A token refuses the whole key where it cannot promise one attribute.
fn refused(profile: &Profile, error: JobError) -> JobError {
    match error.return_value() {
        Some(code) if error.is_refusal() => JobError::Refused {
            why: format!(
                "the token does not make a key to profile {} ({}); where it cannot promise an \
                 attribute, only a profile that waives it by name can be used",
                profile.name(),
                return_value::name(code)
            ),
            return_value: Some(code),
        },
        _ => error,
    }
}
