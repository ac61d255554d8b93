//! `kekctl rig start`: the daemon again, on the state it had.

use std::fmt;

use clap::Args;
use serde::Serialize;

use super::daemon::Role;
use super::layout::Layout;
use super::{Folder, daemon};
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// Start a stopped rig's daemon again, on the same state
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl rig stop ./rig && kekctl rig start ./rig")]
pub struct Start {
    #[command(flatten)]
    folder: Folder,
}

impl Start {
    pub fn run(self, format: Format) -> anyhow::Result<Exit> {
        let (layout, mark) = Layout::open(&self.folder.dir)?;
        let was_running = daemon::running(&layout, Role::Kekd).is_some();
        let pid = daemon::start_all(&layout, &mark)?;
        let started = Started {
            dir: layout.dir().display().to_string(),
            endpoint: mark.endpoint,
            pid: pid.as_raw_nonzero().get(),
            was_running,
        };
        output::show(format, Stream::Out, &started)?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Started {
    dir: String,
    endpoint: String,
    pid: i32,
    was_running: bool,
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.was_running {
            "already runs"
        } else {
            "runs"
        };
        write!(f, "kekd {word} on {} (process {})", self.endpoint, self.pid)
    }
}
