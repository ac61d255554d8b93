//! What an operation does, in one sentence an officer reads before signing. Computed from the
//! operation alone, by every reader again; no statement has another. Frozen: a sentence that changes
//! makes statements of before unreadable.

use super::officer::Officer;
use super::operation::{Mandate, NewVersion, Operation, OperationKind, Target, Usage};
use super::policy::Policy;
use crate::clock::UnixMs;

/// What follows from every change of officers or policy.
const NEW_EPOCH: &str = "starts a new epoch, which cancels every open proposal";

impl Operation {
    /// Its effect: one sentence of printable ASCII.
    pub fn effect(&self) -> String {
        match self {
            Self::CreateKek(version) => format!(
                "Makes the KEK {}: its first version is a new key pair of {}.",
                version.kek,
                made_to(version)
            ),
            Self::RotateKek {
                version,
                retires: None,
            } => format!(
                "Makes a new version of the KEK {}, which has no active one: a new key pair of {}.",
                version.kek,
                made_to(version)
            ),
            Self::RotateKek {
                version,
                retires: Some(retires),
            } => format!(
                "Makes a new version of the KEK {}: a new key pair of {}; the version {retires} \
                 becomes Deactivated and from then on only unwraps DEKs that were wrapped before.",
                version.kek,
                made_to(version)
            ),
            Self::ImportKek {
                version,
                spki_sha256,
            } => format!(
                "Makes the KEK {}: its first version is an RSA private key that is brought in from \
                 outside and whose public key has the SHA-256 digest {spki_sha256}, of {}; nobody \
                 can say who else has that private key.",
                version.kek,
                made_to(version)
            ),
            Self::SetRotationMandate(mandate) => mandated(mandate),
            Self::WithdrawRotationMandate { kek } => format!(
                "Ends the rotation mandate of the KEK {kek}: it is rotated by a proposal only; its \
                 versions stay as they are."
            ),
            Self::Reinstate(Target::All) => {
                "Lifts the stop of all KEKs: they unwrap again, but for \
                 those that are stopped by themselves."
                    .to_owned()
            }
            Self::Reinstate(Target::Kek(kek)) => format!(
                "Lifts every stop of the KEK {kek}: it unwraps again, unless all KEKs are stopped."
            ),
            Self::RevokeVersion { keypair_id, .. } => format!(
                "Marks the version {keypair_id} as Compromised: no DEK is ever unwrapped under it \
                 again, and nothing takes this back."
            ),
            Self::DestroyVersion {
                keypair_id,
                unused_days,
                usage,
            } => destroyed(&keypair_id.to_string(), *unused_days, usage),
            Self::CancelDestruction { proposal } => format!(
                "Closes the proposal {proposal} to destroy a version; the version is as it was \
                 before."
            ),
            Self::AllowPkcs1V15 { kek } => format!(
                "Lets DEKs that were wrapped with PKCS#1 v1.5 padding be unwrapped under the KEK \
                 {kek}, as far as the profiles of its versions allow it."
            ),
            Self::ForbidPkcs1V15 { kek } => format!(
                "Lets no DEK that was wrapped with PKCS#1 v1.5 padding be unwrapped under the KEK \
                 {kek}."
            ),
            Self::GrantUnwrap { identity, kek } => format!(
                "Lets the client {identity} unwrap DEKs under every version of the KEK {kek}; a client \
                 the ledger does not name yet becomes an unwrap client."
            ),
            Self::WithdrawUnwrap { identity, kek } => format!(
                "Takes from the client {identity} the grant to unwrap DEKs under the KEK {kek}."
            ),
            Self::AssignRole { identity, role } => {
                format!("Names {identity} as a client with the role {role} and without grants.")
            }
            Self::RemoveClient { identity } => format!(
                "Removes the client {identity}: it loses its role and every grant and can call \
                 nothing."
            ),
            Self::BindRecordingPolicy { key, kek, fallback } => match fallback {
                None => format!(
                    "Has recordings of {key} wrapped under the KEK {kek}, and under no other."
                ),
                Some(fallback) => format!(
                    "Has recordings of {key} wrapped under the KEK {kek}, and under the KEK \
                     {fallback} while {kek} has no active version."
                ),
            },
            Self::UnbindRecordingPolicy { key } => format!(
                "Ends the recording policy of {key}: none says under which KEK its recordings are \
                 wrapped."
            ),
            Self::ChangeOfficers { officers } => format!(
                "Replaces all officers: from then on there are {}; whoever is not among them is no \
                 officer any more; {NEW_EPOCH}.",
                named(officers)
            ),
            Self::Recover { officers } => format!(
                "Replaces all officers by decision of the recovery set, without those in office: \
                 from then on there are {}; whoever is not among them is no officer any more; \
                 {NEW_EPOCH}.",
                named(officers)
            ),
            Self::ChangePolicy(policy) => governed(policy),
        }
    }
}

impl Target {
    /// The effect of one officer's stop: one sentence of printable ASCII.
    pub fn suspension_effect(&self) -> String {
        match self {
            Self::All => "Stops every KEK at once, those to come included: nothing is unwrapped \
                 until a quorum reinstates all."
                .to_owned(),
            Self::Kek(kek) => format!(
                "Stops the KEK {kek} at once: nothing is unwrapped under it until a quorum \
                 reinstates it."
            ),
        }
    }
}

/// What a key pair is made to.
fn made_to(version: &NewVersion) -> String {
    format!(
        "the profile {} with a certificate for {} that is valid for {}",
        version.profile,
        version.certificate_subject,
        days(version.certificate_valid_days)
    )
}

fn mandated(mandate: &Mandate) -> String {
    let announced = match mandate.warn_days.split_last() {
        None => "without being announced".to_owned(),
        Some((last, [])) => format!("announced {} before", days(*last)),
        Some((last, earlier)) => {
            let earlier: Vec<_> = earlier.iter().map(u32::to_string).collect();
            format!("announced {} and {last} days before", earlier.join(", "))
        }
    };
    format!(
        "Lets kekd rotate the KEK {} every {} without further approvals until {}, never within {} \
         of its last version, {announced}; each new version is a new key pair of {}.",
        mandate.version.kek,
        days(mandate.period_days),
        mandate.until.rfc3339(),
        days(mandate.interval_days_min),
        made_to(&mandate.version)
    )
}

fn destroyed(keypair_id: &str, unused_days: u32, usage: &Usage) -> String {
    let time = |time: Option<UnixMs>| time.map_or("never".to_owned(), UnixMs::rfc3339);
    let served = match usage.unwraps {
        0 => "it served no unwrap".to_owned(),
        unwraps => format!(
            "it served {unwraps} unwrap{} from {} to {}",
            if unwraps == 1 { "" } else { "s" },
            time(usage.first),
            time(usage.last)
        ),
    };
    let unused = match unused_days {
        0 => "it may have been used until its destruction".to_owned(),
        unused => format!(
            "at its destruction it must have been unused for {}",
            days(unused)
        ),
    };
    format!(
        "Destroys the private key of the version {keypair_id} for ever: what is still wrapped under \
         it is lost; {served}; {unused}; it is stopped from the last approval on until this proposal \
         is closed."
    )
}

fn named(officers: &[Officer]) -> String {
    let mut names: Vec<_> = officers
        .iter()
        .map(|officer| format!("{} ({})", officer.name, officer.role))
        .collect();
    names.sort();
    let count = names.len();
    let s = if count == 1 { "" } else { "s" };
    format!("{count} officer{s}, {}", names.join(", "))
}

fn governed(policy: &Policy) -> String {
    let kinds = OperationKind::ALL.into_iter();
    let forbidden: Vec<_> = kinds
        .filter(|kind| !policy.rule(*kind).allowed)
        .map(OperationKind::name)
        .collect();
    let forbidden = match forbidden.is_empty() {
        true => "every operation is allowed".to_owned(),
        false => format!("every operation is allowed but {}", forbidden.join(", ")),
    };
    let thresholds = OperationKind::ALL.map(|kind| policy.rule(kind).threshold);
    let fewest = thresholds.iter().min().copied().unwrap_or_default();
    let most = thresholds.iter().max().copied().unwrap_or_default();
    let officers = match fewest == most {
        true => format!("{fewest} officers must approve"),
        false => format!("{fewest} to {most} officers must approve"),
    };
    format!(
        "Replaces the policy by the rules above: {officers}; a proposer's own \
         approval {}; {forbidden}; {NEW_EPOCH}.",
        if policy.proposer_may_approve {
            "counts"
        } else {
            "does not count"
        }
    )
}

fn days(count: u32) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} day{s}")
}
