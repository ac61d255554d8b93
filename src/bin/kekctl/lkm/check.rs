//! `kekctl lkm check`: plays the cloud against a running Local Key Manager, this project's or another.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use comfy_table::{Table, presets};
use kekd::lkm::caller::{Caller, Target};
use kekd::lkm::hawk::Secret;
use kekd::types::KeypairId;
use serde::Serialize;

use super::cases::{Cloud, Finding};
use super::trial;
use crate::connection::Connection;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, Stream};

/// The authorities that systems trust, where they keep them.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Play the cloud against a Local Key Manager; exit status 1 when it does not do what it must
///
/// It is asked what the cloud asks, and what an attacker would: OPTIONS, a trial decrypt, wrong and
/// malformed Hawk, replays, stale times, unknown keys, bad ciphertexts. Nothing is changed. The key
/// comes from KEKD_LKM_KEY. Without --public-key, the public key is asked of kekd.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  . ./rig/env && kekctl lkm check $KEKD_LKM_URL
  KEKD_LKM_KEY=… kekctl lkm check https://lkm.example.com/key-management/v1/decrypt --id cloud-eu \\
      --keypair-id 5ce2c564-eae2-4af9-86b0-6b0f93e717a6 --public-key recordings.pem")]
pub struct Check {
    /// The URL that the cloud calls
    url: String,
    /// The Hawk id
    #[arg(long, env = "KEKD_LKM_ID", hide_env_values = true, value_name = "ID")]
    id: String,
    /// The Hawk key
    #[arg(long, env = "KEKD_LKM_KEY", hide_env_values = true, hide = true)]
    lkm_key: String,
    /// The key pair to try
    #[arg(
        long,
        env = "KEKD_KEYPAIR_ID",
        hide_env_values = true,
        value_name = "ID"
    )]
    keypair_id: KeypairId,
    /// Its public key: PEM, or base64 as it is registered
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// PEM file: the authorities of the front-end's certificate [default: the system's]
    #[arg(long, env = "KEKD_LKM_CA", hide_env_values = true, value_name = "FILE")]
    lkm_ca: Option<PathBuf>,
}

impl Check {
    pub async fn run(self, kekd: &Connection, format: Format) -> anyhow::Result<Exit> {
        let target: Target = self.url.parse()?;
        let key = match &self.public_key {
            Some(file) => trial::from_text(&String::from_utf8(read(file)?)?)?,
            None => trial::key_of(&kekd.open().await?, self.keypair_id).await?,
        };
        let cloud = Cloud {
            caller: Caller::new(target, &roots(self.lkm_ca.as_deref())?, kekd.timeout)?,
            id: self.id,
            secret: Secret::new(&self.lkm_key),
            keypair_id: self.keypair_id,
            key,
        };
        let findings = cloud.play().await?;
        let ok = findings.iter().all(|finding| finding.ok);
        output::show(format, Stream::Out, &Findings { ok, findings })?;
        Ok(match ok {
            true => Exit::Done,
            false => Exit::Failed,
        })
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| {
        let text = format!("{} cannot be read: {error}", file.display());
        Failure::new(Exit::NoInput, "INPUT_MISSING", text).into()
    })
}

fn roots(named: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    match named {
        Some(file) => read(file),
        None => SYSTEM_ROOTS
            .iter()
            .find_map(|file| std::fs::read(file).ok())
            .context("this system keeps its authorities elsewhere: name a file with --lkm-ca"),
    }
}

#[derive(Debug, Serialize)]
struct Findings {
    ok: bool,
    findings: Vec<Finding>,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["", "ASKED", "EXPECTED", "FOUND"]);
        for finding in &self.findings {
            let mark = if finding.ok { "ok   " } else { "WRONG" };
            table.add_row([mark, finding.case, finding.expected, &finding.found]);
        }
        let wrong = self.findings.iter().filter(|finding| !finding.ok).count();
        let lines: Vec<String> = table.lines().map(|line| line.trim().to_owned()).collect();
        writeln!(f, "{}", lines.join("\n"))?;
        match wrong {
            0 => write!(f, "\nall {} as they must be", self.findings.len()),
            wrong => write!(f, "\n{wrong} of {} wrong", self.findings.len()),
        }
    }
}
