//! `kekctl prove-possession`: a new officer shows that the key a proposal names is in their hands.

use clap::Args;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::officer::endorse::{Deed, Endorsement};
use crate::output::Format;

/// Prove that you hold a key that a proposal would make an officer's
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl prove-possession 3f2a90bc --officer-key ~/.ssh/id_ed25519_sk
  kekctl prove-possession 3f2a90bc --signature statement.txt.sig   # namespace possession@kekd")]
pub struct ProvePossession {
    #[command(flatten)]
    endorsement: Endorsement,
}

impl ProvePossession {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        self.endorsement
            .run(Deed::ProvePossession, kekd, format)
            .await
    }
}
