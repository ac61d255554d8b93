//! `kekctl lkm`: what a Local Key Manager is registered with, and whether one does what it must.

mod cases;
mod check;
mod registration;
mod trial;

use clap::{Args, Subcommand};

use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::Format;

/// Register a KEK with a contact-centre cloud, and check a Local Key Manager
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl lkm registration recordings --url https://lkm.example.com/key-management/v1/decrypt
  kekctl lkm check $KEKD_LKM_URL")]
pub struct Lkm {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Registration(registration::Registration),
    Check(check::Check),
}

impl Lkm {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        match self.command {
            Command::Registration(command) => command.run(kekd, format).await,
            Command::Check(command) => command.run(kekd, format).await,
        }
    }
}
