//! `kekctl audit`: who unwrapped what, asked of a running kekd or of a copy of its audit log, and
//! verified where it is read; archived, and dropped where it is archived. The only part of kekctl that
//! uses the audit log's code, on copies, archives and proofs: never on a state directory.

mod archive;
mod bar;
mod drop;
mod export;
mod filter;
mod follow;
mod line;
mod list;
mod prove;
mod source;
mod verify;

use clap::{Args, Subcommand};
use kekd::audit::AuditError;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Format;

/// Read, verify and archive the audit log: every attempt, and how it ended
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl audit list --kek recordings --since 2026-11-01 --until 2026-12-01
  kekctl audit follow --outcome released
  kekctl audit verify backup/audit.db --log-key ledger/log-key.pem
  kekctl audit export --format csv --out november.csv --since 2026-11-01 --until 2026-12-01
  kekctl audit archive 2025.kekd-audit --before 2026-01-01 --log-key ledger/log-key.pem")]
pub struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Follow(follow::Follow),
    Verify(verify::Verify),
    Prove(prove::Prove),
    Export(export::Export),
    Archive(archive::Archive),
    Drop(drop::Drop),
}

impl Audit {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        match self.command {
            Command::List(command) => command.run(kekd, format).await,
            Command::Follow(command) => command.run(kekd, format).await,
            Command::Verify(command) => command.run(format),
            Command::Prove(command) => command.run(kekd, format).await,
            Command::Export(command) => command.run(kekd, format).await,
            Command::Archive(command) => command.run(kekd, format).await,
            Command::Drop(command) => command.run(kekd, format).await,
        }
    }
}

fn not_kekd(found: &str) -> Failure {
    let text = format!("kekd answered with {found}");
    Failure::new(Exit::Protocol, "PROTOCOL", text)
}

/// A copy or a proof that is refused.
fn refused(error: AuditError) -> Failure {
    let text = error.to_string();
    if matches!(error, AuditError::Io { .. } | AuditError::Missing { .. }) {
        return Failure::new(Exit::NoInput, "INPUT_MISSING", text);
    }
    if matches!(error, AuditError::Archived { .. }) {
        return Failure::new(Exit::Failed, "RECORDS_ARCHIVED", text);
    }
    if matches!(
        error,
        AuditError::RecordUnknown { .. } | AuditError::NotInArchive { .. }
    ) {
        return Failure::new(Exit::Failed, "RECORD_UNKNOWN", text);
    }
    if matches!(error, AuditError::NotSigned) {
        return Failure::new(Exit::Failed, "NOT_SIGNED", text);
    }
    Failure::new(Exit::Malformed, "AUDIT_REFUSED", text)
}
