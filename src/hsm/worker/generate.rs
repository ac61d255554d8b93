//! Making a key to a profile. The only place that makes a token key. The invariant: nothing is made
//! where an object with this `CKA_ID` or label is, and what cannot be read back is not left behind.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;

use super::error::{JobError, hex};
use super::return_value::{self, Class};
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
    check_label(&request.label)?;
    let token = seat.shared_token();
    let _only_one = token.changes();
    settle::retry_lost(seat, |seat| {
        check_free(seat.session()?, &object_id, &request.label)
    })?;
    // From here on nothing is tried again: a second attempt could make a second key.
    let session = seat.session()?;
    let spki = match profile.kind() {
        KeyKind::GenericSecret => {
            let template = secret_template(&profile, &object_id, &request.label);
            session
                .generate_key(&Mechanism::GenericSecretKeyGen, &template)
                .map_err(|error| refused(&profile, error.into()))?;
            Vec::new()
        }
        KeyKind::Rsa { .. } | KeyKind::EcP256 => {
            let (public, private) = generate_pair(session, &profile, &object_id, &request.label)?;
            match key::spki(session, private, &object_id) {
                Ok(spki) => spki,
                Err(error) => {
                    // A pair nobody can name is of no use to anybody.
                    drop(session.destroy_object(private));
                    drop(session.destroy_object(public));
                    return Err(error);
                }
            }
        }
    };
    Ok(Generated { spki })
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

fn check_free(session: &Session, object_id: &[u8; 16], label: &str) -> Result<(), JobError> {
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

fn generate_pair(
    session: &Session,
    profile: &Profile,
    object_id: &[u8; 16],
    label: &str,
) -> Result<(ObjectHandle, ObjectHandle), JobError> {
    let names = [
        Attribute::Id(object_id.to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let mut public = names.to_vec();
    public.extend(attribute::at_birth(profile, profile.public()));
    let mechanism = match profile.kind() {
        KeyKind::Rsa {
            modulus_bits,
            public_exponent,
        } => {
            public.push(Attribute::ModulusBits(Ulong::from(u64::from(modulus_bits))));
            let exponent = public_exponent.to_be_bytes();
            let leading = exponent.iter().take_while(|byte| **byte == 0).count();
            let exponent = exponent.iter().skip(leading).copied().collect();
            public.push(Attribute::PublicExponent(exponent));
            Mechanism::RsaPkcsKeyPairGen
        }
        KeyKind::EcP256 | KeyKind::GenericSecret => {
            public.push(Attribute::EcParams(public_key::p256_params()?));
            Mechanism::EccKeyPairGen
        }
    };
    let mut private = names.to_vec();
    private.extend(private_attributes(profile));
    session
        .generate_key_pair(&mechanism, &public, &private)
        .map_err(|error| refused(profile, error.into()))
}

fn secret_template(profile: &Profile, object_id: &[u8; 16], label: &str) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Id(object_id.to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::ValueLen(SECRET_LEN),
    ];
    template.extend(private_attributes(profile));
    template
}

fn private_attributes(profile: &Profile) -> Vec<Attribute> {
    let mut attributes = attribute::at_birth(profile, profile.private());
    if !profile.waives(AttributeName::AllowedMechanisms) {
        let allowed = attribute::allowed_mechanisms(profile);
        attributes.push(Attribute::AllowedMechanisms(allowed));
    }
    attributes
}

/// Tokens refuse what they cannot promise with almost any code, `CKR_GENERAL_ERROR` included.
fn refused(profile: &Profile, error: JobError) -> JobError {
    match (error.class(), error.return_value()) {
        (Some(Class::Refused | Class::Unsupported | Class::Ambiguous), Some(code)) => {
            JobError::Refused {
                why: format!(
                    "the token does not make a key to profile {} ({}); where it cannot promise an \
                     attribute, only a profile that waives it by name can be used",
                    profile.name(),
                    return_value::name(code)
                ),
                return_value: Some(code),
            }
        }
        _ => error,
    }
}
