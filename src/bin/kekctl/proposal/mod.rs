//! `kekctl proposal`: one proposal, and the bundles in which it crosses an air gap.

mod bundle;
mod show;
mod sign_bundle;
mod statement;
mod submit_bundle;

use clap::{Args, Subcommand};

use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::Format;

/// Look at one proposal, or carry it across an air gap
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl proposal show 3f2a90bc
  kekctl proposal statement 3f2a90bc > statement.txt

Across an air gap:
  kekctl proposal bundle 3f2a90bc --for approve --out bundle.json
  kekctl proposal sign-bundle bundle.json --officer-key KEY --out signed.json     # offline
  kekctl proposal submit-bundle signed.json")]
pub struct Proposal {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(show::Show),
    Statement(statement::Statement),
    Bundle(bundle::Bundle),
    SignBundle(sign_bundle::SignBundle),
    SubmitBundle(submit_bundle::SubmitBundle),
}

impl Proposal {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        match self.command {
            Command::Show(command) => command.run(kekd, format).await,
            Command::Statement(command) => command.run(kekd).await,
            Command::Bundle(command) => command.run(kekd, format).await,
            Command::SignBundle(command) => command.run(format),
            Command::SubmitBundle(command) => command.run(kekd, format).await,
        }
    }
}
