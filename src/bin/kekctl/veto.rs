//! `kekctl veto`: one officer's no, which closes a proposal.

use clap::Args;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::officer::endorse::{Deed, Endorsement};
use crate::output::Format;

/// Veto a proposal: this closes it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl veto 3f2a90bc
  kekctl veto 3f2a90bc --signature statement.txt.sig     # namespace veto@kekd")]
pub struct Veto {
    #[command(flatten)]
    endorsement: Endorsement,
}

impl Veto {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        self.endorsement.run(Deed::Veto, kekd, format).await
    }
}
