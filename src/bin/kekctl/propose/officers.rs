//! `kekctl propose change-officers` and `recover`: who decides from then on. A statement names all
//! officers; here it is put together from those there are.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use kekd::proto::v1;
use kekd::quorum::{Officer, OfficerKey, OfficerRole, Operation};
use kekd::types::TypeError;

use super::ground::Ground;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file;

/// Longest public key file read.
const KEY_LEN_MAX: u64 = 16 * 1024;
/// The role of the recovery set in kekd's list: not one that can be given.
const RECOVERY: &str = "recovery";

/// Replace officers; all who stay, stay as they are
///
/// Each new officer then proves that the key is theirs (kekctl prove-possession). Proposals that are
/// open when this is executed are cancelled.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl propose change-officers --remove carol --add key-custodian:judy=judy.pub
  kekctl propose change-officers --remove carol --add key-custodian:carol=carol-new.pub")]
pub struct ChangeOfficers {
    /// An officer who leaves; may be given several times
    #[arg(long, value_name = "NAME", required_unless_present = "add")]
    remove: Vec<String>,
    /// An officer who comes, with an OpenSSH public key; may be given several times
    #[arg(long, value_name = "ROLE:NAME=FILE")]
    add: Vec<NewOfficer>,
}

/// Replace all officers by decision of the recovery set
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose recover --keep dave --keep erin --add key-custodian:judy=judy.pub \\
      --add key-custodian:mallory=mallory.pub")]
pub struct Recover {
    /// An officer who stays; may be given several times
    #[arg(long, value_name = "NAME", required_unless_present = "add")]
    keep: Vec<String>,
    /// An officer who comes, with an OpenSSH public key; may be given several times
    #[arg(long, value_name = "ROLE:NAME=FILE")]
    add: Vec<NewOfficer>,
}

/// An officer on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NewOfficer {
    role: OfficerRole,
    name: String,
    file: PathBuf,
}

impl FromStr for NewOfficer {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let parts = text.split_once(':').and_then(|(role, rest)| {
            let (name, file) = rest.rsplit_once('=')?;
            (!name.is_empty() && !file.is_empty()).then_some((role, name, file))
        });
        match parts {
            Some((role, name, file)) => Ok(Self {
                role: role.parse()?,
                name: name.to_owned(),
                file: file.into(),
            }),
            None => Err(TypeError {
                what: "an officer",
                rule: "ROLE:NAME=FILE, for example key-custodian:judy=judy.pub",
            }),
        }
    }
}

impl ChangeOfficers {
    pub fn operation(self, ground: &Ground) -> anyhow::Result<Operation> {
        let mut officers = current(&ground.governance.officers)?;
        for name in &self.remove {
            remove(&mut officers, name)?;
        }
        add(&mut officers, &self.add)?;
        Ok(Operation::ChangeOfficers { officers })
    }
}

impl Recover {
    pub fn operation(self, ground: &Ground) -> anyhow::Result<Operation> {
        let mut left = current(&ground.governance.officers)?;
        let kept = self.keep.iter().map(|name| remove(&mut left, name));
        let mut officers = kept.collect::<Result<Vec<_>, _>>()?;
        add(&mut officers, &self.add)?;
        Ok(Operation::Recover { officers })
    }
}

/// The officers there are, without the recovery set.
fn current(officers: &[v1::Officer]) -> anyhow::Result<Vec<Officer>> {
    let officers = officers.iter().filter(|officer| officer.role != RECOVERY);
    let officer = |officer: &v1::Officer| {
        Ok(Officer {
            name: officer.name.clone(),
            role: officer.role.parse()?,
            key: OfficerKey::from_openssh(&officer.key)?,
        })
    };
    officers.map(officer).collect()
}

fn remove(officers: &mut Vec<Officer>, name: &str) -> Result<Officer, Failure> {
    match officers.iter().position(|officer| officer.name == name) {
        Some(at) => Ok(officers.remove(at)),
        None => {
            let text = format!("there is no officer {name:?} (kekctl officers)");
            Err(Failure::new(Exit::Usage, "OFFICER_UNKNOWN", text))
        }
    }
}

fn add(officers: &mut Vec<Officer>, new: &[NewOfficer]) -> anyhow::Result<()> {
    for NewOfficer { role, name, file } in new {
        let text = String::from_utf8(file::read(file, KEY_LEN_MAX)?).unwrap_or_default();
        let key = OfficerKey::from_openssh(text.trim_end()).map_err(|error| {
            let text = format!("{} is no officer's key: {error}", file.display());
            Failure::new(Exit::Malformed, "NOT_ACCEPTABLE", text)
        })?;
        officers.push(Officer {
            name: name.clone(),
            role: *role,
            key,
        });
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn said(name: &str, role: &str) -> v1::Officer {
        v1::Officer {
            name: name.to_owned(),
            role: role.to_owned(),
            key: KEY.to_owned(),
            fingerprint: String::new(),
        }
    }

    #[test]
    fn an_officer_is_a_role_a_name_and_a_file() {
        let new: NewOfficer = "policy-officer:Eve = Bob=./a=b.pub"
            .parse()
            .unwrap_or(NewOfficer {
                role: OfficerRole::KeyCustodian,
                name: String::new(),
                file: PathBuf::new(),
            });
        // The last equals sign divides, so a file's name holds none.
        assert_eq!(new.name, "Eve = Bob=./a");
        for bad in [
            "",
            "judy=judy.pub",
            "key-custodian:judy",
            "custodian:judy=a",
        ] {
            assert!(bad.parse::<NewOfficer>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn who_is_not_named_stays_and_the_recovery_set_is_no_officer() {
        let all = [said("alice", "key-custodian"), said("grace", "recovery")];
        let mut officers = current(&all).unwrap();
        assert_eq!(officers.len(), 1);
        assert!(remove(&mut officers, "grace").is_err());
        assert_eq!(remove(&mut officers, "alice").unwrap().name, "alice");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("judy.pub");
        std::fs::write(&file, format!("{KEY} judy@example\n")).unwrap();
        let new = NewOfficer {
            role: OfficerRole::PolicyOfficer,
            name: "judy".to_owned(),
            file,
        };
        add(&mut officers, &[new]).unwrap();
        assert_eq!(officers.first().unwrap().name, "judy");
    }
}
