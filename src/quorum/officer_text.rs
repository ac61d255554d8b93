//! Officers and their keys as text: lines of a statement, OpenSSH keys, fingerprints. One officer
//! has one line. Which keys are good enough is `officer`'s concern.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD as BASE64_NO_PAD};

use super::lines::{Reader, Value};
use super::officer::{Material, OFFICERS_MAX, Officer, OfficerKey, OfficerRole};
use super::rules;
use super::sshsig::string;
use super::statement::StatementError;
use crate::types::{Sha256, TypeError};

const OFFICER: &str = "officer";

impl OfficerRole {
    /// The name used in statements, genesis documents and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyCustodian => "key-custodian",
            Self::PolicyOfficer => "policy-officer",
        }
    }
}

impl fmt::Display for OfficerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OfficerRole {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        match text {
            "key-custodian" => Ok(Self::KeyCustodian),
            "policy-officer" => Ok(Self::PolicyOfficer),
            _ => Err(TypeError {
                what: "an officer's role",
                rule: "key-custodian or policy-officer",
            }),
        }
    }
}

impl OfficerKey {
    /// Its line in a `.pub` file without a comment: kind, one space, base64. The one form of a key.
    pub fn to_openssh(&self) -> String {
        format!("{} {}", self.kind(), BASE64.encode(self.blob()))
    }

    /// `SHA256:` and 43 characters, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::of(&self.blob());
        format!("SHA256:{}", BASE64_NO_PAD.encode(digest.as_bytes()))
    }

    /// The kind of key, for example `ssh-ed25519`.
    pub const fn kind(&self) -> &'static str {
        match (&self.material, &self.application) {
            (Material::Ed25519(_), None) => "ssh-ed25519",
            (Material::Ed25519(_), Some(_)) => "sk-ssh-ed25519@openssh.com",
            (Material::P256(_), None) => "ecdsa-sha2-nistp256",
            (Material::P256(_), Some(_)) => "sk-ecdsa-sha2-nistp256@openssh.com",
            (Material::Rsa { .. }, _) => "ssh-rsa",
        }
    }

    /// The key in the wire format: RFC 4253 section 6.6 (RSA), RFC 5656 section 3.1 (ECDSA), RFC 8709
    /// section 4 (Ed25519), PROTOCOL.u2f of OpenSSH (security keys).
    fn blob(&self) -> Vec<u8> {
        let mut blob = string(self.kind());
        match &self.material {
            Material::Ed25519(key) => blob.extend(string(key)),
            Material::P256(point) => {
                blob.extend(string("nistp256"));
                blob.extend(string(point));
            }
            Material::Rsa { n, e } => {
                blob.extend(string(positive(e)));
                blob.extend(string(positive(n)));
            }
        }
        if let Some(application) = &self.application {
            blob.extend(string(application));
        }
        blob
    }
}

/// A positive mpint (RFC 4251 section 5), without its length.
fn positive(digits: &[u8]) -> Vec<u8> {
    let is_negative = digits.first().is_some_and(|byte| byte & 0x80 != 0);
    let sign: &[u8] = if is_negative { &[0] } else { &[] };
    [sign, digits].concat()
}

impl fmt::Display for Officer {
    /// The value of the officer's line: role, kind of key, base64, name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.role, self.key.to_openssh(), self.name)
    }
}

/// A line for each officer, sorted by name.
pub(super) fn lines(officers: &[Officer]) -> Vec<(&'static str, String)> {
    let mut officers: Vec<&Officer> = officers.iter().collect();
    officers.sort_by(|a, b| a.name.cmp(&b.name));
    let line = |officer: &Officer| (OFFICER, officer.to_string());
    officers.into_iter().map(line).collect()
}

/// A set of officers: 1 to 32, in order of their names, no name and no key twice.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Vec<Officer>, StatementError> {
    let mut officers: Vec<Officer> = Vec::new();
    while officers.is_empty() || reader.next_is(OFFICER) {
        let value = reader.value(OFFICER)?;
        let officer = officer(value)?;
        if officers.len() >= OFFICERS_MAX {
            return Err(value.refused("at most 32 officers"));
        }
        if officers.iter().any(|o| o.key.is_same_key(&officer.key)) {
            return Err(value.refused("a key that no other officer has"));
        }
        if officers
            .last()
            .is_some_and(|last| last.name >= officer.name)
        {
            return Err(value.refused("officers in order of their names, each once"));
        }
        officers.push(officer);
    }
    Ok(officers)
}

fn officer(value: Value<'_>) -> Result<Officer, StatementError> {
    let mut words = value.text.splitn(4, ' ');
    let (Some(role), Some(kind), Some(base64), Some(name)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(value.refused("a role, a kind of key, its base64 and a name"));
    };
    let word = |text| Value { text, ..value };
    let found = format!("{kind} {base64}");
    let key = OfficerKey::from_openssh(&found).map_err(|source| StatementError::KeyRefused {
        line: value.line,
        source,
    })?;
    let written = key.to_openssh();
    if written != found {
        return Err(value.refused(format_args!("the key in the form {written:?}")));
    }
    Ok(Officer {
        name: word(name).checked(rules::is_printable_name(name), rules::PRINTABLE_NAME)?,
        role: word(role).parse()?,
        key,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::quorum::ssh_keygen::Keys;

    #[test]
    fn keys_are_written_as_ssh_keygen_writes_them() {
        let keys = Keys::new();
        for (kind, bits) in [
            ("ed25519", "256"),
            ("ecdsa", "256"),
            ("rsa", "3072"),
            ("rsa", "3079"),
        ] {
            let name = format!("{kind}{bits}");
            let line = keys.make(&name, kind, bits);
            let key = OfficerKey::from_openssh(&line).unwrap();
            assert_eq!(line, format!("{} {name}", key.to_openssh()));
            let shown = Command::new("ssh-keygen")
                .arg("-lf")
                .arg(keys.path(&format!("{name}.pub")))
                .output()
                .unwrap();
            let shown = String::from_utf8(shown.stdout).unwrap();
            assert_eq!(shown.split(' ').nth(1), Some(key.fingerprint().as_str()));
        }
    }

    #[test]
    fn keys_in_security_keys_are_written_as_they_were_read() {
        for line in [
            "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAINuEkJ0IOPJnxbPG0nNgDMD8NZKSgEQMJ4kWhTPNTbE5AAAABHNzaDo=",
            "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBIJ/Gp0e/Pno7JSxy4bzT5egBKwsBlNZZiJGCho225E74PuBGQnw+ph2wSvUdE9H6+T+LFTDCUnOIKiV8/c8mR0AAAAEc3NoOg==",
        ] {
            let key = OfficerKey::from_openssh(line).unwrap();
            assert_eq!(key.to_openssh(), line);
            assert!(line.starts_with(key.kind()));
        }
    }
}
