//! `kekctl import`: the officer's side of an import. The legacy key is read, looked at and wrapped
//! here, on the machine that has it; what leaves this process of it is wrapped for a transport key
//! whose certificate was verified. Proposing and executing are other commands.

mod deliver;
mod inspect;
mod legacy;
mod passphrase;
mod pbe;
mod pkcs12;
mod transport;
mod transport_key;
mod wrap;
mod wrapped;

use clap::{Args, Subcommand};

use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Format;

/// Bring in an RSA key from outside: look at it, wrap it for the token, deliver it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl import inspect --legacy-key legacy.pem                # what to propose
  kekctl propose import-kek --kek legacy-2019 --profile kek-rsa-2048-imported --spki-sha256 HEX
  kekctl execute 3f2a90bc                               # when a quorum approved
  kekctl import transport-key 3f2a90bc --out transport
  kekctl import wrap --legacy-key legacy.pem --transport-certificate transport/transport.crt \\
      --issuing-certificate transport/issuing.crt --out wrapped.json        # offline
  kekctl import deliver 3f2a90bc wrapped.json")]
pub struct Import {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Inspect),
    TransportKey(transport_key::TransportKey),
    Wrap(wrap::Wrap),
    Deliver(deliver::Deliver),
}

impl Import {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        match self.command {
            Command::Inspect(command) => command.run(format),
            Command::TransportKey(command) => command.run(kekd, format).await,
            Command::Wrap(command) => command.run(format),
            Command::Deliver(command) => command.run(kekd, format).await,
        }
    }
}

/// An input that is not what it must be.
fn malformed(text: impl Into<String>) -> anyhow::Error {
    Failure::new(Exit::Malformed, "NOT_ACCEPTABLE", text).into()
}
