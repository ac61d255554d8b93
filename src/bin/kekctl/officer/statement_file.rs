//! Statements that leave as a file to be signed elsewhere, and signatures that come back.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::purpose::Purpose;
use super::{SIGNATURE_LEN_MAX, STATEMENT_LEN_MAX};
use crate::file::{self, Target};
use crate::output::{self, Format};

/// An order that may be signed on another machine.
#[derive(Debug, Args)]
pub struct Elsewhere {
    /// A statement that --statement-out wrote, signed elsewhere
    #[arg(long, value_name = "FILE", requires = "signature")]
    statement: Option<PathBuf>,
    /// The signature made elsewhere over it
    #[arg(long, value_name = "FILE", requires = "statement")]
    signature: Option<PathBuf>,
    /// Write the statement to this file (- for standard output) to sign it elsewhere; sign nothing
    #[arg(long, value_name = "FILE", conflicts_with = "signature")]
    statement_out: Option<PathBuf>,
}

impl Elsewhere {
    /// The statement and its signature, where they were made elsewhere.
    pub fn read(&self) -> anyhow::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let (Some(text), Some(signed)) = (&self.statement, &self.signature) else {
            return Ok(None);
        };
        Ok(Some((statement(text)?, signature(signed)?)))
    }

    /// Writes the text where it is to be signed elsewhere; whether it is. `command` is the one that
    /// goes on with it.
    pub fn write(
        &self,
        purpose: Purpose,
        text: &[u8],
        command: &str,
        format: Format,
    ) -> anyhow::Result<bool> {
        let Some(path) = &self.statement_out else {
            return Ok(false);
        };
        let next = format!("{command} --statement {} --signature", path.display());
        write(path, purpose, text, next, format)?;
        Ok(true)
    }
}

/// Writes the text to be signed, and says how to go on. `next` is the command that brings the
/// signature, but for the path of it.
pub fn write(
    path: &Path,
    purpose: Purpose,
    text: &[u8],
    next: String,
    format: Format,
) -> anyhow::Result<()> {
    let target = Target::new(path.to_path_buf(), false);
    target.check(false)?;
    target.write(&[text], &mut |_, _| ())?;
    let written = Written {
        out: path.display().to_string(),
        namespace: purpose.namespace(),
        next,
    };
    output::show(format, target.report_stream(), &written)?;
    Ok(())
}

/// Reads an armored signature.
pub fn signature(path: &Path) -> anyhow::Result<Vec<u8>> {
    file::read(path, SIGNATURE_LEN_MAX)
}

/// Reads a statement.
pub fn statement(path: &Path) -> anyhow::Result<Vec<u8>> {
    file::read(path, STATEMENT_LEN_MAX)
}

#[derive(Debug, Serialize)]
struct Written {
    out: String,
    namespace: &'static str,
    next: String,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            out,
            namespace,
            next,
        } = self;
        let file = match out.as_str() {
            "-" => "STATEMENT",
            file => file,
        };
        write!(
            f,
            "wrote the statement to {out}; go on with:\n  ssh-keygen -Y sign -n {namespace} -f KEY \
             {file}\n  {next} {file}.sig"
        )
    }
}
