//! `kekctl kek show`: one KEK with everything kekd says about its versions.

use std::fmt;

use clap::Args;
use kekd::types::KekName;
use serde::Serialize;

use super::view::KekView;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// Show one KEK and its versions
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl kek show recordings
  kekctl kek show recordings --output json | jq -r '.versions[-1].keypair_id'")]
pub struct Show {
    /// The KEK's name
    name: KekName,
}

impl Show {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let kek = kekd.open().await?.get_kek(&self.name).await?;
        output::show(format, Stream::Out, &Shown(KekView::from(kek)))?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Shown(KekView);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.name)?;
        for version in &self.0.versions {
            let bits = version.modulus_bits;
            writeln!(f, "\nversion {} ({})", version.number, version.standing())?;
            writeln!(f, "  keypair id           {}", version.keypair_id)?;
            writeln!(
                f,
                "  key                  RSA {bits} bits, profile {}",
                version.profile
            )?;
            writeln!(f, "  paddings             {}", version.paddings.join(", "))?;
            writeln!(
                f,
                "  DEKs are released    {}",
                version.release_forms.join(", ")
            )?;
            writeln!(f, "  SHA-256 of its SPKI  {}", version.spki_sha256)?;
            writeln!(f, "  created              {}", version.created_at)?;
            writeln!(
                f,
                "  certificate expires  {}",
                version.certificate_expires_at
            )?;
            if let Some(usage) = &version.usage {
                writeln!(f, "  DEKs released so far {}", usage.unwraps)?;
                if let (Some(first), Some(last)) = (&usage.first_use, &usage.last_use) {
                    writeln!(f, "  first and last       {first}, {last}")?;
                }
                for by in &usage.by_caller {
                    let last = by.last_use.as_deref().unwrap_or_default();
                    let caller = by.caller.escape_debug();
                    writeln!(
                        f,
                        "  of them to           {caller}: {}, last {last}",
                        by.unwraps
                    )?;
                }
            }
        }
        Ok(())
    }
}
