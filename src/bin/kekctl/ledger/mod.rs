//! `kekctl ledger`: what the ledger says, verified where it is read. The only part of kekctl that
//! uses the ledger's code, on copies, exports and proofs: never on a state directory.

mod export;
mod prove;
mod verify;

use clap::{Args, Subcommand};
use kekd::client::Client;
use kekd::ledger::{Expectations, LedgerError, Verified};

use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Format;

/// Verify, export and prove the ledger: every change of a key, and who signed for it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl ledger export ./ledger           # then: sh docs/verify-ledger.sh ./ledger
  kekctl ledger verify ./ledger --instance \"$(cat instance)\"
  kekctl ledger verify backup/ledger.db
  kekctl ledger prove 7 --out entry-7.tlog-proof")]
pub struct Ledger {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(verify::Verify),
    Export(export::Export),
    Prove(prove::Prove),
}

impl Ledger {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        match self.command {
            Command::Verify(command) => command.run(format),
            Command::Export(command) => command.run(kekd, format).await,
            Command::Prove(command) => command.run(kekd, format).await,
        }
    }
}

/// All that the running kekd has in its ledger, verified here.
async fn fetch(client: &Client) -> anyhow::Result<Verified> {
    let note = client.ledger_checkpoint().await?;
    // Entries may be added while this reads; what the note stands for is what is read.
    let size = note.lines().nth(1).and_then(|line| line.parse().ok());
    let size: usize = size.ok_or_else(|| not_kekd("a checkpoint without a size"))?;
    let mut entries: Vec<Vec<u8>> = Vec::new();
    while entries.len() < size {
        let from = u64::try_from(entries.len())?;
        let page = client.read_entries(from).await?.entries;
        if page.is_empty() {
            return Err(not_kekd("fewer entries than are signed").into());
        }
        entries.extend(page);
    }
    entries.truncate(size);
    Ok(Verified::of(entries, note, &Expectations::default()).map_err(refused)?)
}

fn not_kekd(found: &str) -> Failure {
    let text = format!("kekd answered with {found}");
    Failure::new(Exit::Protocol, "PROTOCOL", text)
}

/// A ledger, an export or a proof that is refused.
fn refused(error: LedgerError) -> Failure {
    let text = error.to_string();
    if matches!(error, LedgerError::Io { .. }) {
        return Failure::new(Exit::NoInput, "INPUT_MISSING", text);
    }
    Failure::new(Exit::Malformed, "LEDGER_REFUSED", text)
}
