//! Operations as lines of a statement: their parameters in one order, each in one form, and the way
//! back. What of a parameter can be checked alone is checked here; whether an operation fits the
//! instance as it stands is `governance`'s concern. The effect sentences are in `operation_effect`.

use std::fmt;
use std::str::FromStr;

use super::lines::{Reader, Value, whole_seconds};
use super::officer::Officer;
use super::operation::{
    Approvers, Mandate, NewVersion, Operation, OperationKind, REASON_LEN_MAX,
    RECORDING_KEY_LEN_MAX, Target, UNUSED_DAYS_MAX, Usage, WARNINGS_MAX,
};
use super::policy::Policy;
use super::proposal::ProposalId;
use super::statement::StatementError;
use super::{officer_text, rules};
use crate::clock::UnixMs;
use crate::types::{KekName, TypeError};

/// Longest period of a mandate, in days.
const PERIOD_DAYS_MAX: u32 = 3650;
/// What stands where there is none: of a KEK, of warnings.
const NONE: &str = "none";
/// What stands where there is no time.
const NEVER: &str = "never";

impl Operation {
    /// Its parameters: names and values of lines, in order.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::CreateKek(version) => version_lines(version),
            Self::ImportKek {
                version,
                spki_sha256,
            } => {
                let mut lines = version_lines(version);
                lines.push(("spki-sha256", spki_sha256.to_string()));
                lines
            }
            Self::RotateKek { version, retires } => {
                let mut lines = version_lines(version);
                let retires = retires.map_or(NONE.to_owned(), |id| id.to_string());
                lines.push(("retires", retires));
                lines
            }
            Self::SetRotationMandate(mandate) => mandate_lines(mandate),
            Self::WithdrawRotationMandate { kek }
            | Self::AllowPkcs1V15 { kek }
            | Self::ForbidPkcs1V15 { kek } => vec![("kek", kek.to_string())],
            Self::Reinstate(target) => vec![("target", target.to_string())],
            Self::RevokeVersion { keypair_id, reason } => vec![
                ("keypair-id", keypair_id.to_string()),
                ("reason", reason.clone()),
            ],
            Self::DestroyVersion {
                keypair_id,
                unused_days,
                usage,
            } => vec![
                ("keypair-id", keypair_id.to_string()),
                ("unused-days", unused_days.to_string()),
                ("unwraps", usage.unwraps.to_string()),
                ("first-use", time_or_never(usage.first)),
                ("last-use", time_or_never(usage.last)),
            ],
            Self::CancelDestruction { proposal } => vec![("cancels", proposal.to_string())],
            Self::GrantUnwrap { identity, kek } | Self::WithdrawUnwrap { identity, kek } => {
                vec![("identity", identity.to_string()), ("kek", kek.to_string())]
            }
            Self::AssignRole { identity, role } => vec![
                ("identity", identity.to_string()),
                ("role", role.to_string()),
            ],
            Self::RemoveClient { identity } => vec![("identity", identity.to_string())],
            Self::BindRecordingPolicy { key, kek, fallback } => vec![
                ("key", key.clone()),
                ("kek", kek.to_string()),
                (
                    "fallback",
                    fallback
                        .as_ref()
                        .map_or(NONE.to_owned(), KekName::to_string),
                ),
            ],
            Self::UnbindRecordingPolicy { key } => vec![("key", key.clone())],
            Self::ChangeOfficers { officers } | Self::Recover { officers } => {
                officer_text::lines(officers)
            }
            Self::ChangePolicy(policy) => policy.lines(),
        }
    }

    /// Reads an operation from its kind and its parameters, as [`Operation::lines`] names them. Lines
    /// count from 1 at the first parameter.
    pub fn parse_lines(kind: &str, lines: &[(String, String)]) -> Result<Self, StatementError> {
        let title = Value {
            line: 0,
            name: "operation",
            text: kind,
        };
        let kind = title.parse()?;
        let text: String = lines
            .iter()
            .map(|(name, value)| format!("{name} {value}\n"))
            .collect();
        let mut reader = Reader::untitled(text.as_bytes())?;
        let operation = Self::read(kind, &mut reader)?;
        reader.end()?;
        Ok(operation)
    }

    /// Reads the parameters of an operation of this kind.
    pub(super) fn read(
        kind: OperationKind,
        reader: &mut Reader<'_>,
    ) -> Result<Self, StatementError> {
        Ok(match kind {
            OperationKind::CreateKek => Self::CreateKek(version(reader)?),
            OperationKind::RotateKek => Self::RotateKek {
                version: version(reader)?,
                retires: match reader.value("retires")? {
                    value if value.text == NONE => None,
                    value => Some(value.parse()?),
                },
            },
            OperationKind::ImportKek => Self::ImportKek {
                version: version(reader)?,
                spki_sha256: reader.value("spki-sha256")?.parse()?,
            },
            OperationKind::SetRotationMandate => Self::SetRotationMandate(mandate(reader)?),
            OperationKind::WithdrawRotationMandate => {
                Self::WithdrawRotationMandate { kek: kek(reader)? }
            }
            OperationKind::AllowPkcs1V15 => Self::AllowPkcs1V15 { kek: kek(reader)? },
            OperationKind::ForbidPkcs1V15 => Self::ForbidPkcs1V15 { kek: kek(reader)? },
            OperationKind::Reinstate => Self::Reinstate(reader.value("target")?.parse()?),
            OperationKind::RevokeVersion => Self::RevokeVersion {
                keypair_id: reader.value("keypair-id")?.parse()?,
                reason: reason(reader.value("reason")?)?,
            },
            OperationKind::DestroyVersion => Self::DestroyVersion {
                keypair_id: reader.value("keypair-id")?.parse()?,
                unused_days: reader.value("unused-days")?.number(0..=UNUSED_DAYS_MAX)?,
                usage: usage(reader)?,
            },
            OperationKind::CancelDestruction => Self::CancelDestruction {
                proposal: ProposalId(reader.value("cancels")?.parse()?),
            },
            OperationKind::GrantUnwrap => Self::GrantUnwrap {
                identity: reader.value("identity")?.parse()?,
                kek: kek(reader)?,
            },
            OperationKind::WithdrawUnwrap => Self::WithdrawUnwrap {
                identity: reader.value("identity")?.parse()?,
                kek: kek(reader)?,
            },
            OperationKind::AssignRole => Self::AssignRole {
                identity: reader.value("identity")?.parse()?,
                role: reader.value("role")?.parse()?,
            },
            OperationKind::RemoveClient => Self::RemoveClient {
                identity: reader.value("identity")?.parse()?,
            },
            OperationKind::BindRecordingPolicy => Self::BindRecordingPolicy {
                key: recording_key(reader.value("key")?)?,
                kek: kek(reader)?,
                fallback: fallback(reader.value("fallback")?)?,
            },
            OperationKind::UnbindRecordingPolicy => Self::UnbindRecordingPolicy {
                key: recording_key(reader.value("key")?)?,
            },
            OperationKind::ChangeOfficers => Self::ChangeOfficers {
                officers: officer_text::read(reader)?,
            },
            OperationKind::ChangePolicy => Self::ChangePolicy(Policy::read(reader)?),
            OperationKind::Recover => Self::Recover {
                officers: officer_text::read(reader)?,
            },
        })
    }

    /// The same in the form in which it is written: officers in order of their names, times cut to
    /// whole seconds.
    pub(super) fn settled(mut self) -> Self {
        if let Self::ChangeOfficers { officers } | Self::Recover { officers } = &mut self {
            officers.sort_by(|a: &Officer, b| a.name.cmp(&b.name));
        } else if let Self::SetRotationMandate(mandate) = &mut self {
            mandate.until = whole_seconds(mandate.until);
        } else if let Self::DestroyVersion { usage, .. } = &mut self {
            usage.first = usage.first.map(whole_seconds);
            usage.last = usage.last.map(whole_seconds);
        }
        self
    }
}

fn version_lines(version: &NewVersion) -> Vec<(&'static str, String)> {
    let valid_days = version.certificate_valid_days.to_string();
    vec![
        ("kek", version.kek.to_string()),
        ("profile", version.profile.clone()),
        ("profile-sha256", version.profile_sha256.to_string()),
        ("certificate-subject", version.certificate_subject.clone()),
        ("certificate-valid-days", valid_days),
    ]
}

fn mandate_lines(mandate: &Mandate) -> Vec<(&'static str, String)> {
    let warn_days: Vec<_> = mandate.warn_days.iter().map(u32::to_string).collect();
    let warn_days = match warn_days.is_empty() {
        true => NONE.to_owned(),
        false => warn_days.join(","),
    };
    let mut lines = version_lines(&mandate.version);
    lines.extend([
        ("period-days", mandate.period_days.to_string()),
        ("interval-days-min", mandate.interval_days_min.to_string()),
        ("until", mandate.until.rfc3339()),
        ("warn-days", warn_days),
    ]);
    lines
}

fn time_or_never(time: Option<UnixMs>) -> String {
    time.map_or(NEVER.to_owned(), UnixMs::rfc3339)
}

fn kek(reader: &mut Reader<'_>) -> Result<KekName, StatementError> {
    reader.value("kek")?.parse()
}

fn version(reader: &mut Reader<'_>) -> Result<NewVersion, StatementError> {
    let kek = kek(reader)?;
    let profile = reader.value("profile")?;
    let profile_sha256 = reader.value("profile-sha256")?.parse()?;
    let subject = reader.value("certificate-subject")?;
    let valid_days = reader.value("certificate-valid-days")?;
    let is_subject = rules::is_subject(subject.text) && subject.text.trim() == subject.text;
    Ok(NewVersion {
        kek,
        profile: profile.checked(rules::is_plain_name(profile.text), rules::PLAIN_NAME)?,
        profile_sha256,
        certificate_subject: subject.checked(is_subject, rules::SUBJECT)?,
        certificate_valid_days: valid_days.number(rules::VALID_DAYS)?,
    })
}

fn mandate(reader: &mut Reader<'_>) -> Result<Mandate, StatementError> {
    let version = version(reader)?;
    let period_days = reader.value("period-days")?.number(1..=PERIOD_DAYS_MAX)?;
    let interval_days_min = reader.value("interval-days-min")?.number(1..=period_days)?;
    let until = reader.value("until")?.time()?;
    Ok(Mandate {
        version,
        period_days,
        interval_days_min,
        until,
        warn_days: warn_days(reader.value("warn-days")?)?,
    })
}

fn warn_days(value: Value<'_>) -> Result<Vec<u32>, StatementError> {
    if value.text == NONE {
        return Ok(Vec::new());
    }
    let day = |text| Value { text, ..value }.number(1..=PERIOD_DAYS_MAX);
    let days = value.text.split(',').take(WARNINGS_MAX.saturating_add(1));
    let days = days.map(day).collect::<Result<Vec<_>, _>>()?;
    let descends = days.iter().zip(days.iter().skip(1)).all(|(a, b)| a > b);
    if days.len() > WARNINGS_MAX || !descends {
        return Err(value.refused("none, or at most 8 numbers of days, descending, as 30,7,1"));
    }
    Ok(days)
}

fn usage(reader: &mut Reader<'_>) -> Result<Usage, StatementError> {
    let time = |value: Value<'_>| match value.text {
        NEVER => Ok(None),
        _ => value.time().map(Some),
    };
    let unwraps = reader.value("unwraps")?.number(0..=u64::MAX)?;
    let first = reader.value("first-use")?;
    let last = reader.value("last-use")?;
    let usage = Usage {
        unwraps,
        first: time(first)?,
        last: time(last)?,
    };
    if usage.first.is_none() != (unwraps == 0) {
        return Err(
            first.refused("a time where there were unwraps, and never where there were none")
        );
    }
    if usage.last.is_none() != (unwraps == 0) || usage.last < usage.first {
        return Err(
            last.refused("never where there were no unwraps, else a time from first-use on")
        );
    }
    Ok(usage)
}

fn reason(value: Value<'_>) -> Result<String, StatementError> {
    let fits = value.text.len() <= REASON_LEN_MAX && value.text.trim() == value.text;
    value.checked(fits, "1 to 200 characters without outer spaces")
}

fn recording_key(value: Value<'_>) -> Result<String, StatementError> {
    let fits = value.text.len() <= RECORDING_KEY_LEN_MAX && !value.text.contains(' ');
    value.checked(fits, "1 to 128 characters without spaces")
}

fn fallback(value: Value<'_>) -> Result<Option<KekName>, StatementError> {
    match value.text {
        NONE => Ok(None),
        _ => value.parse().map(Some),
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OperationKind {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.name() == text).ok_or(TypeError {
            what: "an operation",
            rule: "one that kekd knows, for example create-kek (docs/formats.md lists them)",
        })
    }
}

impl fmt::Display for Approvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => role.fmt(f),
            Self::AnyOfficer => f.write_str("any-officer"),
            Self::Recovery => f.write_str("recovery"),
        }
    }
}

impl FromStr for Approvers {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        match text {
            "any-officer" => Ok(Self::AnyOfficer),
            "recovery" => Ok(Self::Recovery),
            role => role.parse().map(Self::Role).map_err(|_| TypeError {
                what: "the approvers",
                rule: "one of key-custodian, policy-officer, any-officer, recovery",
            }),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Kek(kek) => write!(f, "kek {kek}"),
        }
    }
}

impl FromStr for Target {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        match text.strip_prefix("kek ") {
            Some(kek) => kek.parse().map(Self::Kek),
            None if text == "all" => Ok(Self::All),
            None => Err(TypeError {
                what: "a target",
                rule: "all, or kek and a name",
            }),
        }
    }
}
