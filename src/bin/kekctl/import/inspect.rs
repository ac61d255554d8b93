//! `kekctl import inspect`: what a legacy key is, and what to propose of it. Offline.

use std::fmt;

use clap::Args;
use serde::Serialize;

use super::legacy::LegacyKey;
use super::passphrase::KeyFile;
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// Show what a legacy key is, and what to propose; nothing is sent
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl import inspect --legacy-key legacy.pem
  kekctl import inspect --legacy-key legacy.p12 --passphrase-file phrase --output json | jq -r .spki_sha256")]
pub struct Inspect {
    #[command(flatten)]
    key: KeyFile,
}

impl Inspect {
    pub fn run(self, format: Format) -> anyhow::Result<Exit> {
        let key = LegacyKey::read(&self.key)?;
        output::show(format, Stream::Out, &Inspected::of(&key))?;
        Ok(Exit::Done)
    }
}

/// What is said of a key. None of it is secret.
#[derive(Debug, Serialize)]
pub struct Inspected {
    bits: u32,
    /// Hexadecimal.
    spki_sha256: String,
    /// The built-in profile for it.
    profile: String,
}

impl Inspected {
    pub fn of(key: &LegacyKey) -> Self {
        Self {
            bits: key.bits(),
            spki_sha256: key.spki_sha256().to_string(),
            profile: key.profile(),
        }
    }
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "RSA, {} bits", self.bits)?;
        writeln!(f, "  public key, SHA-256  {}", self.spki_sha256)?;
        writeln!(f, "  to be proposed with  --profile {} \\", self.profile)?;
        write!(
            f,
            "                       --spki-sha256 {}",
            self.spki_sha256
        )
    }
}
