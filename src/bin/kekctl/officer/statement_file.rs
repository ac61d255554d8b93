//! Statements that leave as a file to be signed elsewhere, and signatures that come back.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::purpose::Purpose;
use super::{SIGNATURE_LEN_MAX, STATEMENT_LEN_MAX};
use crate::file::{self, Target};
use crate::output::{self, Format};

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
