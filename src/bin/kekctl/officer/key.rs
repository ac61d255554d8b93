//! Which officer a key is: by what the key is, not by its file's name or comment.

use std::path::Path;

use kekd::proto::v1;
use kekd::quorum::OfficerKey;

use serde::{Deserialize, Serialize};

use super::ssh_keygen;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file;
use crate::output::Format;

/// Longest key file read: RSA-8192 with its comment has less.
const KEY_LEN_MAX: u64 = 64 * 1024;

/// An officer as kekd or a bundle names one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    /// OpenSSH public key: kind and base64.
    pub key: String,
}

impl Named {
    /// Officers as kekd names them.
    pub fn of(officers: &[v1::Officer]) -> impl Iterator<Item = Self> {
        officers.iter().map(|officer| Self {
            name: officer.name.clone(),
            key: officer.key.clone(),
        })
    }
}

/// The public key of a key file: the file itself, the `.pub` beside it, or what ssh-keygen says.
pub fn public(path: &Path, format: Format) -> anyhow::Result<OfficerKey> {
    let text = String::from_utf8(file::read(path, KEY_LEN_MAX)?).unwrap_or_default();
    if let Ok(key) = OfficerKey::from_openssh(text.trim_end()) {
        return Ok(key);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let beside = Path::new(&beside);
    let text = match beside.exists() {
        true => String::from_utf8(file::read(beside, KEY_LEN_MAX)?).unwrap_or_default(),
        false => ssh_keygen::public_key(path, format)?,
    };
    OfficerKey::from_openssh(text.trim_end()).map_err(|error| {
        let text = format!("{} is no officer's key: {error}", path.display());
        Failure::new(Exit::Malformed, "NOT_ACCEPTABLE", text).into()
    })
}

/// The name of the officer who has this key.
pub fn owner(
    key: &OfficerKey,
    mut officers: impl Iterator<Item = Named>,
) -> Result<String, Failure> {
    let is_it = |officer: &Named| {
        OfficerKey::from_openssh(&officer.key).is_ok_and(|of| of.is_same_key(key))
    };
    match officers.find(is_it) {
        Some(officer) => Ok(officer.name),
        None => Err(Failure::new(
            Exit::Configuration,
            "OFFICER_UNKNOWN",
            "no officer of this instance has your key (kekctl officers); name yourself with \
             --officer (KEKD_OFFICER) if you know better",
        )),
    }
}
