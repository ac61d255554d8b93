//! Attacking a key: everything its profile forbids is tried, because an attribute is a claim of the
//! token's and a refused attempt is evidence. Each attempt has a session of its own; whatever one
//! makes is destroyed, whatever one changes is put back as far as the token lets it. A key that
//! falls to one attempt is not used.

mod misuse;
mod weaken;

use cryptoki::error::Error;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::error::JobError;
use super::return_value::Class;
use super::seat::Seat;
use super::{generate, key, read_back};
use crate::hsm::profile::{AttributeName, KeyKind, MechanismName, Profile};
use crate::proto::worker::{Attack, AttackReport};

/// Tries everything that must fail, and lists what did not.
pub(super) fn attack(seat: &mut Seat, request: &Attack) -> Result<AttackReport, JobError> {
    let profile = generate::parse(&request.profile)?;
    let (target, object_id) = read_back::key_of(seat, &profile, request.key.as_ref())?;
    let spki = match profile.kind() {
        KeyKind::Rsa { .. } | KeyKind::EcP256 => {
            let public = seat.public_key(&object_id)?;
            key::spki_beside(seat.session()?, target, &object_id, || Ok(public))?
        }
        KeyKind::GenericSecret => Vec::new(),
    };
    let mut siege = Siege {
        seat,
        profile: &profile,
        target,
        spki,
        report: AttackReport::default(),
    };
    weaken::wrap_out(&mut siege)?;
    weaken::copy(&mut siege)?;
    weaken::change(&mut siege)?;
    misuse::read(&mut siege)?;
    misuse::sign(&mut siege)?;
    misuse::decrypt(&mut siege)?;
    misuse::unwrap(&mut siege)?;
    misuse::derive(&mut siege)?;
    let report = siege.report;
    // A token that refuses everything because it is gone has proved nothing.
    read_back::key_of(seat, &profile, request.key.as_ref())?;
    key::attribute(
        seat.session()?,
        target,
        cryptoki::object::AttributeType::KeyType,
    )?;
    Ok(report)
}

/// One attack on one key.
struct Siege<'a> {
    seat: &'a Seat,
    profile: &'a Profile,
    target: ObjectHandle,
    /// The key's public half; empty for a secret key.
    spki: Vec<u8>,
    report: AttackReport,
}

impl Siege<'_> {
    /// Makes one attempt on a fresh session and counts it. `broken` is the attribute that should
    /// have stopped it, `sentence` says what succeeded where it did.
    fn attempt(
        &mut self,
        broken: AttributeName,
        sentence: &str,
        attempt: impl FnOnce(&Session, ObjectHandle) -> Result<bool, Error>,
    ) -> Result<(), JobError> {
        self.report.tried = self.report.tried.saturating_add(1);
        let session = self.seat.token().session()?;
        let succeeded = match attempt(&session, self.target).map_err(JobError::from) {
            Ok(succeeded) => succeeded,
            Err(error) if error.class() == Some(Class::LinkLost) => return Err(error),
            Err(_) => false,
        };
        if succeeded && !self.profile.waives(broken) {
            let sentence = format!("{sentence} ({broken} should have stopped it)");
            self.report.succeeded.push(sentence);
        }
        Ok(())
    }

    /// The attribute that should stop the use of an ability with a mechanism; `None` where the
    /// profile allows it.
    fn guard(&self, ability: AttributeName, used: Option<MechanismName>) -> Option<AttributeName> {
        if !self.allows(ability) {
            return Some(ability);
        }
        let allowed = self.profile.allowed_mechanisms();
        match used.is_some_and(|used| allowed.contains(&used)) {
            true => None,
            false => Some(AttributeName::AllowedMechanisms),
        }
    }

    /// Whether the profile gives the key this ability.
    fn allows(&self, attribute: AttributeName) -> bool {
        self.profile.private_flag(attribute) == Some(true)
    }
}
