//! The genesis document as it is written: TOML tables and their way into typed values. Rules that
//! look at more than one value are in `rules`; signatures are `genesis`' concern.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::Deserialize;

use super::genesis::{FORMAT, GenesisError, GenesisKek, Issuer, Policy};
use super::officer::{Officer, OfficerKey, OfficerRole};
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
    pub(super) policy: Policy,
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
        let officer = |table: &OfficerTable| match OfficerKey::from_openssh(&table.key) {
            Ok(key) => Ok(Officer {
                name: table.name.clone(),
                role: table.role,
                key,
            }),
            Err(source) => Err(GenesisError::KeyRefused {
                officer: table.name.clone(),
                source,
            }),
        };
        self.officer.iter().map(officer).collect()
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
