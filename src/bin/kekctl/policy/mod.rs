//! `kekctl policy`: the rules in force. They are changed by `kekctl propose change-policy`.

mod show;

use clap::{Args, Subcommand};

use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::Format;

/// Look at the policy
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl policy show")]
pub struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(show::Show),
}

impl Policy {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        match self.command {
            Command::Show(command) => command.run(kekd, format).await,
        }
    }
}
