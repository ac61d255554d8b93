//! `kekctl audit drop`: kekd drops records whose archive is at hand and verifies. Never without the file,
//! and never unasked.

use std::fmt;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::PathBuf;

use clap::Args;
use kekd::audit::archive::Archive;
use kekd::proto::v1;
use serde::Serialize;

use super::archive::Archived;
use super::bar::Bar;
use super::refused;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::log_key;
use crate::output::{self, Format, Stream};

/// Have kekd drop the records of an archive, once the file was verified again
///
/// Only the oldest records that are kept, under a checkpoint that the token vouches for, and older than
/// audit.retention_days_min. A stub stays that verifies, and the drop is a record. There is no way back:
/// keep more than one copy of the file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl audit drop 2025.kekd-audit --log-key ledger/log-key.pem
  kekctl audit drop 2025.kekd-audit --log-key ledger/log-key.pem --yes")]
pub struct Drop {
    /// The archive, as kekctl audit archive wrote it
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// The log key that signed its checkpoint, PEM
    #[arg(long, value_name = "FILE")]
    log_key: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Drop {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let key = log_key::read(&self.log_key)?;
        let mut bar = Bar::new("verifying");
        let archive = Archive::open(&self.path, Some(&key), &mut |done, total| {
            bar.at(done, total)
        });
        let archive = archive.map_err(refused)?;
        drop(bar);
        let client = kekd.open().await?;
        let retention = client.audit_retention(None).await?;
        let instance = retention.instance_id.as_slice().try_into();
        let instance = instance.map_err(|_| super::not_kekd("an instance that is none"))?;
        archive.require_instance(instance).map_err(refused)?;
        self.ask(&Archived::of(&self.path, &archive), format)?;
        let range = &archive.span().range;
        let dropped = client
            .drop_archived(v1::DropArchivedRequest {
                first: range.start,
                until: range.end,
                archive_sha256: archive.sha256().as_bytes().to_vec(),
                tiles_sha256: archive.tiles_digest().as_bytes().to_vec(),
            })
            .await?;
        let dropped = Dropped {
            first: dropped.first,
            last: dropped.until.saturating_sub(1),
            archive_sha256: archive.sha256().to_string(),
            record_index: dropped.record_index,
        };
        output::show(format, Stream::Out, &dropped)?;
        Ok(Exit::Done)
    }

    fn ask(&self, archived: &Archived, format: Format) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() || format != Format::Text {
            let text = "nothing was dropped: there is no terminal to ask on; say --yes";
            return Err(Failure::new(Exit::Usage, "CONSENT_MISSING", text).into());
        }
        output::say(&archived.to_string());
        output::prompt("Drop these records from kekd's audit log, for good? [y/N] ");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        match matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            true => Ok(()),
            false => Err(Failure::new(Exit::Failed, "DECLINED", "nothing was dropped").into()),
        }
    }
}

/// What was dropped.
#[derive(Debug, Serialize)]
struct Dropped {
    first: u64,
    last: u64,
    archive_sha256: String,
    /// The record that says so.
    record_index: u64,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last, record) = (self.first, self.last, self.record_index);
        write!(
            f,
            "dropped the records {first} to {last}; record {record} says so"
        )
    }
}
