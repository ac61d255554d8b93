//! `kekctl rig clone`: the token's keys are copied to the rig's replicas again, as an HSM's vendor
//! clones keys. What waits for that becomes active.

use std::fmt;

use clap::Args;
use serde::Serialize;

use super::layout::Layout;
use super::{Folder, replica};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, Stream};

/// Copy the token's keys to the rig's replicas, as a vendor's tool would clone them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl rig up ./rig --tokens 2
  kekctl execute 3f2a90bc                 # the new version waits for token b
  kekctl rig clone ./rig                  # and becomes active some seconds later
  kekctl rig clone ./rig --token b")]
pub struct Clone {
    #[command(flatten)]
    folder: Folder,
    /// Only to this replica
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
}

impl Clone {
    pub fn run(self, format: Format) -> anyhow::Result<Exit> {
        let (layout, mark) = Layout::open(&self.folder.dir)?;
        let wanted = |name: &&String| self.token.as_ref().is_none_or(|token| token == *name);
        let mut cloned = Cloned { tokens: Vec::new() };
        for name in mark.replicas.iter().filter(wanted) {
            let changed = replica::copy_all(&layout, name)?;
            let name = name.clone();
            cloned.tokens.push(Token { name, changed });
        }
        if cloned.tokens.is_empty() {
            let dir = layout.dir().display();
            let text = format!("the rig in {dir} has no such replica (kekctl rig up --tokens)");
            return Err(Failure::new(Exit::NoInput, "NO_REPLICA", text).into());
        }
        output::show(format, Stream::Out, &cloned)?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Cloned {
    tokens: Vec<Token>,
}

#[derive(Debug, Serialize)]
struct Token {
    name: String,
    /// Files that were copied or removed.
    changed: usize,
}

impl fmt::Display for Cloned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .tokens
            .iter()
            .map(|token| format!("token {}: {} files changed", token.name, token.changed))
            .collect();
        f.write_str(&lines.join("\n"))
    }
}
