//! `kekctl rig down`: the daemon stops and the folder is removed with everything in it, the token
//! included. Only a folder that carries a rig's mark is touched.

use std::fmt;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::layout::Layout;
use super::{Folder, daemon};
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// Stop a rig and remove its folder, token and all
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl rig down ./rig")]
pub struct Down {
    #[command(flatten)]
    folder: Folder,
}

impl Down {
    pub fn run(self, format: Format) -> anyhow::Result<Exit> {
        let (layout, _) = Layout::open(&self.folder.dir)?;
        let was_running = daemon::stop(&layout)?;
        let dir = layout.dir();
        std::fs::remove_dir_all(dir)
            .with_context(|| format!("{} cannot be removed", dir.display()))?;
        let removed = Removed {
            dir: dir.display().to_string(),
            was_running,
        };
        output::show(format, Stream::Out, &removed)?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Removed {
    dir: String,
    was_running: bool,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "removed the rig in {}", self.dir)
    }
}
