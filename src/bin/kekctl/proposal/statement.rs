//! `kekctl proposal statement`: the bytes that are signed, and nothing else.

use std::path::PathBuf;

use clap::Args;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::file::Target;
use crate::officer::find::{self, ProposalRef};

/// Write the statement of a proposal, byte for byte as officers sign it
///
/// One text for every purpose: the namespace says whether a signature approves (approval@kekd),
/// vetoes (veto@kekd) or proves possession (possession@kekd).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl proposal statement 3f2a90bc > statement.txt
  ssh-keygen -Y sign -n approval@kekd -f KEY statement.txt
  kekctl approve 3f2a90bc --signature statement.txt.sig")]
pub struct Statement {
    /// The proposal: its id, or 8 or more of its first digits
    #[arg(value_name = "ID")]
    proposal: ProposalRef,
    /// The file to write; standard output when left out
    #[arg(long, default_value = "-", value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Statement {
    pub async fn run(self, kekd: &Connection) -> anyhow::Result<Exit> {
        let target = Target::new(self.out, self.force);
        target.check(false)?;
        let found = find::find(&kekd.open().await?, &self.proposal).await?;
        target.write(&[found.proposal.text()], &mut |_, _| ())?;
        Ok(Exit::Done)
    }
}
