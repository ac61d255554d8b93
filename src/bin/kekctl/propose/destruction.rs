//! `kekctl propose destroy-version` and `cancel-destruction`.

use clap::Args;
use kekd::clock::UnixMs;
use kekd::quorum::{Operation, OperationKind, Usage};
use kekd::types::KeypairId;

use super::ground::Ground;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::officer::find::{self, ProposalRef};
use crate::officer::moment;

/// Destroy the private key of a version, after at least seven days; what was wrapped under it and
/// nothing else is lost then
///
/// What the version was used for comes from the audit log and is shown to every officer. From the
/// moment the quorum is there the version is suspended; cancel-destruction or a veto brings it back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl propose destroy-version --keypair-id $ID --unused-days 90
  kekctl propose destroy-version --keypair-id $ID --unused-days 90 --unwraps 1200 \\
      --first-use 2024-01-02T08:00:00Z --last-use 2026-03-04T17:30:00Z")]
pub struct DestroyVersion {
    /// The version
    #[arg(long, value_name = "KEYPAIR_ID")]
    keypair_id: KeypairId,
    /// Days it must not have been used for, at the moment of destruction
    #[arg(long, value_name = "DAYS")]
    unused_days: u32,
    /// DEKs released under it [default: what kekd's audit log says of its use]
    #[arg(long, value_name = "N")]
    unwraps: Option<u64>,
    /// When the first DEK was released under it
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "unwraps")]
    first_use: Option<UnixMs>,
    /// When the latest DEK was released under it
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "unwraps")]
    last_use: Option<UnixMs>,
}

/// Close a proposal to destroy a version; the version is as it was before
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl propose cancel-destruction --proposal 3f2a90bc")]
pub struct CancelDestruction {
    /// The proposal to destroy it: its id, or 8 or more of its first digits
    #[arg(long, value_name = "ID")]
    proposal: ProposalRef,
}

impl DestroyVersion {
    pub async fn operation(self, ground: &Ground) -> anyhow::Result<Operation> {
        let usage = match self.unwraps {
            None => ground.usage(self.keypair_id).await?,
            Some(unwraps) => {
                let used = unwraps > 0;
                if used != self.first_use.is_some() || used != self.last_use.is_some() {
                    let text = "name --first-use and --last-use where --unwraps is more than 0, and \
                                only there";
                    return Err(Failure::new(Exit::Usage, "USAGE", text).into());
                }
                Usage {
                    unwraps,
                    first: self.first_use,
                    last: self.last_use,
                }
            }
        };
        Ok(Operation::DestroyVersion {
            keypair_id: self.keypair_id,
            unused_days: self.unused_days,
            usage,
        })
    }
}

impl CancelDestruction {
    pub async fn operation(self, ground: &Ground) -> anyhow::Result<Operation> {
        let found = find::find(&ground.client, &self.proposal).await?.proposal;
        let kind = found.operation.kind();
        if kind != OperationKind::DestroyVersion {
            let text = format!("the proposal {} is to {}", found.id, kind.name());
            return Err(Failure::new(Exit::Usage, "USAGE", text).into());
        }
        Ok(Operation::CancelDestruction { proposal: found.id })
    }
}
