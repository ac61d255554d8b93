//! `kekctl rig`: a throw-away kekd for people who write front ends, for demos and for tests. It runs
//! the real daemon with a PKI and officers of its own, on a SoftHSM2 token it makes or on a token
//! that exists. Whatever is insecure about a rig (the PIN lies beside the token, one person holds
//! all officers' keys) is in the files it makes: nothing of it is built into kekd.

mod clone;
mod daemon;
mod down;
mod env;
mod existing;
mod genesis;
mod layout;
mod lkm;
mod notify;
mod officers;
mod pki;
mod replica;
mod settings;
mod start;
mod status;
mod stop;
mod token;
mod tool;
mod up;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::exit::Exit;
use crate::output::Format;

/// Run a throw-away kekd: token, PKI, officers and the real daemon in one folder
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl rig up ./rig
  . ./rig/env && kekctl kek list
  kekctl rig down ./rig")]
pub struct Rig {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(Box<up::Up>),
    Status(status::Status),
    Stop(stop::Stop),
    Start(start::Start),
    Clone(clone::Clone),
    Down(down::Down),
}

/// The folder of a rig.
#[derive(Debug, Args)]
struct Folder {
    /// The rig's folder
    dir: PathBuf,
}

impl Rig {
    pub async fn run(self, format: Format) -> anyhow::Result<Exit> {
        match self.command {
            Command::Up(command) => command.run(format).await,
            Command::Status(command) => command.run(format).await,
            Command::Stop(command) => command.run(format),
            Command::Start(command) => command.run(format),
            Command::Clone(command) => command.run(format),
            Command::Down(command) => command.run(format),
        }
    }
}
