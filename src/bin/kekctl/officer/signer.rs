//! Who signs, with what, for which instance: the options of every command that signs, and the one
//! way from a statement to its signature.

use std::path::{Path, PathBuf};

use clap::Args;
use kekd::types::Sha256;

use super::facts::Facts;
use super::key::{self, Named};
use super::purpose::Purpose;
use super::{consent, ssh_keygen};
use crate::cli;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Format;

/// Options of every command that signs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signing")]
pub struct Signer {
    /// Your officer key: an OpenSSH private key (security keys too), or the .pub of one that
    /// ssh-agent holds
    #[arg(
        long,
        global = true,
        env = "KEKD_OFFICER_KEY",
        hide_env_values = true, value_parser = cli::path(),
        value_name = "FILE"
    )]
    officer_key: Option<PathBuf>,
    /// Your name as an officer [default: whose key it is]
    #[arg(
        long,
        global = true,
        env = "KEKD_OFFICER",
        hide_env_values = true,
        value_name = "NAME"
    )]
    officer: Option<String>,
    /// Sign for this instance only: its id, 64 hexadecimal digits
    #[arg(
        long,
        global = true,
        env = "KEKD_INSTANCE",
        hide_env_values = true,
        value_name = "HEX"
    )]
    instance: Option<String>,
    /// Sign without asking
    #[arg(long, global = true)]
    yes: bool,
}

impl Signer {
    /// The officer's name: the one given, or the one whose key it is.
    pub fn name(
        &self,
        officers: impl Iterator<Item = Named>,
        format: Format,
    ) -> anyhow::Result<String> {
        // A variable set to nothing is a variable not set.
        match self.officer.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => Ok(name.to_owned()),
            None => Ok(key::owner(&key::public(self.key()?, format)?, officers)?),
        }
    }

    /// Shows the facts, asks, and signs these bytes. `instance` is the one the bytes name.
    pub fn sign(
        &self,
        purpose: Purpose,
        text: &[u8],
        instance: Sha256,
        facts: &Facts,
        format: Format,
    ) -> anyhow::Result<Vec<u8>> {
        self.check(instance)?;
        let key = self.key()?;
        consent::ask(purpose, facts, self.yes, format)?;
        ssh_keygen::sign(key, purpose.namespace(), text, format)
    }

    fn key(&self) -> Result<&Path, Failure> {
        let key = self.officer_key.as_deref();
        key.filter(|path| !path.as_os_str().is_empty())
            .ok_or_else(|| {
                let text = "your officer key is not named: use --officer-key (KEKD_OFFICER_KEY), \
                            or bring a signature made elsewhere";
                Failure::new(Exit::Configuration, "OFFICER_KEY_MISSING", text)
            })
    }

    /// Refuses a statement for another instance than the one expected, where one is.
    fn check(&self, found: Sha256) -> Result<(), Failure> {
        let Some(text) = self.instance.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        let expected: Sha256 = text.parse().map_err(|error| {
            let text = format!("--instance (KEKD_INSTANCE): {error}");
            Failure::new(Exit::Usage, "USAGE", text)
        })?;
        if expected == found {
            return Ok(());
        }
        let text = format!(
            "nothing was signed: expected a statement for the instance {expected}; found one for \
             {found}"
        );
        Err(Failure::new(Exit::Malformed, "INSTANCE_WRONG", text))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
pub mod tests {
    use super::*;
    use std::process::Command;

    /// A signer with this key, who says yes.
    pub fn signer(key: &Path) -> Signer {
        Signer {
            officer_key: Some(key.to_owned()),
            officer: None,
            instance: None,
            yes: true,
        }
    }

    /// Makes a key pair and returns the path of the private key.
    pub fn key_in(dir: &Path) -> PathBuf {
        let key = dir.join("key");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        assert!(keygen.arg(&key).status().unwrap().success());
        key
    }

    #[test]
    fn the_key_says_who_signs_unless_a_name_does() {
        let dir = tempfile::tempdir().unwrap();
        let mut signer = signer(&key_in(dir.path()));
        let public = std::fs::read_to_string(dir.path().join("key.pub")).unwrap();
        let officers = || {
            [("eve", "ssh-ed25519 AAAA"), ("alice", public.trim_end())]
                .into_iter()
                .map(|(name, key)| Named {
                    name: name.to_owned(),
                    key: key.to_owned(),
                })
        };
        assert_eq!(signer.name(officers(), Format::Json).unwrap(), "alice");
        // Without its .pub the private key itself is asked.
        std::fs::remove_file(dir.path().join("key.pub")).unwrap();
        assert_eq!(signer.name(officers(), Format::Json).unwrap(), "alice");
        let failure = signer.name(officers().take(1), Format::Json).unwrap_err();
        assert_eq!(Failure::from(failure).reason, "OFFICER_UNKNOWN");
        signer.officer = Some("bob".to_owned());
        assert_eq!(signer.name(officers(), Format::Json).unwrap(), "bob");
    }

    #[test]
    fn another_instance_is_not_signed_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut signer = signer(&key_in(dir.path()));
        let (ours, theirs) = (Sha256::of(b"ours"), Sha256::of(b"theirs"));
        let sign = |signer: &Signer| {
            let facts = Facts::default();
            signer.sign(Purpose::Approve, b"text\n", theirs, &facts, Format::Json)
        };
        assert!(sign(&signer).is_ok());
        signer.instance = Some(String::new());
        assert!(sign(&signer).is_ok());
        signer.instance = Some(ours.to_string());
        let failure = Failure::from(sign(&signer).unwrap_err());
        assert_eq!(failure.reason, "INSTANCE_WRONG");
        signer.instance = Some("ab".to_owned());
        assert_eq!(Failure::from(sign(&signer).unwrap_err()).exit, Exit::Usage);
    }
}
