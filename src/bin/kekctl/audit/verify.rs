//! `kekctl audit verify`: a copy of an audit log, verified offline.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use kekd::audit::archive::Archive;
use kekd::audit::{AuditReader, Expectations, Verified};
use kekd::types::Sha256;
use serde::Serialize;

use super::bar::Bar;
use super::refused;
use crate::exit::Exit;
use crate::file;
use crate::log_key;
use crate::output::{self, Format, Stream};

/// Longest note read, in bytes.
const NOTE_LEN_MAX: u64 = 16 * 1024;

/// Verify a copy of audit.db offline: every record, the Merkle tree, every signed checkpoint
///
/// The file is not changed. A -wal file beside it belongs to it. What was changed, removed, moved or
/// copied is named by the index of the first record concerned. Records that were dropped are verified by
/// the roots of their tiles, or one by one in their archives.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl audit verify backup/audit.db --log-key ledger/log-key.pem
  kekctl audit verify backup/audit.db --log-key log-key.pem --checkpoint last-month.note
  kekctl audit verify backup/audit.db --log-key log-key.pem --archive 2024.kekd-audit --archive 2025.kekd-audit")]
pub struct Verify {
    /// A copy of audit.db
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// The log key, PEM: log-key.pem of a ledger's export. Without it no signature is verified
    #[arg(long, value_name = "FILE")]
    log_key: Option<PathBuf>,
    /// The instance it must be of, 64 hexadecimal digits (kekctl status shows it)
    #[arg(long, value_name = "HEX")]
    instance: Option<Sha256>,
    /// An earlier checkpoint, which it must contain
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// An archive of records that were dropped, to verify each of them; may be given again
    #[arg(long, value_name = "FILE")]
    archive: Vec<PathBuf>,
}

impl Verify {
    pub fn run(self, format: Format) -> anyhow::Result<Exit> {
        let note = self.checkpoint.as_deref();
        let key = self.log_key.as_deref();
        let expect = Expectations {
            instance_id: self.instance,
            log_key: key.map(log_key::read).transpose()?,
            checkpoint: note
                .map(|path| file::text(path, NOTE_LEN_MAX))
                .transpose()?,
        };
        let reader = AuditReader::of_copy(&self.path).map_err(refused)?;
        let mut archives = Vec::new();
        for path in &self.archive {
            let mut bar = Bar::new("verifying");
            let key = expect.log_key.as_ref();
            let archive = Archive::open(path, key, &mut |done, total| bar.at(done, total));
            archives.push(archive.map_err(refused)?);
        }
        let mut bar = Bar::new("verifying");
        let verified =
            reader.verify_with(&expect, &archives, &mut |done, total| bar.at(done, total));
        drop(bar);
        let report = Report::new(&verified.map_err(refused)?, self.instance.is_some());
        output::show(format, Stream::Out, &report)?;
        Ok(Exit::Done)
    }
}

/// What a verified log says. The JSON form is an interface: fields are added, never renamed.
#[derive(Debug, Serialize)]
struct Report {
    instance_id: String,
    /// Number of records.
    size: u64,
    root: String,
    /// Records that the newest checkpoint stands for.
    signed: u64,
    checkpoints: u64,
    signatures_verified: bool,
    /// Whether the instance was named by the caller, and not only by the log itself.
    instance_expected: bool,
    earliest: Option<String>,
    latest: Option<String>,
    /// Records that were dropped.
    archived: Vec<ArchivedPart>,
    /// Checkpoints within them that only the archive could be held against.
    checkpoints_unheld: u64,
}

/// Records that were dropped, and the archive that holds them.
#[derive(Debug, Serialize)]
struct ArchivedPart {
    first: u64,
    last: u64,
    archive_sha256: String,
    record_index: u64,
    /// Whether each of them was verified, in the archive.
    archive_verified: bool,
}

impl Report {
    fn new(log: &Verified, instance_expected: bool) -> Self {
        Self {
            instance_id: log.instance_id.to_string(),
            size: log.head.size,
            root: log.head.root.to_string(),
            signed: log.signed.map_or(0, |head| head.size),
            checkpoints: log.checkpoints,
            signatures_verified: log.is_signature_verified,
            instance_expected,
            earliest: log.times.map(|(earliest, _)| earliest.rfc3339()),
            latest: log.times.map(|(_, latest)| latest.rfc3339()),
            archived: log
                .archived
                .iter()
                .map(|(stub, archive_verified)| ArchivedPart {
                    first: stub.first,
                    last: stub.until.saturating_sub(1),
                    archive_sha256: stub.archive.to_string(),
                    record_index: stub.record_index,
                    archive_verified: *archive_verified,
                })
                .collect(),
            checkpoints_unheld: log.unheld,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the audit log verifies")?;
        writeln!(f, "  instance     {}", self.instance_id)?;
        writeln!(f, "  records      {}", self.size)?;
        writeln!(f, "  root         {}", self.root)?;
        writeln!(
            f,
            "  checkpoints  {}, the newest at {}",
            self.checkpoints, self.signed
        )?;
        if let (Some(earliest), Some(latest)) = (&self.earliest, &self.latest) {
            writeln!(f, "  times        {earliest} to {latest}")?;
        }
        for part in &self.archived {
            let (first, last, archive) = (part.first, part.last, &part.archive_sha256);
            let how = match part.archive_verified {
                true => "each record verifies there",
                false => "their roots verify",
            };
            writeln!(
                f,
                "  archived     {first} to {last} are in the archive with the SHA-256 {archive}: {how}"
            )?;
        }
        if self.checkpoints_unheld > 0 {
            let note = "checkpoints within archived records need --archive to be held against them";
            writeln!(f, "  note         {} {note}", self.checkpoints_unheld)?;
        }
        if !self.signatures_verified {
            let note = "no signature was verified; name the log key with --log-key";
            writeln!(f, "  note         {note}")?;
        }
        let unsigned = self.size.saturating_sub(self.signed);
        if unsigned > 0 {
            let note = "records after the newest checkpoint are not signed yet";
            writeln!(f, "  note         {unsigned} {note}")?;
        }
        if !self.instance_expected {
            let note = "compare the instance with the one you know, or name it with --instance";
            writeln!(f, "  note         {note}")?;
        }
        Ok(())
    }
}
