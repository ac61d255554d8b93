//! `kekctl proposal sign-bundle`: the facts of a bundle, and the signature. Talks to nobody.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::exit::Exit;
use crate::file::Target;
use crate::officer::bundle::Bundle;
use crate::officer::purpose::Purpose;
use crate::officer::signer::Signer;
use crate::output::{self, Format};

/// Sign a bundle; needs no connection
///
/// Every fact is read from the statement in the bundle, on this machine, and shown before you sign.
/// An execution is dated by this machine's clock.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl proposal sign-bundle bundle.json --officer-key KEY --out signed.json")]
pub struct SignBundle {
    /// The bundle
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
    /// The signed bundle to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    signer: Signer,
}

impl SignBundle {
    pub fn run(self, format: Format) -> anyhow::Result<Exit> {
        let target = Target::new(self.out, self.force);
        target.check(false)?;
        let signed = Bundle::open(&self.bundle)?.sign(&self.signer, format)?;
        signed.write(&target)?;
        let report = Signed {
            proposal_id: signed.proposal()?.id.to_string(),
            purpose: signed.purpose,
            out: target.path().display().to_string(),
        };
        output::show(format, target.report_stream(), &report)?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Signed {
    proposal_id: String,
    purpose: Purpose,
    out: String,
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let out = &self.out;
        write!(
            f,
            "signed; go on, where kekd can be reached, with:\n  kekctl proposal submit-bundle {out}"
        )
    }
}
