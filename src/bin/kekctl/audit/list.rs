//! `kekctl audit list`: records, one line each, in the order they were written.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use clap::Args;
use kekd::program::reader_may_leave;

use super::filter::FilterArgs;
use super::line::Line;
use super::not_kekd;
use super::source::Source;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::Format;

/// List records: who unwrapped what, when, and how it ended
///
/// With --output json each line is one JSON object. What a running kekd answers is not verified
/// here; kekctl audit verify does that for a copy. Where records were dropped that may be meant, nothing
/// is listed without their archive.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl audit list --kek recordings --since 2026-11-01 --until 2026-12-01
  kekctl audit list --outcome undecryptable --output json | jq -r .caller | sort | uniq -c
  kekctl audit list --file backup/audit.db --end-user 'agent 7'
  kekctl audit list --archive 2025.kekd-audit --kek recordings --since 2025-12-01")]
pub struct List {
    #[command(flatten)]
    filter: FilterArgs,
    /// The index of the first record looked at; 0 when left out
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    /// A copy of audit.db to read instead of asking kekd
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// An archive of records that were dropped, to read them there; may be given again
    #[arg(long, value_name = "FILE")]
    archive: Vec<PathBuf>,
}

impl List {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let source = Source::open(kekd, self.file.as_deref(), &self.archive).await?;
        let mut out = BufWriter::new(anstream::stdout());
        let mut take = |bytes: &[u8]| {
            let line = Line::of(bytes).ok_or_else(|| not_kekd("a record that is none"))?;
            let written = writeln!(out, "{}", line.text(format)?);
            Ok(goes_on(written)?)
        };
        source
            .each(&self.filter, self.from, &mut |_, _| (), &mut take)
            .await?;
        reader_may_leave(out.flush())?;
        Ok(Exit::Done)
    }
}

/// Whether anybody still reads.
pub fn goes_on(written: std::io::Result<()>) -> std::io::Result<bool> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}
