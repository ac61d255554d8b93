//! `kekctl propose signed`: a statement that left with `--statement-out` comes back signed.

use std::path::PathBuf;

use clap::Args;

use super::ground::Ground;
use crate::exit::Exit;
use crate::officer::statement_file;
use crate::officer::view::ProposalView;
use crate::output::{self, Format, Stream};

/// Put forward a statement that was signed elsewhere
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose rotate-kek --kek recordings --officer alice --statement-out statement.txt
  ssh-keygen -Y sign -n proposal@kekd -f KEY statement.txt
  kekctl propose signed --statement statement.txt --signature statement.txt.sig")]
pub struct Signed {
    /// The statement that --statement-out wrote
    #[arg(long, value_name = "FILE")]
    statement: PathBuf,
    /// The signature over it
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
}

impl Signed {
    pub async fn run(self, ground: &Ground, format: Format) -> anyhow::Result<Exit> {
        let statement = statement_file::statement(&self.statement)?;
        let signature = statement_file::signature(&self.signature)?;
        let said = ground.client.propose(statement, signature).await?;
        output::show(format, Stream::Out, &ProposalView::read(said)?)?;
        Ok(Exit::Done)
    }
}
