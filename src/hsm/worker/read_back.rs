//! Reading a key back and comparing it with its profile, attribute by attribute: a template is a
//! wish, and some tokens answer `CKR_OK` to a wish they do not keep. Nothing is changed here.

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::error::{JobError, hex};
use super::seat::Seat;
use super::{attribute, generate, key, settle};
use crate::hsm::profile::{AttributeName, AttributeRule, KeyKind, Profile};
use crate::proto::worker::{AttributeMismatch, KeyRef, ReadBack, ReadBackReport};

/// Compares all attributes, and that nothing else has the key's label, unless an inventory has shown it:
/// to look for a label is to look at every object of the token.
pub(super) fn read_back(seat: &mut Seat, request: &ReadBack) -> Result<ReadBackReport, JobError> {
    let profile = generate::parse(&request.profile)?;
    generate::check_label(&request.label)?;
    let mismatches = settle::retry_lost(seat, |seat| {
        let (handle, object_id) = key_of(seat, &profile, request.key.as_ref())?;
        let public = match profile.kind() {
            KeyKind::GenericSecret => None,
            KeyKind::Rsa { .. } | KeyKind::EcP256 => Some(seat.public_key(&object_id)?),
        };
        let session = seat.session()?;
        let halves = (handle, public);
        let mut report = compare(session, &profile, halves, &object_id, &request.label)?;
        if request.was_inventoried {
            return Ok(report);
        }
        let label = Attribute::Label(request.label.as_bytes().to_vec());
        let class = Attribute::Class(class_of(&profile));
        let found = key::find_all(session, &[class, label])?.len();
        if found != 1 {
            report.push(AttributeMismatch {
                attribute: "CKA_LABEL (private)".to_owned(),
                expected: "borne by one key".to_owned(),
                found: format!("borne by {found}"),
            });
        }
        Ok(report)
    })?;
    Ok(ReadBackReport { mismatches })
}

/// The handle and `CKA_ID` of the key a request names, private or secret as its profile says.
pub(super) fn key_of(
    seat: &mut Seat,
    profile: &Profile,
    key: Option<&KeyRef>,
) -> Result<(ObjectHandle, [u8; 16]), JobError> {
    match profile.kind() {
        KeyKind::Rsa { .. } | KeyKind::EcP256 => seat.private_key(key),
        KeyKind::GenericSecret => {
            let handle = seat.secret_key(key)?;
            let object_id = key.map(|key| key.object_id.as_slice()).unwrap_or_default();
            Ok((handle, key::object_id(object_id)?))
        }
    }
}

/// Compares one object, and its public half where it has one, with the profile. The public half is
/// looked for where it is not known.
pub(super) fn compare(
    session: &Session,
    profile: &Profile,
    (handle, public): (ObjectHandle, Option<ObjectHandle>),
    object_id: &[u8; 16],
    label: &str,
) -> Result<Vec<AttributeMismatch>, JobError> {
    let mut comparison = Comparison {
        session,
        profile,
        object: handle,
        half: "private",
        mismatches: Vec::new(),
    };
    comparison.names(object_id, label)?;
    comparison.rules(profile.private())?;
    comparison.allowed_mechanisms()?;
    if profile.kind() != KeyKind::GenericSecret {
        comparison.object = match public {
            Some(public) => public,
            None => key::find_public(session, object_id)?,
        };
        comparison.half = "public";
        comparison.names(object_id, label)?;
        comparison.rules(profile.public())?;
        comparison.public_key(handle, object_id)?;
    }
    Ok(comparison.mismatches)
}

const fn class_of(profile: &Profile) -> ObjectClass {
    match profile.kind() {
        KeyKind::Rsa { .. } | KeyKind::EcP256 => ObjectClass::PRIVATE_KEY,
        KeyKind::GenericSecret => ObjectClass::SECRET_KEY,
    }
}

struct Comparison<'a> {
    session: &'a Session,
    profile: &'a Profile,
    object: ObjectHandle,
    half: &'static str,
    mismatches: Vec<AttributeMismatch>,
}

impl Comparison<'_> {
    fn read(&self, attribute: AttributeType) -> Result<Option<Attribute>, JobError> {
        key::attribute(self.session, self.object, attribute)
    }

    fn report(&mut self, attribute: &str, expected: String, found: String) {
        if expected != found {
            self.mismatches.push(AttributeMismatch {
                attribute: format!("{attribute} ({})", self.half),
                expected,
                found,
            });
        }
    }

    fn names(&mut self, object_id: &[u8; 16], label: &str) -> Result<(), JobError> {
        let found = match self.read(AttributeType::Id)? {
            Some(Attribute::Id(id)) => hex(&id),
            Some(_) | None => "not shown by the token".to_owned(),
        };
        self.report("CKA_ID", hex(object_id), found);
        let found = match self.read(AttributeType::Label)? {
            Some(Attribute::Label(label)) => String::from_utf8_lossy(&label).into_owned(),
            Some(_) | None => "not shown by the token".to_owned(),
        };
        self.report("CKA_LABEL", label.to_owned(), found);
        Ok(())
    }

    fn rules(&mut self, rules: &[AttributeRule]) -> Result<(), JobError> {
        for rule in rules {
            if self.profile.waives(rule.attribute) {
                continue;
            }
            let found = self.read(attribute::type_of(rule.attribute))?;
            if found == attribute::expected(rule) {
                continue;
            }
            let found = attribute::shown(rule.attribute, found.as_ref());
            self.report(rule.attribute.as_str(), rule.value.to_string(), found);
        }
        Ok(())
    }

    fn allowed_mechanisms(&mut self) -> Result<(), JobError> {
        if self.profile.waives(AttributeName::AllowedMechanisms) {
            return Ok(());
        }
        let expected = attribute::allowed_mechanisms(self.profile);
        let found = match self.read(AttributeType::AllowedMechanisms)? {
            Some(Attribute::AllowedMechanisms(found)) => attribute::shown_mechanisms(&found),
            Some(_) | None => "not shown by the token".to_owned(),
        };
        let expected = attribute::shown_mechanisms(&expected);
        self.report("CKA_ALLOWED_MECHANISMS", expected, found);
        Ok(())
    }

    /// The numbers of an RSA key, and that both halves belong together.
    fn public_key(&mut self, private: ObjectHandle, object_id: &[u8; 16]) -> Result<(), JobError> {
        if let KeyKind::Rsa {
            modulus_bits,
            public_exponent,
        } = self.profile.kind()
        {
            let found = match self.read(AttributeType::ModulusBits)? {
                Some(Attribute::ModulusBits(bits)) => bits.to_string(),
                Some(_) | None => "not shown by the token".to_owned(),
            };
            self.report("CKA_MODULUS_BITS", modulus_bits.to_string(), found);
            let found = match self.read(AttributeType::PublicExponent)? {
                Some(Attribute::PublicExponent(exponent)) => exponent
                    .iter()
                    .fold(0_u128, |value, byte| {
                        value.saturating_mul(256).saturating_add(u128::from(*byte))
                    })
                    .to_string(),
                Some(_) | None => "not shown by the token".to_owned(),
            };
            self.report("CKA_PUBLIC_EXPONENT", public_exponent.to_string(), found);
        }
        let spki = |half| key::spki_beside(self.session, half, object_id, || Ok(self.object));
        let (of_private, of_public) = (spki(private)?, spki(self.object)?);
        let sha256 = |spki: &[u8]| crate::types::Sha256::of(spki).to_string();
        self.report("the public key", sha256(&of_private), sha256(&of_public));
        Ok(())
    }
}
