//! `kekctl recording`: CMS files sealed for KEKs, and opened with DEKs that kekd unwraps. The formats
//! are the library's (`kekd::recording`); here files, kekd and progress come together.

mod open;
mod progress;
mod seal;

use clap::{Args, Subcommand};

use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::Format;

/// Seal recordings for KEKs and open them again (CMS)
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl recording seal --kek recordings --in call.wav --out call.cms
  kekctl recording open --in call.cms --out call.wav")]
pub struct Recording {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Seal(seal::Seal),
    Open(open::Open),
}

impl Recording {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        match self.command {
            Command::Seal(command) => command.run(kekd, format).await,
            Command::Open(command) => command.run(kekd, format).await,
        }
    }
}
