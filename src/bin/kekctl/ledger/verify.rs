//! `kekctl ledger verify`: a copy of a ledger, or an export of one, verified offline.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use kekd::ledger::{Expectations, Verified, deeds, verify_copy, verify_export};
use kekd::types::Sha256;
use serde::Serialize;

use super::refused;
use crate::exit::Exit;
use crate::file;
use crate::output::{self, Format, Stream};

/// Longest note read, in bytes.
const NOTE_LEN_MAX: u64 = 16 * 1024;

/// Verify a copy of ledger.db or an export, offline, and tell what it says
///
/// Every entry, every signature of an officer, the Merkle root and the signature over it are
/// verified. The file is not changed. A -wal file beside it belongs to it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl ledger verify backup/ledger.db
  kekctl ledger verify ./ledger --instance 618fb78f… --checkpoint last-month/checkpoint
  kekctl ledger verify ./ledger --output json | jq -r '.log[].what'")]
pub struct Verify {
    /// A copy of ledger.db, or the folder of an export
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
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
        let expect = Expectations {
            instance_id: self.instance,
            checkpoint: note
                .map(|path| file::text(path, NOTE_LEN_MAX))
                .transpose()?,
        };
        let verified = match self.path.is_dir() {
            true => verify_export(&self.path, &expect),
            false => verify_copy(&self.path, &expect),
        };
        let report = Report::new(&verified.map_err(refused)?, self.instance.is_some());
        output::show(format, Stream::Out, &report)?;
        Ok(Exit::Done)
    }
}

/// What a verified ledger says. The JSON form is an interface: fields are added, never renamed.
#[derive(Debug, Serialize)]
struct Report {
    instance_id: String,
    instance_name: String,
    /// Number of entries.
    size: u64,
    root: String,
    /// SHA-256 of the SubjectPublicKeyInfo of the key that signed the checkpoint.
    log_key_sha256: String,
    /// Whether the instance was named by the caller, and not only by the ledger itself.
    instance_expected: bool,
    log: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    index: u64,
    time: String,
    what: String,
    by: Vec<String>,
}

impl Report {
    fn new(ledger: &Verified, instance_expected: bool) -> Self {
        let state = ledger.state();
        let lines = deeds(ledger).into_iter().map(|deed| Line {
            index: deed.index,
            time: deed.time.rfc3339(),
            what: deed.what,
            by: deed.by,
        });
        Self {
            instance_id: state.instance_id().to_string(),
            instance_name: state.instance_name().to_owned(),
            size: state.size(),
            root: state.root().to_string(),
            log_key_sha256: Sha256::of(&state.log_signing_key().spki).to_string(),
            instance_expected,
            log: lines.collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the ledger verifies")?;
        writeln!(f, "  instance   {}", self.instance_id)?;
        writeln!(f, "  name       {}", self.instance_name)?;
        writeln!(f, "  entries    {}", self.size)?;
        writeln!(f, "  root       {}", self.root)?;
        writeln!(f, "  signed by  the log key {}", self.log_key_sha256)?;
        if !self.instance_expected {
            writeln!(
                f,
                "  note       compare the instance with the one you know, or name it with --instance"
            )?;
        }
        for line in &self.log {
            write!(f, "\n{}  {}  {}", line.index, line.time, line.what)?;
            if !line.by.is_empty() {
                write!(f, "; by {}", line.by.join(", "))?;
            }
        }
        Ok(())
    }
}
