//! Data objects: the genesis pin and the head of the ledger, kept in the token. All are private
//! (`CKA_PRIVATE`), because a public one can be planted by anybody who opens a session, and be read
//! without a PIN. What they say is the daemon's business.

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::error::JobError;
use super::seat::Seat;
use super::{generate, key, settle};
use crate::proto::worker::{DataObjects, DataWritten, ReadData, WriteData};

/// Bytes of the longest value.
const VALUE_LEN_MAX: usize = 16 * 1024;
/// `CKA_APPLICATION` of what is written here.
const APPLICATION: &[u8] = b"kekd";

/// The values of all data objects with one of these labels. One search, for each goes through all
/// objects of the token.
pub(super) fn read(seat: &mut Seat, request: &ReadData) -> Result<DataObjects, JobError> {
    for label in &request.labels {
        generate::check_label(label)?;
    }
    let found = settle::retry_lost(seat, |seat| {
        seat.list(|session| labelled(session, &request.labels))
    })?;
    let (labels, values) = found.into_iter().unzip();
    Ok(DataObjects { values, labels })
}

fn labelled(session: &Session, labels: &[String]) -> Result<Vec<(u32, Vec<u8>)>, JobError> {
    let mut found = Vec::new();
    for object in key::find_all(session, &[Attribute::Class(ObjectClass::DATA)])? {
        let Some(Attribute::Label(label)) = key::attribute(session, object, AttributeType::Label)?
        else {
            continue;
        };
        for (at, _) in (0..)
            .zip(labels)
            .filter(|(_, wanted)| wanted.as_bytes() == label)
        {
            found.push((at, value_of(session, object)?));
        }
    }
    Ok(found)
}

fn value_of(session: &Session, object: ObjectHandle) -> Result<Vec<u8>, JobError> {
    match key::attribute(session, object, AttributeType::Value)? {
        Some(Attribute::Value(value)) => Ok(value),
        Some(_) | None => Ok(Vec::new()),
    }
}

/// Writes a data object, fixed for ever or in place of its predecessors.
pub(super) fn write(seat: &mut Seat, request: &WriteData) -> Result<DataWritten, JobError> {
    generate::check_label(&request.label)?;
    if request.value.is_empty() || request.value.len() > VALUE_LEN_MAX {
        let why = format!("a data object holds 1 to {VALUE_LEN_MAX} bytes");
        return Err(JobError::bad_request(why));
    }
    let token = seat.shared_token();
    let _only_one = token.changes();
    let old = settle::retry_lost(seat, |seat| find(seat.session()?, &request.label))?;
    if !request.replace && !old.is_empty() {
        return Err(JobError::KeyAmbiguous {
            what: format!("data objects with label {:?}", request.label),
            expected: 0,
            found: old.len(),
        });
    }
    let session = seat.session()?;
    session.create_object(&[
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Application(APPLICATION.to_vec()),
        Attribute::Label(request.label.as_bytes().to_vec()),
        Attribute::Value(request.value.clone()),
        Attribute::Modifiable(false),
        Attribute::Copyable(false),
        // An object that is to be replaced one day must be destroyable then.
        Attribute::Destroyable(request.replace),
    ])?;
    // The new one first: a crash in between leaves two, never none.
    for object in old {
        session.destroy_object(object)?;
    }
    Ok(DataWritten {})
}

fn find(session: &Session, label: &str) -> Result<Vec<ObjectHandle>, JobError> {
    let template = [
        Attribute::Class(ObjectClass::DATA),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    key::find_all(session, &template)
}
