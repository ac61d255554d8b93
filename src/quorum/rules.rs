//! The rules a genesis document must keep, one function each, named for what it makes sure of. The
//! document's shape is `genesis`' concern; here it is only judged.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::str::FromStr as _;

use x509_cert::name::Name;

use super::genesis::{Genesis, GenesisError};
use super::officer::{OFFICERS_MAX, Officer};
use super::policy::THRESHOLDS;
use crate::access::Role;
use crate::types::KekName;

/// The rule of [`is_printable_name`].
pub(super) const PRINTABLE_NAME: &str = "1 to 63 printable ASCII characters without outer spaces";
/// The rule of [`is_plain_name`].
pub(super) const PLAIN_NAME: &str = "1 to 63 of a-z, 0-9 and inner hyphens";
/// The rule of [`is_subject`].
pub(super) const SUBJECT: &str = "a subject as in RFC 4514, for example CN=name,O=organisation";
/// Validity of a certificate in days: up to a hundred years.
pub(super) const VALID_DAYS: RangeInclusive<u32> = 1..=36_500;
/// Most KEKs in one genesis document.
const KEKS_MAX: usize = 256;
/// Longest certificate subject, in bytes.
const SUBJECT_LEN_MAX: usize = 256;

/// Names are 1 to 63 printable characters, and nobody and nothing is named twice. Officers, the
/// recovery set and clients share one name space, so that no name stands for two parties.
pub(super) fn names_are_names<'a>(
    genesis: &'a Genesis,
    clients: impl Iterator<Item = &'a str>,
) -> Result<(), GenesisError> {
    printable("instance", genesis.instance())?;
    let mut seen = BTreeSet::new();
    let officers = everybody(genesis).map(|officer| officer.name.as_str());
    for name in officers.chain(clients) {
        printable("name of an officer or client", name)?;
        if !seen.insert(name) {
            return twice("the officer or client", name);
        }
    }
    let mut seen = BTreeSet::new();
    for kek in genesis.keks() {
        if !seen.insert(&kek.name) {
            return twice("the KEK", kek.name.as_str());
        }
        // A profile is looked up as a file: nothing but a plain name may get there.
        if !is_plain_name(&kek.profile) {
            let place = format!("kek {:?} profile", kek.name.as_str());
            return refused(place, PLAIN_NAME, &kek.profile);
        }
    }
    let keks = genesis.keks().len();
    if !(1..=KEKS_MAX).contains(&keks) {
        return refused("kek".to_owned(), "1 to 256 KEKs", &keks.to_string());
    }
    Ok(())
}

/// There are enough officers to reach the threshold, and one person is never enough.
pub(super) fn quorum_is_reachable_and_not_one_person(
    genesis: &Genesis,
) -> Result<(), GenesisError> {
    let officers = genesis.officers().len();
    if !(1..=OFFICERS_MAX).contains(&officers) {
        let found = officers.to_string();
        return refused("officer".to_owned(), "1 to 32 officers", &found);
    }
    let threshold = genesis.threshold();
    if !THRESHOLDS.contains(&threshold) || threshold > officers {
        let rule = "2 to 31, and no more than there are officers";
        let found = format!("{threshold} with {officers} officers");
        return refused("policy threshold".to_owned(), rule, &found);
    }
    Ok(())
}

/// Whoever is to recover is enough people to do so, and never one alone.
pub(super) fn recovery_is_reachable(genesis: &Genesis) -> Result<(), GenesisError> {
    let Some(recovery) = genesis.recovery() else {
        return Ok(());
    };
    let officers = recovery.officers.len();
    if officers > OFFICERS_MAX {
        let found = officers.to_string();
        return refused("recovery officer".to_owned(), "at most 32", &found);
    }
    if !THRESHOLDS.contains(&recovery.threshold) || recovery.threshold > officers {
        let rule = "2 to 31, and no more than the recovery set has";
        let found = format!("{} with {officers}", recovery.threshold);
        return refused("recovery threshold".to_owned(), rule, &found);
    }
    Ok(())
}

/// The officers, then the recovery set.
fn everybody(genesis: &Genesis) -> impl Iterator<Item = &Officer> {
    let recovery = genesis.recovery().map(|recovery| recovery.officers.iter());
    genesis
        .officers()
        .iter()
        .chain(recovery.into_iter().flatten())
}

/// No key is held under two names, in the recovery set or out of it: it would count twice.
pub(super) fn officers_have_keys_of_their_own(genesis: &Genesis) -> Result<(), GenesisError> {
    for (at, first) in everybody(genesis).enumerate() {
        for second in everybody(genesis).skip(at.saturating_add(1)) {
            if first.key.is_same_key(&second.key) {
                return Err(GenesisError::KeyTwice {
                    first: first.name.clone(),
                    second: second.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Subjects and validities are such that certificates can be made of them.
pub(super) fn certificates_can_be_issued(genesis: &Genesis) -> Result<(), GenesisError> {
    let issuer = genesis.issuer();
    certificate("issuer", &issuer.subject, issuer.valid_days)?;
    for kek in genesis.keks() {
        let place = format!("kek {:?} certificate", kek.name.as_str());
        certificate(&place, &kek.certificate_subject, kek.certificate_valid_days)?;
        // A leaf with its issuer's name would read as self-signed (RFC 5280 section 3.2).
        if kek.certificate_subject == issuer.subject {
            let rule = "a subject other than the issuer's";
            return refused(place, rule, &kek.certificate_subject);
        }
    }
    Ok(())
}

/// Grants are for KEKs of this document, and only an unwrap client holds any.
pub(super) fn grants_are_for_known_keks(
    genesis: &Genesis,
    client: &str,
    role: Role,
    keks: &[String],
) -> Result<(), GenesisError> {
    for (at, kek) in keks.iter().enumerate() {
        let known = genesis.keks().iter().any(|k| k.name.as_str() == kek);
        let rule = if role != Role::UnwrapClient {
            "no keks: its role does not unwrap"
        } else if !known {
            "a KEK of this document"
        } else if keks.iter().take(at).any(|earlier| earlier == kek) {
            "each KEK once"
        } else {
            continue;
        };
        return Err(GenesisError::GrantRefused {
            client: client.to_owned(),
            kek: kek.clone(),
            rule,
        });
    }
    Ok(())
}

fn printable(place: &str, name: &str) -> Result<(), GenesisError> {
    if is_printable_name(name) {
        return Ok(());
    }
    refused(place.to_owned(), PRINTABLE_NAME, &format!("{name:?}"))
}

/// Whether this can be the name of an instance, an officer or a client.
pub(super) fn is_printable_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_graphic() || c == ' ')
        && name.trim() == name
}

/// Whether this can be the name of a profile.
pub(super) fn is_plain_name(name: &str) -> bool {
    name.parse::<KekName>().is_ok()
}

/// Whether a certificate can have this subject.
pub(super) fn is_subject(subject: &str) -> bool {
    subject.len() <= SUBJECT_LEN_MAX
        && !subject.chars().any(char::is_control)
        && Name::from_str(subject).is_ok_and(|name| !name.is_empty())
}

fn certificate(place: &str, subject: &str, valid_days: u32) -> Result<(), GenesisError> {
    if !is_subject(subject) {
        return refused(place.to_owned(), SUBJECT, &format!("{subject:?}"));
    }
    if !VALID_DAYS.contains(&valid_days) {
        let rule = "a validity of 1 to 36500 days";
        return refused(place.to_owned(), rule, &valid_days.to_string());
    }
    Ok(())
}

fn refused(place: String, rule: &'static str, found: &str) -> Result<(), GenesisError> {
    Err(GenesisError::ValueRefused {
        place,
        rule,
        found: found.to_owned(),
    })
}

fn twice(what: &'static str, name: &str) -> Result<(), GenesisError> {
    Err(GenesisError::Twice {
        what,
        name: name.to_owned(),
    })
}
