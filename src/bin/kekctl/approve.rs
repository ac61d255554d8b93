//! `kekctl approve`: one officer's yes to a proposal.

use clap::Args;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::officer::endorse::{Deed, Endorsement};
use crate::output::Format;

/// Approve a proposal
///
/// Every fact of the proposal is shown before you sign. ssh-keygen makes the signature: key files,
/// ssh-agent and security keys all work.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl approve 3f2a90bc --officer-key ~/.ssh/id_ed25519_sk
  kekctl approve 3f2a90bc --yes                          # in a script

With a signature made elsewhere:
  kekctl proposal statement 3f2a90bc > statement.txt
  ssh-keygen -Y sign -n approval@kekd -f KEY statement.txt
  kekctl approve 3f2a90bc --signature statement.txt.sig")]
pub struct Approve {
    #[command(flatten)]
    endorsement: Endorsement,
}

impl Approve {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        self.endorsement.run(Deed::Approve, kekd, format).await
    }
}
