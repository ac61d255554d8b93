//! `kekctl rig stop`: the daemon stops; everything it made stays.

use std::fmt;

use clap::Args;
use serde::Serialize;

use super::layout::Layout;
use super::{Folder, daemon};
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// Stop a rig's daemon and keep its state
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl rig stop ./rig && kekctl rig start ./rig")]
pub struct Stop {
    #[command(flatten)]
    folder: Folder,
}

impl Stop {
    pub fn run(self, format: Format) -> anyhow::Result<Exit> {
        let (layout, _) = Layout::open(&self.folder.dir)?;
        let stopped = Stopped {
            dir: layout.dir().display().to_string(),
            was_running: daemon::stop_all(&layout)?,
        };
        output::show(format, Stream::Out, &stopped)?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Stopped {
    dir: String,
    was_running: bool,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.was_running {
            true => write!(f, "stopped the rig in {}", self.dir),
            false => write!(f, "the rig in {} did not run", self.dir),
        }
    }
}
