//! The genesis document as it is written: TOML tables and their way into typed values. Rules that
//! look at more than one value are in `rules`; signatures are `genesis`' concern.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::genesis::{FORMAT, GenesisError, GenesisKek, Issuer, Recovery};
use super::officer::{Officer, OfficerKey, OfficerRole};
use super::operation::OperationKind;
use super::policy::{Policy, RECOVERY_LOCK, Rule};
use crate::access::{Clients, Identity, Role};
use crate::types::{KekName, TypeError};

#[derive(Deserialize)]
struct Header {
    format: String,
}

/// The document as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(rename = "format")]
    _format: String,
    pub(super) instance: String,
    pub(super) policy: PolicyTable,
    recovery: Option<RecoveryTable>,
    pub(super) issuer: Issuer,
    #[serde(default)]
    officer: Vec<OfficerTable>,
    #[serde(default)]
    pub(super) client: Vec<ClientTable>,
    #[serde(default)]
    kek: Vec<KekTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyTable {
    pub(super) threshold: usize,
    proposer_may_approve: Option<bool>,
    open_max_per_officer: Option<usize>,
    #[serde(default)]
    rule: Vec<RuleTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    operation: String,
    threshold: Option<usize>,
    time_lock_seconds: Option<u64>,
    lifetime_seconds: Option<u64>,
    allowed: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecoveryTable {
    threshold: usize,
    time_lock_seconds: Option<u64>,
    #[serde(default)]
    officer: Vec<RecoveryOfficerTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecoveryOfficerTable {
    name: String,
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfficerTable {
    name: String,
    role: OfficerRole,
    key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientTable {
    pub(super) name: String,
    identity: String,
    pub(super) role: Role,
    #[serde(default)]
    pub(super) keks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KekTable {
    name: String,
    profile: String,
    profile_sha256: Option<String>,
    certificate_subject: String,
    certificate_valid_days: u32,
}

impl Document {
    /// Reads TOML with these keys and no others.
    pub(super) fn parse(text: &str) -> Result<Self, GenesisError> {
        // The format alone first: a newer document may have keys that this one must not have.
        let Header { format } = toml::from_str(text)?;
        if format != FORMAT {
            return Err(GenesisError::FormatUnknown { found: format });
        }
        Ok(toml::from_str(text)?)
    }

    pub(super) fn officers(&self) -> Result<Vec<Officer>, GenesisError> {
        let table = |table: &OfficerTable| officer(&table.name, table.role, &table.key);
        self.officer.iter().map(table).collect()
    }

    /// The defaults, with what the document says in their place.
    pub(super) fn policy(&self) -> Result<Policy, GenesisError> {
        let table = &self.policy;
        let mut policy = Policy::with_threshold(table.threshold);
        if let Some(may) = table.proposer_may_approve {
            policy.proposer_may_approve = may;
        }
        if let Some(open_max) = table.open_max_per_officer {
            policy.open_max_per_officer = open_max;
        }
        let mut seen = BTreeSet::new();
        for table in &table.rule {
            let kind = named("policy rule operation", &table.operation)?;
            if kind == OperationKind::Recover {
                return Err(GenesisError::ValueRefused {
                    place: "policy rule operation".to_owned(),
                    rule: "another than recover, which has its rule in [recovery]",
                    found: table.operation.clone(),
                });
            }
            if !seen.insert(kind) {
                return Err(GenesisError::Twice {
                    what: "the policy rule for",
                    name: table.operation.clone(),
                });
            }
            policy.set(kind, rule(table, policy.rule(kind)));
        }
        let recover = policy.rule(OperationKind::Recover);
        let recover = match self.recovery()? {
            None => Rule {
                allowed: false,
                ..recover
            },
            Some(recovery) => Rule {
                threshold: recovery.threshold,
                time_lock: recovery.time_lock,
                ..recover
            },
        };
        policy.set(OperationKind::Recover, recover);
        Ok(policy)
    }

    pub(super) fn recovery(&self) -> Result<Option<Recovery>, GenesisError> {
        let Some(table) = &self.recovery else {
            return Ok(None);
        };
        let time_lock = table.time_lock_seconds.map(Duration::from_secs);
        // Its members decide as the recovery set only; nothing asks for this role.
        let role = OfficerRole::KeyCustodian;
        let member = |table: &RecoveryOfficerTable| officer(&table.name, role, &table.key);
        let officers = table.officer.iter().map(member);
        Ok(Some(Recovery {
            officers: officers.collect::<Result<_, _>>()?,
            threshold: table.threshold,
            time_lock: time_lock.unwrap_or(RECOVERY_LOCK),
        }))
    }

    pub(super) fn clients(&self) -> Result<Clients, GenesisError> {
        let mut clients = Clients::default();
        for table in &self.client {
            let place = format!("client {:?}", table.name);
            let identity: Identity = named(&place, &table.identity)?;
            let keks = table.keks.iter().map(|kek| named(&place, kek));
            let keks = keks.collect::<Result<BTreeSet<KekName>, _>>()?;
            clients.add(identity, table.role, keks)?;
        }
        Ok(clients)
    }

    pub(super) fn keks(&self) -> Result<Vec<GenesisKek>, GenesisError> {
        self.kek.iter().map(kek).collect()
    }
}

fn officer(name: &str, role: OfficerRole, key: &str) -> Result<Officer, GenesisError> {
    match OfficerKey::from_openssh(key) {
        Ok(key) => Ok(Officer {
            name: name.to_owned(),
            role,
            key,
        }),
        Err(source) => Err(GenesisError::KeyRefused {
            officer: name.to_owned(),
            source,
        }),
    }
}

fn rule(table: &RuleTable, default: Rule) -> Rule {
    let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
    Rule {
        threshold: table.threshold.unwrap_or(default.threshold),
        time_lock: seconds(table.time_lock_seconds).unwrap_or(default.time_lock),
        lifetime: seconds(table.lifetime_seconds).unwrap_or(default.lifetime),
        allowed: table.allowed.unwrap_or(default.allowed),
    }
}

fn kek(table: &KekTable) -> Result<GenesisKek, GenesisError> {
    let place = format!("kek {:?}", table.name);
    let pinned = table.profile_sha256.as_deref();
    let profile_sha256 = pinned.map(|hex| named(&place, hex)).transpose()?;
    Ok(GenesisKek {
        name: named(&place, &table.name)?,
        profile: table.profile.clone(),
        profile_sha256,
        certificate_subject: table.certificate_subject.clone(),
        certificate_valid_days: table.certificate_valid_days,
    })
}

fn named<T: FromStr<Err = TypeError>>(place: &str, text: &str) -> Result<T, GenesisError> {
    text.parse().map_err(|source| GenesisError::NameRefused {
        place: place.to_owned(),
        found: text.to_owned(),
        source,
    })
}
