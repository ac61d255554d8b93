//! `kekctl proposal show`: where a proposal stands, and every fact of its statement.

use std::fmt;

use clap::Args;
use serde::Serialize;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::officer::facts::Facts;
use crate::officer::find::{self, ProposalRef};
use crate::officer::view::ProposalView;
use crate::output::{self, Format, Stream};

/// Show one proposal: where it stands, and every fact of its statement
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl proposal show 3f2a90bc
  kekctl proposal show 3f2a90bc --output json | jq -r .phase")]
pub struct Show {
    /// The proposal: its id, or 8 or more of its first digits
    #[arg(value_name = "ID")]
    proposal: ProposalRef,
}

impl Show {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let found = find::find(&kekd.open().await?, &self.proposal).await?;
        let shown = Shown {
            proposal: ProposalView::from(&found),
            statement: String::from_utf8_lossy(found.proposal.text()).into_owned(),
            facts: Facts::of_proposal(&found.proposal),
        };
        output::show(format, Stream::Out, &shown)?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    proposal: ProposalView,
    /// Byte for byte.
    statement: String,
    #[serde(skip)]
    facts: Facts,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nits statement:\n{}", self.proposal, self.facts)
    }
}
