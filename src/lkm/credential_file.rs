//! The file of Hawk credentials as text, and what `kekd-lkm credential` does to it: a new credential,
//! a rotation in two steps, a list. A file is replaced whole or not at all. Secrets are wiped from
//! memory and are in no message.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::credentials::Lane;
use crate::types::KekName;

/// Fewest characters of a secret that a person chose.
const SECRET_LEN_MIN: usize = 16;
/// Most characters of a secret.
const SECRET_LEN_MAX: usize = 256;
/// Random bytes of a secret made here.
const SECRET_BYTES: usize = 32;

const HEAD: &str = "\
# Hawk credentials of kekd-lkm: mode 0600. Changed by `kekd-lkm credential`, or by hand; a running
# kekd-lkm reads it again by itself. secrets: the newer first, two while one follows the other.

";

/// The whole file.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialFile {
    /// The credentials.
    #[serde(default)]
    pub credential: Vec<Entry>,
}

/// One credential. No `Debug`.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// 6 to 64 letters, digits, `.`, `_` and `-`.
    pub id: String,
    /// The KEKs it may unwrap under, at least one.
    #[serde(with = "kek_names")]
    pub keks: Vec<KekName>,
    /// Its lane.
    #[serde(default)]
    pub lane: Lane,
    /// One or two, of 16 to 256 printable ASCII characters.
    pub secrets: Vec<String>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.secrets.iter_mut().for_each(String::zeroize);
    }
}

/// What is wrong with a file, or with a change of it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialFileError {
    /// Not TOML of this form. The parser's own words could quote a secret.
    #[error("it is not TOML with [[credential]] tables of id, keks, lane and secrets{0}")]
    NotToml(String),
    /// An id that is none.
    #[error("an id has 6 to 64 letters, digits, \".\", \"_\" and \"-\"; {0:?} has not")]
    Id(String),
    /// An id that is there twice.
    #[error("the id {0:?} is there twice")]
    Twice(String),
    /// A credential for nothing.
    #[error("the credential {0:?} names no KEK, so it could unwrap nothing")]
    NoKek(String),
    /// No secret, or too many, or one too short.
    #[error(
        "the credential {0:?} must have one secret or two, each of {SECRET_LEN_MIN} to \
         {SECRET_LEN_MAX} printable ASCII characters"
    )]
    Secrets(String),
    /// No credential has this id.
    #[error("there is no credential {0:?}")]
    Unknown(String),
    /// A rotation is under way.
    #[error(
        "the credential {0:?} has two live secrets already: when the cloud uses the newer one, end \
         the rotation with --finish"
    )]
    Rotating(String),
    /// No rotation is under way.
    #[error("the credential {0:?} has one secret only: nothing is to be finished")]
    NotRotating(String),
    /// No randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
    /// It cannot be written.
    #[error("the file cannot be written: {0}")]
    NotWritten(#[from] io::Error),
    /// It cannot be put into TOML.
    #[error("the file cannot be put into TOML: {0}")]
    NotSerialised(#[from] toml::ser::Error),
}

impl CredentialFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Where it is not one.
    pub fn parse(text: &str) -> Result<Self, CredentialFileError> {
        let file: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| before.lines().count().max(1));
            CredentialFileError::NotToml(
                line.map_or_else(String::new, |line| format!(" (near line {line})")),
            )
        })?;
        for (index, entry) in file.credential.iter().enumerate() {
            check(entry)?;
            if file.credential.iter().take(index).any(|e| e.id == entry.id) {
                return Err(CredentialFileError::Twice(entry.id.clone()));
            }
        }
        Ok(file)
    }

    /// Adds a credential and gives its secret.
    ///
    /// # Errors
    /// Where the id is taken or none, or no KEK is named.
    pub fn add(
        &mut self,
        id: &str,
        keks: Vec<KekName>,
        lane: Lane,
    ) -> Result<Zeroizing<String>, CredentialFileError> {
        if self.credential.iter().any(|entry| entry.id == id) {
            return Err(CredentialFileError::Twice(id.to_owned()));
        }
        let secret = new_secret()?;
        let entry = Entry {
            id: id.to_owned(),
            keks,
            lane,
            secrets: vec![secret.to_string()],
        };
        check(&entry)?;
        self.credential.push(entry);
        Ok(secret)
    }

    /// Begins a rotation: a second secret, which it gives; the first goes on working.
    ///
    /// # Errors
    /// Where there is no such credential, or a rotation is under way.
    pub fn rotate(&mut self, id: &str) -> Result<Zeroizing<String>, CredentialFileError> {
        let entry = self.entry(id)?;
        if entry.secrets.len() > 1 {
            return Err(CredentialFileError::Rotating(id.to_owned()));
        }
        let secret = new_secret()?;
        entry.secrets.insert(0, secret.to_string());
        Ok(secret)
    }

    /// Ends a rotation: the older secret is forgotten.
    ///
    /// # Errors
    /// Where there is no such credential, or no rotation is under way.
    pub fn finish(&mut self, id: &str) -> Result<(), CredentialFileError> {
        let entry = self.entry(id)?;
        match entry.secrets.len() {
            2 => {
                let older = entry.secrets.pop();
                drop(older.map(Zeroizing::new));
                Ok(())
            }
            _ => Err(CredentialFileError::NotRotating(id.to_owned())),
        }
    }

    fn entry(&mut self, id: &str) -> Result<&mut Entry, CredentialFileError> {
        self.credential
            .iter_mut()
            .find(|entry| entry.id == id)
            .ok_or_else(|| CredentialFileError::Unknown(id.to_owned()))
    }

    /// Writes the file in place of the one that is there, with its owner, mode 0600.
    ///
    /// # Errors
    /// Where it cannot be written; the old one is as it was then.
    pub fn write(&self, file: &Path) -> Result<(), CredentialFileError> {
        let text = Zeroizing::new(toml::to_string(self)?);
        let folder = file.parent().filter(|f| !f.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        fs::set_permissions(new.path(), fs::Permissions::from_mode(0o600))?;
        if let Ok(old) = fs::metadata(file) {
            std::os::unix::fs::chown(new.path(), Some(old.uid()), Some(old.gid()))?;
        }
        new.write_all(HEAD.as_bytes())?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(file).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()?;
        Ok(())
    }
}

fn check(entry: &Entry) -> Result<(), CredentialFileError> {
    let id = || entry.id.clone();
    let may_be = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if !(6..=64).contains(&entry.id.len()) || !entry.id.chars().all(may_be) {
        return Err(CredentialFileError::Id(id()));
    }
    if entry.keks.is_empty() {
        return Err(CredentialFileError::NoKek(id()));
    }
    let is_secret = |text: &String| {
        (SECRET_LEN_MIN..=SECRET_LEN_MAX).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_graphic())
    };
    if !(1..=2).contains(&entry.secrets.len()) || !entry.secrets.iter().all(is_secret) {
        return Err(CredentialFileError::Secrets(id()));
    }
    Ok(())
}

/// 256 bits of randomness as 43 characters that need no escape anywhere.
fn new_secret() -> Result<Zeroizing<String>, CredentialFileError> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| CredentialFileError::NoRandomness)?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

/// Names of KEKs as text.
mod kek_names {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::types::KekName;

    pub(super) fn serialize<S: Serializer>(keks: &[KekName], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(keks.iter().map(KekName::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<KekName>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        let name = |name: &String| name.parse().map_err(D::Error::custom);
        names.iter().map(name).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    fn kek() -> Vec<KekName> {
        vec!["recordings".parse().unwrap()]
    }

    #[test]
    fn a_rotation_has_two_live_secrets_and_then_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        let mut file = CredentialFile::default();
        let first = file.add("cloud-1", kek(), Lane::Bulk).unwrap();
        assert_eq!(first.len(), 43);
        assert!(file.finish("cloud-1").is_err());
        let second = file.rotate("cloud-1").unwrap();
        assert!(file.rotate("cloud-1").is_err(), "a third secret");
        file.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        let mut file = CredentialFile::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        let entry = file.credential.first().unwrap();
        assert_eq!(entry.secrets, [second.to_string(), first.to_string()]);
        assert_eq!(entry.lane, Lane::Bulk);
        file.finish("cloud-1").unwrap();
        assert_eq!(
            file.credential.first().unwrap().secrets,
            [second.to_string()]
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_a_secret() {
        let good = "[[credential]]\nid = \"cloud-1\"\nkeks = [\"a\"]\n\
                    secrets = [\"0123456789abcdef\"]\n";
        let text = |text: &str| CredentialFile::parse(text).err().unwrap().to_string();
        assert!(CredentialFile::parse(good).is_ok());
        let cases = [
            (good.replace("\"cloud-1\"", "\"c\""), "6 to 64"),
            (good.replace("[\"a\"]", "[]"), "names no KEK"),
            (good.replace("\"a\"", "\"A B\""), "not TOML"),
            (good.replace("0123456789", ""), "one secret or two"),
            (format!("{good}other = 1\n"), "near line"),
            (good.replace("\"]", ""), "not TOML"),
            (good.repeat(2), "is there twice"),
        ];
        for (bad, said) in cases {
            let error = text(&bad);
            assert!(error.contains(said), "{bad}: {error}");
            assert!(!error.contains("0123456789abcdef"), "{error}");
        }
        let mut file = CredentialFile::default();
        assert!(file.add("cloud-1", Vec::new(), Lane::Interactive).is_err());
        assert!(matches!(
            file.rotate("cloud-1").err().unwrap(),
            CredentialFileError::Unknown(_)
        ));
    }
}
