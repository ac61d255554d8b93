//! `kekctl witness`: somebody else's memory of the audit log. A witness signs a checkpoint only after
//! it saw that the log contains everything it signed before, so that nobody can be shown another
//! history. It needs nothing of kekd but an auditor's right to read.

mod check;
mod cosign;
mod init;
mod memory;

use clap::{Args, Subcommand};

use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::Format;

/// Witness the audit log: remember its head, refuse a fork, cosign what only grew
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl witness init ./w --name witness.example/w1 --log-key log-key.pem --instance 618fb78f…
  kekctl witness cosign ./w --out cosigned.note          # from a timer, on another host
  kekctl witness check cosigned.note --witness witness.example/w1+… --log-key log-key.pem")]
pub struct Witness {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Cosign(cosign::Cosign),
    Check(check::Check),
}

impl Witness {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        match self.command {
            Command::Init(command) => command.run(format),
            Command::Cosign(command) => command.run(kekd, format).await,
            Command::Check(command) => command.run(format),
        }
    }
}
