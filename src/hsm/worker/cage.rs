//! The end of the signing life of a KEK that signed its own certificate: signing off, a copy that
//! cannot be changed any more, the original destroyed. The copy is compared with the profile before
//! the original goes; a crash in between leaves two objects with one `CKA_ID`, which every later
//! search reports as ambiguous.

use cryptoki::object::Attribute;

use super::error::JobError;
use super::seat::Seat;
use super::{attribute, generate, key, read_back};
use crate::hsm::profile::{AttributeName, CertificateKind};
use crate::proto::worker::{Cage, Caged};

/// Cages the key.
pub(super) fn cage(seat: &mut Seat, request: &Cage) -> Result<Caged, JobError> {
    let profile = generate::parse(&request.profile)?;
    if profile.certificate() != CertificateKind::SelfSigned {
        let why = format!("profile {} is not of a self-signed key", profile.name());
        return Err(JobError::bad_request(why));
    }
    let token = seat.shared_token();
    let _only_one = token.changes();
    let (original, object_id) = seat.private_key(request.key.as_ref())?;
    let session = seat.session()?;
    let label = match key::attribute(session, original, cryptoki::object::AttributeType::Label)? {
        Some(Attribute::Label(label)) => String::from_utf8_lossy(&label).into_owned(),
        Some(_) | None => String::new(),
    };
    // CKA_SIGN cannot be changed in the copy on SoftHSM, CKA_MODIFIABLE only there.
    let mut in_place = Vec::new();
    let mut in_copy = Vec::new();
    for rule in profile.private() {
        let value = rule.value.flag().filter(|_| rule.at_birth.is_some());
        let change = value.and_then(|value| attribute::flag(rule.attribute, value));
        if rule.attribute == AttributeName::Modifiable {
            in_copy.extend(change);
        } else {
            in_place.extend(change);
        }
    }
    let refused = |act: &str, error: cryptoki::error::Error| {
        let error = JobError::from(error);
        JobError::Refused {
            why: format!("the token does not {act}: {error}"),
            return_value: error.return_value(),
        }
    };
    session
        .update_attributes(original, &in_place)
        .map_err(|error| refused("take the signing right from the key", error))?;
    let copy = session
        .copy_object(original, &in_copy)
        .map_err(|error| refused("copy the key into its cage", error))?;
    let mismatches = read_back::compare(session, &profile, (copy, None), &object_id, &label)?;
    if let Some(first) = mismatches.first() {
        drop(session.destroy_object(copy));
        return Err(JobError::Refused {
            why: format!(
                "the caged copy is not what its profile says: {} is {} where {} is expected; it \
                 was destroyed and the original kept",
                first.attribute, first.found, first.expected
            ),
            return_value: None,
        });
    }
    session
        .destroy_object(original)
        .map_err(|error| refused("destroy the original of the caged key", error))?;
    token.forget_handles();
    Ok(Caged {})
}
