//! `kekctl kek`: reading about KEKs. Nothing here is secret and nothing here changes anything.

mod export;
mod list;
mod show;
mod view;

use clap::{Args, Subcommand};

use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::Format;

/// Read about KEKs: list them, show one, export public keys and certificates
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl kek list
  kekctl kek show recordings
  kekctl kek export $KEKD_KEYPAIR_ID --format cert --out recordings.crt")]
pub struct Kek {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Show(show::Show),
    Export(export::Export),
}

impl Kek {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        match self.command {
            Command::List(command) => command.run(kekd, format).await,
            Command::Show(command) => command.run(kekd, format).await,
            Command::Export(command) => command.run(kekd, format).await,
        }
    }
}
