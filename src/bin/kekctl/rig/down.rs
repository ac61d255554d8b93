//! `kekctl rig down`: the daemon stops and the folder is removed with everything in it, a token the
//! rig made included. A token that was there before stays as it is. Only a folder that carries a
//! rig's mark is touched.

use std::fmt;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::layout::{ForeignToken, Layout};
use super::{Folder, daemon};
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// Stop a rig and remove its folder, with the token the rig made
///
/// A token that existed before the rig is not touched: the keys that kekd made in it stay there,
/// under labels that begin with "kekd ", until you remove them with the token's own tools.
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
        let (layout, mark) = Layout::open(&self.folder.dir)?;
        let was_running = daemon::stop_all(&layout)?;
        let dir = layout.dir();
        std::fs::remove_dir_all(dir)
            .with_context(|| format!("{} cannot be removed", dir.display()))?;
        let removed = Removed {
            dir: dir.display().to_string(),
            was_running,
            token_left: mark.foreign_token,
        };
        output::show(format, Stream::Out, &removed)?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Removed {
    dir: String,
    was_running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_left: Option<ForeignToken>,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "removed the rig in {}", self.dir)?;
        match &self.token_left {
            None => Ok(()),
            Some(token) => write!(
                f,
                "\nkekd's keys stay in the token {:?}, serial number {}: a new rig takes it only \
                 without them",
                token.label, token.serial
            ),
        }
    }
}
