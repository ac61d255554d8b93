//! `kekctl audit verify`: a copy of an audit log, verified offline.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kekd::audit::{AuditReader, Expectations, Verified};
use kekd::types::Sha256;
use serde::Serialize;

use super::refused;
use crate::exit::Exit;
use crate::file;
use crate::log_key;
use crate::output::{self, Format, Stream};

/// Longest note read, in bytes.
const NOTE_LEN_MAX: u64 = 16 * 1024;
/// Logs up to this many records show no bar.
const QUIET_MAX: u64 = 100_000;

/// Verify a copy of audit.db offline: every record, the Merkle tree, every signed checkpoint
///
/// The file is not changed. A -wal file beside it belongs to it. What was changed, removed, moved or
/// copied is named by the index of the first record concerned.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl audit verify backup/audit.db --log-key ledger/log-key.pem
  kekctl audit verify backup/audit.db --log-key log-key.pem --checkpoint last-month.note")]
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
        let mut bar = None;
        let verified = reader.verify(&expect, &mut |done, total| {
            if total > QUIET_MAX {
                bar.get_or_insert_with(|| new_bar(total)).set_position(done);
            }
        });
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let report = Report::new(&verified.map_err(refused)?, self.instance.is_some());
        output::show(format, Stream::Out, &report)?;
        Ok(Exit::Done)
    }
}

/// Hidden by indicatif itself where standard error is no terminal.
fn new_bar(total: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("verifying [{bar:40}] {pos}/{len} records ({per_sec}, {eta})")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_style(style)
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
