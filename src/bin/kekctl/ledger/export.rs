//! `kekctl ledger export`: the ledger as a folder of plain files, which ssh-keygen and openssl
//! verify. The folder appears whole or not at all.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kekd::ledger::{Expectations, Verified, export, verify_copy};
use serde::Serialize;

use super::{fetch, refused};
use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, Stream};

/// Export the ledger as files that ssh-keygen and openssl verify
///
/// The ledger is verified first. docs/verify-ledger.sh verifies the folder without kekd's code.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl ledger export ./ledger
  kekctl ledger export ./ledger --from backup/ledger.db
  sh docs/verify-ledger.sh ./ledger")]
pub struct Export {
    /// The folder to make; it must not exist
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// A copy of ledger.db to export, instead of the running kekd's ledger
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

impl Export {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        if self.dir.symlink_metadata().is_ok() {
            let text = format!("{} exists: name a folder that does not", self.dir.display());
            return Err(Failure::new(Exit::CannotCreate, "OUTPUT_EXISTS", text).into());
        }
        let ledger = match &self.from {
            Some(copy) => verify_copy(copy, &Expectations::default()).map_err(refused)?,
            None => fetch(&kekd.open().await?).await?,
        };
        write(&self.dir, &ledger).with_context(|| {
            let text = format!("{} cannot be made", self.dir.display());
            Failure::new(Exit::CannotCreate, "OUTPUT_NOT_MADE", text)
        })?;
        let exported = Exported {
            dir: self.dir.display().to_string(),
            instance_id: ledger.state().instance_id().to_string(),
            size: ledger.state().size(),
            root: ledger.state().root().to_string(),
        };
        output::show(format, Stream::Out, &exported)?;
        Ok(Exit::Done)
    }
}

fn write(dir: &Path, ledger: &Verified) -> anyhow::Result<()> {
    let dir = std::path::absolute(dir)?;
    let above = dir.parent().unwrap_or(Path::new("/"));
    let name = ".kekctl-export-";
    let staged = tempfile::Builder::new().prefix(name).tempdir_in(above)?;
    for (path, bytes) in export(ledger) {
        let path = staged.path().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, bytes)?;
    }
    // An empty folder made meanwhile would be replaced; anything else is not.
    fs::rename(staged.path(), &dir)?;
    let _gone = staged.keep();
    Ok(())
}

/// What was exported.
#[derive(Debug, Serialize)]
struct Exported {
    dir: String,
    instance_id: String,
    size: u64,
    root: String,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dir, size, instance) = (&self.dir, self.size, &self.instance_id);
        write!(f, "wrote {dir}: {size} entries of the instance {instance}")
    }
}
