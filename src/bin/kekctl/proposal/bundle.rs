//! `kekctl proposal bundle`: what has to be signed, as one file for a machine without a network.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::connection::Connection;
use crate::exit::Exit;
use crate::file::Target;
use crate::officer::bundle::{self, Written};
use crate::officer::find::{self, ProposalRef};
use crate::officer::purpose::Purpose;
use crate::officer::view;
use crate::output::{self, Format};

/// Write what has to be signed as one file, to be signed offline
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl proposal bundle 3f2a90bc --for approve --out bundle.json
  kekctl proposal bundle 3f2a90bc --for execute --out bundle.json    # to be signed within the hour

Then, offline:
  kekctl proposal sign-bundle bundle.json --officer-key KEY --out signed.json")]
pub struct Bundle {
    /// The proposal: its id, or 8 or more of its first digits
    #[arg(value_name = "ID")]
    proposal: ProposalRef,
    /// What the signature is for
    #[arg(long = "for", value_name = "PURPOSE")]
    purpose: Wanted,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    Approve,
    Veto,
    Possession,
    Execute,
}

impl From<Wanted> for Purpose {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Approve => Self::Approve,
            Wanted::Veto => Self::Veto,
            Wanted::Possession => Self::Possession,
            Wanted::Execute => Self::Execute,
        }
    }
}

impl Bundle {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let target = Target::new(self.out, self.force);
        target.check(false)?;
        let client = kekd.open().await?;
        let found = find::find(&client, &self.proposal).await?;
        let governance = client.governance().await?;
        let approvals = view::approvals(&found.said.approvals, found.said.threshold);
        let (purpose, proposal) = (self.purpose.into(), &found.proposal);
        bundle::Bundle::new(purpose, proposal, approvals, &governance).write(&target)?;
        let written = Written::new(proposal, purpose, &target);
        output::show(format, target.report_stream(), &written)?;
        Ok(Exit::Done)
    }
}
