//! `kekctl rig status`: whether the rig's daemon runs, and what it says of itself.

use std::fmt;

use clap::Args;
use serde::Serialize;

use super::daemon::Role;
use super::layout::Layout;
use super::{Folder, daemon, up};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, Stream};
use crate::status::Node;

/// Show whether a rig's daemon runs and is ready; exit status 75 when it is not
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kekctl rig status ./rig")]
pub struct Status {
    #[command(flatten)]
    folder: Folder,
}

impl Status {
    pub async fn run(self, format: Format) -> anyhow::Result<Exit> {
        let (layout, mark) = Layout::open(&self.folder.dir)?;
        let mut state = State {
            dir: layout.dir().display().to_string(),
            endpoint: mark.endpoint,
            pid: daemon::running(&layout, Role::Kekd).map(|pid| pid.as_raw_nonzero().get()),
            lkm_pid: daemon::running(&layout, Role::Lkm).map(|pid| pid.as_raw_nonzero().get()),
            problem: None,
            node: None,
        };
        if state.pid.is_some() {
            match node(&layout, &state.endpoint).await {
                Ok(node) => state.node = Some(node),
                Err(error) => state.problem = Some(Failure::from(error).message),
            }
        }
        output::show(format, Stream::Out, &state)?;
        Ok(match state.node.is_some_and(|node| node.ready()) {
            true => Exit::Done,
            false => Exit::NotReady,
        })
    }
}

async fn node(layout: &Layout, endpoint: &str) -> anyhow::Result<Node> {
    let client = up::connect(layout, endpoint, "operator").await?;
    Ok(Node::from(client.status().await?))
}

#[derive(Debug, Serialize)]
struct State {
    dir: String,
    endpoint: String,
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lkm_pid: Option<i32>,
    problem: Option<String>,
    node: Option<Node>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            None => write!(f, "the rig in {} does not run", self.dir)?,
            Some(pid) => write!(f, "the rig in {} runs (process {pid})", self.dir)?,
        }
        if let Some(pid) = self.lkm_pid {
            write!(f, "\nkekd-lkm runs before it (process {pid})")?;
        }
        if let Some(problem) = &self.problem {
            write!(f, "\n{problem}")?;
        }
        match &self.node {
            Some(node) => write!(f, "\n{node}"),
            None => Ok(()),
        }
    }
}
