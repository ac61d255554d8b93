//! `kekctl officers`: who decides, and with which keys.

use std::fmt;

use clap::Args;
use comfy_table::{Table, presets};
use kekd::proto::v1;
use serde::Serialize;

use crate::connection::Connection;
use crate::exit::Exit;
use crate::output::{self, Format, Stream};

/// List the officers with their roles and keys, the recovery set too
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kekctl officers
  kekctl officers --output json | jq -r '.officers[] | .name + \" \" + .key' > allowed_signers")]
pub struct Officers {}

impl Officers {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let officers = kekd.open().await?.governance().await?.officers;
        let officers = officers.into_iter().map(Officer::from).collect();
        output::show(format, Stream::Out, &Listed { officers })?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    officers: Vec<Officer>,
}

#[derive(Debug, Serialize)]
struct Officer {
    name: String,
    role: String,
    key: String,
    fingerprint: String,
}

impl From<v1::Officer> for Officer {
    fn from(officer: v1::Officer) -> Self {
        Self {
            name: officer.name,
            role: officer.role,
            key: officer.key,
            fingerprint: officer.fingerprint,
        }
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["OFFICER", "ROLE", "KIND", "FINGERPRINT"]);
        for officer in &self.officers {
            table.add_row([
                officer.name.as_str(),
                &officer.role,
                officer.key.split(' ').next().unwrap_or_default(),
                &officer.fingerprint,
            ]);
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}
