//! `kekctl audit export`: records as JSON lines or CSV, in a file that appears whole or not at all.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use kekd::program::reader_may_leave;
use serde::Serialize;

use super::filter::FilterArgs;
use super::line::{CSV_HEADER, Line};
use super::list::goes_on;
use super::not_kekd;
use super::source::Source;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file::Target;
use crate::output::{self, Format, Stream};

/// The form of an export. (No doc comments below: the names say it.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Jsonl,
    Csv,
}

/// Export records as JSON lines or CSV
///
/// In CSV, a text that a spreadsheet would take for a formula has an apostrophe in front; JSON lines
/// are exact.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl audit export --out november.jsonl --since 2026-11-01 --until 2026-12-01
  kekctl audit export --format csv --file backup/audit.db | head")]
pub struct Export {
    /// The form
    #[arg(long, default_value = "jsonl")]
    format: Form,
    /// The file to write; standard output when left out
    #[arg(long, default_value = "-", value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    filter: FilterArgs,
    /// A copy of audit.db to read instead of asking kekd
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// An archive of records that were dropped, to read them there; may be given again
    #[arg(long, value_name = "FILE")]
    archive: Vec<PathBuf>,
}

impl Export {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let target = Target::new(self.out.clone(), false);
        target.check(false)?;
        let source = Source::open(kekd, self.file.as_deref(), &self.archive).await?;
        if target.is_stdout() {
            let mut out = BufWriter::new(std::io::stdout());
            self.write(&source, &mut out).await?;
            reader_may_leave(out.flush())?;
            return Ok(Exit::Done);
        }
        let not_made = || {
            let text = format!("{} cannot be made", self.out.display());
            Failure::new(Exit::CannotCreate, "OUTPUT_NOT_MADE", text)
        };
        let path = std::path::absolute(&self.out).with_context(not_made)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let staged = tempfile::NamedTempFile::new_in(folder).with_context(not_made)?;
        let mut out = BufWriter::new(staged);
        let records = self.write(&source, &mut out).await?;
        let staged = out.into_inner().with_context(not_made)?;
        staged.as_file().sync_all().with_context(not_made)?;
        staged.persist_noclobber(&path).with_context(not_made)?;
        let exported = Exported {
            out: self.out.display().to_string(),
            records,
        };
        output::show(format, Stream::Out, &exported)?;
        Ok(Exit::Done)
    }

    async fn write(&self, source: &Source, out: &mut impl Write) -> anyhow::Result<u64> {
        let mut records = 0_u64;
        let mut take = |bytes: &[u8]| {
            let line = Line::of(bytes).ok_or_else(|| not_kekd("a record that is none"))?;
            if records == 0 && self.format == Form::Csv {
                out.write_all(CSV_HEADER.as_bytes())?;
            }
            records = records.saturating_add(1);
            let text = match self.format {
                Form::Csv => line.csv(),
                Form::Jsonl => format!("{}\n", line.text(Format::Json)?),
            };
            Ok(goes_on(out.write_all(text.as_bytes()))?)
        };
        source
            .each(&self.filter, None, &mut |_, _| (), &mut take)
            .await?;
        Ok(records)
    }
}

/// What was exported.
#[derive(Debug, Serialize)]
struct Exported {
    out: String,
    records: u64,
}

impl std::fmt::Display for Exported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "wrote {}: {} records", self.out, self.records)
    }
}
