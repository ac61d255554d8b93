//! `kekctl proposals`: what is put forward, one line each.

use std::fmt;

use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::officer::facts::short_id;
use crate::officer::view::ProposalView;
use crate::output::{self, Format, Stream};

/// List proposals, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl proposals
  kekctl proposals --all --output json | jq -r '.proposals[].proposal_id'")]
pub struct Proposals {
    /// Also those that are closed
    #[arg(long)]
    all: bool,
}

impl Proposals {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let proposals = kekd.open().await?.list_proposals(self.all).await?;
        let proposals = proposals.into_iter().map(ProposalView::read);
        let proposals = proposals.collect::<anyhow::Result<_>>()?;
        output::show(format, Stream::Out, &Listed { proposals })?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    proposals: Vec<ProposalView>,
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.proposals.is_empty() {
            return f.write_str("no proposal");
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["PROPOSAL", "PHASE", "APPROVALS", "EXPIRES", "EFFECT"]);
        for proposal in &self.proposals {
            table.add_row([
                short_id(&proposal.proposal_id),
                proposal.phase.to_owned(),
                proposal.approvals(),
                proposal.expires_at.clone(),
                proposal.effect.clone(),
            ]);
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}
